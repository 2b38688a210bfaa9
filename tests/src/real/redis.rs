//! A real Redis server of a test's own.
//!
//! It is `redis-server`, or whatever compatible server `ROOMCAST_TEST_REDIS` names: a path, or a program in `PATH`.

use std::collections::hash_map::RandomState;
use std::env;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::hash::BuildHasher as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
pub use redis::Value;
use redis::{Client, Connection, FromRedisValue, RedisResult, ToRedisArgs};

use super::process::Process;
use super::{PATIENCE, poll_until};

/// An argument that becomes a port on which nobody listens, and another one should that be taken before the server
/// comes to it; `CONFIG GET` tells which one it is.
pub const FREE_PORT: &str = "(a free port)";

/// A `redis-server` on a loopback port of its own, without persistence unless asked for.
///
/// Dropping it kills the server and removes its directory.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    directory: PathBuf,
    program: PathBuf,
    config: Option<PathBuf>,
    arguments: Vec<String>,
    /// `None` while the server is stopped.
    process: Option<Process>,
    connection: Mutex<Kept>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When there is no `redis-server` or it does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, as `&["--appendonly", "yes"]` where data must outlive a stop; for the ports
    /// among them there is [`FREE_PORT`].
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_program(&usual_program(), arguments)
    }

    /// Starts a sentinel: the same program with this configuration, which it goes on writing.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn start_sentinel(config: &str) -> Self {
        Self::launch(&usual_program(), Some(config), &["--sentinel"])
    }

    /// Starts a given server program, which takes the options of `redis-server`.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start_program(program: &Path, arguments: &[&str]) -> Self {
        Self::launch(program, None, arguments)
    }

    fn launch(program: &Path, config: Option<&str>, arguments: &[&str]) -> Self {
        const PORTS_TO_TRY: usize = 100;
        for _ in 0..PORTS_TO_TRY {
            let port = free_port();
            let directory = env::temp_dir().join(format!("roomcast-redis-{}-{port}", process::id()));
            fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot create {}: {error}", directory.display()));
            let config = config.map(|text| {
                let path = directory.join("redis.conf");
                fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
                path
            });
            let mut server = Self {
                port,
                directory,
                program: program.into(),
                config,
                arguments: arguments.iter().map(|&argument| own_argument(argument)).collect(),
                process: None,
                connection: Mutex::new(Kept(None)),
            };
            if server.try_launch() {
                return server;
            }
        }
        panic!("none of {PORTS_TO_TRY} free ports was still free when redis-server came to it");
    }

    /// The URL of database 0.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The URL of another database.
    #[must_use]
    pub fn url_of_database(&self, number: u8) -> String {
        format!("{}/{number}", self.url())
    }

    /// The port on 127.0.0.1; it stays the same over stops and starts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// When the server is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").pid()
    }

    /// Runs one command in database 0 and returns what the server answers.
    ///
    /// # Panics
    ///
    /// When the server answers with an error or not at all.
    pub fn command<A: ToRedisArgs + Debug>(&self, command: &[A]) -> Value {
        self.query(command)
    }

    /// Runs one command in database 0 and converts the answer.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::command`], and when the answer has another type.
    pub fn query<T: FromRedisValue>(&self, command: &[impl ToRedisArgs + Debug]) -> T {
        self.try_query(command).unwrap_or_else(|error| panic!("Redis refuses {command:?}: {error}"))
    }

    /// Runs one command in database 0; an error is the caller's to judge.
    ///
    /// # Errors
    ///
    /// What the server or the connection reports.
    pub fn try_query<T: FromRedisValue>(&self, command: &[impl ToRedisArgs]) -> RedisResult<T> {
        let mut kept = self.kept();
        let mut connection = match kept.0.take() {
            Some(connection) => connection,
            None => self.connect(0)?,
        };
        let mut packed = redis::Cmd::new();
        for argument in command {
            packed.arg(argument);
        }
        let answer = packed.query::<Value>(&mut connection);
        // After an error of the connection itself the next command gets a new one.
        if answer.as_ref().is_ok() || answer.as_ref().is_err_and(|error| error.code().is_some()) {
            kept.0 = Some(connection);
        }
        Ok(redis::from_redis_value(answer?)?)
    }

    /// How many entries of a group's stream were read and are not acknowledged, in a database.
    ///
    /// # Panics
    ///
    /// When there is no such group.
    pub fn pending(&self, database: u8, stream: &str, group: &str) -> u64 {
        let mut connection = self.connect(database).expect("the server is there");
        let summary: redis::RedisResult<(u64, Value, Value, Value)> =
            redis::cmd("XPENDING").arg(stream).arg(group).query(&mut connection);
        summary.unwrap_or_else(|error| panic!("Redis refuses XPENDING {stream} {group}: {error}")).0
    }

    /// A new connection to a database, for what needs one of its own, such as a subscription.
    ///
    /// # Errors
    ///
    /// When the server is not there.
    pub fn connect(&self, database: u8) -> RedisResult<Connection> {
        let client = Client::open(self.url_of_database(database))?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// Stops the server in good order (SIGTERM).
    ///
    /// # Panics
    ///
    /// When it is stopped already, or does not stop.
    pub fn stop(&mut self) {
        self.forget_connection();
        let mut process = self.process.take().expect("the server runs");
        process.terminate(PATIENCE);
    }

    /// Stops the server without warning (SIGKILL).
    ///
    /// # Panics
    ///
    /// When it is stopped already.
    pub fn kill(&mut self) {
        self.forget_connection();
        self.process.take().expect("the server runs").kill();
    }

    /// Starts a stopped server on the same port and waits until it answers. Without persistence it is empty.
    ///
    /// # Panics
    ///
    /// When it runs already, or does not come up.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        if poll_until(PATIENCE, || self.try_launch().then_some(())).is_none() {
            panic!("port {} did not become free again in {PATIENCE:?}", self.port);
        }
    }

    /// Whether it has neither been stopped nor killed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Freezes the server (SIGSTOP): connections stay open and nobody answers, as behind a partition.
    ///
    /// # Panics
    ///
    /// When the server is stopped.
    pub fn pause(&mut self) {
        self.forget_connection();
        self.running().signal(Signal::SIGSTOP);
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Panics
    ///
    /// When the server is stopped.
    pub fn resume(&mut self) {
        self.running().signal(Signal::SIGCONT);
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// Starts the process and waits until it answers; false if somebody else has the port.
    fn try_launch(&mut self) -> bool {
        let mut process = Process::spawn("redis-server", &mut self.launch_command());
        let started = Instant::now();
        let up = poll_until(PATIENCE, || {
            if process.exited().is_some() {
                return Some(false);
            }
            // Whoever has taken the port could be a Redis too, so the answer must come from this process.
            self.answering_pid().map(|pid| pid == process.pid())
        });
        match up {
            Some(true) => {
                self.process = Some(process);
                true
            }
            Some(false) if process.exited().is_none() => false,
            Some(false) => {
                // Any other reason to end fails here, with what the server printed.
                process.wait_for_log("Address already in use", PATIENCE);
                false
            }
            None => panic!("redis-server does not answer after {:?}; its output:\n{}", started.elapsed(), process.tail()),
        }
    }

    fn launch_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.directory)
            .args(&self.config)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(&self.arguments);
        command
    }

    fn answering_pid(&self) -> Option<u32> {
        let client = Client::open(self.url()).ok()?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        // A server that still loads its data says so instead of PONG.
        redis::cmd("PING").query::<String>(&mut connection).ok()?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut connection).ok()?;
        info.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
    }

    fn forget_connection(&self) {
        self.kept().0 = None;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // The process goes first, or it could still write into the directory.
        self.process = None;
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The connection kept between commands.
struct Kept(Option<Connection>);

impl Debug for Kept {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_some() { "open" } else { "closed" })
    }
}

fn own_argument(argument: &str) -> String {
    if argument == FREE_PORT { free_port().to_string() } else { argument.to_owned() }
}

/// A loopback port on which nobody listens.
///
/// It lies below the range from which the system takes the ports of outgoing connections. A port from that
/// range could be taken by one while the server is down, and a client that tries to reconnect to it could
/// even be connected to itself.
///
/// # Panics
///
/// When no port is free.
#[must_use]
pub fn free_port() -> u16 {
    const LOWEST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    const TRIES: u64 = 1_000;
    let random = RandomState::new();
    (0..TRIES)
        .map(|attempt| LOWEST + (random.hash_one(attempt) % u64::from(COUNT)) as u16)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("some port is free")
}

/// The server that tests start.
fn usual_program() -> PathBuf {
    let name = env::var_os("ROOMCAST_TEST_REDIS").unwrap_or_else(|| "redis-server".into());
    find_program(&name).unwrap_or_else(|| {
        panic!(
            "{} is needed for these tests; `tests/run` installs redis-server, \
             or use `apt-get install --no-install-recommends redis-server`",
            name.display()
        )
    })
}

fn find_program(name: &OsStr) -> Option<PathBuf> {
    // A path that is absolute stays as it is.
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_databases() {
        let redis = RedisServer::start();
        assert_eq!(redis.command(&["PING"]), Value::SimpleString("PONG".into()));
        let id: String = redis.query(&["XADD", "stream", "*", "field", "value"]);
        assert!(id.contains('-'), "{id}");
        assert_eq!(redis.query::<i64>(&["XLEN", "stream"]), 1);
        assert_eq!(redis.command(&[&b"SET"[..], b"bytes", b"\x00\xff"]), Value::Okay);
        assert_eq!(redis.query::<Vec<u8>>(&["GET", "bytes"]), b"\x00\xff");

        let mut other = redis.connect(2).expect("the server is there");
        assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut other).unwrap(), 0);
    }

    #[test]
    fn an_error_of_the_server_keeps_the_connection() {
        let redis = RedisServer::start();
        let id: i64 = redis.query(&["CLIENT", "ID"]);
        let error = redis.try_query::<Value>(&["NONSENSE"]).unwrap_err();
        assert_eq!(error.code(), Some("ERR"));
        assert_eq!(redis.query::<i64>(&["CLIENT", "ID"]), id);
    }

    #[test]
    fn a_stopped_server_comes_back_on_its_port_and_empty() {
        let mut redis = RedisServer::start();
        let (url, port) = (redis.url(), redis.port());
        redis.command(&["SET", "key", "value"]);
        redis.stop();
        assert!(redis.try_query::<Value>(&["PING"]).is_err());
        redis.start_again();
        assert_eq!((redis.url(), redis.port()), (url, port));
        assert_eq!(redis.command(&["GET", "key"]), Value::Nil);
    }

    #[test]
    fn an_append_only_server_keeps_its_data_over_a_kill() {
        let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        redis.command(&["SET", "key", "value"]);
        redis.kill();
        redis.start_again();
        assert_eq!(redis.query::<String>(&["GET", "key"]), "value");
    }

    #[test]
    fn a_paused_server_answers_after_it_resumes() {
        let mut redis = RedisServer::start();
        redis.pause();
        let mut connection = TcpProbe::connect(redis.port());
        assert!(!connection.answers_ping(Duration::from_millis(50)));
        redis.resume();
        assert!(connection.answers_ping(PATIENCE));
    }

    #[test]
    fn two_servers_live_side_by_side_and_clean_up() {
        let (one, two) = (RedisServer::start(), RedisServer::start());
        one.command(&["SET", "key", "one"]);
        assert_eq!(two.command(&["GET", "key"]), Value::Nil);
        let pid = one.pid();
        let directory = one.directory.clone();
        drop(one);
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
        assert!(!directory.exists());
    }

    #[test]
    fn a_taken_port_is_told_from_an_own_server() {
        let one = RedisServer::start();
        let mut two = RedisServer::start();
        two.stop();
        let own = std::mem::replace(&mut two.port, one.port());
        assert!(!two.try_launch());
        two.port = own;
        two.start_again();
    }

    /// One connection whose PING may go unanswered for a while without being lost.
    struct TcpProbe(std::net::TcpStream);

    impl TcpProbe {
        fn connect(port: u16) -> Self {
            use std::io::Write as _;
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"PING\r\n").unwrap();
            Self(stream)
        }

        fn answers_ping(&mut self, within: Duration) -> bool {
            use std::io::Read as _;
            self.0.set_read_timeout(Some(within)).unwrap();
            let mut answer = [0; 7];
            self.0.read_exact(&mut answer).is_ok() && answer == *b"+PONG\r\n"
        }
    }
}
