//! The state of a job, which its workers keep beside its updates: whoever comes is sent it first.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use serde_json::json;

gateway_tests!(the_state_comes_first_then_the_history_then_what_follows, who_resumes_needs_no_state);

const STATE: &str = r#"{"status": "processing",  "total_files":10, "processed_files": 3}"#;

fn the_state_comes_first_then_the_history_then_what_follows(binary: &Path) {
    let redis = RedisServer::start();
    let node = Setup::new(binary).option("--redis", &redis.url()).start();
    redis.command(&["SET", "job:state:7", STATE]);
    (0..5).for_each(|number| add(&redis, number));

    let mut bound = watch(&node);
    let state = bound.expect_type("current_state");
    assert_eq!((&state["data"]["processed_files"], &state["room"]), (&json!(3), &json!("job:7")));
    (0..5).for_each(|number| assert_eq!(bound.expect_type("progress")["data"], number));
    add(&redis, 5);
    assert_eq!(bound.expect_type("progress")["data"], 5);

    // The same for whoever subscribes, who is told that first.
    let mut member = node.member("alice", "job:7");
    assert_eq!(member.expect_type("current_state")["data"]["status"], "processing");
    (0..6).for_each(|number| assert_eq!(member.expect_type("progress")["data"], number));

    // A state that is no JSON is none.
    redis.command(&["SET", "job:state:7", "{broken"]);
    assert_eq!(watch(&node).expect_type("progress")["data"], 0);
}

fn who_resumes_needs_no_state(binary: &Path) {
    let redis = RedisServer::start();
    let nodes = ["a", "b"].map(|name| Setup::new(binary).option("--redis", &redis.url()).option("--node", name).start());
    redis.command(&["SET", "job:state:7", STATE]);
    add(&redis, 0);
    let mut client = watch(&nodes[0]);
    client.expect_type("current_state");
    let position = client.expect_type("progress")["position"].clone();
    client.close();
    (1..4).for_each(|number| add(&redis, number));
    let mut client = nodes[1].client("alice");
    client.send(&json!({"type": "subscribe", "job_id": 7, "recover": position}));
    assert_eq!(client.expect_type("subscribed")["data"]["recovered"], true);
    (1..4).for_each(|number| assert_eq!(client.expect_type("progress")["data"], number));
    // Who cannot resume is told so, and begins anew.
    redis.command(&["DEL", "job:updates:7"]);
    add(&redis, 9);
    let mut late = nodes[0].client("bob");
    late.send(&json!({"type": "subscribe", "job_id": 7, "recover": position}));
    assert_eq!(late.expect_type("subscribed")["data"]["recovered"], false);
    late.expect_type("current_state");
    assert_eq!(late.expect_type("progress")["data"], 9);
}

fn watch(node: &Gateway) -> JsonClient {
    let token = access_token(SECRET, "alice", &json!({}));
    let mut client = JsonClient::connect(node.addr(), "/ws/jobs/7", Credential::Header(&token));
    client.expect_type("auth_success");
    client
}

fn add(redis: &RedisServer, number: usize) {
    let update = json!({"timestamp": "2026-01-01T00:00:00Z", "type": "progress", "data": number}).to_string();
    redis.command(&["XADD", "job:updates:7", "MAXLEN", "~", "1000", "*", "message", &update]);
}
