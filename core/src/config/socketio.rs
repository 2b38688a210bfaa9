//! Socket.IO: heartbeat, limits and namespaces of its sessions.

use core::time::Duration;

use serde::Deserialize;

use super::{ConfigError, check};
use crate::http::MOST_BODY;

/// The most namespaces there can be.
const MOST_NAMESPACES: usize = 64;

/// How Socket.IO is spoken on routes of its dialect (PROTOCOL section 4). The defaults are those of system E.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketIo {
    /// The namespaces that clients may connect to, 1 to 64, each with a leading slash. The rooms are the same in all of them.
    pub namespaces: Vec<String>,
    /// How often a session is pinged.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// How long it may take to answer.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// Longest message, and longest body of a request, in bytes; with its attachments, a packet may have as many. At most 1 MiB.
    pub max_payload: usize,
    /// How long a session may be without a namespace.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a WebSocket may take to replace the polling of its session.
    #[serde(with = "humantime_serde")]
    pub upgrade_timeout: Duration,
    /// Attachments that a packet may have.
    pub attachments: usize,
    /// Packets that one body may have.
    pub payload_packets: usize,
    /// Whether clients are sent `connection_established` when they have connected.
    pub greeting: bool,
}

impl SocketIo {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let count = self.namespaces.len();
        check((1..=MOST_NAMESPACES).contains(&count), "socketio.namespaces", "must have 1 to 64 namespaces")?;
        for (at, namespace) in self.namespaces.iter().enumerate() {
            let path = format!("socketio.namespaces[{at}]");
            let is_plain =
                namespace.starts_with('/') && !namespace.contains([',', '?']) && !namespace.chars().any(char::is_control);
            check(is_plain, &path, "must start with / and have no comma, question mark or control character")?;
            check(!self.namespaces.iter().take(at).any(|other| other == namespace), &path, "repeats an earlier namespace")?;
        }
        for (value, name) in [
            (self.ping_interval, "ping_interval"),
            (self.ping_timeout, "ping_timeout"),
            (self.connect_timeout, "connect_timeout"),
            (self.upgrade_timeout, "upgrade_timeout"),
        ] {
            check(value >= Duration::from_millis(1), &format!("socketio.{name}"), "must be at least a millisecond")?;
        }
        check((1..=MOST_BODY).contains(&self.max_payload), "socketio.max_payload", "must be from 1 to 1048576")?;
        check(self.payload_packets > 0, "socketio.payload_packets", "must be greater than 0")
    }
}

impl Default for SocketIo {
    fn default() -> SocketIo {
        SocketIo {
            namespaces: ["/", "/ws"].map(String::from).into(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(60),
            max_payload: 1_000_000,
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            attachments: 10,
            payload_packets: 100,
            greeting: true,
        }
    }
}
