//! Tokens that are revoked, with both binaries on real Redis: on every node, in both dialects, and for nodes that start later.

use std::path::Path;
use std::time::Duration;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token, unix_time};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::Response;
use roomcast_tests::real::process::run;
use roomcast_tests::real::raw::{FINAL, RawClient, TEXT, masked_frame};
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup, clean_command};
use roomcast_tests::real::traffic::assert_silent;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

gateway_tests!(
    one_token_is_revoked_on_every_node_and_for_those_that_start_later,
    the_tokens_of_a_user_are_revoked_but_not_those_that_are_issued_later,
    without_the_store_it_holds_here_at_once_and_elsewhere_when_it_is_back,
    the_command_does_the_same,
    administrators_can_be_revoked_as_well,
);

fn node(binary: &Path, redis: &RedisServer, name: &str) -> Gateway {
    Setup::new(binary).shards(2).option("--redis", &redis.url()).option("--node", name).start()
}

fn revoke(gateway: &Gateway, path: &str) -> Response {
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"scope": "roomcast:users"})));
    gateway.http("POST", path, &[("authorization", &bearer)], b"")
}

fn connect(gateway: &Gateway, token: &str) -> JsonClient {
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(token));
    client.expect_type("auth_success");
    client
}

fn is_refused(gateway: &Gateway, token: &str) -> bool {
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(token));
    match client.next(PATIENCE) {
        frame if frame["type"] == "auth_failed" => {
            assert_eq!(frame["data"]["code"], "token_revoked");
            true
        }
        frame => {
            assert_eq!(frame["type"], "auth_success");
            false
        }
    }
}

fn one_token_is_revoked_on_every_node_and_for_those_that_start_later(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = ["a", "b"].map(|name| node(binary, &redis, name));
    let token = |jti: &str| access_token(SECRET, "alice", &json!({ "jti": jti }));
    let (lost, kept) = (token("lost/1"), token("kept"));
    let mut theirs = [connect(&a, &lost), connect(&a, &lost), connect(&b, &lost)];
    let mut others = [connect(&a, &kept), connect(&b, &kept), b.client("bob")];
    let mut socket = RawClient::upgraded(b.addr(), "/socket.io/?EIO=4&transport=websocket", &[]);
    assert!(socket.text().starts_with('0'));
    socket.send(&masked_frame(FINAL | TEXT, format!("40{}", json!({ "token": lost })).as_bytes()));
    assert!(socket.text().starts_with("40"));
    assert!(socket.text().contains("connection_established"));

    let answer = revoke(&a, "/api/tokens/lost%2F1/revoke");
    let expected = json!({"connections": 4, "nodes": {"answered": 2, "asked": 2}});
    assert_eq!((answer.status, answer.json()), (200, expected));
    // From here on nothing is for them.
    a.publish("user:alice", "direct", &json!(1));
    for client in &mut theirs {
        assert_eq!(client.close_code(PATIENCE), Some(4001));
    }
    assert!(socket.text().contains("AUTH_REVOKED"));
    for client in &mut others[..2] {
        client.expect_type("direct");
    }
    assert_silent(&a, &mut others);
    assert!(is_refused(&a, &lost) && is_refused(&b, &lost) && !is_refused(&b, &kept));
    assert_eq!(a.metric("roomcast_revoked_connections_total") + b.metric("roomcast_revoked_connections_total"), 4);

    drop(b);
    let c = node(binary, &redis, "c");
    assert!(poll_until(PATIENCE, || is_refused(&c, &lost).then_some(())).is_some(), "a new node knows it");
}

fn the_tokens_of_a_user_are_revoked_but_not_those_that_are_issued_later(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = ["a", "b"].map(|name| node(binary, &redis, name));
    let mut old = [a.client("alice"), b.client("alice")];
    let mut bob = [a.client("bob")];
    assert_eq!(revoke(&b, "/api/users/alice/revoke").status, 200);
    for client in &mut old {
        assert_eq!(client.close_code(PATIENCE), Some(4001));
    }
    assert_silent(&a, &mut bob);
    let issued = |iat: u64| access_token(SECRET, "alice", &json!({ "iat": iat }));
    assert!(is_refused(&a, &issued(unix_time() - 5)));
    assert!(!is_refused(&a, &issued(unix_time() + 5)) && !is_refused(&b, &issued(unix_time() + 5)));
}

fn without_the_store_it_holds_here_at_once_and_elsewhere_when_it_is_back(binary: &Path) {
    let mut redis = RedisServer::start();
    let [mut a, mut b] = ["a", "b"].map(|name| node(binary, &redis, name));
    let token = access_token(SECRET, "alice", &json!({"jti": "lost"}));
    let (mut near, mut far) = (connect(&a, &token), connect(&b, &token));
    redis.stop();
    a.wait_unready(PATIENCE);
    b.wait_unready(PATIENCE);
    let answer = revoke(&a, "/api/tokens/lost/revoke");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("unavailable")));
    assert_eq!(near.close_code(PATIENCE), Some(4001));
    assert_eq!(far.try_next_text(Duration::from_millis(100)), None);
    redis.start_again();
    assert_eq!(far.close_code(PATIENCE), Some(4001));
}

fn the_command_does_the_same(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let url = format!("http://{}", gateway.addr());
    let token = access_token(SECRET, "alice/1", &json!({"jti": "t 1"}));
    for arguments in [["--token-id", "t 1"], ["--user", "alice/1"]] {
        // The moment of the first is over for the second.
        let fresh = access_token(SECRET, "alice/1", &json!({"jti": arguments[1], "iat": unix_time() - 1}));
        let mut alice = connect(&gateway, &fresh);
        let mut command = clean_command(binary);
        let output = run(command.args(["revoke", "--url", &url, "--jwt-secret", SECRET]).args(arguments));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        assert_eq!(printed, json!({"connections": 1, "nodes": {"answered": 1, "asked": 1}}));
        assert_eq!(alice.close_code(PATIENCE), Some(4001));
    }
    assert!(is_refused(&gateway, &token));
    let output = run(clean_command(binary).args(["revoke", "--url", &url, "--jwt-secret", SECRET]));
    assert!(!output.status.success(), "somebody has to be named");
}

fn administrators_can_be_revoked_as_well(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mallory = format!("Bearer {}", access_token(SECRET, "mallory", &json!({"role": "admin", "jti": "stolen"})));
    let rooms = || gateway.http("GET", "/api/rooms", &[("authorization", &mallory)], b"");
    assert_eq!(rooms().status, 200);
    assert_eq!(revoke(&gateway, "/api/tokens/stolen/revoke").status, 200);
    let answer = rooms();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("token_revoked")));
}
