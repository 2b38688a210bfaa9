//! The gateways beside the raw limit of the machine, measured in one run: idle memory, fan-out to one room, echo.
//!
//! The *raw limit* is a server that does nothing but read and write ready bytes, so a gateway's distance from it is what the
//! gateway itself costs. The server under test has one core, the load generator the other; all other servers are idle
//! meanwhile. Rounds go over all servers in turn, and ratios are taken within a round, so that a drift of the machine's speed
//! falls on all of them.
//!
//! ```text
//! cargo build --release --bins
//! cargo bench -p roomcast-tests --bench gateway [-- --gateways roomcast --measure echo | --only-limit]
//! ```

#[path = "../common/connection.rs"]
mod connection;
mod echo;
mod fanout;
#[path = "../common/frame.rs"]
mod frame;
#[path = "../common/histogram.rs"]
mod histogram;
mod idle;
mod limit;
#[path = "../common/line.rs"]
mod line;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/memory.rs"]
mod memory;
#[path = "../common/room.rs"]
mod room;
#[path = "../common/rounds.rs"]
mod rounds;
#[path = "../common/sample.rs"]
mod sample;
mod server;
mod server_frame;
#[path = "../common/statistics.rs"]
mod statistics;
mod subscribers;
#[path = "../common/table.rs"]
mod table;

use clap::{Parser, ValueEnum};

use crate::machine::Cores;
use crate::server::Stable;

/// The gateways beside the raw limit of the machine.
#[derive(Debug, Parser)]
struct Options {
    /// The binaries to measure, by name; each of the others is also compared with the first.
    #[arg(long, value_delimiter = ',', default_value = "roomcast,roomcast-smol")]
    gateways: Vec<String>,
    /// Measure the raw limit alone, without a gateway.
    #[arg(long)]
    only_limit: bool,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "idle,fanout,echo")]
    measure: Vec<Part>,
    /// Seconds of one run.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Runs of each kind; the tables show their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Idle connections over which memory is measured, as far as open files allow.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Subscribers of the fan-out's room.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Connections of the echo, each with one message in flight.
    #[arg(long, default_value_t = 1_000)]
    echo_clients: usize,
    /// The least length of a delivered frame's payload; the gateway's envelope may need more.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// Be the raw server: what the benchmark starts as a child.
    #[arg(long, hide = true)]
    serve_limit: Option<limit::Mode>,
    /// What `cargo bench` passes to every benchmark, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The user-space memory of idle connections.
    Idle,
    /// One publisher, many subscribers.
    Fanout,
    /// One message in, one out, on many connections.
    Echo,
}

fn main() {
    let options = Options::parse();
    if let Some(mode) = options.serve_limit {
        return limit::serve(mode);
    }
    if !options.bench {
        // A run of the tests may build every target, but should not wait for a benchmark.
        return println!("nothing is measured without --bench");
    }
    let files = roomcast_tests::real::raise_open_files();
    let cores = Cores::of_this_machine();
    cores.pin_load_generator();
    println!("{cores}; {files} open files");

    let gateways: &[String] = if options.only_limit { &[] } else { &options.gateways };
    let stable = Stable::new(gateways, cores);
    for part in [Part::Idle, Part::Fanout, Part::Echo] {
        if !options.measure.contains(&part) {
            continue;
        }
        match part {
            Part::Idle => idle::measure(&stable, options.connections.min(files.saturating_sub(500))),
            Part::Fanout => fanout::measure(&stable, &options),
            Part::Echo => echo::measure(&stable, &options),
        }
    }
}
