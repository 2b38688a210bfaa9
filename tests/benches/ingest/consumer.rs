//! The consumers under test: processes of their own, on the consumer's core.

use std::env;
use std::ops::DerefMut as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use roomcast_tests::real::e2e;
use roomcast_tests::real::gateway::{Gateway, binary};
use roomcast_tests::real::process::Process;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;

use crate::Options;
use crate::bare::Bare;
use crate::load::Form;
use crate::machine::Cores;

/// What the gateways are measured beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The raw limit: the bare client library with the least commands.
    Bare,
    /// The bare client library with the script of the gateways.
    BareCommit,
    /// A consumer in Python as system A had it.
    SystemA,
}

impl Peer {
    /// The name on the command line and in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => Bare::Plain.name(),
            Self::BareCommit => Bare::Commit.name(),
            Self::SystemA => "system-a",
        }
    }
}

/// Where consumers are started.
pub(crate) struct Stable {
    cores: Cores,
    redis_url: String,
    log: String,
    peers: Vec<Peer>,
    gateways: Vec<(String, PathBuf)>,
}

impl Stable {
    /// # Panics
    ///
    /// When the binary of a gateway is not built: better now than after the others are measured.
    pub(crate) fn new(options: &Options, cores: Cores, redis: &RedisServer) -> Self {
        let gateways = options.gateways.iter().map(|name| (name.clone(), binary(name))).collect();
        Self { cores, redis_url: redis.url(), log: options.log.clone(), peers: options.peers.clone(), gateways }
    }

    /// What the gateways are measured beside.
    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The names of the gateways.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = &str> {
        self.gateways.iter().map(|(name, _)| name.as_str())
    }

    /// Calls back for each consumer, the peers first, with what starts it.
    pub(crate) fn for_each(&self, form: Form, mut run: impl FnMut(&dyn Fn() -> Consumer)) {
        for &peer in &self.peers {
            run(&|| self.start_peer(peer, form));
        }
        for (name, program) in &self.gateways {
            run(&|| self.start_gateway(name, program));
        }
    }

    fn start_peer(&self, peer: Peer, form: Form) -> Consumer {
        let mut command = match peer {
            Peer::Bare | Peer::BareCommit => {
                let mut command = Command::new(env::current_exe().expect("a running program has a path"));
                command.args(["--consume", peer.name(), "--measure", &form.name(), "--redis", &self.redis_url]);
                command
            }
            Peer::SystemA => {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ingest/system_a.py");
                let mut command = e2e::python(&script);
                command.args([if form == Form::Commands { "commands" } else { "events" }, &self.redis_url]);
                command
            }
        };
        let process = self.cores.on_server_core(|| Process::spawn(peer.name(), &mut command));
        Consumer { name: peer.name().to_owned(), running: Running::Peer(process) }
    }

    fn start_gateway(&self, name: &str, program: &Path) -> Consumer {
        let setup = Setup::new(program).option("--redis", &self.redis_url).option("--log", &self.log);
        // It need not be ready: the clock starts later anyway.
        let gateway = self.cores.on_server_core(|| setup.launch());
        Consumer { name: name.to_owned(), running: Running::Gateway(gateway) }
    }
}

/// A running consumer; dropping it kills it.
pub(crate) struct Consumer {
    name: String,
    running: Running,
}

enum Running {
    Peer(Process),
    Gateway(Gateway),
}

impl Consumer {
    /// What the tables call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// What it has printed last.
    pub(crate) fn output(&self) -> String {
        self.process().tail()
    }

    /// The events that a gateway has passed on; the peers do not count them.
    pub(crate) fn events(&self) -> Option<u64> {
        match &self.running {
            Running::Peer(_) => None,
            Running::Gateway(gateway) => Some(gateway.metric("roomcast_source_events_total")),
        }
    }

    /// # Panics
    ///
    /// When the process has ended.
    pub(crate) fn check_running(&mut self) {
        let process = match &mut self.running {
            Running::Peer(process) => process,
            Running::Gateway(gateway) => gateway.deref_mut(),
        };
        if let Some(status) = process.exited() {
            panic!("{} has ended ({status}); its output:\n{}", self.name, self.output());
        }
    }

    fn process(&self) -> &Process {
        match &self.running {
            Running::Peer(process) => process,
            Running::Gateway(gateway) => gateway,
        }
    }
}
