//! Rooms that remember, on real Redis: exact joins and resumption on any node, and the truth about what was lost.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::JsonClient;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::replication::{follow, replicating, wait_for_role};
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

const ROOM: &str = "project:1";

/// Rooms are soon checked, and clients may say much.
const CONFIG: &str = r#"
[relay]
check = "400ms"
[limits]
messages_per_second = 10000
burst = 10000
[[rooms]]
rooms = "project:*"
keep.history = { size = 1000, ttl = "1h" }
[[rooms]]
rooms = "user:*"
keep.inbox = {}
[[routes]]
path = "/ws"
[[routes]]
path = "/ws/connect"
restore = "60s"
"#;

gateway_tests!(
    who_comes_back_to_another_node_gets_what_it_missed,
    a_late_joiner_gets_the_newest_and_then_what_comes,
    a_member_is_told_when_its_room_is_flushed,
    a_fail_over_that_lost_messages_deceives_nobody,
    what_the_relay_logs_lose_is_healed,
    a_message_is_published_once_under_its_identifier,
    a_history_is_read_from_redis,
    an_inbox_is_delivered_once_on_any_node,
    a_node_that_is_killed_while_it_empties_an_inbox_loses_nothing,
    rooms_are_restored_for_a_client_that_does_not_ask,
);

fn who_comes_back_to_another_node_gets_what_it_missed(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis.url(), "a"), node(binary, &redis.url(), "b"));
    let mut client = a.member("alice", ROOM);
    publish(&a, 0..20);
    let seen = messages(&mut client, 20);
    assert_eq!(numbers(&seen), (0..20).collect::<Vec<_>>());
    client.close();
    publish(&b, 20..700);
    let mut client = b.client("alice");
    let told = recover(&mut client, position(&seen[19]));
    assert_eq!((&told["recovered"], &told["position"]), (&json!(true), &seen[19]["position"]));
    publish(&a, 700..710);
    assert_eq!(numbers(&messages(&mut client, 690)), (20..710).collect::<Vec<_>>());
    // A second time from the middle of what it has just been sent.
    let mut again = a.client("bob");
    assert_eq!(recover(&mut again, position(&seen[9]))["recovered"], true);
    assert_eq!(numbers(&messages(&mut again, 700)), (10..710).collect::<Vec<_>>());
}

fn a_late_joiner_gets_the_newest_and_then_what_comes(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis.url(), "a"), node(binary, &redis.url(), "b"));
    publish(&a, 0..50);
    let mut client = b.client("alice");
    client.send(&json!({"type": "subscribe", "room": ROOM, "history": 30}));
    let told = client.expect_type("subscribed")["data"].clone();
    publish(&a, 50..60);
    let seen = messages(&mut client, 40);
    assert_eq!(numbers(&seen), (20..60).collect::<Vec<_>>());
    // The position that it is told first is that of the message before.
    let mut again = a.client("bob");
    assert_eq!(recover(&mut again, position(&told))["recovered"], true);
    assert_eq!(messages(&mut again, 40)[0]["data"], 20);
}

fn a_member_is_told_when_its_room_is_flushed(binary: &Path) {
    let redis = RedisServer::start();
    let a = node(binary, &redis.url(), "a");
    let mut client = a.member("alice", ROOM);
    publish(&a, 0..5);
    let seen = messages(&mut client, 5);
    redis.command(&["FLUSHALL"]);
    let told = client.expect_type("subscribed");
    assert_eq!((&told["data"]["room"], &told["data"]["recovered"]), (&json!(ROOM), &json!(false)));
    publish(&a, 5..8);
    assert_eq!(numbers(&messages(&mut client, 3)), [5, 6, 7]);
    let mut late = a.client("bob");
    assert_eq!(recover(&mut late, position(&seen[4]))["recovered"], false);
    assert!(a.metric("roomcast_rooms_lost_total") >= 1);
}

/// The offsets of what was lost are given to other messages: whoever holds one of them must not be told that all is well.
fn a_fail_over_that_lost_messages_deceives_nobody(binary: &Path) {
    let (mut primary, replica) = (replicating(), replicating());
    follow(&replica, &primary);
    let proxy = Proxy::to(([127, 0, 0, 1], primary.port()).into());
    let mut node = node(binary, &format!("redis://{}", proxy.addr()), "a");
    let (mut live, mut away) = (node.member("alice", ROOM), node.member("bob", ROOM));
    publish(&node, 0..10);
    let behind = position(&messages(&mut away, 10)[9]);
    messages(&mut live, 10);
    let log = format!("rc:{{{}}}:{ROOM}:log", partition(&primary));
    let copied = poll_until(PATIENCE, || (replica.query::<usize>(&["XLEN", &log]) == 10).then_some(()));
    assert!(copied.is_some(), "the replica follows");

    // The replica hears no more of its primary.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    wait_for_role(&replica, "master");
    publish(&node, 10..20);
    let ahead = position(&messages(&mut away, 10)[9]);
    messages(&mut live, 10);
    away.close();
    primary.kill();
    // What is published before the node has noticed is refused.
    node.wait_unready(PATIENCE);
    assert_eq!(replica.query::<usize>(&["XLEN", &log]), 10, "the replica is late");
    proxy.lead_to(([127, 0, 0, 1], replica.port()).into());
    node.wait_ready(PATIENCE);

    // As many others, under the offsets of those that are lost.
    publish(&node, 100..110);
    let told = live.next(PATIENCE);
    assert_eq!((&told["type"], &told["data"]["recovered"]), (&json!("subscribed"), &json!(false)), "before anything else");
    // Who comes then is told where the room stands, which the node has to have read.
    let mut seen = until(&mut live, 109);
    let mut returns = node.client("bob");
    assert_eq!(recover(&mut returns, ahead)["recovered"], false);
    let mut knows_no_lost = node.client("carol");
    assert_eq!(recover(&mut knows_no_lost, behind)["recovered"], true);
    assert_eq!(numbers(&messages(&mut knows_no_lost, 10)), (100..110).collect::<Vec<_>>());
    publish(&node, 110..112);
    assert_eq!(numbers(&messages(&mut returns, 2)), [110, 111]);
    seen.extend(until(&mut live, 111));
    let last = seen;
    assert!(last.iter().is_sorted() && last.ends_with(&[110, 111]), "{last:?}");
}

fn what_the_relay_logs_lose_is_healed(binary: &Path) {
    let redis = RedisServer::start();
    let proxy = Proxy::to(([127, 0, 0, 1], redis.port()).into());
    let (a, mut b) = (node(binary, &redis.url(), "a"), node(binary, &format!("redis://{}", proxy.addr()), "b"));
    let mut client = b.member("alice", ROOM);
    publish(&a, 0..5);
    assert_eq!(numbers(&messages(&mut client, 5)), (0..5).collect::<Vec<_>>());
    // It is away while the relay logs forget what it did not read.
    proxy.lead_to(([127, 0, 0, 1], 1).into());
    proxy.cut();
    b.wait_unready(PATIENCE);
    publish(&a, 5..15);
    redis.command(&["XTRIM", &format!("rc:relay:{{{}}}", partition(&redis)), "MAXLEN", "0"]);
    proxy.lead_to(([127, 0, 0, 1], redis.port()).into());
    assert_eq!(numbers(&messages(&mut client, 10)), (5..15).collect::<Vec<_>>(), "without a word of what had happened");
    b.wait_ready(PATIENCE);
    assert_eq!(b.metric("roomcast_healed_messages_total"), 10);
    assert_eq!(b.metric("roomcast_rooms_lost_total"), 0);
}

fn a_message_is_published_once_under_its_identifier(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis.url(), "a"), node(binary, &redis.url(), "b"));
    let mut clients = [a.member("alice", ROOM), b.member("bob", "workspace:w")];
    for room in [ROOM, "workspace:w"] {
        let body = |data: u64| json!({"room": room, "type": "note", "data": data, "message_id": "m-1"});
        let answers = [a.post(&body(1)), b.post(&body(1)), a.post(&body(1))].map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(answers[0]["message_id"], "m-1");
        a.publish(room, "note", &json!(2));
    }
    clients.iter_mut().for_each(|client| assert_eq!(numbers(&messages(client, 2)), [1, 2]));
}

fn a_history_is_read_from_redis(binary: &Path) {
    let redis = RedisServer::start();
    let a = node(binary, &redis.url(), "a");
    publish(&a, 0..10);
    let mut client = a.client("alice");
    let mut ask = |more: Value| {
        let mut data = json!({"room": ROOM, "limit": 4});
        data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        client.send(&json!({"type": "history", "data": data}));
        let answer = client.expect_type("history")["data"].clone();
        let messages = answer["messages"].as_array().expect("a list").clone();
        (numbers(&messages), position(messages.last().expect("one at least")))
    };
    let (first, last) = ask(json!({}));
    assert_eq!(first, [0, 1, 2, 3]);
    assert_eq!(ask(json!({"since": last})).0, [4, 5, 6, 7]);
    let (newest, last) = ask(json!({"reverse": true}));
    assert_eq!(newest, [9, 8, 7, 6]);
    assert_eq!(ask(json!({"since": last, "reverse": true})).0, [5, 4, 3, 2]);
}

fn an_inbox_is_delivered_once_on_any_node(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis.url(), "a"), node(binary, &redis.url(), "b"));
    send(&a, 0..250);
    let mut first = b.client("bob");
    send(&a, 250..260);
    assert_eq!(numbers(&messages(&mut first, 260)), (0..260).collect::<Vec<_>>());
    let empty = poll_until(PATIENCE, || redis.query::<Vec<String>>(&["KEYS", "*:inbox"]).is_empty().then_some(()));
    assert!(empty.is_some(), "what is delivered waits no longer");
    first.close();
    send(&b, 260..263);
    let (mut one, mut other) = (a.client("bob"), b.client("bob"));
    let before = [&mut one, &mut other].map(enter_own_room);
    send(&b, 263..264);
    // Whoever was there in time has had all of it; the last one both have.
    let seen = [&mut one, &mut other].map(|client| until(client, 263));
    let seen = [0, 1].map(|at| [&before[at][..], &seen[at]].concat());
    assert!(seen.iter().any(|seen| *seen == [260, 261, 262, 263]), "{seen:?}");
}

fn a_node_that_is_killed_while_it_empties_an_inbox_loses_nothing(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis.url(), "a"), node(binary, &redis.url(), "b"));
    send(&a, 0..1_000);
    let mut dying = b.client("bob");
    let had = numbers(&messages(&mut dying, 10));
    drop(b);
    let mut rest = a.client("bob");
    let rest = until(&mut rest, 999);
    assert!(rest.is_sorted() && rest[0] <= had.len() as u64 + 990, "{rest:?}");
    let mut all = [had, drain(dying), rest].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..1_000).collect::<Vec<_>>());
}

fn rooms_are_restored_for_a_client_that_does_not_ask(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis.url(), "a"), node(binary, &redis.url(), "b"));
    let token = roomcast_tests::real::client::access_token(roomcast_tests::real::setup::SECRET, "alice", &json!({}));
    let connect = |gateway: &Gateway| {
        let credential = roomcast_tests::real::client::Credential::Query(&token);
        let mut client = JsonClient::connect(gateway.addr(), "/ws/connect", credential);
        client.expect_type("auth_success");
        client
    };
    let mut client = connect(&a);
    client.subscribe(ROOM);
    publish(&a, 0..3);
    messages(&mut client, 3);
    // The whole node dies, and nobody is left who could say what the client had.
    drop(a);
    publish(&b, 3..6);
    let mut client = connect(&b);
    let told = client.expect_type("subscribed");
    assert_eq!((&told["data"]["room"], &told["data"]["recovered"]), (&json!(ROOM), &json!(true)));
    publish(&b, 6..7);
    let seen = until(&mut client, 6);
    assert!(seen.ends_with(&[3, 4, 5, 6]) && seen.is_sorted(), "{seen:?}");
}

fn node(binary: &Path, redis: &str, name: &str) -> Gateway {
    Setup::new(binary).option("--redis", redis).option("--node", name).config(CONFIG).start()
}

fn publish(gateway: &Gateway, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| gateway.publish(ROOM, "note", &json!(number)));
}

/// Sends to bob, who may be away.
fn send(gateway: &Gateway, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| assert_eq!(gateway.post(&json!({"user_id": "bob", "type": "note", "data": number})).status, 200));
}

fn recover(client: &mut JsonClient, position: String) -> Value {
    client.send(&json!({"type": "subscribe", "room": ROOM, "recover": position}));
    client.expect_type("subscribed")["data"].clone()
}

/// A user's own room is entered without a word: the numbers of what the client is sent until it is in.
fn enter_own_room(client: &mut JsonClient) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut entered = false;
    while !entered {
        client.send(&json!({"type": "rooms"}));
        let answer = loop {
            let frame = client.next(PATIENCE);
            if frame["type"] == "rooms" {
                break frame;
            }
            numbers.extend(frame["data"].as_u64());
        };
        entered = answer["data"]["rooms"].as_array().is_some_and(|rooms| rooms.contains(&json!("user:bob")));
    }
    numbers
}

/// The next messages; nothing else may come between them.
fn messages(client: &mut JsonClient, count: usize) -> Vec<Value> {
    (0..count).map(|_| client.expect_type("note")).collect()
}

/// The numbers of the messages up to this one.
fn until(client: &mut JsonClient, last: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let frame = client.next(PATIENCE);
        if frame["type"] == "note" {
            numbers.extend(frame["data"].as_u64());
        }
    }
    numbers
}

/// The numbers of what a client still gets that is cut off.
fn drain(mut client: JsonClient) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(text) = client.try_next_text(PATIENCE) {
        let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
        numbers.extend(frame["data"].as_u64());
    }
    numbers
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["data"].as_u64().expect("a number")).collect()
}

fn position(message: &Value) -> String {
    message["position"].as_str().expect("it has a position").to_owned()
}

/// The partition of the room, as its keys say.
fn partition(redis: &RedisServer) -> String {
    let keys: Vec<String> = redis.query(&["KEYS", &format!("rc:{{*}}:{ROOM}:log")]);
    keys[0].split(['{', '}']).nth(1).expect("a hash tag").to_owned()
}
