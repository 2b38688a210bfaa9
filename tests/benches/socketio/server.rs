//! The servers under test: processes of their own, on the server's core.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use roomcast_tests::real::gateway::{Gateway, binary, wait_for_address};
use roomcast_tests::real::process::Process;
use roomcast_tests::real::setup::ConfigFile;
use roomcast_tests::real::{PATIENCE, e2e, poll_until};

use crate::machine::{Cores, cpu_time};
use crate::table::Reference;

/// The npm package, as the tables call it.
pub(crate) const PEER: &str = "socket.io";
/// What signs the tokens that the servers accept.
pub(crate) const SECRET: &str = "a secret of the benchmark, long enough for HS256";
/// Where the servers are.
pub(crate) const PATH: &str = "/socket.io/";

/// Clients send as fast as they can; by default they would have ten messages a second. And a server whose turn it is not waits
/// for longer than a heartbeat, with nobody to answer its pings. The other server is set up alike.
const CONFIG: &str = r#"
[limits]
messages_per_second = 1000000
burst = 1000000
bytes_per_second = 4000000000
burst_bytes = 4000000000
message_bytes = 65536

[socketio]
ping_interval = "1h"
ping_timeout = "2h"

[[access]]
rooms = "*"
subscribe = "authenticated"
publish = "admin"

[[routes]]
path = "/socket.io/"
dialect = "socketio"
"#;

/// Where servers are started.
pub(crate) struct Stable {
    cores: Cores,
    config: ConfigFile,
    /// Names, with the programs of gateways.
    servers: Vec<(String, Option<PathBuf>)>,
}

impl Stable {
    /// # Panics
    ///
    /// When the binary of a gateway is not built: better now than after the others are measured.
    pub(crate) fn new(servers: &[String], cores: Cores) -> Self {
        let servers = servers.iter().map(|name| (name.clone(), (name != PEER).then(|| binary(name)))).collect();
        Self { cores, config: ConfigFile::new(CONFIG), servers }
    }

    /// With whom all are compared: the first, if there are others.
    pub(crate) fn references(&self) -> Vec<Reference> {
        let first = self.servers.first().filter(|_| self.servers.len() > 1);
        first.map(|(name, _)| Reference::new(name, &format!("x {name}"))).into_iter().collect()
    }

    /// Starts one server after the other, as they are asked for.
    pub(crate) fn start_each(&self) -> impl Iterator<Item = Server> {
        self.servers.iter().map(|(name, program)| self.cores.on_server_core(|| self.start(name, program.as_ref())))
    }

    fn start(&self, name: &str, program: Option<&PathBuf>) -> Server {
        let arguments = ["serve", "--jwt-secret", SECRET, "--config", self.config.path()];
        let running = match program {
            Some(program) => Running::Gateway(Gateway::start(program, &arguments, &[])),
            None => {
                let process = e2e::serve_socketio(SECRET);
                let addr = wait_for_address(&process, PATIENCE);
                Running::Peer(process, addr)
            }
        };
        Server { name: name.to_owned(), running }
    }
}

/// A running server; dropping it kills it.
pub(crate) struct Server {
    name: String,
    running: Running,
}

enum Running {
    Peer(Process, SocketAddr),
    Gateway(Gateway),
}

impl Server {
    /// What the tables call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        match &self.running {
            Running::Peer(_, addr) => *addr,
            Running::Gateway(gateway) => gateway.addr(),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        match &self.running {
            Running::Peer(process, _) => process.pid(),
            Running::Gateway(gateway) => gateway.pid(),
        }
    }

    /// Waits until it has nothing to do any more, and has collected its garbage, so that only what it needs is counted.
    pub(crate) fn come_to_rest(&mut self) {
        self.wait_for_rest();
        if let Running::Peer(process, _) = &mut self.running {
            let mark = process.log_mark();
            process.signal(Signal::SIGUSR2);
            process.wait_for_log_since(mark, "collected", PATIENCE);
            self.wait_for_rest();
        }
    }

    fn wait_for_rest(&self) {
        const LOOK: Duration = Duration::from_millis(200);
        let rest = poll_until(PATIENCE, || {
            let before = cpu_time(self.pid());
            thread::sleep(LOOK);
            (cpu_time(self.pid()) - before < LOOK / 100).then_some(())
        });
        assert!(rest.is_some(), "{} does not come to rest within {PATIENCE:?}", self.name);
    }
}
