//! Two gateways on one Redis: every client of either gets every event once, in one order, whichever gateway consumed it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, thread};

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::JsonClient;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::{RedisServer, Value};
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::json;

const STREAM: &str = "stream:file-events";
const GROUP: &str = "websocket-consumers";
const ROOM: &str = "workspace:w";
/// Short times, so that what a dead node leaves is soon taken over.
const CONFIG: &str = r#"
[limits]
outbox_messages = 100000
outbox_bytes = 67108864

[[sources]]
stream = "stream:file-events"
group = "websocket-consumers"
to.events = { room = "workspace:{id}", type = "file.changed" }
dead_letter = "stream:file-events-dlq"
block = "100ms"
claim_after = "400ms"
"#;

gateway_tests!(
    both_clients_get_every_event_once_and_in_the_same_order,
    what_is_published_on_one_node_reaches_the_clients_of_both,
    a_node_killed_in_the_middle_of_a_stream_loses_nothing,
    what_a_dead_node_had_read_is_taken_over,
    what_a_dead_node_had_read_and_was_trimmed_since_is_cleared,
    a_node_that_was_only_frozen_repeats_nothing,
    nodes_killed_one_after_the_other_lose_and_repeat_nothing,
);

fn both_clients_get_every_event_once_and_in_the_same_order(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (mut at_a, mut at_b) = (a.member("alice", ROOM), b.member("bob", ROOM));

    // Redis shares the entries out as it likes. This goes on until both nodes have had some.
    const ROUND: usize = 200;
    let mut published = 0;
    let both = poll_until(PATIENCE, || {
        publish(&redis, published..published + ROUND);
        published += ROUND;
        let enough = published >= 2 * ROUND && consumed(&a) > 0 && consumed(&b) > 0;
        enough.then_some(())
    });
    assert!(both.is_some(), "node a consumed {} entries, node b {}", consumed(&a), consumed(&b));

    let (seen_at_a, seen_at_b) = (receive(&mut at_a, published), receive(&mut at_b, published));
    assert_each_once(&seen_at_a, published);
    assert_eq!(seen_at_a, seen_at_b, "both clients see one order");
    assert_silent(&b, [&mut at_a, &mut at_b]);
    wait_for_nothing_pending(&redis);
    let claimed = |node: &Gateway| node.metric("roomcast_source_claimed_total");
    let read = consumed(&a) + consumed(&b) - claimed(&a) - claimed(&b);
    assert_eq!(read, published as u64, "each entry is read once");
}

fn what_is_published_on_one_node_reaches_the_clients_of_both(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let mut clients = [a.member("alice", "project:1"), b.member("bob", "project:1"), b.member("carol", "project:2")];
    a.publish("project:1", "task_created", &json!({"id": 1}));
    for client in &mut clients[..2] {
        assert_eq!(client.expect_type("task_created")["data"], json!({"id": 1}));
    }
    let answer = b.post(&json!({"user_id": "alice", "type": "hello", "data": null}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    clients[0].expect_type("hello");
    assert_silent(&a, clients.iter_mut());
}

fn a_node_killed_in_the_middle_of_a_stream_loses_nothing(binary: &Path) {
    const ENTRIES: usize = 600;
    let redis = RedisServer::start();
    let (mut a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (mut at_a, mut at_b) = (a.member("alice", ROOM), b.member("bob", ROOM));

    publish(&redis, 0..ENTRIES / 2);
    let mut seen_at_b = receive(&mut at_b, ENTRIES / 4);
    // Killed while the first half is still being worked off, and while the second is published.
    publish(&redis, ENTRIES / 2..ENTRIES / 2 + 50);
    a.kill();
    publish(&redis, ENTRIES / 2 + 50..ENTRIES);

    seen_at_b.extend(receive(&mut at_b, ENTRIES - seen_at_b.len()));
    assert_each_once(&seen_at_b, ENTRIES);
    assert_silent(&b, [&mut at_b]);
    wait_for_nothing_pending(&redis);
    // What the client of the dead node had got by then is the beginning of the same sequence.
    let seen_at_a = receive_until_cut(&mut at_a);
    assert_eq!(seen_at_a, seen_at_b[..seen_at_a.len()]);
}

fn what_a_dead_node_had_read_is_taken_over(binary: &Path) {
    const ENTRIES: usize = 300;
    let redis = RedisServer::start();
    let (mut a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let mut at_b = b.member("bob", ROOM);

    let (published, held) = freeze_with_entries(&mut a, &redis);
    publish(&redis, published..ENTRIES);
    a.kill();

    assert_each_once(&receive(&mut at_b, ENTRIES), ENTRIES);
    assert_eq!(b.metric("roomcast_source_claimed_total"), held);
    assert_silent(&b, [&mut at_b]);
    wait_for_nothing_pending(&redis);
}

fn what_a_dead_node_had_read_and_was_trimmed_since_is_cleared(binary: &Path) {
    let redis = RedisServer::start();
    let (mut a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (published, _) = freeze_with_entries(&mut a, &redis);
    redis.command(&["XTRIM", STREAM, "MAXLEN", "0"]);
    a.kill();
    wait_for_nothing_pending(&redis);

    let mut at_b = b.member("bob", ROOM);
    publish(&redis, published..published + 1);
    assert_eq!(receive(&mut at_b, 1), [published]);
}

fn a_node_that_was_only_frozen_repeats_nothing(binary: &Path) {
    const ENTRIES: usize = 100;
    let redis = RedisServer::start();
    let (mut a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (mut at_a, mut at_b) = (a.member("alice", ROOM), b.member("bob", ROOM));

    let (published, _) = freeze_with_entries(&mut a, &redis);
    publish(&redis, published..ENTRIES);
    let mut seen_at_b = receive(&mut at_b, ENTRIES);
    // Its entries have been taken over. Awake again, it finds them in its socket.
    a.signal(Signal::SIGCONT);
    publish(&redis, ENTRIES..2 * ENTRIES);

    seen_at_b.extend(receive(&mut at_b, ENTRIES));
    assert_each_once(&seen_at_b, 2 * ENTRIES);
    assert_eq!(receive(&mut at_a, 2 * ENTRIES), seen_at_b);
    wait_for_nothing_pending(&redis);
    assert_silent(&a, [&mut at_a, &mut at_b]);
}

/// `ROOMCAST_KILLS` and `ROOMCAST_ENTRIES` (for each kill) make it longer.
fn nodes_killed_one_after_the_other_lose_and_repeat_nothing(binary: &Path) {
    let setting = |name: &str, usual: usize| env::var(name).map_or(usual, |text| text.parse().expect("it is a number"));
    let (kills, entries) = (setting("ROOMCAST_KILLS", 3), setting("ROOMCAST_ENTRIES", 1_500));
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (mut at_a, mut at_b) = (a.member("alice", ROOM), b.member("bob", ROOM));

    let arrived = AtomicUsize::new(0);
    let wait_for = |count: usize| {
        let came = poll_until(PATIENCE, || (arrived.load(Ordering::Relaxed) >= count).then_some(()));
        assert!(came.is_some(), "{} of {count} events arrived", arrived.load(Ordering::Relaxed));
    };
    let (seen_at_a, seen_at_b) = thread::scope(|scope| {
        let reader_at_a = scope.spawn(|| {
            let mut seen = Vec::new();
            for _ in 0..kills * entries {
                seen.extend(receive(&mut at_a, 1));
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
        let reader_at_b = scope.spawn(|| receive(&mut at_b, kills * entries));
        for kill in 0..kills {
            let mut doomed = node(binary, &redis, &format!("doomed-{kill}"));
            let (first, redis) = (kill * entries, &redis);
            let publisher = scope.spawn(move || {
                (first..first + entries).step_by(100).for_each(|from| publish(redis, from..from + 100));
            });
            wait_for(first + entries / 3);
            doomed.kill();
            publisher.join().expect("all is published");
            wait_for(first + entries);
        }
        (reader_at_a.join().expect("the reader ends"), reader_at_b.join().expect("the reader ends"))
    });
    assert_each_once(&seen_at_a, kills * entries);
    assert_eq!(seen_at_a, seen_at_b, "both clients see one order");
    assert_silent(&a, [&mut at_a, &mut at_b]);
    wait_for_nothing_pending(&redis);
    assert_eq!(redis.query::<usize>(&["XLEN", "stream:file-events-dlq"]), 0, "nothing was given up");
    let claimed = |node: &Gateway| node.metric("roomcast_source_claimed_total");
    println!("{} entries were taken over", claimed(&a) + claimed(&b));
}

fn node(binary: &Path, redis: &RedisServer, name: &str) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(CONFIG).start()
}

/// Freezes a node in the middle of a read and publishes until Redis has handed it entries, which it cannot process then.
/// Returns how many were published, and how many of them it holds.
fn freeze_with_entries(node: &mut Gateway, redis: &RedisServer) -> (usize, u64) {
    let mut published = 0;
    let held = poll_until(PATIENCE, || {
        // It may have been frozen between two reads, or its read may have ended before there was an entry.
        node.signal(Signal::SIGCONT);
        node.signal(Signal::SIGSTOP);
        publish(redis, published..published + 2);
        published += 2;
        Some(pending_of(redis, "a")).filter(|held| *held > 0)
    });
    (published, held.expect("the frozen node is handed entries"))
}

/// Adds one entry with one event for each number, all in one go.
fn publish(redis: &RedisServer, numbers: std::ops::Range<usize>) {
    let mut connection = redis.connect(0).expect("the server is there");
    let mut pipeline = redis::pipe();
    for number in numbers {
        let event = json!({
            "event_id": number.to_string(),
            "timestamp": "2025-10-06T01:00:00Z",
            "workspace": {"id": "w"},
            "file": {"path": "a", "event_type": "modify"},
            "change": {"type": "diff"},
        });
        let batch = json!({"batch_id": format!("b-{number}"), "timestamp": "t", "batch_count": 1, "events": [event]});
        pipeline.cmd("XADD").arg(&[STREAM, "*", "data", &batch.to_string()]).ignore();
    }
    pipeline.exec(&mut connection).expect("the entries are added");
}

/// The numbers of the next events.
fn receive(client: &mut JsonClient, count: usize) -> Vec<usize> {
    (0..count).map(|_| number(&client.expect_type("file.changed"))).collect()
}

fn receive_until_cut(client: &mut JsonClient) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Some(text) = client.try_next_text(PATIENCE) {
        numbers.push(number(&serde_json::from_str(&text).expect("a frame is JSON")));
    }
    assert!(client.is_cut(Duration::ZERO));
    numbers
}

fn number(frame: &serde_json::Value) -> usize {
    frame["data"]["event_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no number in {frame}"))
}

fn assert_each_once(numbers: &[usize], count: usize) {
    let distinct: BTreeSet<usize> = numbers.iter().copied().collect();
    assert!(distinct.iter().copied().eq(0..count), "of {count} events, {} arrived", distinct.len());
    assert_eq!(numbers.len(), count, "some event arrived twice");
}

/// Nothing was on its way to these clients: what is sent to everybody now is the next they get.
fn assert_silent<'a>(gateway: &Gateway, clients: impl IntoIterator<Item = &'a mut JsonClient>) {
    let answer = gateway.post(&json!({"broadcast": true, "type": "last", "data": null}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    clients.into_iter().for_each(|client| drop(client.expect_type("last")));
}

fn consumed(gateway: &Gateway) -> u64 {
    gateway.metric("roomcast_source_entries_total")
}

/// Entries that a consumer was handed and that are not acknowledged.
fn pending_of(redis: &RedisServer, consumer: &str) -> u64 {
    let entries: Vec<Value> = redis.query(&["XPENDING", STREAM, GROUP, "-", "+", "1000", consumer]);
    entries.len() as u64
}

fn wait_for_nothing_pending(redis: &RedisServer) {
    let done = poll_until(PATIENCE, || (redis.pending(0, STREAM, GROUP) == 0).then_some(()));
    assert!(done.is_some(), "{} entries stay pending", redis.pending(0, STREAM, GROUP));
}
