//! Replay: all that a room remembers goes to one client, beside a bare `XRANGE` of the same stream.

use std::time::{Duration, Instant};

use redis::{Connection, Value};
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;

use crate::Options;
use crate::late::{KEPT, fill};
use crate::machine::cpu_time;
use crate::server::{ROOM, Stable};
use crate::socket::Event;
use crate::statistics::{grouped, median, median_ratio, print_aligned, spread};
use crate::swarm::Swarm;
use crate::text::{Text, understand};

/// Who keeps the room known at the node.
const KEEPER: usize = 0;
/// Who is replayed to.
const READER: usize = 1;
/// The spread is that of the medians of so many parts of the replays.
const PARTS: usize = 5;

/// Prints two rows for each gateway.
pub(crate) fn measure(stable: &Stable, redis: &RedisServer, options: &Options) {
    println!("\nreplay: {KEPT} messages with {} bytes of data to one client, {} times\n", options.bytes, options.replays);
    let head = [
        "gateway",
        "asked by",
        "bytes",
        "p50 ms",
        "spread",
        "XRANGE p50 ms",
        "x XRANGE",
        "node CPU ms",
        "Redis CPU ms",
        "x XRANGE CPU",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    stable.for_each(redis, |name, [place, _]| lines.extend(run(name, &place.start(), redis, options)));
    print_aligned(&lines);
}

/// What one replay, or one `XRANGE`, took.
#[derive(Clone, Copy)]
struct Cost {
    elapsed: Duration,
    node_cpu: Duration,
    redis_cpu: Duration,
}

fn run(name: &str, node: &Gateway, redis: &RedisServer, options: &Options) -> Vec<Vec<String>> {
    fill(node, options.bytes);
    let keys: Vec<String> = redis.query(&["KEYS", &format!("*:{ROOM}:log")]);
    let [key] = &keys[..] else { panic!("not one log: {keys:?}") };
    let mut bare = redis.connect(0).expect("Redis is there");
    let mut clients = Clients::connect(node);
    let history = format!(r#"{{"type":"subscribe","room":"{ROOM}","history":{KEPT}}}"#);
    let before = clients.settle(&history);
    let recover = format!(r#"{{"type":"subscribe","room":"{ROOM}","recover":"{before}"}}"#);

    let cost = |work: &mut dyn FnMut()| {
        let cpu = || [node.pid(), redis.pid()].map(cpu_time);
        let (before, started) = (cpu(), Instant::now());
        work();
        let elapsed = started.elapsed();
        let after = cpu();
        Cost { elapsed, node_cpu: after[0] - before[0], redis_cpu: after[1] - before[1] }
    };
    let rounds: Vec<[Cost; 3]> = (0..options.replays)
        .map(|_| {
            let range = cost(&mut || xrange(&mut bare, key));
            let recovered = cost(&mut || drop(clients.replay(&recover)));
            clients.leave();
            let joined = cost(&mut || drop(clients.replay(&history)));
            clients.leave();
            [range, recovered, joined]
        })
        .collect();

    let row = |asked_by: &str, at: usize| {
        let of = |value: fn(&Cost) -> f64, at: usize| rounds.iter().map(|round| value(&round[at])).collect::<Vec<f64>>();
        let ratio = |value: fn(&Cost) -> f64| median_ratio(rounds.iter().map(|round| Some(value(&round[at]) / value(&round[0]))));
        let elapsed = of(elapsed, at);
        let parts = elapsed.chunks(elapsed.len().div_ceil(PARTS)).map(|part| median(part.to_vec()));
        vec![
            name.to_owned(),
            asked_by.to_owned(),
            grouped(clients.bytes as u64),
            format!("{:.2}", median(elapsed.clone())),
            format!("{:.0} %", spread(&parts.collect::<Vec<f64>>()) * 100.0),
            format!("{:.2}", median(of(self::elapsed, 0))),
            ratio(self::elapsed),
            format!("{:.2}", median(of(node_cpu, at))),
            format!("{:.2}", median(of(redis_cpu, at))),
            ratio(redis_cpu),
        ]
    };
    vec![row("recover", 1), row("history", 2)]
}

fn xrange(connection: &mut Connection, key: &str) {
    let entries: Vec<Value> = redis::cmd("XRANGE").arg(key).arg("-").arg("+").query(connection).expect("it is a stream");
    assert_eq!(entries.len(), KEPT, "entries of the log");
}

fn elapsed(cost: &Cost) -> f64 {
    milliseconds(cost.elapsed)
}

fn node_cpu(cost: &Cost) -> f64 {
    milliseconds(cost.node_cpu)
}

fn redis_cpu(cost: &Cost) -> f64 {
    milliseconds(cost.redis_cpu)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The client that is replayed to, and one that stays in the room.
struct Clients {
    swarm: Swarm,
    /// Bytes of the messages of the last replay.
    bytes: usize,
}

impl Clients {
    fn connect(node: &Gateway) -> Self {
        let mut swarm = Swarm::new(0, 2);
        swarm.connect_all(|_| node.addr());
        Self { swarm, bytes: 0 }
    }

    /// Lets one stay in the room and the other leave it again. The position before the first message.
    fn settle(&mut self, request: &str) -> String {
        self.swarm.send(KEEPER, &format!(r#"{{"type":"subscribe","room":"{ROOM}"}}"#));
        self.wait_for(|index, text, _| index == KEEPER && matches!(text, Text::Subscribed { .. }));
        let position = self.replay(request);
        self.leave();
        position
    }

    /// The position before the first message.
    ///
    /// # Panics
    ///
    /// When the reader does not get all, in order.
    fn replay(&mut self, request: &str) -> String {
        self.swarm.send(READER, request);
        let (mut received, mut bytes, mut before) = (0, 0, None);
        self.wait_for(|_, text, length| {
            match text {
                Text::Message(number, _) => {
                    assert_eq!(number, received, "the next message");
                    received += 1;
                    bytes += length;
                }
                Text::Subscribed { position, recovered } => {
                    assert_ne!(recovered, Some(false), "all is remembered");
                    before = position;
                }
                Text::Reconnect(_) | Text::Other => {}
            }
            received == KEPT
        });
        self.bytes = bytes;
        before.expect("the room remembers")
    }

    fn leave(&mut self) {
        self.swarm.send(READER, &format!(r#"{{"type":"unsubscribe","room":"{ROOM}"}}"#));
        self.wait_for(|_, text, _| text == Text::Other);
    }

    /// Waits for a text; each comes with its client and its length.
    fn wait_for(&mut self, mut is_it: impl FnMut(usize, Text<'_>, usize) -> bool) {
        let (deadline, mut found) = (Instant::now() + PATIENCE, false);
        while !found {
            assert!(Instant::now() < deadline, "an answer does not come");
            self.swarm.poll(deadline, |_, index, _, event| match event {
                Event::Open => {}
                Event::Text(payload) => found |= is_it(index, understand(payload), payload.len()),
                Event::Lost(reason) => panic!("client {index} is lost: {reason}"),
            });
        }
    }
}
