//! How sources are doing, as the gateways tell it, and what they do about it: figures, consumers that are gone, entries in hand.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::traffic::{EVENTS, ROOM};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

const STREAM: &str = EVENTS.stream;
const GROUP: &str = EVENTS.group;

gateway_tests!(
    figures_are_right_also_after_deletions,
    only_consumers_without_pending_entries_are_removed,
    what_a_node_has_in_hand_is_taken_over_by_no_other,
);

fn figures_are_right_also_after_deletions(binary: &Path) {
    const ENTRIES: u64 = 300;
    let redis = RedisServer::start();
    let mut gateway = node(binary, &redis, "a", "in_hand = 20\nmost = 10\nclaim_after = \"60s\"");
    let mut client = gateway.member("alice", ROOM);
    wait_for(&gateway, "an empty stream", |source| source["ready"] == true && source["lag"] == 0 && source["pending"] == 0);

    // It finds a full stream, and a Redis that takes nothing more: it fills its hand and waits.
    gateway.signal(Signal::SIGSTOP);
    EVENTS.publish(&redis, 0..ENTRIES as usize);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    gateway.signal(Signal::SIGCONT);
    let source = wait_for(&gateway, "all that are not in hand", |source| {
        source["pending"].as_u64() > Some(0)
            && source["lag"].as_u64().zip(source["pending"].as_u64()).map(|(a, b)| a + b) == Some(ENTRIES)
    });
    assert!(source["pending"].as_u64() <= Some(20), "{source}");
    assert_eq!((&source["length"], &source["most_deliveries"], &source["ready"]), (&json!(ENTRIES), &json!(1), &json!(false)));
    assert!(source["last_error"]["error"].as_str().is_some_and(|error| error.contains("OOM")), "{source}");
    assert!(source["oldest_unread_ms"].is_u64() && source["oldest_pending_ms"].is_u64(), "{source}");

    // Redis knows no lag any more.
    let unread = entries(&redis).split_off(source["pending"].as_u64().expect("a number") as usize);
    let deleted = &unread[unread.len() - 220..unread.len() - 10];
    redis.command(&[&["XDEL", STREAM], &deleted.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    let left = unread.len() - deleted.len();
    wait_for(&gateway, "a lag without what was deleted", |source| source["lag"] == left && source["lag_exact"] == true);

    // Trimmed before anybody has read it: that is lost, and said.
    redis.command(&["XTRIM", STREAM, "MAXLEN", "5"]);
    let source =
        wait_for(&gateway, "what was trimmed", |source| source["lag"] == 5 && source["trimmed_unread"].as_u64() > Some(0));
    assert_eq!(source["trimmed_unread"], unread.len() - 5);

    // What is in hand is delivered although it is in the stream no longer.
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let taken = ENTRIES as usize - unread.len();
    let expected = (0..taken).chain(ENTRIES as usize - 5..ENTRIES as usize);
    expected.for_each(|number| assert_eq!(client.expect_type("file.changed")["data"]["event_id"], number.to_string()));
    wait_for(&gateway, "nothing left", |source| source["lag"] == 0 && source["pending"] == 0 && source["ready"] == true);
    let text = gateway.http("GET", "/metrics", &[], b"").text();
    assert!(text.contains(&format!("roomcast_source_lag{{stream=\"{STREAM}\",group=\"{GROUP}\"}} 0\n")), "{text}");
}

fn only_consumers_without_pending_entries_are_removed(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = node(binary, &redis, "a", "claim_after = \"60s\"\nforget_after = \"1s\"");
    redis.command(&["XGROUP", "CREATECONSUMER", STREAM, GROUP, "gone"]);
    // Another takes an entry away from the gateway, and is never heard of again.
    (0..16).for_each(|partition| drop(redis.command(&["SET", &format!("rc:relay:{{{partition}}}"), "not a stream"])));
    EVENTS.publish(&redis, 0..1);
    let entry = &entries(&redis)[0];
    let taken = poll_until(PATIENCE, || {
        (redis.command(&["XCLAIM", STREAM, GROUP, "dead", "0", entry, "JUSTID"]) != redis::Value::Array(Vec::new())).then_some(())
    });
    assert!(taken.is_some(), "the gateway has it pending");
    let removed = poll_until(PATIENCE, || (!consumers(&redis).contains(&"gone".to_owned())).then_some(()));
    assert!(removed.is_some(), "{:?}", consumers(&redis));
    for kept in ["a", "dead"] {
        assert!(consumers(&redis).contains(&kept.to_owned()), "{kept}: {:?}", consumers(&redis));
    }
    assert_eq!(redis.pending(0, STREAM, GROUP), 1);
    assert!(gateway.metric("roomcast_source_consumers_removed_total") >= 1);
    gateway.wait_for_log("removed a consumer", PATIENCE);
}

fn what_a_node_has_in_hand_is_taken_over_by_no_other(binary: &Path) {
    const ENTRIES: usize = 60;
    let redis = RedisServer::start();
    let nodes = ["a", "b"].map(|name| node(binary, &redis, name, "claim_after = \"300ms\"\nin_hand = 256"));
    let mut client = nodes[0].member("alice", ROOM);
    EVENTS.publish(&redis, 0..ENTRIES / 2);
    (0..ENTRIES / 2).for_each(|_| drop(client.expect_type("file.changed")));
    let mut stopped = nodes;
    stopped.iter_mut().for_each(|node| node.signal(Signal::SIGSTOP));
    EVENTS.publish(&redis, ENTRIES / 2..ENTRIES);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    stopped.iter_mut().for_each(|node| node.signal(Signal::SIGCONT));
    // For many times the time after which entries are taken over from a dead node.
    let began = Instant::now();
    let claimed = poll_until(PATIENCE, || {
        let claimed = stopped.iter().map(|node| node.metric("roomcast_source_claimed_total")).sum::<u64>();
        (claimed > 0 || began.elapsed() > Duration::from_secs(3)).then_some(claimed)
    });
    assert_eq!(claimed, Some(0));
    assert!(redis.pending(0, STREAM, GROUP) > 0);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let mut seen: Vec<String> = (ENTRIES / 2..ENTRIES)
        .map(|_| client.expect_type("file.changed")["data"]["event_id"].as_str().expect("a string").to_owned())
        .collect();
    seen.sort_by_key(|number| number.parse::<usize>().expect("a number"));
    assert!(seen.into_iter().eq((ENTRIES / 2..ENTRIES).map(|number| number.to_string())));
    assert!(poll_until(PATIENCE, || (redis.pending(0, STREAM, GROUP) == 0).then_some(())).is_some());
}

fn node(binary: &Path, redis: &RedisServer, name: &str, more: &str) -> Gateway {
    let config = format!(
        r#"
[[sources]]
stream = "{STREAM}"
group = "{GROUP}"
to.events = {{ room = "workspace:{{id}}", type = "file.changed" }}
dead_letter = "stream:file-events-dlq"
block = "100ms"
{more}
"#
    );
    let mut gateway = Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(&config).start();
    gateway.wait_ready(PATIENCE);
    gateway
}

fn entries(redis: &RedisServer) -> Vec<String> {
    let entries: Vec<(String, Vec<(String, String)>)> = redis.query(&["XRANGE", STREAM, "-", "+"]);
    entries.into_iter().map(|(id, _)| id).collect()
}

fn consumers(redis: &RedisServer) -> Vec<String> {
    let consumers: Vec<std::collections::HashMap<String, redis::Value>> = redis.query(&["XINFO", "CONSUMERS", STREAM, GROUP]);
    consumers.iter().filter_map(|consumer| redis::from_redis_value_ref(&consumer["name"]).ok()).collect()
}

/// Waits until the gateway tells of its source what is awaited.
fn wait_for(gateway: &Gateway, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = poll_until(PATIENCE, || {
        last = gateway.sources()[0].clone();
        holds(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("{what} is never told, but {last}"))
}
