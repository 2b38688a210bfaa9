//! Job streams on real Redis: what system D's publishers write reaches the clients of every node.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token, raw_field};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

const UUID: &str = "0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1";

gateway_tests!(
    clients_that_come_before_the_job_see_all_of_it_up_to_the_deletion,
    a_late_client_gets_the_newest_history_in_order_and_then_what_follows,
    an_update_arrives_byte_for_byte,
    what_is_no_update_is_skipped_counted_and_reported_once,
    jobs_that_come_and_go_under_load_are_complete,
    what_is_published_into_the_room_of_a_job_stands_in_its_stream_once,
    the_path_of_a_job_demands_what_its_room_demands,
    a_client_resumes_on_another_node,
    a_redis_that_forgot_everything_is_told_and_read_on,
    a_key_that_is_no_stream_stops_no_other_job,
);

fn clients_that_come_before_the_job_see_all_of_it_up_to_the_deletion(binary: &Path) {
    let redis = RedisServer::start();
    let nodes = [node(binary, &redis), node(binary, &redis)];
    let mut clients = [watch(&nodes[0], &format!("/ws/{UUID}")), watch(&nodes[1], &format!("/ws/jobs/{UUID}"))];
    nodes.iter().for_each(|node| wait_for_rooms(node, 1));
    assert_eq!(redis.query::<i64>(&["EXISTS", &key(UUID)]), 0, "nothing is created by those who wait");

    for number in 0..50 {
        add(&redis, UUID, &update("file_processing", number));
    }
    for client in &mut clients {
        for number in 0..50 {
            assert_eq!(client.expect_type("file_processing")["data"]["n"], number);
        }
    }
    // Who waits for it is served, and then it may be deleted at once.
    let waiting = poll_until(PATIENCE, || {
        let clients: String = redis.query(&["CLIENT", "LIST"]);
        let is_waiting = |line: &&str| line.contains("cmd=xread ") && line.contains("flags=b");
        // Each node also waits for its relay logs.
        (clients.lines().filter(is_waiting).count() == 2 * nodes.len()).then_some(())
    });
    assert!(waiting.is_some());
    add(&redis, UUID, &update("job_completed", 50));
    redis.command(&["DEL", &key(UUID)]);
    for client in &mut clients {
        assert_eq!(client.expect_type("job_completed")["room"], format!("job:{UUID}"));
    }

    // The job is begun again. Within the same millisecond it would get the identifiers of what was deleted, which is told as lost.
    let millis = || {
        let (seconds, micros): (u64, u64) = redis.query(&["TIME"]);
        seconds * 1_000 + micros / 1_000
    };
    let deleted = millis();
    assert!(poll_until(PATIENCE, || (millis() > deleted).then_some(())).is_some());
    add(&redis, UUID, &update("job_started", 51));
    clients.iter_mut().for_each(|client| drop(client.expect_type("job_started")));
}

fn a_late_client_gets_the_newest_history_in_order_and_then_what_follows(binary: &Path) {
    const ALL: usize = 1_500;
    let redis = RedisServer::start();
    let node = node(binary, &redis);
    (0..ALL).for_each(|number| add(&redis, "7", &update("progress", number)));
    let mut late = watch(&node, "/ws/jobs/7");
    let first = number(&late.expect_type("progress"));
    assert!((1..=ALL - 900).contains(&first), "the newest thousand or so begin with {first}");
    (ALL..ALL + 50).for_each(|number| add(&redis, "7", &update("progress", number)));
    for expected in first + 1..ALL + 50 {
        assert_eq!(number(&late.expect_type("progress")), expected);
    }
}

fn an_update_arrives_byte_for_byte(binary: &Path) {
    let redis = RedisServer::start();
    let node = node(binary, &redis);
    let mut client = watch(&node, "/ws/jobs/a%20b");
    wait_for_rooms(&node, 1);
    let data = r#"{ "z": 1.0e+05,  "current_file":"\u00e9\/", "error":null, "n": 123456789012345678901234567890 }"#;
    add(
        &redis,
        "a b",
        &format!(r#"{{"timestamp": "2025-07-14T15:54:56.123456", "type": "file_completed", "data": {data}, "retry":2}}"#),
    );
    let text = client.next_text(PATIENCE);
    assert_eq!(raw_field(&text, "data"), data);
    let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
    assert_eq!((&frame["timestamp"], &frame["retry"]), (&json!("2025-07-14T15:54:56.123456"), &json!(2)));
    assert_eq!(frame["room"], "job:a b");
    assert_eq!(frame["message_id"].as_str().map(str::len), Some(36));
    assert!(frame["position"].as_str().is_some_and(|position| position.split('.').count() == 3));
    // Another reading says the same.
    let mut late = watch(&node, "/ws/jobs/a%20b");
    assert_eq!(late.next_text(PATIENCE), text);
}

fn what_is_no_update_is_skipped_counted_and_reported_once(binary: &Path) {
    let redis = RedisServer::start();
    let node = node(binary, &redis);
    let mut client = watch(&node, "/ws/jobs/7");
    wait_for_rooms(&node, 1);
    for broken in ["nonsense", "[]", "{}", "\u{0}"] {
        add(&redis, "7", broken);
    }
    redis.command(&["XADD", &key("7"), "*", "progress", "5"]);
    add(&redis, "7", &update("progress", 1));
    assert_eq!(number(&client.expect_type("progress")), 1);
    assert!(node.metric("roomcast_stream_skipped_total") >= 5, "each time it is read");
    assert!(node.wait_for_log("skipped what is no message", PATIENCE).contains("nonsense"));
    assert_eq!(node.tail().matches("skipped what is no message").count(), 1);
}

fn jobs_that_come_and_go_under_load_are_complete(binary: &Path) {
    const JOBS: usize = 20;
    const ROUNDS: usize = 40;
    let redis = RedisServer::start();
    let node = node(binary, &redis);
    let mut clients = Vec::new();
    for round in 0..ROUNDS {
        // One more stream in every other round, while all the others are written to.
        if round % 2 == 0 {
            let job = (round / 2).to_string();
            clients.push((watch(&node, &format!("/ws/jobs/{job}")), job));
        }
        (0..JOBS).for_each(|job| add(&redis, &job.to_string(), &update(&format!("of {job}"), round)));
    }
    for (client, job) in &mut clients {
        for round in 0..ROUNDS {
            assert_eq!(number(&client.expect_type(&format!("of {job}"))), round, "job {job}");
        }
    }
}

fn what_is_published_into_the_room_of_a_job_stands_in_its_stream_once(binary: &Path) {
    let redis = RedisServer::start();
    let nodes = [node(binary, &redis), node(binary, &redis)];
    let mut client = watch(&nodes[1], "/ws/jobs/7");
    wait_for_rooms(&nodes[1], 1);
    let body = json!({"room": "job:7", "type": "note", "data": {"n": 1}, "message_id": "m-1"});
    let answers = [nodes[0].post(&body), nodes[0].post(&body)].map(|answer| answer.json());
    assert_eq!(answers[0], answers[1], "a second copy is the first one");
    let frame = client.expect_type("note");
    assert_eq!((&frame["message_id"], &frame["position"]), (&json!("m-1"), &answers[0]["position"]));
    assert_eq!(redis.query::<usize>(&["XLEN", &key("7")]), 1);
    let left: i64 = redis.query(&["TTL", &key("7")]);
    assert!((86_300..=86_400).contains(&left), "{left} s");
    nodes[0].publish("job:7", "next", &json!(null));
    client.expect_type("next");
}

fn the_path_of_a_job_demands_what_its_room_demands(binary: &Path) {
    let redis = RedisServer::start();
    let config = "[[access]]\nrooms = \"job:*\"\nsubscribe = \"listed\"\n";
    let node = Setup::new(binary).option("--redis", &redis.url()).config(config).start();
    let mut unknown = JsonClient::connect(node.addr(), "/ws/jobs/7", Credential::None);
    unknown.expect_type("auth_required");

    let token = |rooms: &str| access_token(SECRET, "alice", &json!({"rooms": [rooms]}));
    let mut denied = JsonClient::connect(node.addr(), "/ws/jobs/7", Credential::Query(&token("job:8")));
    denied.expect_type("auth_success");
    assert_eq!(denied.expect_type("error")["data"]["code"], "forbidden");
    assert_eq!(denied.close_code(PATIENCE), Some(4003));

    // It may also come late with its token.
    unknown.send(&json!({"type": "auth", "data": {"token": token("job:7")}}));
    unknown.expect_type("auth_success");
    wait_for_rooms(&node, 1);
    add(&redis, "7", &update("progress", 1));
    unknown.expect_type("progress");

    for (path, status) in [("/ws/jobs/7", 426), ("/ws/jobs/a%2", 404), ("/ws/jobs/7/8", 404), ("/ws/7", 404)] {
        assert_eq!(node.http("GET", path, &[], b"").status, status, "{path}");
    }
}

fn a_client_resumes_on_another_node(binary: &Path) {
    let redis = RedisServer::start();
    let nodes = [node(binary, &redis), node(binary, &redis)];
    let mut client = nodes[0].member("alice", "job:7");
    (0..3).for_each(|number| add(&redis, "7", &update("progress", number)));
    let position = (0..3).map(|_| client.expect_type("progress")["position"].clone()).last().expect("there are three");
    client.close();
    (3..6).for_each(|number| add(&redis, "7", &update("progress", number)));

    let recover = |node: &Gateway, position: &Value| {
        let mut client = node.client("alice");
        client.send(&json!({"type": "subscription", "data": {"action": "subscribe", "room": "job:7", "recover": position}}));
        let told = client.expect_type("subscribed")["data"].take();
        (client, told)
    };
    let (mut client, told) = recover(&nodes[1], &position);
    assert_eq!((&told["recovered"], &told["position"]), (&json!(true), &position));
    (3..6).for_each(|expected| assert_eq!(number(&client.expect_type("progress")), expected));

    // Trimmed, deleted and begun anew: nobody says that nothing was missed.
    redis.command(&["XTRIM", &key("7"), "MAXLEN", "1"]);
    assert_eq!(recover(&nodes[0], &position).1["recovered"], false);
    redis.command(&["DEL", &key("7")]);
    assert_eq!(recover(&nodes[0], &position).1["recovered"], false);
    add(&redis, "7", &update("progress", 9));
    assert_eq!(recover(&nodes[0], &position).1["recovered"], false);
}

fn a_redis_that_forgot_everything_is_told_and_read_on(binary: &Path) {
    let mut redis = RedisServer::start();
    let node = node(binary, &redis);
    let mut client = watch(&node, "/ws/jobs/7");
    wait_for_rooms(&node, 1);
    add(&redis, "7", &update("progress", 1));
    client.expect_type("progress");
    redis.kill();
    redis.start_again();
    let lost = client.wait_for_type("subscribed", PATIENCE * 2);
    assert_eq!((&lost["data"]["room"], &lost["data"]["recovered"]), (&json!("job:7"), &json!(false)));
    add(&redis, "7", &update("progress", 2));
    assert_eq!(number(&client.expect_type("progress")), 2);
}

fn a_key_that_is_no_stream_stops_no_other_job(binary: &Path) {
    let redis = RedisServer::start();
    let node = node(binary, &redis);
    let mut client = watch(&node, "/ws/jobs/7");
    redis.command(&["SET", &key("8"), "something else"]);
    let mut other = watch(&node, "/ws/jobs/8");
    wait_for_rooms(&node, 1);
    // It also becomes something else while it is read.
    let mut third = watch(&node, "/ws/jobs/9");
    wait_for_rooms(&node, 2);
    redis.command(&["SET", &key("9"), "something else"]);
    for number in 0..20 {
        add(&redis, "7", &update("progress", number));
        let mut newest = watch(&node, &format!("/ws/jobs/new-{number}"));
        client.expect_type("progress");
        add(&redis, &format!("new-{number}"), &update("progress", number));
        newest.wait_for_type("progress", PATIENCE);
    }
    redis.command(&["DEL", &key("8"), &key("9")]);
    for (job, client) in [("8", &mut other), ("9", &mut third)] {
        let arrived = poll_until(PATIENCE * 2, || {
            add(&redis, job, &update("progress", 1));
            (node.metric("roomcast_rooms") > 0).then_some(())
        });
        assert!(arrived.is_some());
        client.wait_for_type("progress", PATIENCE * 2);
    }
}

fn node(binary: &Path, redis: &RedisServer) -> Gateway {
    let config = "[limits]\noutbox_messages = 10000\noutbox_bytes = 16777216\n[relay]\ncheck = \"1s\"\n";
    Setup::new(binary).option("--redis", &redis.url()).config(config).start()
}

/// A client on a path that is bound to a room.
fn watch(node: &Gateway, path: &str) -> JsonClient {
    let token = access_token(SECRET, "alice", &json!({}));
    let mut client = JsonClient::connect(node.addr(), path, Credential::Query(&token));
    client.expect_type("auth_success");
    client
}

/// Waits until so many streams are read.
fn wait_for_rooms(node: &Gateway, streams: u64) {
    let read = poll_until(PATIENCE, || (node.metric("roomcast_streams") >= streams).then_some(()));
    assert!(read.is_some(), "{} streams are read", node.metric("roomcast_streams"));
}

/// Adds an update as system D's workers do.
fn add(redis: &RedisServer, job: &str, update: &str) {
    redis.command(&["XADD", &key(job), "MAXLEN", "~", "1000", "*", "message", update]);
    redis.command(&["EXPIRE", &key(job), "86400"]);
}

fn update(kind: &str, number: usize) -> String {
    json!({"timestamp": "2025-07-14T15:54:56.123456", "type": kind, "data": {"n": number}}).to_string()
}

fn number(frame: &Value) -> usize {
    frame["data"]["n"].as_u64().unwrap_or_else(|| panic!("no number in {frame}")) as usize
}

fn key(job: &str) -> String {
    format!("job:updates:{job}")
}
