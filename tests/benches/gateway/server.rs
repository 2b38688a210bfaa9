//! The servers under test: processes of their own, on the server's core.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::{Gateway, binary, wait_for_address};
use roomcast_tests::real::process::Process;

use crate::limit;
use crate::machine::Cores;
use crate::table::Reference;

/// What signs the tokens that the gateways accept.
pub(crate) const SECRET: &str = "a secret of the benchmark, long enough for HS256";
/// Where a gateway has rooms.
pub(crate) const ROOMS: &str = "/ws";
/// Where a gateway sends back what it gets.
pub(crate) const ECHO: &str = "/echo";

/// Clients send as fast as they can; by default they would have ten messages a second. And a server whose turn it is not waits
/// for longer than a heartbeat, with nobody to answer its pings.
fn configuration() -> String {
    format!(
        "\
[limits]
messages_per_second = 1000000
burst = 1000000
bytes_per_second = 4000000000
burst_bytes = 4000000000
message_bytes = 65536

[heartbeat]
ping = \"1h\"
timeout = \"2h\"

[[access]]
rooms = \"*\"
subscribe = \"authenticated\"
publish = \"admin\"

[[routes]]
path = \"{ROOMS}\"

[[routes]]
path = \"{ECHO}\"
dialect = \"echo\"
auth = \"optional\"
"
    )
}

/// Where servers are started.
pub(crate) struct Stable {
    cores: Cores,
    configuration: Configuration,
    gateways: Vec<(String, PathBuf)>,
}

impl Stable {
    /// # Panics
    ///
    /// When the binary of a gateway is not built: better now than after the others are measured.
    pub(crate) fn new(gateways: &[String], cores: Cores) -> Self {
        let gateways = gateways.iter().map(|name| (name.clone(), binary(name))).collect();
        Self { cores, configuration: Configuration::write(), gateways }
    }

    /// With whom all are compared: the raw limits, and the first gateway if there are others.
    pub(crate) fn references(&self, limits: &[(limit::Mode, &str)]) -> Vec<Reference> {
        let limits = limits.iter().map(|(mode, label)| Reference::new(mode.name(), label));
        let first = self.gateways.first().filter(|_| self.gateways.len() > 1);
        limits.chain(first.map(|(name, _)| Reference::new(name, &format!("x {name}")))).collect()
    }

    /// Starts one server after the other, raw ones first, as they are asked for.
    pub(crate) fn start_each(&self, modes: &[limit::Mode]) -> impl Iterator<Item = Server> {
        let raw = modes.iter().map(|&mode| self.start_raw(mode));
        raw.chain(self.gateways.iter().map(|(name, program)| self.start_gateway(name, program)))
    }

    fn start_raw(&self, mode: limit::Mode) -> Server {
        let program = env::current_exe().expect("a running program has a path");
        let mut command = Command::new(program);
        command.args(["--serve-limit", mode.name()]);
        let process = self.cores.on_server_core(|| Process::spawn(mode.name(), &mut command));
        let addr = wait_for_address(&process, PATIENCE);
        Server { name: mode.name().to_owned(), running: Running::Raw(process, addr) }
    }

    fn start_gateway(&self, name: &str, program: &Path) -> Server {
        let path = self.configuration.0.to_str().expect("the temporary directory has a plain name");
        let arguments = ["serve", "--jwt-secret", SECRET, "--config", path];
        let gateway = self.cores.on_server_core(|| Gateway::start(program, &arguments, &[]));
        Server { name: name.to_owned(), running: Running::Gateway(gateway) }
    }
}

/// A running server; dropping it kills it.
pub(crate) struct Server {
    name: String,
    running: Running,
}

enum Running {
    Raw(Process, SocketAddr),
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
            Running::Raw(_, addr) => *addr,
            Running::Gateway(gateway) => gateway.addr(),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        match &self.running {
            Running::Raw(process, _) => process.pid(),
            Running::Gateway(gateway) => gateway.pid(),
        }
    }

    /// Whether it speaks more than frames.
    pub(crate) fn is_gateway(&self) -> bool {
        matches!(self.running, Running::Gateway(_))
    }
}

/// The gateways' configuration file, removed when dropped.
struct Configuration(PathBuf);

impl Configuration {
    fn write() -> Self {
        let path = env::temp_dir().join(format!("roomcast-bench-{}.toml", process::id()));
        fs::write(&path, configuration()).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        Self(path)
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
