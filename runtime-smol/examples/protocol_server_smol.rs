//! The server that the official conformance suites of Engine.IO and Socket.IO ask for, on smol. See the example `protocol_server` of
//! `roomcast-tokio`, of which this is the mirror.

#[path = "../../runtime-tokio/examples/protocol_server/server.rs"]
mod server;

use std::error::Error;
use std::future;

use clap::Parser as _;
use smol::Executor;

fn main() -> Result<(), Box<dyn Error>> {
    let executor: &'static Executor<'static> = Box::leak(Box::default());
    smol::block_on(executor.run(async {
        let running = roomcast_smol::start(executor, server::CommandLine::parse().options()).await?;
        println!("listening on http://{}", running.address);
        // Until somebody ends the process.
        future::pending().await
    }))
}
