//! The server that the official conformance suites of Engine.IO and Socket.IO ask for, so that they can be pointed at the very
//! sessions, shard and transport that the gateway runs on:
//!
//! ```text
//! cargo run --release --example protocol_server -- --listen 127.0.0.1:3000
//! ```
//!
//! `/engine.io/` echoes every message. `/socket.io/` has the namespaces `/` and `/custom`, tells whoever connects what it said in
//! doing so (`auth`), and sends `message` back as `message-back` and the arguments of `message-with-ack` as its acknowledgement.

mod server;

use std::error::Error;

use clap::Parser as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let running = roomcast_tokio::start(server::CommandLine::parse().options()).await?;
    println!("listening on http://{}", running.address);
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}
