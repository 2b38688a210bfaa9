//! Two gateways on one Redis: every client of either gets every event once, in one order, whichever gateway consumed it.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::JsonClient;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::traffic::{EVENTS, ROOM, assert_each_once, assert_silent, number, receive};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::json;

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
);

fn both_clients_get_every_event_once_and_in_the_same_order(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (mut at_a, mut at_b) = (a.member("alice", ROOM), b.member("bob", ROOM));

    // Redis shares the entries out as it likes. This goes on until both nodes have had some.
    const ROUND: usize = 200;
    let mut published = 0;
    let both = poll_until(PATIENCE, || {
        EVENTS.publish(&redis, published..published + ROUND);
        published += ROUND;
        let enough = published >= 2 * ROUND && consumed(&a) > 0 && consumed(&b) > 0;
        enough.then_some(())
    });
    assert!(both.is_some(), "node a consumed {} entries, node b {}", consumed(&a), consumed(&b));

    let (seen_at_a, seen_at_b) = (receive(&mut at_a, published), receive(&mut at_b, published));
    assert_each_once(&seen_at_a, published);
    assert_eq!(seen_at_a, seen_at_b, "both clients see one order");
    assert_silent(&b, [&mut at_a, &mut at_b]);
    EVENTS.wait_for_nothing_pending(&redis);
    let claimed = |node: &Gateway| node.metric("roomcast_source_claimed_total");
    let read = consumed(&a) + consumed(&b) - claimed(&a) - claimed(&b);
    assert_eq!(read, published as u64, "each entry is read once");
}

fn what_is_published_on_one_node_reaches_the_clients_of_both(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let mut clients = [a.member("alice", "workspace:1"), b.member("bob", "workspace:1"), b.member("carol", "workspace:2")];
    a.publish("workspace:1", "task_created", &json!({"id": 1}));
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

    EVENTS.publish(&redis, 0..ENTRIES / 2);
    let mut seen_at_b = receive(&mut at_b, ENTRIES / 4);
    // Killed while the first half is still being worked off, and while the second is published.
    EVENTS.publish(&redis, ENTRIES / 2..ENTRIES / 2 + 50);
    a.kill();
    EVENTS.publish(&redis, ENTRIES / 2 + 50..ENTRIES);

    seen_at_b.extend(receive(&mut at_b, ENTRIES - seen_at_b.len()));
    assert_each_once(&seen_at_b, ENTRIES);
    assert_silent(&b, [&mut at_b]);
    EVENTS.wait_for_nothing_pending(&redis);
    // What the client of the dead node had got by then is the beginning of the same sequence.
    let seen_at_a = receive_until_cut(&mut at_a);
    assert_eq!(seen_at_a, seen_at_b[..seen_at_a.len()]);
}

fn what_a_dead_node_had_read_is_taken_over(binary: &Path) {
    const ENTRIES: usize = 300;
    let redis = RedisServer::start();
    let (mut a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let mut at_b = b.member("bob", ROOM);

    let (published, held) = EVENTS.freeze_with_entries(&mut a, "a", &redis);
    EVENTS.publish(&redis, published..ENTRIES);
    a.kill();

    assert_each_once(&receive(&mut at_b, ENTRIES), ENTRIES);
    assert_eq!(b.metric("roomcast_source_claimed_total"), held);
    assert_silent(&b, [&mut at_b]);
    EVENTS.wait_for_nothing_pending(&redis);
}

fn what_a_dead_node_had_read_and_was_trimmed_since_is_cleared(binary: &Path) {
    let redis = RedisServer::start();
    let (mut a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (published, _) = EVENTS.freeze_with_entries(&mut a, "a", &redis);
    redis.command(&["XTRIM", EVENTS.stream, "MAXLEN", "0"]);
    a.kill();
    EVENTS.wait_for_nothing_pending(&redis);

    let mut at_b = b.member("bob", ROOM);
    EVENTS.publish(&redis, published..published + 1);
    assert_eq!(receive(&mut at_b, 1), [published]);
}

fn a_node_that_was_only_frozen_repeats_nothing(binary: &Path) {
    const ENTRIES: usize = 100;
    let redis = RedisServer::start();
    let (mut a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let (mut at_a, mut at_b) = (a.member("alice", ROOM), b.member("bob", ROOM));

    let (published, _) = EVENTS.freeze_with_entries(&mut a, "a", &redis);
    EVENTS.publish(&redis, published..ENTRIES);
    let mut seen_at_b = receive(&mut at_b, ENTRIES);
    // Its entries have been taken over. Awake again, it finds them in its socket.
    a.signal(Signal::SIGCONT);
    EVENTS.publish(&redis, ENTRIES..2 * ENTRIES);

    seen_at_b.extend(receive(&mut at_b, ENTRIES));
    assert_each_once(&seen_at_b, 2 * ENTRIES);
    assert_eq!(receive(&mut at_a, 2 * ENTRIES), seen_at_b);
    EVENTS.wait_for_nothing_pending(&redis);
    assert_silent(&a, [&mut at_a, &mut at_b]);
}

fn node(binary: &Path, redis: &RedisServer, name: &str) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(CONFIG).start()
}

fn receive_until_cut(client: &mut JsonClient) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Some(text) = client.try_next_text(PATIENCE) {
        numbers.push(number(&serde_json::from_str(&text).expect("a frame is JSON")));
    }
    assert!(client.is_cut(Duration::ZERO));
    numbers
}

fn consumed(gateway: &Gateway) -> u64 {
    gateway.metric("roomcast_source_entries_total")
}
