//! Users who are sent away by an administrator, with both binaries on real Redis.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::Response;
use roomcast_tests::real::process::run;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup, clean_command};
use roomcast_tests::real::traffic::assert_silent;
use serde_json::json;

gateway_tests!(
    a_user_is_sent_away_from_every_node,
    only_an_administrator_may_and_only_while_the_store_is_there,
    the_command_does_the_same,
);

fn disconnect(gateway: &Gateway, user: &str, claims: &serde_json::Value) -> Response {
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", claims));
    gateway.http("POST", &format!("/api/users/{user}/disconnect"), &[("authorization", &bearer)], b"")
}

/// What cannot be stored is given up soon.
const CONFIG: &str = r#"
[relay]
patience = "500ms"
"#;

fn nodes(binary: &Path, redis: &RedisServer) -> [Gateway; 2] {
    ["a", "b"]
        .map(|name| Setup::new(binary).shards(2).option("--redis", &redis.url()).option("--node", name).config(CONFIG).start())
}

fn a_user_is_sent_away_from_every_node(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis);
    // Each node has shards of its own, over which connections are shared out.
    let mut theirs = [a.client("m\u{fc}ller"), a.client("m\u{fc}ller"), b.client("m\u{fc}ller")];
    let mut others = [a.client("bob"), b.client("carol")];
    let answer = disconnect(&b, "m%C3%BCller", &json!({"role": "admin"}));
    assert_eq!((answer.status, answer.json()), (200, json!({"user_id": "m\u{fc}ller"})));
    for client in &mut theirs {
        assert_eq!(client.close_code(PATIENCE), Some(4003));
    }
    assert_silent(&a, &mut others);
    // A token stays valid.
    drop(a.client("m\u{fc}ller"));
}

fn only_an_administrator_may_and_only_while_the_store_is_there(binary: &Path) {
    let mut redis = RedisServer::start();
    let [a, _b] = nodes(binary, &redis);
    let mut alice = a.client("alice");
    assert_eq!(disconnect(&a, "alice", &json!({"role": "user"})).status, 403);
    assert_eq!(a.http("POST", "/api/users/alice/disconnect", &[], b"").status, 401);
    redis.stop();
    assert_eq!(disconnect(&a, "alice", &json!({"role": "admin"})).status, 503);
    assert_eq!(alice.try_next_text(std::time::Duration::from_millis(100)), None);
}

fn the_command_does_the_same(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut alice = gateway.client("alice/1");
    let url = format!("http://{}", gateway.addr());
    let mut command = clean_command(binary);
    let output = run(command.args(["disconnect", "--user", "alice/1", "--url", &url, "--jwt-secret", SECRET]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"user_id\":\"alice/1\"}\n");
    assert_eq!(alice.close_code(PATIENCE), Some(4003));
}
