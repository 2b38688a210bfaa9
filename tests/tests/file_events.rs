//! File events: what system A's manual test publishes with redis-py reaches a subscribed client byte for byte.

use std::path::Path;
use std::{env, fs};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{JsonClient, access_token, raw_field};
use roomcast_tests::real::e2e::{BROWSER_PATIENCE, open_console, publish_file_event};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

const STREAM: &str = "stream:file-events";
const GROUP: &str = "websocket-consumers";
const ROOM: &str = "workspace:test-workspace";
/// System A publishes into database 2.
const DATABASE: u8 = 2;
/// The event of the manual test, as `json.dumps` writes it.
const EVENT: &str = r#"{"event_id": "test-event", "timestamp": "2025-10-06T01:00:00Z", "workspace": {"id": "test-workspace"}, "file": {"path": "test.py", "event_type": "create"}, "change": {"type": "full_content", "content": "print('test')"}}"#;

gateway_tests!(
    a_plain_event_reaches_the_client_byte_for_byte,
    a_compressed_event_reaches_the_client_byte_for_byte,
    the_form_of_an_entry_is_detected_whatever_its_hint_says,
    unusual_json_is_not_rewritten,
    a_batch_reaches_each_room_in_its_order,
    an_entry_from_before_the_start_is_consumed,
    a_browser_shows_the_event_in_the_console,
);

fn a_plain_event_reaches_the_client_byte_for_byte(binary: &Path) {
    the_manual_test_passes(binary, &[]);
}

fn a_compressed_event_reaches_the_client_byte_for_byte(binary: &Path) {
    the_manual_test_passes(binary, &["--gzip"]);
}

/// Publishes one entry as the manual test does and looks for everything that must come of it.
fn the_manual_test_passes(binary: &Path, form: &[&str]) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let mut client = gateway.member("alice", ROOM);

    let entry = &publish(&redis, form)[0];
    expect_event(&mut client, EVENT);

    let line = |pattern: &str| gateway.wait_for_log(pattern, PATIENCE);
    assert!(line("received batch").contains(entry), "the line names the entry");
    assert!(line("broadcast to 1 clients").contains(ROOM), "the line names the room");
    assert!(line("acked").contains(entry), "the line names the entry");
    assert_eq!(redis.pending(DATABASE, STREAM, GROUP), 0);
    assert_eq!(length(&redis), 1, "the source keeps its entry");
    assert_eq!(gateway.metric("roomcast_source_acked_total"), 1);
}

fn the_form_of_an_entry_is_detected_whatever_its_hint_says(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let mut client = gateway.member("alice", ROOM);
    for form in [&["--hint", "true"][..], &["--gzip", "--hint", "false"], &["--hint", "absent"], &["--gzip", "--hint", "absent"]]
    {
        publish(&redis, form);
        expect_event(&mut client, EVENT);
    }
    assert_eq!(redis.pending(DATABASE, STREAM, GROUP), 0);
}

fn unusual_json_is_not_rewritten(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let mut client = gateway.member("alice", ROOM);
    let event = "{ \"z\": 1.0e+05,\t\"event_id\" : \"\\u00e9\\/\u{1F980}\", \"n\": 123456789012345678901234567890, \"timestamp\":\"t\",\n  \
                 \"workspace\":{\"name\":null,\"id\":\"test-workspace\"}, \"file\":{\"path\":\"p\",\"event_type\":\"modify\"}, \
                 \"change\":{\"type\":\"diff\",\"a\":1,\"a\":2,\"deep\":[[],{},\"\"]},\"git\":null }";
    let batch = format!("{{\"batch_id\":\"b\",\"timestamp\":\"t\",\"batch_count\":1,\"events\":[ {event} ]}}");
    add(&redis, &batch);
    expect_event(&mut client, event);
}

fn a_batch_reaches_each_room_in_its_order(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let (mut one, mut two) = (gateway.member("one", "workspace:1"), gateway.member("two", "workspace:2"));
    let events: Vec<Value> = (0..100)
        .map(|number| {
            json!({
                "event_id": number.to_string(),
                "timestamp": "2025-10-06T01:00:00Z",
                "workspace": {"id": 1 + number % 2},
                "file": {"path": "a", "event_type": "modify"},
                "change": {"type": "diff"},
            })
        })
        .collect();
    add(&redis, &json!({"batch_id": "b", "timestamp": "t", "batch_count": 100, "events": events}).to_string());
    for (client, room, first) in [(&mut one, "workspace:1", 0), (&mut two, "workspace:2", 1)] {
        for number in (first..100).step_by(2) {
            let frame = client.expect_type("file.changed");
            assert_eq!((&frame["room"], &frame["data"]["event_id"]), (&json!(room), &json!(number.to_string())));
        }
    }
}

fn an_entry_from_before_the_start_is_consumed(binary: &Path) {
    let redis = RedisServer::start();
    let early = publish(&redis, &["--entries", "3"]);
    let gateway = gateway(binary, &redis);
    for entry in &early {
        gateway.wait_for_log(&format!("acked stream=\"{STREAM}\" entry={entry}"), PATIENCE);
    }
    assert_eq!(redis.pending(DATABASE, STREAM, GROUP), 0);
    assert_eq!(gateway.metric("roomcast_source_events_total"), 3);

    // Its events have passed; what comes from now on is received.
    let mut client = gateway.member("alice", ROOM);
    publish(&redis, &[]);
    expect_event(&mut client, EVENT);
    assert_eq!(length(&redis), 4);
}

fn a_browser_shows_the_event_in_the_console(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let token = access_token(SECRET, "operator", &json!({"role": "admin"}));
    let url = format!("http://{}/#token={token}", gateway.addr());
    let screenshot = env::temp_dir().join(format!("roomcast-file-event-{}.png", gateway.addr().port()));
    let mut console = open_console(&url, &screenshot);
    console.wait_for_log("READY", BROWSER_PATIENCE);

    publish(&redis, &["--gzip"]);
    assert_eq!(console.wait_for_log("event_id", BROWSER_PATIENCE), EVENT);
    assert!(console.wait(BROWSER_PATIENCE).success(), "{}", console.tail());
    assert!(fs::read(&screenshot).is_ok_and(|image| image.starts_with(b"\x89PNG")));
    let _ = fs::remove_file(&screenshot);
    // The browser is gone, and the gateway has noticed.
    let gone = poll_until(PATIENCE, || (gateway.metric("roomcast_connections") == 0).then_some(()));
    assert!(gone.is_some(), "the browser's connection is still counted");
}

fn gateway(binary: &Path, redis: &RedisServer) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url_of_database(DATABASE)).start()
}

/// Runs the redis-py publisher and returns the ids of the entries.
fn publish(redis: &RedisServer, form: &[&str]) -> Vec<String> {
    publish_file_event(&[&["--url", &redis.url_of_database(DATABASE)], form].concat())
}

/// Adds an entry with this text as its batch.
fn add(redis: &RedisServer, batch: &str) {
    let mut connection = redis.connect(DATABASE).expect("the server is there");
    let added: Result<String, _> =
        redis::cmd("XADD").arg(&[STREAM, "*", "data", batch, "compressed", "false"]).query(&mut connection);
    added.expect("the entry is added");
}

fn length(redis: &RedisServer) -> u64 {
    let mut connection = redis.connect(DATABASE).expect("the server is there");
    redis::cmd("XLEN").arg(STREAM).query(&mut connection).expect("the source is a stream")
}

/// The next frame is this event, in the envelope of the protocol.
fn expect_event(client: &mut JsonClient, event: &str) {
    let text = client.next_text(PATIENCE);
    assert_eq!(raw_field(&text, "data"), event);
    let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
    assert_eq!((&frame["type"], &frame["room"]), (&json!("file.changed"), &json!(ROOM)));
    for (field, length) in [("message_id", 36), ("timestamp", "2025-10-06T01:00:00.000Z".len())] {
        assert_eq!(frame[field].as_str().map(str::len), Some(length), "{field} in {text}");
    }
}
