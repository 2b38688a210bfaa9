//! Dead letters: a batch that cannot be used is acknowledged, counted, logged and kept, and holds nothing up.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::e2e::publish_file_event;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};

const STREAM: &str = "stream:file-events";
const DEAD_LETTERS: &str = "stream:file-events-dlq";
const GROUP: &str = "websocket-consumers";
const ROOM: &str = "workspace:test-workspace";
const COUNTER: &str = "roomcast_source_dead_letters_total";

/// Every way in which the publisher can break a batch, and the code under which it is kept.
const BROKEN: [(&[&str], &str); 14] = [
    (&["--broken", "bad-json"], "not_json"),
    (&["--broken", "bad-base64"], "base64"),
    (&["--broken", "bad-gzip"], "gzip_corrupt"),
    (&["--broken", "bad-checksum"], "gzip_checksum"),
    (&["--broken", "truncated-gzip"], "gzip_truncated"),
    (&["--broken", "bomb", "--bomb-bytes", "1048576"], "bomb"),
    (&["--broken", "missing-data"], "missing_data"),
    (&["--broken", "empty-data"], "empty"),
    (&["--broken", "missing-events"], "missing"),
    (&["--broken", "missing-workspace"], "missing"),
    (&["--broken", "missing-workspace", "--events", "3"], "missing"),
    (&["--broken", "wrong-types"], "shape"),
    (&["--broken", "invalid-utf8"], "not_utf8"),
    (&["--broken", "deep-nesting"], "too_deep"),
];

/// System A's file events, for a gateway that gives up soon.
const IMPATIENT: &str = r#"
[[sources]]
stream = "stream:file-events"
group = "websocket-consumers"
to.events = { room = "workspace:{id}", type = "file.changed" }
dead_letter = "stream:file-events-dlq"
block = "50ms"
claim_after = "100ms"
max_deliveries = 3
"#;

gateway_tests!(
    each_broken_batch_is_kept_with_its_reason_and_the_next_good_one_delivered,
    a_bomb_costs_no_memory,
    dead_letters_do_not_depend_on_anybody_listening,
    a_dead_letter_stream_of_a_wrong_type_loses_nothing,
    an_entry_that_cannot_be_stored_becomes_a_dead_letter_after_max_deliveries,
);

type Fields = Vec<(String, Vec<u8>)>;

fn each_broken_batch_is_kept_with_its_reason_and_the_next_good_one_delivered(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let mut client = gateway.member("alice", ROOM);
    for (number, (options, code)) in (1..).zip(BROKEN) {
        let entry = &publish(&redis, options)[0];
        publish(&redis, &["--workspace", "test-workspace"]);

        // Nothing of the broken batch is delivered, not even those of its events that are good.
        assert_eq!(client.expect_type("file.changed")["data"]["event_id"], "test-event", "after {options:?}");
        assert_eq!(redis.pending(0, STREAM, GROUP), 0, "after {options:?}");
        assert_eq!(gateway.metric(COUNTER), number, "after {options:?}");

        let letter = last_entry(&redis, DEAD_LETTERS).expect("the entry is kept");
        let ours: BTreeMap<&str, &[u8]> = letter.iter().take(8).map(|(name, value)| (name.as_str(), &value[..])).collect();
        let text = |name: &str| str::from_utf8(ours[name]).expect("our fields are text");
        assert_eq!((text("msg_id"), text("code"), text("source")), (entry.as_str(), code, STREAM));
        assert_eq!(text("timestamp").len(), "2025-10-06T01:00:00.000Z".len(), "{}", text("timestamp"));
        assert_eq!((text("deliveries"), text("added").len()), ("1", text("timestamp").len()));
        assert!(text("error").len() > 10, "the reason is in words: {:?}", text("error"));
        let original = entry_of(&redis, STREAM, entry).expect("the source keeps its entry");
        assert_eq!(text("fields"), original.len().to_string());
        assert!(letter[8..] == original, "{options:?}: the original fields are kept as they are");

        let line = gateway.wait_for_log(&format!("entry={entry}"), PATIENCE);
        assert!(line.contains("ERROR") && line.contains("dead-lettered and acked"), "{line}");
        assert!(line.contains(text("error")), "the log has the same reason: {line}");
    }
    assert_eq!(redis.query::<usize>(&["XLEN", DEAD_LETTERS]), BROKEN.len());
    assert_eq!(redis.query::<usize>(&["XLEN", STREAM]), 2 * BROKEN.len());
    assert_eq!(gateway.metric("roomcast_source_acked_total"), BROKEN.len() as u64);
}

fn a_bomb_costs_no_memory(binary: &Path) {
    const MOST_GROWTH: u64 = 64 << 20;
    let redis = RedisServer::start();
    let gateway = gateway(binary, &redis);
    let mut client = gateway.member("alice", ROOM);
    publish(&redis, &["--gzip"]);
    client.expect_type("file.changed");
    let before = peak_memory(&gateway);

    // 1 MiB that inflates to 1 GiB, again and again.
    publish(&redis, &["--broken", "bomb", "--bomb-bytes", "1048576", "--entries", "4"]);
    publish(&redis, &["--gzip"]);
    client.expect_type("file.changed");
    assert_eq!(gateway.metric(COUNTER), 4);
    let growth = peak_memory(&gateway) - before;
    assert!(growth < MOST_GROWTH, "the bombs have taken {} MiB", growth >> 20);
}

fn dead_letters_do_not_depend_on_anybody_listening(binary: &Path) {
    let redis = RedisServer::start();
    let entries = publish(&redis, &["--broken", "bad-json", "--entries", "50"]);
    let gateway = gateway(binary, &redis);
    let done = poll_until(PATIENCE, || (gateway.metric(COUNTER) == entries.len() as u64).then_some(()));
    assert!(done.is_some(), "{} of {} are counted", gateway.metric(COUNTER), entries.len());
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);
    assert_eq!(redis.query::<usize>(&["XLEN", DEAD_LETTERS]), entries.len());
}

fn a_dead_letter_stream_of_a_wrong_type_loses_nothing(binary: &Path) {
    let redis = RedisServer::start();
    redis.command(&["SET", DEAD_LETTERS, "not a stream"]);
    let gateway = gateway(binary, &redis);
    let mut client = gateway.member("alice", ROOM);
    publish(&redis, &["--broken", "bad-json"]);
    publish(&redis, &[]);

    // The good batch passes; the broken one stays pending, because there is no place for it.
    client.expect_type("file.changed");
    gateway.wait_for_log("WRONGTYPE", PATIENCE);
    assert_eq!(redis.pending(0, STREAM, GROUP), 1);
    assert_eq!(gateway.metric(COUNTER), 0);
}

fn an_entry_that_cannot_be_stored_becomes_a_dead_letter_after_max_deliveries(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(IMPATIENT).start();
    // Nothing can be appended to any relay log. No client is there, so none is read.
    (0..16).for_each(|partition| drop(redis.command(&["SET", &format!("rc:relay:{{{partition}}}"), "not a stream"])));
    let entry = &publish(&redis, &["--workspace", "test-workspace"])[0];
    let letter = poll_until(PATIENCE, || last_entry(&redis, DEAD_LETTERS)).expect("the entry is given up");
    let text = |name: &str| letter.iter().find(|(other, _)| other == name).map(|(_, value)| String::from_utf8_lossy(value));
    assert_eq!(text("code").as_deref(), Some("max_deliveries"));
    assert_eq!((text("msg_id").as_deref(), text("deliveries").as_deref()), (Some(entry.as_str()), Some("3")));
    assert!(letter[8..] == entry_of(&redis, STREAM, entry).expect("the source keeps its entry"));
    assert_eq!(redis.pending(0, STREAM, GROUP), 0);

    // What comes later finds everything in order again.
    (0..16).for_each(|partition| drop(redis.command(&["DEL", &format!("rc:relay:{{{partition}}}")])));
    let mut client = gateway.member("alice", ROOM);
    publish(&redis, &["--workspace", "test-workspace"]);
    client.expect_type("file.changed");
}

fn gateway(binary: &Path, redis: &RedisServer) -> Gateway {
    Setup::new(binary).option("--redis", &redis.url()).start()
}

fn publish(redis: &RedisServer, options: &[&str]) -> Vec<String> {
    publish_file_event(&[&["--url", &redis.url()], options].concat())
}

fn last_entry(redis: &RedisServer, stream: &str) -> Option<Fields> {
    let entries: Vec<(String, Fields)> = redis.query(&["XREVRANGE", stream, "+", "-", "COUNT", "1"]);
    entries.into_iter().next().map(|(_, fields)| fields)
}

fn entry_of(redis: &RedisServer, stream: &str, id: &str) -> Option<Fields> {
    let entries: Vec<(String, Fields)> = redis.query(&["XRANGE", stream, id, id]);
    entries.into_iter().next().map(|(_, fields)| fields)
}

/// The most memory that the process has had at any time, in bytes.
fn peak_memory(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.pid());
    let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("no peak in {status}")) << 10
}
