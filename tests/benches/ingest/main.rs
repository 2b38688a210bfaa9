//! Ingest: entries of a Redis stream on their way through the gateways, beside the raw limit and system A, measured in one run.
//!
//! *File events* are read in a consumer group, decoded, appended to the relay logs and acknowledged; *commands* are read, looked
//! into, added to the stream of their service and acknowledged. The entries are in the stream before a consumer starts, so no
//! load generator runs beside it, and nobody listens to the rooms, so reading the relay logs is no part of it.
//!
//! The *raw limit* is the bare client library with the same commands and no work of its own ([`bare`] says exactly what);
//! *system A* is a consumer in Python as system A had it (`system_a.py`). The consumer under test has one core. Redis has the
//! other, together with the benchmark, which asks for the progress now and then. Rounds go over all consumers in turn, and ratios
//! are taken within a round, so that a drift of the machine's speed falls on all of them.
//!
//! ```text
//! cargo build --release --bins
//! cargo bench -p roomcast-tests --bench ingest [-- --gateways roomcast --measure ten-gzip --peers bare --server PATH]
//! ```

mod bare;
mod consumer;
mod load;
#[path = "../common/machine.rs"]
mod machine;
mod progress;
mod rounds;
#[path = "../common/statistics.rs"]
mod statistics;
mod table;

use std::path::{Path, PathBuf};

use clap::Parser;
use roomcast_tests::real::redis::RedisServer;

use crate::bare::Bare;
use crate::consumer::{Peer, Stable};
use crate::load::Form;
use crate::machine::Cores;

/// Entries of a Redis stream through the gateways, beside the raw limit and system A.
#[derive(Debug, Parser)]
struct Options {
    /// The binaries to measure, by name; each of the others is also compared with the first.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "roomcast,roomcast-smol")]
    gateways: Vec<String>,
    /// What they are measured beside.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0.., default_value = "bare,bare-commit,system-a")]
    peers: Vec<Peer>,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "one,one-gzip,ten,ten-gzip,commands")]
    measure: Vec<Form>,
    /// Entries of one event, or commands, that are in the stream.
    #[arg(long, default_value_t = 200_000)]
    entries: usize,
    /// Entries of ten events that are in the stream.
    #[arg(long, default_value_t = 60_000)]
    batches: usize,
    /// Seconds after which a run is over, also when entries are left: a rate is over those that were acknowledged by then.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Runs of each kind; the tables show their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What the gateways log. They log each entry at `info`, and then the benchmark reads that beside Redis.
    #[arg(long, default_value = "warn")]
    log: String,
    /// A server that takes the options of `redis-server`, instead of that.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Be a bare consumer: what the benchmark starts as a child.
    #[arg(long, hide = true, requires = "redis")]
    consume: Option<Bare>,
    /// The URL of that consumer's Redis.
    #[arg(long, hide = true)]
    redis: Option<String>,
    /// What `cargo bench` passes to every benchmark, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if let (Some(bare), Some(url)) = (options.consume, &options.redis) {
        return bare::consume(bare, options.measure[0], url);
    }
    if !options.bench {
        // A run of the tests may build every target, but should not wait for a benchmark.
        return println!("nothing is measured without --bench");
    }
    let cores = Cores::of_this_machine();
    // Redis inherits this core.
    cores.pin_load_generator();
    let redis = start_redis(options.server.as_deref());
    let version = load::server_version(&redis);
    println!("{cores}; Redis, which is the load, is {version}; the gateways log at {}", options.log);

    let stable = Stable::new(&options, cores, &redis);
    for &form in &options.measure {
        let entries = form.entries(&options);
        let load = load::fill(&redis, form, entries);
        let rounds = rounds::run(&stable, &redis, &load, &options);
        println!(
            "\n{form}: {entries} entries with {} bytes of data, which is {} bytes of JSON; {} rounds of {} s at most\n",
            load.data_bytes, load.json_bytes, options.rounds, options.seconds
        );
        table::print(&stable, form, &rounds);
    }
}

fn start_redis(program: Option<&Path>) -> RedisServer {
    let Some(program) = program else { return RedisServer::start() };
    // The server runs in a directory of its own.
    let program = program.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    RedisServer::start_program(&program, &[])
}
