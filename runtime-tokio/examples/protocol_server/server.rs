//! What the server of the conformance suites does, whichever runtime it runs on.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use roomcast_core::config::{AuthMode, Config, DialectName, Limits, Route, SocketIo};
use roomcast_core::hub::{Arguments, ClientEvent};
use roomcast_shell::clients::{Clients, Replies};
use roomcast_shell::options::Options;
use serde_json::value::RawValue;

/// Serves the conformance suites of Engine.IO and Socket.IO.
#[derive(Debug, Parser)]
pub(crate) struct CommandLine {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Milliseconds between two pings.
    #[arg(long, default_value_t = 300)]
    ping_interval: u64,
    /// Milliseconds for the answer to a ping.
    #[arg(long, default_value_t = 200)]
    ping_timeout: u64,
    /// Milliseconds for the first namespace of a session.
    #[arg(long, default_value_t = 1_000)]
    connect_timeout: u64,
}

impl CommandLine {
    /// What a runtime is to be started with.
    pub(crate) fn options(&self) -> Options {
        Options { config: config(self), listen: self.listen, clients: Clients::new(hear), ..Options::default() }
    }
}

fn hear(event: &ClientEvent, replies: &mut Replies<'_>) {
    match event {
        ClientEvent::Connected { conn, auth, .. } => {
            let auth: Result<&RawValue, _> = serde_json::from_str(auth.as_deref().unwrap_or("{}"));
            if let Some(args) = auth.ok().and_then(|auth| Arguments::new(&[auth])) {
                replies.emit(*conn, "auth", &args);
            }
        }
        ClientEvent::Said { conn, event, args, ack } => match (&**event, ack) {
            ("message", _) => replies.emit(*conn, "message-back", args),
            ("message-with-ack", Some(ack)) => replies.acknowledge(*conn, *ack, args),
            _ => {}
        },
        ClientEvent::Gone { .. } => {}
    }
}

fn config(options: &CommandLine) -> Config {
    let route = |path: &str, dialect| Route { dialect, ..Route::json(path, AuthMode::Ignored) };
    Config {
        routes: vec![route("/engine.io/", DialectName::EngineEcho), route("/socket.io/", DialectName::SocketIo)],
        sources: Vec::new(),
        socketio: SocketIo {
            namespaces: vec!["/".into(), "/custom".into()],
            ping_interval: Duration::from_millis(options.ping_interval),
            ping_timeout: Duration::from_millis(options.ping_timeout),
            max_payload: 1_000_000,
            connect_timeout: Duration::from_millis(options.connect_timeout),
            greeting: false,
            ..SocketIo::default()
        },
        limits: Limits {
            message_bytes: 2 << 20,
            messages_per_second: 10_000,
            burst: 10_000,
            bytes_per_second: 1 << 30,
            burst_bytes: 1 << 30,
            ..Limits::default()
        },
        ..Config::default()
    }
}
