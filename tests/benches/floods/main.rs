//! Honest clients beside one who floods the gateway, in every way in turn: how long their messages take, beside a quiet run before and
//! after.
//!
//! The gateway has one core, with one shard. All clients have the other: the honest ones in one thread, whoever floods in a process of
//! the lowest priority, so that what is measured is the gateway and not the fight of the clients for their core.
//!
//! ```text
//! cargo build --release --bins
//! cargo bench -p roomcast-tests --bench floods [-- --gateways roomcast --seconds 5 --clients 500 --floods messages,pings]
//! ```

mod crowd;
mod flood;
#[path = "../common/frame.rs"]
mod frame;
#[path = "../common/latency.rs"]
mod latency;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/memory.rs"]
mod memory;
#[path = "../common/socket.rs"]
mod socket;
#[path = "../common/swarm.rs"]
#[allow(dead_code, reason = "nobody is cut here")]
mod swarm;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::{Gateway, binary};
use roomcast_tests::real::setup::{ConfigFile, SECRET, clean_command};

use crate::crowd::Crowd;
use crate::flood::{Flood, Flooder};
use crate::latency::Latencies;
use crate::machine::{Cores, cpu_time};
use crate::memory::Memory;

/// The limits are the default ones, but that handshakes end within a run, and that addresses have some too: all honest clients have the
/// same. The embedded store keeps little, so that memory shows what floods take.
const CONFIG: &str = r#"
[relay]
length = 100
[limits]
handshake_timeout = "1s"
[limits.per_address]
connections = 2000
connects_per_second = 20
connect_burst = 2000
messages_per_second = 100000
burst = 100000
bytes_per_second = 100000000
burst_bytes = 100000000
[[access]]
rooms = "*"
subscribe = "authenticated"
publish = "authenticated"
"#;

/// Honest clients beside one who floods the gateway.
#[derive(Debug, Parser)]
struct Options {
    /// The binaries to measure, by name.
    #[arg(long, value_delimiter = ',', default_value = "roomcast,roomcast-smol")]
    gateways: Vec<String>,
    /// How the gateway is flooded.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Flood::ALL)]
    floods: Vec<Flood>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Honest clients, ten in a room.
    #[arg(long, default_value_t = 500)]
    clients: usize,
    /// Messages that each of them publishes in a second; each is heard by the ten.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Floods this address, and measures nothing.
    #[arg(long, hide = true)]
    target: Option<SocketAddr>,
    /// What `cargo bench` passes to every benchmark, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if let (Some(target), [flood]) = (options.target, &options.floods[..]) {
        return flood.run(target);
    }
    if !options.bench {
        // A run of the tests may build every target, but should not wait for a benchmark.
        return println!("nothing is measured without --bench");
    }
    let files = roomcast_tests::real::raise_open_files();
    let cores = Cores::of_this_machine();
    cores.pin_load_generator();
    println!("{cores}; {files} open files; {} clients, {} messages/s each, heard by ten", options.clients, options.rate);
    let config = ConfigFile::new(CONFIG);
    for name in &options.gateways {
        let gateway = start(&cores, name, &config);
        measure(&gateway, name, &options);
    }
}

fn start(cores: &Cores, name: &str, config: &ConfigFile) -> Gateway {
    let mut command = clean_command(&binary(name));
    command.args(["serve", "--jwt-secret", SECRET, "--shards", "1", "--log", "warn,roomcast=info"]);
    command.args(["--config", config.path(), "--listen", "127.0.0.1:0"]);
    let mut gateway = cores.on_server_core(|| Gateway::spawn(&mut command));
    gateway.wait_ready(PATIENCE);
    gateway
}

/// A row for each run: the latencies, what they are to the quiet run, memory, processor time, and how often the limit was met.
fn measure(gateway: &Gateway, name: &str, options: &Options) {
    let mut crowd = Crowd::start(gateway.addr(), options.clients, options.rate);
    let lasting = Duration::from_secs_f64(options.seconds);
    println!("\n{name:14} {:>24} {:>7} {:>9} {:>9} {:>6}  limit", "p50 / p99 / max ms", "ratio", "RSS MiB", "PSS MiB", "CPU");
    crowd.run(lasting);
    let quiet = crowd.run(lasting);
    row("quiet", gateway, &quiet, &quiet, None, String::new());
    for flood in &options.floods {
        let before = gateway.metric(flood.metric());
        let cpu = cpu_time(gateway.pid());
        let flooder = Flooder::start(*flood, gateway.addr());
        let latencies = crowd.run(lasting);
        drop(flooder);
        let busy = (cpu_time(gateway.pid()) - cpu).as_secs_f64() / options.seconds;
        let met = gateway.metric(flood.metric()) - before;
        row(&flood.to_string(), gateway, &latencies, &quiet, Some(busy), format!("{} +{met}", flood.metric()));
    }
    let again = crowd.run(lasting);
    row("quiet again", gateway, &again, &quiet, None, String::new());
}

fn row(what: &str, gateway: &Gateway, latencies: &Latencies, quiet: &Latencies, busy: Option<f64>, limit: String) {
    let p99 = |latencies: &Latencies| latencies.quantile(0.99).as_secs_f64();
    let Memory { rss, pss } = Memory::of(gateway.pid());
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let busy = busy.map_or_else(String::new, |busy| format!("{:.0} %", busy * 100.0));
    println!(
        "{what:14} {:>24} {:>6.2}x {:>9.1} {:>9.1} {busy:>6}  {limit} ({} messages)",
        latencies.to_string(),
        p99(latencies) / p99(quiet),
        mebibytes(rss),
        mebibytes(pss),
        latencies.len(),
    );
}
