//! The gateways beside the npm `socket.io` server, measured in one run with the same Socket.IO clients: how fast they connect, idle
//! memory, fan-out to one room; each over WebSocket and over long-polling.
//!
//! The server under test has one core, the load generator the other; all other servers are idle meanwhile. Rounds go over all
//! servers in turn, and ratios are taken within a round. The clients are lean, and the same for all servers: they send and expect the
//! same packets, byte for byte but for the servers' envelopes, whose lengths are made equal.
//!
//! ```text
//! cargo build --release --bins
//! cargo bench -p roomcast-tests --bench socketio [-- --servers socket.io,roomcast --measure fanout]
//! ```

mod client;
mod connect;
#[path = "../common/connection.rs"]
mod connection;
mod fanout;
#[path = "../common/frame.rs"]
mod frame;
#[path = "../common/histogram.rs"]
mod histogram;
mod idle;
#[path = "../common/line.rs"]
mod line;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/memory.rs"]
mod memory;
mod poller;
#[path = "../common/room.rs"]
mod room;
#[path = "../common/rounds.rs"]
mod rounds;
#[path = "../common/sample.rs"]
mod sample;
mod server;
#[path = "../common/statistics.rs"]
mod statistics;
#[path = "../common/table.rs"]
mod table;

use clap::{Parser, ValueEnum};

use crate::connection::Connection;
use crate::machine::Cores;
use crate::poller::Poller;
use crate::server::{PEER, Stable};

/// The gateways beside the npm `socket.io` server.
#[derive(Debug, Parser)]
struct Options {
    /// The servers to measure: `socket.io`, and binaries by name. Each of the others is also compared with the first.
    #[arg(long, value_delimiter = ',', default_values_t = [PEER, "roomcast", "roomcast-smol"].map(String::from))]
    servers: Vec<String>,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "connect,idle,fanout")]
    measure: Vec<Part>,
    /// How the clients are connected.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "websocket,polling")]
    transports: Vec<Transport>,
    /// Seconds of one run of the fan-out.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Runs of each kind; the tables show their medians. Idle memory is measured once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Clients that connect.
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// Idle connections over which memory is measured, as far as open files allow.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Subscribers of the fan-out's room over WebSocket.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Subscribers that poll.
    #[arg(long, default_value_t = 200)]
    pollers: usize,
    /// The least length of a delivered packet; a server's envelope may need more.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// What `cargo bench` passes to every benchmark, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Clients that connect until they are in a room.
    Connect,
    /// The user-space memory of idle connections.
    Idle,
    /// One publisher, many subscribers.
    Fanout,
}

/// How clients are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    Websocket,
    Polling,
}

fn main() {
    let options = Options::parse();
    if !options.bench {
        // A run of the tests may build every target, but should not wait for a benchmark.
        return println!("nothing is measured without --bench");
    }
    let files = roomcast_tests::real::raise_open_files();
    let cores = Cores::of_this_machine();
    cores.pin_load_generator();
    println!("{cores}; {files} open files");

    let stable = Stable::new(&options.servers, cores);
    let connections = options.connections.min(files.saturating_sub(500));
    for part in &options.measure {
        for transport in &options.transports {
            match (part, transport) {
                (Part::Connect, Transport::Websocket) => connect::measure::<Connection>(&stable, &options),
                (Part::Connect, Transport::Polling) => connect::measure::<Poller>(&stable, &options),
                (Part::Idle, Transport::Websocket) => idle::measure::<Connection>(&stable, connections),
                (Part::Idle, Transport::Polling) => idle::measure::<Poller>(&stable, connections),
                (Part::Fanout, Transport::Websocket) => fanout::measure::<Connection>(&stable, options.subscribers, &options),
                (Part::Fanout, Transport::Polling) => fanout::measure::<Poller>(&stable, options.pollers, &options),
            }
        }
    }
}
