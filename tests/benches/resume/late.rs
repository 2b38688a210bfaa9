//! Late joiners: many ask at once for all that a room remembers, while it and others live on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use serde_json::Value;

use crate::Options;
use crate::latency::Latencies;
use crate::live::{Live, MEMBERS, RATE};
use crate::machine::cpu_time;
use crate::server::{ROOM, Stable};
use crate::socket::Event;
use crate::statistics::{grouped, print_aligned};
use crate::swarm::Swarm;
use crate::text::{KIND, Text, data, understand};

/// Messages that the room remembers.
pub(crate) const KEPT: usize = 1_000;
/// How long all is well before and after.
const CALM: Duration = Duration::from_secs(3);

/// Prints a row for each run of each gateway.
pub(crate) fn measure(stable: &Stable, redis: &RedisServer, options: &Options) {
    println!(
        "\nlate: {} clients join at once and are sent {KEPT} messages with {} bytes of data; {RATE} messages/s to the same room \
         and to another with {MEMBERS} members\n",
        options.joiners, options.bytes
    );
    let head = [
        "gateway",
        "all have all s",
        "joiner p50 / p99 / max ms",
        "messages/s",
        "gaps",
        "node CPU s (usual)",
        "Redis CPU s (usual)",
        "Redis commands (usual)",
        "reads of logs",
        "node ran / waited",
        "clients",
        "others before ms",
        "during",
        "after (p50 / p99 / max)",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for _ in 0..options.rounds {
        stable.for_each(redis, |name, [place, _]| lines.push(run(name, &place.start(), redis, options)));
    }
    print_aligned(&lines);
}

/// Publishes all that the room is to remember.
pub(crate) fn fill(node: &Gateway, bytes: usize) {
    for number in 0..KEPT {
        let data: Value = serde_json::from_str(&data(number, bytes)).expect("it is JSON");
        node.publish(ROOM, KIND, &data);
    }
}

fn run(name: &str, node: &Gateway, redis: &RedisServer, options: &Options) -> Vec<String> {
    fill(node, options.bytes);
    let mut joiners = Joiners::connect(node, options.joiners);
    let live = Live::start(node.addr());
    let stop = AtomicBool::new(false);
    let (marks, deliveries) = thread::scope(|scope| {
        let live = scope.spawn(|| live.run(KEPT, options.bytes, &stop));
        let before = Mark::now(node, redis);
        joiners.run(CALM, |_| false);
        let start = Mark::now(node, redis);
        joiners.ask();
        assert!(joiners.run(4 * PATIENCE, Joiners::have_all), "not all joiners get all");
        let end = Mark::now(node, redis);
        joiners.run(CALM, |_| false);
        stop.store(true, Ordering::Release);
        ([before, start, end], live.join().expect("the others go on"))
    });

    let [before, start, end] = &marks;
    let length = end.at - start.at;
    // What it cost, and what as much time cost before.
    let usual = length.as_secs_f64() / (start.at - before.at).as_secs_f64();
    let cost = |value: &dyn Fn(&Mark) -> f64| (value(end) - value(start), (value(start) - value(before)) * usual);
    let (node_cpu, redis_cpu) = (cost(&|mark| mark.node_cpu.as_secs_f64()), cost(&|mark| mark.redis_cpu.as_secs_f64()));
    let commands = cost(&|mark| mark.commands as f64);
    let share = |ran: Duration, waited: Duration| {
        let [ran, waited] = [ran, waited].map(|time| time.as_secs_f64() / length.as_secs_f64() * 100.0);
        format!("{ran:.0} / {waited:.0} %")
    };
    let phase = |from: Option<Instant>, to: Option<Instant>| {
        let mut latencies = Latencies::default();
        let is_in = |at: Instant| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to);
        latencies.extend(deliveries.iter().filter(|(at, _)| is_in(*at)).map(|(_, latency)| *latency));
        latencies.to_string()
    };
    vec![
        name.to_owned(),
        format!("{:.2}", length.as_secs_f64()),
        joiners.latencies().to_string(),
        grouped(((options.joiners * KEPT) as f64 / length.as_secs_f64()) as u64),
        joiners.gaps.to_string(),
        format!("{:.3} ({:.3})", node_cpu.0, node_cpu.1),
        format!("{:.3} ({:.3})", redis_cpu.0, redis_cpu.1),
        format!("{:.0} ({:.0})", commands.0, commands.1),
        (end.reads - start.reads).to_string(),
        share(end.node_cpu - start.node_cpu, end.node_waited - start.node_waited),
        share(end.own_cpu - start.own_cpu, end.own_waited - start.own_waited),
        phase(None, Some(start.at)),
        phase(Some(start.at), Some(end.at)),
        phase(Some(end.at), None),
    ]
}

/// What everything has cost by some moment.
struct Mark {
    at: Instant,
    node_cpu: Duration,
    redis_cpu: Duration,
    own_cpu: Duration,
    /// How long threads could have run and had no core.
    node_waited: Duration,
    own_waited: Duration,
    /// Commands that Redis has carried out, those within scripts included.
    commands: u64,
    /// Those of them that read a log.
    reads: u64,
}

impl Mark {
    fn now(node: &Gateway, redis: &RedisServer) -> Self {
        let info: String = redis.query(&["INFO", "commandstats"]);
        let calls = |is_meant: fn(&str) -> bool| {
            let calls = info.lines().filter_map(|line| {
                let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                is_meant(name).then_some(rest.split(',').next()?.parse::<u64>().ok()?)
            });
            calls.sum()
        };
        Self {
            node_cpu: cpu_time(node.pid()),
            redis_cpu: cpu_time(redis.pid()),
            own_cpu: cpu_time(process::id()),
            node_waited: waited_for_a_core(node.pid()),
            own_waited: waited_for_a_core(process::id()),
            commands: calls(|_| true),
            reads: calls(|name| matches!(name, "xrange" | "xrevrange")),
            at: Instant::now(),
        }
    }
}

/// How long the threads of a process could have run and had no core: on a machine that is shared, much of what is measured.
fn waited_for_a_core(pid: u32) -> Duration {
    let folder = fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let waited = folder.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').nth(1)?.parse().ok().map(Duration::from_nanos)
    });
    waited.sum()
}

/// Clients that join late.
struct Joiners {
    swarm: Swarm,
    each: Vec<Joiner>,
    asked: Option<Instant>,
    /// Messages that did not follow the one before.
    gaps: usize,
}

#[derive(Clone, Default)]
struct Joiner {
    received: usize,
    last: Option<usize>,
    after: Option<Duration>,
}

impl Joiners {
    fn connect(node: &Gateway, count: usize) -> Self {
        let mut swarm = Swarm::new(0, count);
        swarm.connect_all(|_| node.addr());
        Self { swarm, each: vec![Joiner::default(); count], asked: None, gaps: 0 }
    }

    fn ask(&mut self) {
        self.asked = Some(Instant::now());
        for index in 0..self.swarm.len() {
            self.swarm.send(index, &format!(r#"{{"type":"subscribe","room":"{ROOM}","history":{KEPT}}}"#));
        }
    }

    fn have_all(&self) -> bool {
        self.each.iter().all(|joiner| joiner.after.is_some())
    }

    fn latencies(&self) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.extend(self.each.iter().filter_map(|joiner| joiner.after));
        latencies
    }

    /// Goes on until something is the case, no longer than that. Whether it is the case.
    fn run(&mut self, within: Duration, is_over: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if is_over(self) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            let Self { swarm, each, asked, gaps } = self;
            swarm.poll(deadline, |_, index, now, event| {
                let Event::Text(payload) = event else { panic!("joiner {index} is lost") };
                if let Text::Message(number, _) = understand(payload) {
                    let joiner = &mut each[index];
                    *gaps += usize::from(joiner.last.is_some_and(|last| last + 1 != number));
                    joiner.last = Some(number);
                    joiner.received += 1;
                    if joiner.received == KEPT {
                        joiner.after = asked.map(|asked| now - asked);
                    }
                }
            });
        }
    }
}
