//! Echoes every text and binary message, so that a WebSocket conformance suite can be pointed at the very wire, shard and
//! transport that the gateway runs on:
//!
//! ```text
//! cargo run --release --example ws_echo -- --listen 127.0.0.1:9001
//! ```
//!
//! What a suite may send and an application must not is allowed here: messages of 16 MiB, thousands of pings at once, and
//! silence for as long as the suite's own clock permits.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use roomcast_core::config::{Config, Heartbeat, Limits, Route};
use roomcast_tokio::{Options, start};

/// Echoes WebSocket messages.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = Arguments::parse().listen;
    let running = start(Options { config: config(), listen, ..Options::default() }).await?;
    println!("listening on http://{}", running.address);
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}

fn config() -> Config {
    const HOUR: Duration = Duration::from_secs(3600);
    Config {
        routes: vec![Route::echo("/")],
        sources: Vec::new(),
        heartbeat: Heartbeat { ping: HOUR, timeout: 2 * HOUR },
        limits: Limits {
            message_bytes: 32 << 20,
            outbox_bytes: 128 << 20,
            outbox_messages: 1_000_000,
            messages_per_second: 1_000_000,
            burst: 1_000_000,
            ..Limits::default()
        },
        ..Config::default()
    }
}
