//! Nodes killed without warning, one after the other, in the middle of a stream that two others go on with.
//!
//! `ROOMCAST_KILLS` and `ROOMCAST_ENTRIES` (for each kill) make the series longer.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::traffic::{
    COMMANDS, EVENTS, ROOM, ROUTED, Source, assert_each_once, assert_silent, receive, routed, sources,
};
use roomcast_tests::real::{PATIENCE, poll_until};

gateway_tests!(
    nodes_killed_one_after_the_other_lose_and_repeat_no_event,
    nodes_killed_one_after_the_other_lose_and_repeat_no_command,
);

/// Two nodes have a client each and live on; the third is killed and replaced.
fn nodes_killed_one_after_the_other_lose_and_repeat_no_event(binary: &Path) {
    let series = Series::of(EVENTS);
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (mut at_a, mut at_b) = (a.member("alice", ROOM), b.member("bob", ROOM));
    let arrived = AtomicUsize::new(0);
    let (seen_at_a, seen_at_b) = thread::scope(|scope| {
        let reader_at_a = scope.spawn(|| {
            let mut seen = Vec::new();
            for _ in 0..series.total() {
                seen.extend(receive(&mut at_a, 1));
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
        let reader_at_b = scope.spawn(|| receive(&mut at_b, series.total()));
        series.run(binary, &redis, &mut [Doomed::start(binary, &redis, "c".into())], || arrived.load(Ordering::Relaxed));
        (reader_at_a.join().expect("the reader ends"), reader_at_b.join().expect("the reader ends"))
    });
    assert_each_once(&seen_at_a, series.total());
    assert_eq!(seen_at_a, seen_at_b, "both clients see one order");
    assert_silent(&a, [&mut at_a, &mut at_b]);
}

/// Each of three nodes is killed in its turn and replaced.
fn nodes_killed_one_after_the_other_lose_and_repeat_no_command(binary: &Path) {
    let series = Series::of(COMMANDS);
    let redis = RedisServer::start();
    let mut nodes = ["a", "b", "c"].map(|name| Doomed::start(binary, &redis, name.into()));
    series.run(binary, &redis, &mut nodes, || redis.query(&["XLEN", ROUTED]));
    assert_each_once(&routed(&redis, ROUTED), series.total());
}

/// How often a node is killed, and what it is killed in the middle of.
struct Series {
    source: Source,
    kills: usize,
    /// Entries for each kill.
    entries: usize,
}

impl Series {
    fn of(source: Source) -> Series {
        let setting = |name: &str, usual| env::var(name).map_or(usual, |text| text.parse().expect("it is a number"));
        Series { source, kills: setting("ROOMCAST_KILLS", 3), entries: setting("ROOMCAST_ENTRIES", 1_500) }
    }

    fn total(&self) -> usize {
        self.kills * self.entries
    }

    /// Publishes, and kills a node when a third of the entries for a kill has arrived and the others are on their way. In the
    /// end all of them have come to a good end.
    fn run(&self, binary: &Path, redis: &RedisServer, nodes: &mut [Doomed], arrived: impl Fn() -> usize) {
        let wait_for = |count: usize| {
            let came = poll_until(PATIENCE, || (arrived() >= count).then_some(()));
            assert!(came.is_some(), "{} of {count} entries arrived", arrived());
        };
        let mut held = 0;
        for kill in 0..self.kills {
            let numbers = kill * self.entries..(kill + 1) * self.entries;
            let doomed = &mut nodes[kill % nodes.len()];
            thread::scope(|scope| {
                let numbers = numbers.clone();
                scope.spawn(|| self.publish(redis, numbers));
                wait_for(kill * self.entries + self.entries / 3);
                held += doomed.kill(&self.source, redis);
                *doomed = Doomed::start(binary, redis, format!("{}'", doomed.name));
            });
            wait_for(numbers.end);
        }
        self.source.wait_for_nothing_pending(redis);
        assert_eq!(redis.query::<usize>(&["XLEN", self.source.dead_letters]), 0, "nothing was given up");
        println!(
            "{}: {} entries, {} kills, {held} of them in the hands of the dead",
            self.source.stream,
            self.total(),
            self.kills
        );
    }

    /// In two goes, the first of which is more than has been worked off when a node is killed.
    fn publish(&self, redis: &RedisServer, numbers: Range<usize>) {
        let middle = numbers.start + self.entries / 2;
        self.source.publish(redis, numbers.start..middle);
        self.source.publish(redis, middle..numbers.end);
    }
}

/// A node that is going to be killed, and the name under which it reads.
struct Doomed {
    node: Gateway,
    name: String,
}

impl Doomed {
    fn start(binary: &Path, redis: &RedisServer, name: String) -> Doomed {
        Doomed { node: node(binary, redis, &name), name }
    }

    /// Kills it, with entries in its hands if it can be caught with any. Returns how many.
    fn kill(&mut self, source: &Source, redis: &RedisServer) -> u64 {
        const TRIES: usize = 50;
        let caught = (0..TRIES).map(|_| {
            self.node.signal(Signal::SIGCONT);
            self.node.signal(Signal::SIGSTOP);
            source.pending_of(redis, &self.name)
        });
        let held = caught.into_iter().find(|held| *held > 0);
        self.node.kill();
        held.unwrap_or_default()
    }
}

fn node(binary: &Path, redis: &RedisServer, name: &str) -> Gateway {
    // Short times, so that what a dead node leaves is soon taken over.
    let config = sources("100ms", "400ms");
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(&config).start()
}
