//! The nodes under test: processes of their own, on the servers' core.

use std::net::SocketAddr;
use std::path::PathBuf;

use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::{Gateway, binary};
use roomcast_tests::real::redis::{RedisServer, free_port};
use roomcast_tests::real::setup::{ConfigFile, SECRET, clean_command};

use crate::machine::Cores;

/// A room that remembers.
pub(crate) const ROOM: &str = "project:1";
/// A room that does not.
pub(crate) const OTHER: &str = "workspace:1";

/// Clients may say as much as they like; by default they would have ten messages a second.
const CONFIG: &str = r#"
[limits]
messages_per_second = 1000000
burst = 1000000
bytes_per_second = 4000000000
burst_bytes = 4000000000
message_bytes = 65536
publishes_in_flight = 100000
[[rooms]]
rooms = "project:*"
keep.history = { size = 1000, ttl = "1h" }
[[routes]]
path = "/ws"
"#;

/// Where nodes are started.
pub(crate) struct Stable {
    cores: Cores,
    config: ConfigFile,
    gateways: Vec<(String, PathBuf)>,
}

/// A node that is to run at an address, now or again.
pub(crate) struct Place<'a> {
    stable: &'a Stable,
    program: &'a PathBuf,
    redis: String,
    name: &'a str,
    /// Below the ports of outgoing connections: clients that retry must not meet themselves.
    pub(crate) addr: SocketAddr,
}

impl Stable {
    /// # Panics
    ///
    /// When the binary of a gateway is not built: better now than after the others are measured.
    pub(crate) fn new(gateways: &[String], cores: Cores) -> Self {
        let gateways = gateways.iter().map(|name| (name.clone(), binary(name))).collect();
        Self { cores, config: ConfigFile::new(CONFIG), gateways }
    }

    /// Runs with each gateway's name, an empty Redis, and places for two nodes.
    pub(crate) fn for_each(&self, redis: &RedisServer, mut run: impl FnMut(&str, [Place<'_>; 2])) {
        for (gateway, program) in &self.gateways {
            redis.command(&["FLUSHALL"]);
            let place = |name| {
                let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
                Place { stable: self, program, redis: redis.url(), name, addr }
            };
            run(gateway, ["a", "b"].map(place));
        }
    }
}

impl Place<'_> {
    /// Starts the node and waits until it is ready.
    pub(crate) fn start(&self) -> Gateway {
        let mut command = clean_command(self.program);
        command.args(["serve", "--jwt-secret", SECRET, "--shards", "1", "--log", "warn,roomcast=info"]);
        command.args(["--config", self.stable.config.path(), "--redis", &self.redis, "--node", self.name]);
        command.args(["--listen", &self.addr.to_string()]);
        let mut gateway = self.stable.cores.on_server_core(|| Gateway::spawn(&mut command));
        gateway.wait_ready(PATIENCE);
        gateway
    }
}
