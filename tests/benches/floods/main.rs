//! Honest clients beside one who floods the gateway, in every way in turn: how long their messages take, beside quiet runs in between.
//!
//! The gateway has one core, with one shard. All clients have the other: the honest ones in one thread, whoever floods in a process of
//! the lowest priority, so that what is measured is the gateway and not the fight of the clients for their core.
//!
//! ```text
//! cargo build --release --bins
//! cargo bench -p roomcast-tests --bench floods [-- --gateways roomcast --rounds 7 --seconds 2 --floods messages,pings]
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
#[path = "../common/statistics.rs"]
#[allow(dead_code, reason = "no numbers are long here")]
mod statistics;
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
use crate::statistics::{median, median_ratio, print_aligned};

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
    /// Rounds, of each of which every flood has a run.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
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

/// What a run has shown.
struct Run {
    latencies: Latencies,
    /// The share of a core that the gateway took.
    busy: f64,
    memory: Memory,
    /// How often the limit was met.
    met: u64,
}

/// Rounds of a quiet run and one of each flood; then a row for each, of medians. A round in which the machine itself was slow does not
/// count so: where both of its cores are busy, there are some.
fn measure(gateway: &Gateway, name: &str, options: &Options) {
    let mut crowd = Crowd::start(gateway.addr(), options.clients, options.rate);
    let kinds: Vec<Option<Flood>> = [None].into_iter().chain(options.floods.iter().copied().map(Some)).collect();
    let mut runs: Vec<Vec<Run>> = kinds.iter().map(|_| Vec::new()).collect();
    crowd.run(Duration::from_secs(1));
    for _ in 0..options.rounds {
        for (kind, runs) in kinds.iter().zip(&mut runs) {
            runs.push(run(gateway, &mut crowd, *kind, Duration::from_secs_f64(options.seconds)));
        }
    }
    println!();
    let heads = [name, "messages", "p50 / p99 / max ms", "p99", "of rounds", "RSS MiB", "PSS MiB", "CPU", "met", "limit"];
    let rows = kinds.iter().zip(&runs).map(|(kind, of_kind)| row(*kind, of_kind, &runs[0]));
    print_aligned(&[heads.map(str::to_owned).into()].into_iter().chain(rows).collect::<Vec<_>>());
}

fn run(gateway: &Gateway, crowd: &mut Crowd, kind: Option<Flood>, lasting: Duration) -> Run {
    let met = || kind.map_or(0, |flood| gateway.metric(flood.metric()));
    let (before, cpu) = (met(), cpu_time(gateway.pid()));
    let flooder = kind.map(|flood| Flooder::start(flood, gateway.addr()));
    let latencies = crowd.run(lasting);
    drop(flooder);
    let busy = (cpu_time(gateway.pid()) - cpu).as_secs_f64() / lasting.as_secs_f64();
    Run { latencies, busy, memory: Memory::of(gateway.pid()), met: met() - before }
}

fn row(kind: Option<Flood>, runs: &[Run], quiet: &[Run]) -> Vec<String> {
    let millis = |share: f64| of_runs(runs, |run| run.latencies.quantile(share).as_secs_f64() * 1e3);
    let mebibytes = |bytes: fn(&Run) -> u64| format!("{:.1}", of_runs(runs, |run| bytes(run) as f64 / f64::from(1 << 20)));
    let ratios: Vec<f64> = runs.iter().zip(quiet).map(|(run, quiet)| p99(run) / p99(quiet)).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, f64::MIN), |(least, most), ratio| (ratio.min(least), ratio.max(most)));
    vec![
        kind.map_or("quiet".into(), |flood| flood.to_string()),
        format!("{:.0}", of_runs(runs, |run| run.latencies.len() as f64)),
        format!("{:.1} / {:.1} / {:.1}", millis(0.5), millis(0.99), millis(1.0)),
        format!("{}x", median_ratio(ratios.into_iter().map(Some))),
        format!("{least:.2} to {most:.2}"),
        mebibytes(|run| run.memory.rss),
        mebibytes(|run| run.memory.pss),
        format!("{:.0} %", of_runs(runs, |run| run.busy * 100.0)),
        format!("{:.0}", of_runs(runs, |run| run.met as f64)),
        kind.map_or("", Flood::metric).to_owned(),
    ]
}

fn p99(run: &Run) -> f64 {
    run.latencies.quantile(0.99).as_secs_f64()
}

/// The median of something of all runs.
fn of_runs(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(figure).collect())
}
