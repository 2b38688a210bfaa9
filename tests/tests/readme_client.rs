//! The client of the README, in a real browser: it resumes on another node, and learns when that cannot be.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::e2e::{BROWSER_PATIENCE, follow_room};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use serde_json::json;

const ROOM: &str = "project:1";

gateway_tests!(it_resumes_on_another_node_and_learns_of_what_is_lost, it_comes_back_when_it_is_told_to);

fn it_resumes_on_another_node_and_learns_of_what_is_lost(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = ["a", "b"].map(|name| {
        let config = "[relay]\ncheck = \"400ms\"\n";
        Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(config).start()
    });
    let publish = |gateway: &Gateway, numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| gateway.publish(ROOM, "note", &json!(number)));
    };
    let proxy = Proxy::to(a.addr());
    let token = access_token(SECRET, "alice", &json!({}));
    let mut browser = follow_room(&format!("ws://{}/ws", proxy.addr()), &token, ROOM);
    browser.wait_for_log("SUBSCRIBED", BROWSER_PATIENCE);
    publish(&a, 0..5);
    browser.wait_for_log("4", BROWSER_PATIENCE);

    let mark = browser.log_mark();
    proxy.lead_to(b.addr());
    proxy.cut();
    publish(&a, 5..10);
    browser.wait_for_log_since(mark, "SUBSCRIBED", BROWSER_PATIENCE);
    publish(&a, 10..12);
    browser.wait_for_log("11", BROWSER_PATIENCE);
    let before = lines(&browser.log_lines());
    assert_eq!(before, (0..12).map(|number| number.to_string()).collect::<Vec<_>>());

    redis.command(&["FLUSHALL"]);
    browser.wait_for_log("GAP", BROWSER_PATIENCE);
    publish(&a, 12..14);
    b.publish(ROOM, "end", &json!(null));
    assert!(browser.wait(BROWSER_PATIENCE).success(), "{}", browser.tail());
    browser.wait_for_end_of_output(BROWSER_PATIENCE);
    assert_eq!(lines(&browser.log_lines())[12..], ["GAP", "12", "13"]);
}

fn it_comes_back_when_it_is_told_to(binary: &Path) {
    let redis = RedisServer::start();
    let node = |name| {
        let config = "[drain]\nspread = \"5s\"\n";
        Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(config).start()
    };
    let (mut a, b) = (node("a"), node("b"));
    let proxy = Proxy::to(a.addr());
    let token = access_token(SECRET, "alice", &json!({}));
    let mut browser = follow_room(&format!("ws://{}/ws", proxy.addr()), &token, ROOM);
    browser.wait_for_log("SUBSCRIBED", BROWSER_PATIENCE);
    let mark = browser.log_mark();
    proxy.lead_to(b.addr());
    let told = Instant::now();
    a.signal(Signal::SIGTERM);
    let line = browser.wait_for_log("RECONNECT", BROWSER_PATIENCE);
    let after: u64 = line.rsplit(' ').next().and_then(|after| after.parse().ok()).expect("a number of milliseconds");
    assert!(a.wait(BROWSER_PATIENCE).success());
    b.publish(ROOM, "note", &json!(1));
    browser.wait_for_log_since(mark, "SUBSCRIBED", BROWSER_PATIENCE);
    assert!(
        told.elapsed() >= Duration::from_millis(after),
        "told to come back after {after} ms, back after {:?}",
        told.elapsed()
    );
    b.publish(ROOM, "end", &json!(null));
    assert!(browser.wait(BROWSER_PATIENCE).success(), "{}", browser.tail());
    browser.wait_for_end_of_output(BROWSER_PATIENCE);
    assert_eq!(lines(&browser.log_lines()), ["1"]);
}

/// What the client was told, without what the page has to say of itself.
fn lines(log: &[String]) -> Vec<String> {
    let said = |line: &&String| **line == "GAP" || line.bytes().all(|byte| byte.is_ascii_digit());
    log.iter().filter(said).cloned().collect()
}
