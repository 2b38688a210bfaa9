//! Rooms that remember, at scale and under bad luck, on real Redis and over the loopback interface.
//!
//! * `jitter`: clients over two nodes are cut at random, and come back to either and go on where they stopped.
//! * `avalanche`: a node is killed under all of its clients and started again; they all come back at once.
//! * `drain`: a node is told to end, and its clients go to another one when they are told to.
//! * `late`: many join a room at once and ask for all it remembers, while others live on.
//! * `replay`: what a room remembers goes to one client, beside a bare `XRANGE` of the same stream (the limit).
//!
//! The gateways have one core, with one shard each. The clients have the other, in one thread (those that must not be delayed by
//! late joiners have a thread of their own); Redis may use both. The delivered messages are counted at the clients, by the number
//! that each carries.
//!
//! ```text
//! cargo build --release --bins
//! cargo bench -p roomcast-tests --bench resume [-- --gateways roomcast --measure avalanche,replay --clients 500]
//! ```

mod avalanche;
mod crowd;
mod drain;
#[path = "../common/frame.rs"]
mod frame;
mod jitter;
mod late;
#[path = "../common/latency.rs"]
mod latency;
mod live;
#[path = "../common/machine.rs"]
mod machine;
mod member;
mod publisher;
mod replay;
mod server;
#[path = "../common/socket.rs"]
mod socket;
#[path = "../common/statistics.rs"]
mod statistics;
#[path = "../common/swarm.rs"]
mod swarm;
mod text;

use clap::{Parser, ValueEnum};
use roomcast_tests::real::redis::RedisServer;

use crate::machine::Cores;
use crate::server::Stable;

/// Rooms that remember, at scale and under bad luck.
#[derive(Debug, Parser)]
struct Options {
    /// The binaries to measure, by name.
    #[arg(long, value_delimiter = ',', default_value = "roomcast,roomcast-smol")]
    gateways: Vec<String>,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "jitter,avalanche,drain,late,replay")]
    measure: Vec<Part>,
    /// Runs of each kind; each has its row, but replays have their medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for which the jitter goes on, with two messages in each.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Clients of the jitter, over two nodes.
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// Clients of the node that is killed.
    #[arg(long, default_value_t = 5_000)]
    avalanche: usize,
    /// Clients of the node that is told to end.
    #[arg(long, default_value_t = 5_000)]
    drain: usize,
    /// Clients that join late, at once.
    #[arg(long, default_value_t = 500)]
    joiners: usize,
    /// Bytes of data of the messages that they are sent.
    #[arg(long, default_value_t = 300)]
    bytes: usize,
    /// Replays of each kind to one client.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    replays: u32,
    /// What `cargo bench` passes to every benchmark, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Clients that are cut at random.
    Jitter,
    /// A node that is killed under its clients.
    Avalanche,
    /// A node that is told to end under its clients.
    Drain,
    /// Many that join late.
    Late,
    /// One client, beside a bare `XRANGE`.
    Replay,
}

fn main() {
    let options = Options::parse();
    if !options.bench {
        // A run of the tests may build every target, but should not wait for a benchmark.
        return println!("nothing is measured without --bench");
    }
    let files = roomcast_tests::real::raise_open_files();
    let most = options.clients.max(options.avalanche).max(options.drain).max(options.joiners) + 500;
    assert!(most <= files, "{files} open files are too few for so many clients");
    // Redis inherits all cores.
    let redis = RedisServer::start();
    let cores = Cores::of_this_machine();
    cores.pin_load_generator();
    println!("{cores}; {files} open files; Redis on either core");

    let stable = Stable::new(&options.gateways, cores);
    for part in &options.measure {
        match part {
            Part::Jitter => jitter::measure(&stable, &redis, &options),
            Part::Avalanche => avalanche::measure(&stable, &redis, &options),
            Part::Drain => drain::measure(&stable, &redis, &options),
            Part::Late => late::measure(&stable, &redis, &options),
            Part::Replay => replay::measure(&stable, &redis, &options),
        }
    }
}
