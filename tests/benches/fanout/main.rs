//! Fan-out to one room: the gateway beside the raw limit of the machine, measured in one run.
//!
//! A message published once goes to every subscriber of a room. The *raw limit* is a server that does
//! nothing but write ready bytes: "single" makes one write per message and subscriber, "joined" one write
//! for all messages that have come together. The server under test has one core, the load generator the
//! other. Rounds go over all servers in turn, and ratios are taken within a round, so that a drift of the
//! machine's speed falls on all of them.
//!
//! ```text
//! cargo build --release --bin roomcast
//! cargo bench -p roomcast-tests --bench fanout [-- --only-limit]
//! ```

mod frame;
mod histogram;
mod limit;
mod machine;
mod room;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs, process};

use clap::Parser;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::{Gateway, binary, wait_for_address};
use roomcast_tests::real::process::Process;

use crate::machine::Memory;
use crate::room::{Dialect, Room, Sample, connect_subscribers};
use crate::table::Row;

/// Messages published and not yet delivered to all.
const WINDOWS: [usize; 3] = [1, 16, 64];
/// Runs that only warm up caches and grow buffers.
const WARM_UP: Duration = Duration::from_millis(150);
const SECRET: &str = "a secret of the benchmark, long enough for HS256";
/// The publisher sends as fast as it can; by default it would have ten messages a second.
const CONFIGURATION: &str = "\
[limits]
messages_per_second = 1000000
burst = 1000000
message_bytes = 65536
";

/// Fan-out to one room, beside the raw limit of the machine.
#[derive(Debug, Parser)]
struct Options {
    /// Seconds of one run.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Runs of each kind; the table shows their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Subscribers of the room.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Idle connections over which memory is measured, as far as open files allow.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// The least length of a delivered frame's payload; the gateway's envelope may need more.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// Measure the raw limit alone, without a gateway.
    #[arg(long)]
    only_limit: bool,
    /// Be the raw server: what the benchmark starts as a child.
    #[arg(long, hide = true)]
    serve_limit: Option<limit::Mode>,
    /// What `cargo bench` passes to every benchmark, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
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
    let files = machine::raise_open_files();
    let cores = machine::Cores::of_this_machine();
    cores.pin_load_generator();
    println!("{cores}; {files} open files; {} subscribers", options.subscribers);

    let mut contestants = Vec::new();
    let mut bytes = options.bytes;
    if !options.only_limit {
        let configuration = Configuration::write();
        measure_memory(&configuration, &cores, options.connections.min(files.saturating_sub(500)));
        let mut gateway = Contestant::gateway(&configuration, &cores, options.subscribers);
        // A delivered frame has the gateway's envelope; the raw servers must carry as much.
        bytes = gateway.room.pad_frames_to(bytes);
        contestants.push(gateway);
    }
    for mode in [limit::Mode::Joined, limit::Mode::Single] {
        let mut contestant = Contestant::limit(mode, &cores, options.subscribers);
        assert_eq!(contestant.room.pad_frames_to(bytes), bytes, "raw frames are of any length");
        contestants.push(contestant);
    }
    contestants.reverse();

    let rounds: Vec<Vec<Run>> =
        (0..options.rounds).map(|_| run_round(&mut contestants, Duration::from_secs_f64(options.seconds))).collect();
    println!("\nframes of {bytes} bytes, {} rounds of {} s\n", options.rounds, options.seconds);
    table::print(&rows(&rounds));
    for contestant in &mut contestants {
        contestant.room.check_all_delivered();
    }
}

/// A server under test, with the room that loads it.
struct Contestant {
    name: &'static str,
    /// Lives as long as the room does.
    _process: Running,
    room: Room,
}

/// Holds a child process; dropping it kills the child.
enum Running {
    Limit { _process: Process },
    Gateway { _gateway: Gateway },
}

impl Contestant {
    fn limit(mode: limit::Mode, cores: &machine::Cores, subscribers: usize) -> Self {
        let program = env::current_exe().expect("a running program has a path");
        let mut command = Command::new(program);
        command.args(["--serve-limit", mode.name()]);
        let process = cores.on_server_core(|| Process::spawn(mode.name(), &mut command));
        let addr = wait_for_address(&process, PATIENCE);
        let room = Room::open(addr, process.pid(), Dialect::Raw, subscribers);
        Self { name: mode.name(), _process: Running::Limit { _process: process }, room }
    }

    fn gateway(configuration: &Configuration, cores: &machine::Cores, subscribers: usize) -> Self {
        let gateway = configuration.start_gateway(cores);
        let dialect = Dialect::Gateway { secret: SECRET };
        let room = Room::open(gateway.addr(), gateway.pid(), dialect, subscribers);
        Self { name: "roomcast", _process: Running::Gateway { _gateway: gateway }, room }
    }
}

/// One measured run within a round.
struct Run {
    name: &'static str,
    window: usize,
    sample: Sample,
}

fn run_round(contestants: &mut [Contestant], length: Duration) -> Vec<Run> {
    let mut runs = Vec::new();
    for window in WINDOWS {
        for contestant in contestants.iter_mut() {
            // With one message in flight there is nothing to join.
            if window == 1 && contestant.name == limit::Mode::Joined.name() {
                continue;
            }
            contestant.room.run(window, WARM_UP);
            runs.push(Run { name: contestant.name, window, sample: contestant.room.run(window, length) });
        }
    }
    runs
}

/// Each row is one kind of run over all rounds; its ratios are taken round by round.
fn rows(rounds: &[Vec<Run>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, first) in rounds[0].iter().enumerate() {
        let samples: Vec<&Sample> = rounds.iter().map(|round| &round[index].sample).collect();
        let against = |mode: limit::Mode| -> Vec<(&Sample, &Sample)> {
            let of_mode = |run: &&Run| run.name == mode.name() && run.window == first.window;
            rounds.iter().filter_map(|round| Some((&round[index].sample, &round.iter().find(of_mode)?.sample))).collect()
        };
        rows.push(Row::new(first.name, first.window, &samples, &against(limit::Mode::Single), &against(limit::Mode::Joined)));
    }
    rows
}

/// The user-space memory of an idle connection, authenticated and in one room.
fn measure_memory(configuration: &Configuration, cores: &machine::Cores, connections: usize) {
    // What the first connections bring into being belongs to the process, not to a connection.
    const FIRST: usize = 100;
    let gateway = configuration.start_gateway(cores);
    let dialect = Dialect::Gateway { secret: SECRET };
    let first = connect_subscribers(gateway.addr(), dialect, 0..FIRST);
    let before = Memory::of(gateway.pid());
    let started = std::time::Instant::now();
    let rest = connect_subscribers(gateway.addr(), dialect, FIRST..FIRST + connections);
    let took = started.elapsed();
    let after = Memory::of(gateway.pid());
    println!(
        "idle connection: {:.0} B RSS, {:.0} B PSS over {connections} connections ({} KiB -> {} KiB RSS), \
         {:.0} connects/s",
        after.rss.saturating_sub(before.rss) as f64 / connections as f64,
        after.pss.saturating_sub(before.pss) as f64 / connections as f64,
        before.rss / 1024,
        after.rss / 1024,
        connections as f64 / took.as_secs_f64(),
    );
    // The server goes first: so the ends that linger in TIME_WAIT are its own.
    drop(gateway);
    drop((first, rest));
}

/// The gateway's configuration file, removed when dropped.
struct Configuration(PathBuf);

impl Configuration {
    fn write() -> Self {
        let path = env::temp_dir().join(format!("roomcast-fanout-{}.toml", process::id()));
        fs::write(&path, CONFIGURATION).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        Self(path)
    }

    fn start_gateway(&self, cores: &machine::Cores) -> Gateway {
        let path = self.0.to_str().expect("the temporary directory has a plain name");
        let arguments = ["serve", "--jwt-secret", SECRET, "--config", path];
        cores.on_server_core(|| Gateway::start(&binary("roomcast"), &arguments, &[]))
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
