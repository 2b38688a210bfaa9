//! Redis goes away and comes back: clients stay, readiness tells, and events flow again by themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::JsonClient;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

const STREAM: &str = "stream:file-events";
const GROUP: &str = "websocket-consumers";
const ROOM: &str = "workspace:w";
/// Short times, so that a Redis that has stopped to answer is soon noticed.
const CONFIG: &str = r#"
[limits]
join_timeout = "300ms"
[relay]
partitions = 1024
block = "500ms"
timeout = "500ms"
[[sources]]
stream = "stream:file-events"
group = "websocket-consumers"
to.events = { room = "workspace:{id}", type = "file.changed" }
dead_letter = "stream:file-events-dlq"
block = "500ms"
claim_after = "2s"
"#;

gateway_tests!(
    clients_stay_while_redis_is_down_and_events_flow_again_after_it,
    a_gateway_started_before_redis_becomes_ready_with_it,
    a_redis_that_does_not_answer_is_noticed_and_comes_back,
    connections_that_die_silently_are_replaced,
    a_crash_of_redis_loses_and_repeats_nothing,
    the_group_is_made_again_after_flushall,
    requests_that_need_redis_fail_while_it_is_down_and_cost_nothing_else,
);

fn clients_stay_while_redis_is_down_and_events_flow_again_after_it(binary: &Path) {
    let mut redis = RedisServer::start();
    // With the usual times: a closed connection is noticed without waiting for any.
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).start();
    let mut client = gateway.member("alice", ROOM);
    publish(&redis, "before");
    expect_event(&mut client, "before");

    redis.stop();
    let unready = gateway.wait_unready(PATIENCE).json();
    assert_eq!(unready["status"], "unavailable");
    let reasons = unready["reasons"].as_array().expect("there is a list of reasons");
    assert!(reasons.iter().all(|reason| reason.as_str().is_some_and(|reason| reason.len() > 10)), "{reasons:?}");
    assert_eq!(gateway.http("GET", "/healthz", &[], b"").status, 200);
    ping(&mut client);

    redis.start_again();
    gateway.wait_ready(PATIENCE);
    publish(&redis, "after");
    expect_event(&mut client, "after");
    gateway.publish(ROOM, "note", &json!(1));
    client.expect_type("note");
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);
}

fn a_gateway_started_before_redis_becomes_ready_with_it(binary: &Path) {
    let mut redis = RedisServer::start();
    redis.stop();
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).launch();
    gateway.wait_unready(PATIENCE);
    assert_eq!(gateway.http("GET", "/healthz", &[], b"").status, 200);
    // A client may be there before Redis is.
    let mut client = gateway.client("alice");
    ping(&mut client);

    redis.start_again();
    publish(&redis, "early");
    gateway.wait_ready(PATIENCE);
    client.subscribe(ROOM);
    publish(&redis, "first");
    // The early one may have been consumed before the client was in the room.
    let mut event = client.expect_type("file.changed");
    if event["data"]["event_id"] == "early" {
        event = client.expect_type("file.changed");
    }
    assert_eq!(event["data"]["event_id"], "first");
}

fn a_redis_that_does_not_answer_is_noticed_and_comes_back(binary: &Path) {
    let mut redis = RedisServer::start();
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).config(CONFIG).start();
    let mut client = gateway.member("alice", ROOM);

    redis.pause();
    gateway.wait_unready(PATIENCE);
    assert_eq!(gateway.http("GET", "/healthz", &[], b"").status, 200);
    ping(&mut client);
    redis.resume();
    gateway.wait_ready(PATIENCE);
    for number in 0..20 {
        publish(&redis, &number.to_string());
    }
    for number in 0..20 {
        expect_event(&mut client, &number.to_string());
    }
    gateway.publish(ROOM, "last", &json!(1));
    client.expect_type("last");
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);
}

/// A machine that has lost its power closes nothing: a lane must give its connection up by itself.
fn connections_that_die_silently_are_replaced(binary: &Path) {
    let redis = RedisServer::start();
    let proxy = Proxy::to(([127, 0, 0, 1], redis.port()).into());
    let mut gateway = Setup::new(binary).option("--redis", &format!("redis://{}", proxy.addr())).config(CONFIG).start();
    let mut client = gateway.member("alice", ROOM);
    for round in 0..2 {
        proxy.silence();
        // This one is lost, and finds the dead connection of the commands out.
        let answer = gateway.post(&json!({"room": ROOM, "type": "lost", "data": round}));
        assert_eq!(answer.status, 503, "{}", answer.text());
        gateway.wait_unready(PATIENCE);
        gateway.wait_ready(PATIENCE);

        gateway.publish(ROOM, "note", &json!(round));
        assert_eq!(client.expect_type("note")["data"], round);
        publish(&redis, "event");
        expect_event(&mut client, "event");
        client.subscribe(&format!("workspace:{round}"));
    }
}

fn a_crash_of_redis_loses_and_repeats_nothing(binary: &Path) {
    const ENTRIES: usize = 200;
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).config(CONFIG).start();
    let mut client = gateway.member("alice", ROOM);

    (0..ENTRIES).for_each(|number| publish(&redis, &number.to_string()));
    // While the gateway is still at work.
    redis.kill();
    gateway.wait_unready(PATIENCE);
    redis.start_again();
    gateway.wait_ready(PATIENCE);
    (ENTRIES..2 * ENTRIES).for_each(|number| publish(&redis, &number.to_string()));

    let mut seen: Vec<usize> = (0..2 * ENTRIES).map(|_| number(&client.expect_type("file.changed"))).collect();
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..2 * ENTRIES), "each event arrives once");
    gateway.publish(ROOM, "last", &json!(1));
    client.expect_type("last");
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);
}

fn the_group_is_made_again_after_flushall(binary: &Path) {
    let redis = RedisServer::start();
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).start();
    let mut client = gateway.member("alice", ROOM);
    for round in 0..3 {
        publish(&redis, &format!("before {round}"));
        expect_event(&mut client, &format!("before {round}"));
        let last = last_relayed(&redis);
        redis.command(&["FLUSHALL"]);
        // A new log that began in the same millisecond would give the identifier of the last message once more.
        assert!(poll_until(PATIENCE, || (clock(&redis) > last).then_some(())).is_some());
        // Whether the group is there again already must make no difference.
        publish(&redis, &format!("after {round}"));
        expect_event(&mut client, &format!("after {round}"));
    }
    gateway.wait_ready(PATIENCE);
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);
    assert_eq!(redis.query::<usize>(&["XLEN", STREAM]), 1);
}

fn requests_that_need_redis_fail_while_it_is_down_and_cost_nothing_else(binary: &Path) {
    let mut redis = RedisServer::start();
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).config(CONFIG).start();
    let mut client = gateway.member("alice", ROOM);
    redis.stop();
    gateway.wait_unready(PATIENCE);

    let begin = Instant::now();
    let answer = gateway.post(&json!({"room": ROOM, "type": "lost", "data": 1}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("unavailable")));
    assert!(begin.elapsed() < Duration::from_secs(5), "the answer took {:?}", begin.elapsed());
    // Rooms of relay logs that are not read yet. More than the error budget allows mistakes: that the store is away is not the client's fault.
    for number in 0..8 {
        client.send(&json!({"type": "subscribe", "message_id": number.to_string(), "room": format!("workspace:{number}")}));
    }
    let mut replies: Vec<String> = (0..8)
        .map(|_| {
            let error = client.expect_type("error");
            assert_eq!(error["data"]["code"], "unavailable", "{error}");
            error["reply_to"].as_str().expect("the reply names the request").to_owned()
        })
        .collect();
    replies.sort_unstable();
    assert!(replies.iter().map(String::as_str).eq(["0", "1", "2", "3", "4", "5", "6", "7"]), "{replies:?}");
    // A room that is joined already needs none.
    let mut second = gateway.client("bob");
    second.subscribe(ROOM);

    redis.start_again();
    gateway.wait_ready(PATIENCE);
    client.subscribe("workspace:0");
    gateway.publish("workspace:0", "note", &json!(1));
    client.expect_type("note");
    gateway.publish(ROOM, "note", &json!(2));
    assert_eq!(client.expect_type("note")["data"], 2);
    assert_eq!(second.expect_type("note")["data"], 2);
}

/// Adds an entry with one event of this id.
fn publish(redis: &RedisServer, id: &str) {
    let event = json!({
        "event_id": id,
        "timestamp": "2025-10-06T01:00:00Z",
        "workspace": {"id": "w"},
        "file": {"path": "a", "event_type": "modify"},
        "change": {"type": "diff"},
    });
    let batch = json!({"batch_id": id, "timestamp": "t", "batch_count": 1, "events": [event]});
    redis.command(&["XADD", STREAM, "*", "data", &batch.to_string()]);
}

/// When the last message was relayed, in milliseconds of Redis's clock.
fn last_relayed(redis: &RedisServer) -> u64 {
    let keys: Vec<String> = redis.query(&["KEYS", "rc:relay:*"]);
    let newest = keys.iter().filter_map(|key| {
        let entries: Vec<(String, Vec<String>)> = redis.query(&["XREVRANGE", key, "+", "-", "COUNT", "1"]);
        entries.first()?.0.split_once('-')?.0.parse().ok()
    });
    newest.max().expect("something was relayed")
}

fn clock(redis: &RedisServer) -> u64 {
    let (seconds, micros): (u64, u64) = redis.query(&["TIME"]);
    seconds * 1000 + micros / 1000
}

fn expect_event(client: &mut JsonClient, id: &str) {
    assert_eq!(client.expect_type("file.changed")["data"]["event_id"], id);
}

fn number(frame: &Value) -> usize {
    frame["data"]["event_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no number in {frame}"))
}

fn ping(client: &mut JsonClient) {
    client.send(&json!({"type": "ping"}));
    client.expect_type("pong");
}
