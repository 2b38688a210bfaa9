//! The Redis server as it is without Roomcast: what it knows, and what others do to it.

use std::sync::Arc;

use redis::{Cmd, Connection, ConnectionInfo, FromRedisValue, Value};

use super::patience::{PATIENCE, eventually};

/// A server, with keys of its own for one case, which are deleted at the end.
#[derive(Clone)]
pub(super) struct Server(Arc<Keys>);

struct Keys {
    info: ConnectionInfo,
    prefix: String,
}

impl Server {
    pub(super) fn new(info: &ConnectionInfo) -> Server {
        let random = getrandom::u64().expect("the system has random numbers");
        let server = Server(Arc::new(Keys { info: info.clone(), prefix: format!("conformance-{random:016x}:") }));
        // The readers of the case before may just be going.
        server.wait_until_nobody_blocks();
        server
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.0.info
    }

    /// A key that no other case and no other run uses.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0.prefix)
    }

    /// Runs a command.
    pub(super) fn query<R: FromRedisValue>(&self, words: &[&str]) -> R {
        self.0.query(words)
    }

    /// How many entries of a group were delivered and not acknowledged.
    pub(super) fn pending(&self, stream: &str, group: &str) -> usize {
        self.query::<(usize, Value, Value, Value)>(&["XPENDING", stream, group]).0
    }

    /// The identifiers of the clients that wait in a blocking read.
    pub(super) fn blocked(&self) -> Vec<String> {
        let list: String = self.query(&["CLIENT", "LIST"]);
        let field = |line: &str, name: &str| {
            let value = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().to_owned()
        };
        list.lines().filter(|line| field(line, "flags").contains('b')).map(|line| field(line, "id")).collect()
    }

    /// Waits until a client waits in a blocking read, and gives its identifier.
    pub(super) fn wait_until_somebody_blocks(&self) -> String {
        eventually("a blocking read at the server", || self.blocked().pop())
    }

    /// Waits until no client waits in a blocking read: until the server has noticed that they are gone.
    pub(super) fn wait_until_nobody_blocks(&self) {
        eventually("the end of all blocking reads at the server", || self.blocked().is_empty().then_some(()));
    }
}

impl Keys {
    fn query<R: FromRedisValue>(&self, words: &[&str]) -> R {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connect()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn connect(&self) -> Connection {
        let client = redis::Client::open(self.info.clone()).expect("the address of a server");
        let connection = client.get_connection_with_timeout(PATIENCE).expect("Redis is there");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        connection.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
        connection
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A case that fails because there is no Redis must not fail twice.
        if std::thread::panicking() {
            return;
        }
        let mut words = vec!["DEL".to_owned()];
        words.extend(self.query::<Vec<String>>(&["KEYS", &format!("{}*", self.prefix)]));
        if words.len() > 1 {
            self.query::<usize>(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
