//! Tokens: where they may stand, how bad ones are refused, and what happens when one expires on an open connection.

use std::path::Path;

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token, token, unix_time};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::raw::{CLOSE, FINAL, RawClient, masked_frame, upgrade_request};
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

gateway_tests!(
    a_token_is_found_wherever_it_stands,
    the_subprotocol_that_carries_the_token_is_echoed,
    a_token_in_the_first_frame_authenticates,
    a_long_token_fits_into_the_first_frame,
    a_bad_token_in_the_handshake_is_explained_after_the_upgrade,
    a_bad_token_in_a_frame_is_explained_and_closes,
    the_claims_of_all_systems_name_the_user,
    audience_and_issuer_are_demanded_where_configured,
    an_expiring_token_is_announced_and_its_end_closes,
    a_renewed_token_keeps_the_connection,
    a_renewed_token_that_allows_less_costs_rooms,
    a_token_of_another_user_renews_nothing,
    refused_connections_leave_no_socket_behind,
);

fn a_token_is_found_wherever_it_stands(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let token = access_token(SECRET, "alice", &json!({}));
    for path in ["/ws", "/ws/connect", "/ws/tasks", "/ws?client=1"] {
        for credential in [Credential::Header(&token), Credential::Query(&token), Credential::Protocol(&token)] {
            let mut client = JsonClient::connect(gateway.addr(), path, credential);
            assert_eq!(client.expect_type("auth_success")["data"]["user_id"], "alice", "{path} {credential:?}");
        }
    }
    JsonClient::connect(gateway.addr(), "/ws", Credential::None).expect_type("auth_required");
    // The header wins over the query: the good one is used.
    let path = "/ws?token=nonsense";
    JsonClient::connect(gateway.addr(), path, Credential::Header(&token)).expect_type("auth_success");
}

fn the_subprotocol_that_carries_the_token_is_echoed(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let token = access_token(SECRET, "alice", &json!({}));
    for name in ["access_token.", "auth-"] {
        let carrier = format!("{name}{token}");
        let mut client = RawClient::connect(gateway.addr());
        client.send(&upgrade_request("/ws", &[("sec-websocket-protocol", &format!("chat, {carrier}"))]));
        let answer = client.response();
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some(&*carrier)));
        assert!(client.text().contains("auth_success"));
    }
    // One that is not understood is not chosen.
    let mut client = RawClient::connect(gateway.addr());
    client.send(&upgrade_request("/ws", &[("sec-websocket-protocol", "chat")]));
    let answer = client.response();
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None));
}

fn a_token_in_the_first_frame_authenticates(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let token = access_token(SECRET, "alice", &json!({}));
    // System B's own clients answer `auth_required` with a frame of the same type.
    for kind in ["auth", "auth_required"] {
        let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
        client.expect_type("auth_required");
        client.send(&json!({"type": kind, "message_id": "m-1", "data": {"token": token}}));
        let success = client.expect_type("auth_success");
        assert_eq!((&success["data"]["user_id"], &success["reply_to"]), (&json!("alice"), &json!("m-1")));
        assert!(success["data"]["message"].is_string());
        client.subscribe("project:1");
    }
    // Where no token is demanded, one may still come later.
    let mut client = JsonClient::connect(gateway.addr(), "/ws/tasks", Credential::None);
    client.send(&json!({"type": "auth", "data": {"token": token}}));
    client.expect_type("auth_success");
    client.subscribe("project:1");
}

fn a_long_token_fits_into_the_first_frame(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let token = access_token(SECRET, "alice", &json!({"padding": "x".repeat(5000)}));
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
    client.expect_type("auth_required");
    client.send(&json!({"type": "auth", "data": {"token": token}}));
    client.expect_type("auth_success");
    // And into the handshake.
    JsonClient::connect(gateway.addr(), "/ws", Credential::Query(&token)).expect_type("auth_success");
}

/// Tokens that are refused, and the code of the refusal.
fn bad_tokens() -> Vec<(String, &'static str)> {
    let user = |more: Value| access_token(SECRET, "alice", &more);
    let good = user(json!({}));
    let (head, signature) = good.rsplit_once('.').expect("a token has three parts");
    vec![
        ("nonsense".into(), "token_invalid"),
        (access_token("another secret", "alice", &json!({})), "token_invalid"),
        (format!("{head}.{}", signature.chars().rev().collect::<String>()), "token_invalid"),
        ("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSJ9.".into(), "token_invalid"),
        (user(json!({"exp": unix_time() - 60})), "token_expired"),
        (user(json!({"nbf": unix_time() + 60})), "token_not_yet_valid"),
        (user(json!({"token_type": "refresh"})), "token_type"),
        (token(SECRET, &json!({"exp": unix_time() + 60})), "token_claims"),
    ]
}

fn a_bad_token_in_the_handshake_is_explained_after_the_upgrade(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for path in ["/ws", "/ws/tasks"] {
        for (token, code) in bad_tokens() {
            for credential in [Credential::Header(&token), Credential::Query(&token), Credential::Protocol(&token)] {
                let client = JsonClient::connect(gateway.addr(), path, credential);
                expect_refusal(client, code);
            }
        }
    }
}

fn a_bad_token_in_a_frame_is_explained_and_closes(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for (token, code) in bad_tokens() {
        let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::None);
        client.expect_type("auth_required");
        client.send(&json!({"type": "auth", "data": {"token": token}}));
        expect_refusal(client, code);
    }
    assert_eq!(gateway.metric("roomcast_auth_failures_total"), bad_tokens().len() as u64);
}

fn expect_refusal(mut client: JsonClient, code: &str) {
    let refusal = client.expect_type("auth_failed");
    assert_eq!(refusal["data"]["code"], code);
    assert!(refusal["data"]["message"].is_string());
    assert_eq!(client.close_code(PATIENCE), Some(4001), "{code}");
}

fn the_claims_of_all_systems_name_the_user(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let exp = unix_time() + 60;
    for (claims, user) in [
        (json!({"sub": "s", "user_id": "u", "id": "i", "exp": exp}), "s"),
        (json!({"user_id": 42, "exp": exp}), "42"),
        (json!({"id": "i", "type": "access", "exp": exp}), "i"),
        (json!({"sub": "for ever"}), "for ever"),
    ] {
        let token = token(SECRET, &claims);
        let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
        assert_eq!(client.expect_type("auth_success")["data"]["user_id"], user, "{claims}");
    }
}

fn audience_and_issuer_are_demanded_where_configured(binary: &Path) {
    let gateway = Setup::new(binary).config("[auth]\naudience = \"roomcast\"\nissuer = \"https://login.example\"\n").start();
    for (more, accepted) in [
        (json!({}), false),
        (json!({"aud": "roomcast"}), false),
        (json!({"aud": "other", "iss": "https://login.example"}), false),
        (json!({"aud": "roomcast", "iss": "https://other.example"}), false),
        (json!({"aud": "roomcast", "iss": "https://login.example"}), true),
        (json!({"aud": ["other", "roomcast"], "iss": "https://login.example"}), true),
    ] {
        let token = access_token(SECRET, "alice", &more);
        let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
        let expected = if accepted { "auth_success" } else { "auth_failed" };
        assert_eq!(client.next(PATIENCE)["type"], expected, "{more}");
    }
}

fn an_expiring_token_is_announced_and_its_end_closes(binary: &Path) {
    let gateway = exact(binary);
    let exp = unix_time() + 2;
    let mut client = short_lived(&gateway, "alice", exp);
    let notice = client.expect_type("auth_required");
    assert_eq!(notice["data"]["reason"], "token_expiring");
    let left = notice["data"]["expires_in_ms"].as_u64().unwrap_or_else(|| panic!("no time in {notice}"));
    assert!((1..=2000).contains(&left), "{left} ms");
    // Until then it is served.
    client.subscribe("project:1");
    assert_eq!(client.close_code(PATIENCE), Some(4001));
    assert!(unix_time() >= exp, "closed before the end");
}

fn a_renewed_token_keeps_the_connection(binary: &Path) {
    let gateway = exact(binary);
    let exp = unix_time() + 2;
    let mut renewed = short_lived(&gateway, "alice", exp);
    let mut other = short_lived(&gateway, "bob", exp);
    renewed.expect_type("auth_required");
    renewed.subscribe("project:1");
    renewed.send(&json!({"type": "auth", "message_id": "renewal", "data": {"token": access_token(SECRET, "alice", &json!({}))}}));
    assert_eq!(renewed.expect_type("auth_success")["reply_to"], "renewal");

    // The other one's end proves that the time is over.
    assert_eq!(other.close_code(PATIENCE), Some(4001));
    gateway.publish("project:1", "note", &json!(1));
    renewed.expect_type("note");
    renewed.send(&json!({"type": "ping"}));
    renewed.expect_type("pong");
}

fn a_renewed_token_that_allows_less_costs_rooms(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = gateway.client("alice");
    client.subscribe("project:1");
    client.subscribe("task:1");
    let less = access_token(SECRET, "alice", &json!({"rooms": ["project:*"]}));
    client.send(&json!({"type": "auth", "data": {"token": less}}));
    client.expect_type("auth_success");
    client.subscribe("project:2");
    client.send(&json!({"type": "subscribe", "room": "workspace:1"}));
    assert_eq!(client.expect_type("error")["data"]["code"], "forbidden");

    let mut client = gateway.member("alice", "workspace:1");
    client.send(&json!({"type": "auth", "data": {"token": less}}));
    client.expect_type("auth_success");
    let left = client.expect_type("unsubscribed");
    assert_eq!(left["data"], json!({"room": "workspace:1", "reason": "forbidden"}));
    gateway.publish("workspace:1", "note", &json!(1));
    gateway.publish("user:alice", "direct", &json!(1));
    client.expect_type("direct");
}

fn a_token_of_another_user_renews_nothing(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = gateway.client("alice");
    client.send(&json!({"type": "auth", "data": {"token": access_token(SECRET, "bob", &json!({}))}}));
    expect_refusal(client, "token_user");
    let gone = poll_until(PATIENCE, || (gateway.metric("roomcast_connections") == 0).then_some(()));
    assert!(gone.is_some(), "the connection is still counted");
}

/// A gateway without tolerance for clocks that differ, so that tokens end when they say.
fn exact(binary: &Path) -> Gateway {
    Setup::new(binary).config("[auth]\nleeway = \"0s\"\n").start()
}

fn short_lived(gateway: &Gateway, user: &str, exp: u64) -> JsonClient {
    let token = access_token(SECRET, user, &json!({"exp": exp}));
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
    client.expect_type("auth_success");
    client
}

/// Closes and handshakes that arrive in one moment: the place of a connection that is gone is taken again at once, and its
/// socket must go all the same.
fn refused_connections_leave_no_socket_behind(binary: &Path) {
    let mut gateway = Setup::new(binary).start();
    let refused = || RawClient::upgraded(gateway.addr(), "/ws?token=nonsense", &[]);
    let mut closing: Vec<RawClient> = (0..50).map(|_| refused()).collect();
    for client in &mut closing {
        assert!(client.text().contains("auth_failed"));
        assert_eq!(client.frame().map(|frame| frame.first), Some(FINAL | CLOSE));
    }
    let mut fresh: Vec<RawClient> = closing.iter().map(|_| RawClient::connect(gateway.addr())).collect();
    // Sockets are accepted in their order, so those are all accepted when this is answered.
    assert_eq!(gateway.http("GET", "/healthz", &[], b"").status, 200);

    gateway.signal(Signal::SIGSTOP);
    for (closing, fresh) in closing.iter_mut().zip(&mut fresh) {
        closing.send(&masked_frame(FINAL | CLOSE, &4001_u16.to_be_bytes()));
        fresh.send(&upgrade_request("/ws", &[]));
    }
    gateway.signal(Signal::SIGCONT);
    for client in &mut fresh {
        assert_eq!(client.response().status, 101);
    }
    for client in &mut closing {
        assert!(client.is_closed(PATIENCE), "the socket of a connection that is gone stays open");
    }
}
