//! Without Redis: one gateway with its embedded store serves, publishes, tells how it is, and stops in good order.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token, raw_field};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::raw::{CLOSE, FINAL, RawClient};
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

gateway_tests!(
    the_start_shows_the_console_with_a_working_token,
    a_publish_over_http_reaches_the_members_byte_for_byte,
    only_an_administrator_publishes_over_http,
    a_publish_that_cannot_be_understood_is_refused_with_the_reason,
    members_on_every_shard_get_a_message_once_and_in_order,
    a_broadcast_reaches_everybody,
    a_message_to_a_user_reaches_all_of_their_connections_and_nobody_else,
    an_administrator_publishes_over_a_websocket,
    health_and_readiness_are_told,
    metrics_are_in_the_prometheus_format,
    signals_stop_it_in_good_order,
    a_client_that_does_not_answer_cannot_hold_up_the_stop,
    a_second_signal_stops_it_at_once,
);

fn the_start_shows_the_console_with_a_working_token(binary: &Path) {
    let gateway = Gateway::start(binary, &["serve"], &[]);
    let line = gateway.wait_for_log("#token=", PATIENCE);
    let (url, token) = line.trim().split_once("#token=").expect("the line has a token");
    let address = url.strip_prefix("console").expect("the line says what it is").trim();
    assert_eq!(address, format!("http://{}/", gateway.addr()));

    let page = gateway.http("GET", "/", &[], b"");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().starts_with("<!doctype html>"));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));

    // The token is good for all that the page does: a connection, any room, and publishing.
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Protocol(token));
    client.expect_type("auth_success");
    client.subscribe("workspace:test-workspace");
    let body = br#"{"room":"workspace:test-workspace","type":"hello","data":{}}"#;
    let answer = gateway.http("POST", "/api/publish", &[("authorization", &format!("Bearer {token}"))], body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    client.expect_type("hello");

    // Another start has another secret: the token opens nothing there.
    let other = Gateway::start(binary, &["serve"], &[]);
    let mut stranger = JsonClient::connect(other.addr(), "/ws", Credential::Protocol(token));
    assert_eq!(stranger.expect_type("auth_failed")["data"]["code"], "token_invalid");
}

fn a_publish_over_http_reaches_the_members_byte_for_byte(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let (mut member, mut other) = (gateway.member("alice", "project:1"), gateway.member("bob", "project:2"));
    let data = "{\"z\": 1.0e+05,\t\"n\": 123456789012345678901234567890, \"a\":null , \"text\":\"\\u00e9\u{1F980}\"}";
    let body = format!("{{ \"data\" : {data}, \"type\":\"odd\\\"type\", \"room\":\"project:1\" , \"message_id\":\"m-1\"}}");
    let bearer = format!("bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
    let answer = gateway.http("POST", "/api/publish", &[("authorization", &bearer)], body.as_bytes());
    // A room that remembers tells the publisher, too, where the message stands.
    let mut told = answer.json();
    let position = told["position"].take();
    assert_eq!((answer.status, told), (200, json!({"message_id": "m-1", "position": null})));

    let text = member.next_text(PATIENCE);
    assert_eq!(raw_field(&text, "data"), data);
    let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
    assert_eq!((&frame["type"], &frame["message_id"], &frame["room"]), (&json!("odd\"type"), &json!("m-1"), &json!("project:1")));
    assert_eq!(frame["position"], position);
    gateway.publish("project:2", "next", &json!(1));
    other.expect_type("next");
}

fn only_an_administrator_publishes_over_http(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let publish = |authorization: Option<String>| {
        let header = authorization.as_deref().map(|value| ("authorization", value));
        let answer = gateway.http("POST", "/api/publish", header.as_slice(), br#"{"room":"r","type":"t","data":1}"#);
        (answer.status, answer.json()["error"]["code"].as_str().map(str::to_owned))
    };
    let bearer = |user: &Value, secret: &str| Some(format!("Bearer {}", access_token(secret, "u", user)));
    let refused = |status, code: &str| (status, Some(code.to_owned()));
    assert_eq!(publish(None), refused(401, "unauthorized"));
    assert_eq!(publish(Some("Basic dTpw".into())), refused(401, "unauthorized"));
    assert_eq!(publish(Some("Bearer nonsense".into())), refused(401, "token_invalid"));
    assert_eq!(publish(bearer(&json!({"role": "admin"}), "another secret")), refused(401, "token_invalid"));
    assert_eq!(publish(bearer(&json!({"role": "admin", "exp": 1}), SECRET)), refused(401, "token_expired"));
    assert_eq!(publish(bearer(&json!({"role": "user"}), SECRET)), refused(403, "forbidden"));
    assert_eq!(publish(bearer(&json!({"role": "admin"}), SECRET)).0, 200);
}

fn a_publish_that_cannot_be_understood_is_refused_with_the_reason(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
    let post = |body: &[u8]| gateway.http("POST", "/api/publish", &[("authorization", &bearer)], body);
    for body in [
        "",
        "nonsense",
        "[]",
        r#"{"room":"r","type":"t"}"#,
        r#"{"room":"r","data":1}"#,
        r#"{"type":"t","data":1}"#,
        r#"{"room":"","type":"t","data":1}"#,
        r#"{"room":"r","user_id":"7","type":"t","data":1}"#,
        r#"{"room":"r","type":"t","data":{}"#,
    ] {
        let answer = post(body.as_bytes());
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("invalid_message")), "{body}");
    }
    let long = format!(r#"{{"room":"r","type":"t","data":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(post(long.as_bytes()).status, 413);
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
    let get = gateway.http("GET", "/api/publish", &[("authorization", &bearer)], b"");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
}

fn members_on_every_shard_get_a_message_once_and_in_order(binary: &Path) {
    let gateway = Setup::new(binary).shards(2).start();
    // Connections are dealt to the shards in turn, so these are on both.
    let mut members: Vec<JsonClient> = (0..6).map(|user| gateway.member(&user.to_string(), "workspace:1")).collect();
    for number in 0..50 {
        gateway.publish("workspace:1", "count", &json!(number));
    }
    for member in &mut members {
        for number in 0..50 {
            assert_eq!(member.expect_type("count")["data"], number);
        }
    }
    assert_eq!(gateway.metric("roomcast_deliveries_total"), 6 * 50);
}

fn a_broadcast_reaches_everybody(binary: &Path) {
    let gateway = Setup::new(binary).shards(2).start();
    let mut clients: Vec<JsonClient> = (0..3).map(|user| gateway.client(&user.to_string())).collect();
    clients.push(gateway.member("member", "project:1"));
    // Anybody is everybody too, where a route lets them in without a token.
    let mut anonymous = JsonClient::connect(gateway.addr(), "/ws/tasks", Credential::None);
    anonymous.send(&json!({"type": "ping"}));
    anonymous.expect_type("pong");
    clients.push(anonymous);

    let answer = gateway.post(&json!({"broadcast": true, "type": "maintenance", "data": {"at": "noon"}}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    for client in &mut clients {
        assert_eq!(client.expect_type("maintenance")["data"], json!({"at": "noon"}));
    }
}

fn a_message_to_a_user_reaches_all_of_their_connections_and_nobody_else(binary: &Path) {
    let gateway = Setup::new(binary).shards(2).start();
    let mut sevens = [gateway.client("7"), gateway.client("7")];
    let mut seventy = gateway.client("70");
    // Everybody's own room is entered before anything is published.
    for client in &mut sevens {
        let is_in = |rooms: &serde_json::Value| rooms["data"]["rooms"].as_array().is_some_and(|rooms| !rooms.is_empty());
        let entered = poll_until(PATIENCE, || {
            client.send(&json!({"type": "rooms"}));
            is_in(&client.expect_type("rooms")).then_some(())
        });
        assert!(entered.is_some(), "a user's own room is entered");
    }
    for (target, kind) in [(json!({"user_id": "7"}), "by user_id"), (json!({"room": "user:7"}), "by room")] {
        let mut body = target;
        body["type"] = json!(kind);
        body["data"] = json!(null);
        let answer = gateway.post(&body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        sevens.iter_mut().for_each(|client| drop(client.expect_type(kind)));
    }
    gateway.publish("user:70", "to the other", &json!(null));
    seventy.expect_type("to the other");
}

fn an_administrator_publishes_over_a_websocket(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut member = gateway.member("alice", "project:1");
    let token = access_token(SECRET, "operator", &json!({"role": "admin"}));
    let mut admin = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
    admin.expect_type("auth_success");
    let publish =
        r#"{"type":"publish","message_id":"request-1","data":{"room":"project:1","type":"note","data":{"b": 1.0,  "a":null}}}"#;
    admin.send_text(publish);
    let published = admin.expect_type("published");
    assert_eq!(published["reply_to"], "request-1");
    let text = member.next_text(PATIENCE);
    assert_eq!(raw_field(&text, "data"), r#"{"b": 1.0,  "a":null}"#);
    assert_eq!(raw_field(&text, "message_id"), published["data"]["message_id"].to_string());

    member.send_text(publish);
    assert_eq!(member.expect_type("error")["data"]["code"], "forbidden");
}

fn health_and_readiness_are_told(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for path in ["/healthz", "/readyz"] {
        let answer = gateway.http("GET", path, &[], b"");
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let head = gateway.http("HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(gateway.http("DELETE", path, &[], b"").status, 405, "{path}");
    }
}

fn metrics_are_in_the_prometheus_format(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut member = gateway.member("alice", "project:1");
    gateway.publish("project:1", "note", &json!(1));
    member.expect_type("note");

    let answer = gateway.http("GET", "/metrics", &[], b"");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let known = match words[..] {
            ["#", "HELP", name, first, ..] => name.starts_with("roomcast_") && !first.is_empty(),
            ["#", "TYPE", name, "counter"] => name.ends_with("_total"),
            ["#", "TYPE", name, "gauge"] => !name.ends_with("_total"),
            [name, value] => name.starts_with("roomcast_") && value.parse::<u64>().is_ok(),
            _ => false,
        };
        assert!(known, "not a line of the format: {line:?}");
    }
    for (name, value) in [
        ("roomcast_connections", 1),
        ("roomcast_published_total", 1),
        ("roomcast_deliveries_total", 1),
        ("roomcast_messages_received_total", 1),
    ] {
        assert_eq!(gateway.metric(name), value, "{name}");
    }
    member.close();
    let gone = poll_until(PATIENCE, || (gateway.metric("roomcast_connections") == 0).then_some(()));
    assert!(gone.is_some(), "the closed connection is still counted");
    assert_eq!((gateway.metric("roomcast_rooms"), gateway.metric("roomcast_memberships")), (0, 0));
}

fn signals_stop_it_in_good_order(binary: &Path) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut gateway = Setup::new(binary).shards(2).start();
        let mut clients = [gateway.member("alice", "project:1"), gateway.client("bob"), gateway.client("carol")];
        // One that is not authenticated, one that has not even asked for anything, and one in the middle of HTTP.
        let mut unknown = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
        let mut silent = RawClient::connect(gateway.addr());
        let mut idle = RawClient::connect(gateway.addr());
        idle.send(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(idle.response().status, 200);

        gateway.signal(signal);
        for client in &mut clients {
            assert_eq!(client.close_code(PATIENCE), Some(1001), "after {signal}");
        }
        assert_eq!(unknown.close_code(PATIENCE), Some(1001), "after {signal}");
        assert_eq!(stopped(&mut gateway).code(), Some(0), "after {signal}");
        assert!(silent.is_closed(PATIENCE) && idle.is_closed(PATIENCE));
    }
}

fn a_client_that_does_not_answer_cannot_hold_up_the_stop(binary: &Path) {
    let mut gateway = Setup::new(binary).start();
    let begin = Instant::now();
    let mut client = terminated_with_a_client_that_does_not_answer(&mut gateway);
    assert_eq!(stopped(&mut gateway).code(), Some(0));
    // It has the time that every client has to answer a close, and no more.
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    assert!(client.is_closed(PATIENCE));
}

fn a_second_signal_stops_it_at_once(binary: &Path) {
    let mut gateway = Setup::new(binary).start();
    let mut client = terminated_with_a_client_that_does_not_answer(&mut gateway);
    gateway.signal(Signal::SIGINT);
    assert_eq!(stopped(&mut gateway).code(), Some(128 + 2), "by SIGINT");
    assert!(gateway.tail().contains("interrupted again, stopping at once"), "{}", gateway.tail());
    assert!(client.is_closed(PATIENCE));
}

/// Sends SIGTERM to a gateway whose client reads the close frame and never answers it.
fn terminated_with_a_client_that_does_not_answer(gateway: &mut Gateway) -> RawClient {
    let token = access_token(SECRET, "alice", &json!({}));
    let mut client = RawClient::upgraded(gateway.addr(), &format!("/ws?token={token}"), &[]);
    assert!(client.text().contains("auth_success"));
    gateway.signal(Signal::SIGTERM);
    assert!(client.text().contains("reconnect"));
    let close = client.frame().expect("a close frame comes");
    assert_eq!((close.first, &close.payload[..2]), (FINAL | CLOSE, &1001_u16.to_be_bytes()[..]));
    client
}

fn stopped(gateway: &mut Gateway) -> ExitStatus {
    let status = gateway.wait(PATIENCE);
    gateway.wait_for_end_of_output(PATIENCE);
    assert!(!gateway.tail().contains("panicked"), "{}", gateway.tail());
    status
}
