//! The server of the protocols' tests: the example `protocol_server`, or one that runs already.

use std::env;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::PATIENCE;
use super::gateway::{binary, wait_for_address};
use super::packets::PacketSocket;
use super::poller::Poller;
use super::process::Process;
use super::session::Session;
use super::setup::clean_command;

/// Where a server runs that is to be tested in place of ours, such as `127.0.0.1:3000`: with the same paths and limits, and any
/// times. `tests/e2e/protocol_server.mjs` is one on the packages that define the protocols.
const OTHER: &str = "ROOMCAST_PROTOCOL_SERVER";

/// The path whose sessions get every message back.
pub const ECHO: &str = "/engine.io/";
/// The path with the namespaces `/` and `/custom`.
pub const SOCKET_IO: &str = "/socket.io/";

/// Makes a test of each function, once for each runtime, in a module named after it.
///
/// The functions take the name of the example to start with [`ProtocolServer::start`].
#[macro_export]
macro_rules! protocol_tests {
    ($($test:ident),+ $(,)?) => {
        $crate::protocol_tests!(@ on_tokio, "protocol_server": $($test),+);
        $crate::protocol_tests!(@ on_smol, "protocol_server_smol": $($test),+);
    };
    (@ $module:ident, $example:literal: $($test:ident),+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test($example);
                }
            )+
        }
    };
}

/// The times of a server. By default none of them passes in a test, however busy the machine is.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two pings.
    pub ping_interval: Duration,
    /// For the answer to a ping.
    pub ping_timeout: Duration,
    /// For the first namespace of a session.
    pub connect_timeout: Duration,
}

impl Default for Times {
    fn default() -> Times {
        let long = Duration::from_secs(60);
        Times { ping_interval: long, ping_timeout: long, connect_timeout: long }
    }
}

/// A server with an Engine.IO path that echoes and a Socket.IO path. Dropping it ends it, where it is ours.
#[derive(Debug)]
pub struct ProtocolServer {
    process: Option<Process>,
    addr: SocketAddr,
}

impl ProtocolServer {
    /// Starts an example whose clients have all the time they want.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start(example: &str) -> ProtocolServer {
        ProtocolServer::with_times(example, Times::default())
    }

    /// Starts an example with these times.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn with_times(example: &str, times: Times) -> ProtocolServer {
        if let Ok(other) = env::var(OTHER) {
            let addr = other.to_socket_addrs().ok().and_then(|mut addrs| addrs.next());
            return ProtocolServer { process: None, addr: addr.unwrap_or_else(|| panic!("{OTHER} is no address: {other}")) };
        }
        let mut command = clean_command(&binary(&format!("examples/{example}")));
        command.args(["--listen", "127.0.0.1:0"]);
        for (option, time) in [
            ("--ping-interval", times.ping_interval),
            ("--ping-timeout", times.ping_timeout),
            ("--connect-timeout", times.connect_timeout),
        ] {
            command.arg(option).arg(time.as_millis().to_string());
        }
        let process = Process::spawn(example, &mut command);
        let addr = wait_for_address(&process, PATIENCE);
        ProtocolServer { process: Some(process), addr }
    }

    /// Whether it is ours. Another one may differ where the protocols' documents say nothing.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A session on a path over each transport.
    ///
    /// # Panics
    ///
    /// When one is refused.
    #[must_use]
    pub fn sessions(&self, path: &'static str) -> [Box<dyn Session>; 2] {
        [Box::new(Poller::open(self.addr, path)), Box::new(PacketSocket::open(self.addr, path))]
    }
}
