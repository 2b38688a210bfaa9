//! Nodes killed without warning, one after the other, in the middle of a stream that two others go on with.
//!
//! `ROOMCAST_KILLS` and `ROOMCAST_ENTRIES` (for each kill) make the series longer.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::traffic::{COMMANDS, EVENTS, ROOM, ROUTED, Source, assert_each_once, assert_silent, receive, routed};
use roomcast_tests::real::{PATIENCE, poll_until};

/// Short times, so that what a dead node leaves is soon taken over.
const CONFIG: &str = r#"
[limits]
outbox_messages = 100000
outbox_bytes = 67108864

[[sources]]
stream = "stream:file-events"
group = "websocket-consumers"
dead_letter = "stream:file-events-dlq"
to.events = { room = "workspace:{id}", type = "file.changed" }
block = "100ms"
claim_after = "400ms"

[[sources]]
stream = "stream:ai-commands"
group = "websocket-router"
dead_letter = "stream:ai-commands-dlq"
to.commands = { length = 1000000 }
block = "100ms"
claim_after = "400ms"
"#;

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
    let mut doomed = node(binary, &redis, "doomed");

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
        series.run(
            &redis,
            || arrived.load(Ordering::Relaxed),
            |kill| {
                doomed.kill();
                doomed = node(binary, &redis, &format!("doomed-{kill}"));
            },
        );
        (reader_at_a.join().expect("the reader ends"), reader_at_b.join().expect("the reader ends"))
    });
    assert_each_once(&seen_at_a, series.total());
    assert_eq!(seen_at_a, seen_at_b, "both clients see one order");
    assert_silent(&a, [&mut at_a, &mut at_b]);
    series.end(&redis, &[&a, &b, &doomed]);
}

/// Each of three nodes is killed in its turn and replaced.
fn nodes_killed_one_after_the_other_lose_and_repeat_no_command(binary: &Path) {
    let series = Series::of(COMMANDS);
    let redis = RedisServer::start();
    let mut nodes = ["a", "b", "c"].map(|name| node(binary, &redis, name));
    series.run(
        &redis,
        || redis.query(&["XLEN", ROUTED]),
        |kill| {
            let doomed = &mut nodes[kill % 3];
            doomed.kill();
            *doomed = node(binary, &redis, &format!("again-{kill}"));
        },
    );
    assert_each_once(&routed(&redis, ROUTED), series.total());
    series.end(&redis, &nodes.each_ref());
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

    /// Publishes, and strikes when a third of the entries for a kill has arrived and the others are still being published.
    fn run(&self, redis: &RedisServer, arrived: impl Fn() -> usize, mut strike: impl FnMut(usize)) {
        let wait_for = |count: usize| {
            let came = poll_until(PATIENCE, || (arrived() >= count).then_some(()));
            assert!(came.is_some(), "{} of {count} entries arrived", arrived());
        };
        for kill in 0..self.kills {
            let numbers = kill * self.entries..(kill + 1) * self.entries;
            thread::scope(|scope| {
                let numbers = numbers.clone();
                scope.spawn(|| self.publish(redis, numbers));
                wait_for(kill * self.entries + self.entries / 3);
                strike(kill);
            });
            wait_for(numbers.end);
        }
    }

    /// In two goes, the first of which is more than has been worked off when a node is killed.
    fn publish(&self, redis: &RedisServer, numbers: Range<usize>) {
        let middle = numbers.start + self.entries / 2;
        self.source.publish(redis, numbers.start..middle);
        self.source.publish(redis, middle..numbers.end);
    }

    /// Everything that was published has come to a good end.
    fn end(&self, redis: &RedisServer, nodes: &[&Gateway]) {
        self.source.wait_for_nothing_pending(redis);
        assert_eq!(redis.query::<usize>(&["XLEN", self.source.dead_letters]), 0, "nothing was given up");
        let claimed: u64 = nodes.iter().map(|node| node.metric("roomcast_source_claimed_total")).sum();
        println!("{}: {} entries, {} kills, {claimed} taken over", self.source.stream, self.total(), self.kills);
    }
}

fn node(binary: &Path, redis: &RedisServer, name: &str) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(CONFIG).start()
}
