//! What arrives on the port, byte by byte: handshakes good and bad, plain HTTP beside them, and frames no library would send.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::raw::{
    CLOSE, CONTINUATION, FINAL, PING, PONG, RawClient, TEXT, get_request, masked_frame, upgrade_request,
};
use roomcast_tests::real::setup::{SECRET, Setup};
use serde_json::{Value, json};

gateway_tests!(
    a_first_frame_together_with_the_request_is_served,
    a_handshake_in_single_bytes_is_served,
    another_version_of_websocket_is_answered_with_426,
    a_broken_handshake_is_answered_with_400,
    an_unknown_path_is_answered_with_404,
    http_connections_are_kept_alive,
    an_upgrade_may_follow_plain_http_on_one_connection,
    what_is_not_http_is_refused,
    a_head_without_end_is_refused,
    a_fragmented_message_is_put_together,
    a_ping_is_answered_with_its_payload,
    frames_against_the_rules_close_with_the_right_code,
    a_close_is_answered_with_its_code,
);

const SUBSCRIBE: &[u8] = br#"{"type":"subscribe","room":"project:1"}"#;

fn a_first_frame_together_with_the_request_is_served(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = RawClient::connect(gateway.addr());
    let frames = [masked_frame(FINAL | TEXT, SUBSCRIBE), masked_frame(FINAL | TEXT, br#"{"type":"ping"}"#)].concat();
    client.send(&[upgrade_request(&path_with_token(), &[]), frames].concat());
    assert_eq!(client.response().status, 101);
    let kind = |text: String| serde_json::from_str::<Value>(&text).expect("a frame is JSON")["type"].take();
    assert_eq!(kind(client.text()), "auth_success");
    // A room that is new may be joined a moment later than a pong is sent.
    let mut kinds = [kind(client.text()), kind(client.text())];
    kinds.sort_unstable_by_key(Value::to_string);
    assert_eq!(kinds, ["pong", "subscribed"]);
}

fn a_handshake_in_single_bytes_is_served(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = RawClient::connect(gateway.addr());
    let bytes = [upgrade_request(&path_with_token(), &[]), masked_frame(FINAL | TEXT, SUBSCRIBE)].concat();
    bytes.chunks(1).for_each(|byte| client.send(byte));
    assert_eq!(client.response().status, 101);
    assert!(client.text().contains("auth_success"));
    assert!(client.text().contains("subscribed"));
}

fn another_version_of_websocket_is_answered_with_426(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), key];
    for version in [None, Some("8"), Some("12"), Some("nonsense"), Some("13, 8")] {
        let mut client = RawClient::connect(gateway.addr());
        let version = version.map(|version| ("sec-websocket-version", version));
        client.send(&get_request("/ws", &[&upgrade[..], version.as_slice()].concat()));
        let answer = client.response();
        assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")), "{version:?}");
        assert!(client.is_closed(PATIENCE));
    }
}

fn a_broken_handshake_is_answered_with_400(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let proper = String::from_utf8(upgrade_request("/ws", &[])).expect("a request is text");
    for (part, broken) in [
        ("GET ", "POST "),
        ("HTTP/1.1", "HTTP/1.0"),
        ("host: gateway.example\r\n", ""),
        ("host: gateway.example\r\n", "host: a\r\nhost: b\r\n"),
        ("connection: Upgrade", "connection: close"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "too short"),
        ("sec-websocket-key", "x-key"),
    ] {
        assert!(proper.contains(part), "{part:?} is in the request");
        let mut client = RawClient::connect(gateway.addr());
        client.send(proper.replacen(part, broken, 1).as_bytes());
        let answer = client.response();
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("bad_request")), "{broken:?}");
        assert!(client.is_closed(PATIENCE));
    }
}

fn an_unknown_path_is_answered_with_404(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for path in ["/nowhere", "/ws/", "/WS", "/ws/tasks/1"] {
        let mut client = RawClient::connect(gateway.addr());
        client.send(&upgrade_request(path, &[]));
        let answer = client.response();
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("not_found")), "{path}");
        let answer = gateway.http("GET", path, &[], b"");
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
    assert_eq!(gateway.metric("roomcast_connections_refused_total"), 4);
}

fn http_connections_are_kept_alive(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = RawClient::connect(gateway.addr());
    let health = get_request("/healthz", &[]);
    for _ in 0..3 {
        client.send(&health);
        assert_eq!(client.response().status, 200);
    }
    // Two at once, and one in pieces.
    client.send(&[health.clone(), get_request("/nowhere", &[])].concat());
    assert_eq!((client.response().status, client.response().status), (200, 404));
    health.chunks(5).for_each(|piece| client.send(piece));
    assert_eq!(client.response().status, 200);
    client.send(&get_request("/healthz", &[("connection", "close")]));
    assert_eq!(client.response().status, 200);
    assert!(client.is_closed(PATIENCE));
}

/// Reverse proxies keep connections to the gateway open and use them for whatever comes next.
fn an_upgrade_may_follow_plain_http_on_one_connection(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let (health, upgrade) = (get_request("/healthz", &[]), upgrade_request(&path_with_token(), &[]));
    let frame = masked_frame(FINAL | TEXT, SUBSCRIBE);
    let at_once = vec![[&health[..], &upgrade, &frame].concat()];
    for pieces in [vec![health, upgrade, frame], at_once] {
        let mut client = RawClient::connect(gateway.addr());
        let mut pieces = pieces.iter();
        pieces.next().into_iter().for_each(|first| client.send(first));
        assert_eq!(client.response().status, 200);
        pieces.for_each(|piece| client.send(piece));
        assert_eq!(client.response().status, 101);
        assert!(client.text().contains("auth_success"));
        assert!(client.text().contains("subscribed"));
    }
    // What a shard refuses is refused here as well.
    let mut client = RawClient::connect(gateway.addr());
    client.send(&get_request("/healthz", &[]));
    assert_eq!(client.response().status, 200);
    client.send(&upgrade_request("/nowhere", &[]));
    assert_eq!(client.response().status, 404);
}

fn what_is_not_http_is_refused(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"nonsense\r\n\r\n", b"PING\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let mut client = RawClient::connect(gateway.addr());
        client.send(bytes);
        assert_eq!(client.response().status, 400, "{:?}", String::from_utf8_lossy(bytes));
        assert!(client.is_closed(PATIENCE));
    }
}

fn a_head_without_end_is_refused(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = RawClient::connect(gateway.addr());
    client.send(format!("GET /ws HTTP/1.1\r\ncookie: {}", "x".repeat(16 * 1024)).as_bytes());
    assert_eq!(client.response().status, 431);
    assert!(client.is_closed(PATIENCE));
}

fn a_fragmented_message_is_put_together(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = authenticated(&gateway);
    let (first, rest) = br#"{"type":"ping","message_id":"fragments"}"#.split_at(9);
    let (second, third) = rest.split_at(1);
    client.send(&masked_frame(TEXT, first));
    client.send(&masked_frame(CONTINUATION, second));
    // A control frame may come in between.
    client.send(&masked_frame(FINAL | PING, b"between"));
    client.send(&masked_frame(CONTINUATION, b""));
    let pong = client.frame().expect("the connection is open");
    assert_eq!((pong.first, &pong.payload[..]), (FINAL | PONG, &b"between"[..]));
    client.send(&masked_frame(FINAL | CONTINUATION, third));
    let frame: Value = serde_json::from_str(&client.text()).expect("a frame is JSON");
    assert_eq!((&frame["type"], &frame["reply_to"]), (&json!("pong"), &json!("fragments")));

    // The limit holds for the whole message.
    client.send(&masked_frame(TEXT, &[b' '; 300]));
    client.send(&masked_frame(FINAL | CONTINUATION, &[b' '; 300]));
    expect_close(&mut client, Some(1009));
}

fn a_ping_is_answered_with_its_payload(binary: &Path) {
    let gateway = Setup::new(binary).start();
    let mut client = authenticated(&gateway);
    for payload in [&b""[..], b"\x00\xff", &[b'x'; 125]] {
        client.send(&masked_frame(FINAL | PING, payload));
        let pong = client.frame().expect("the connection is open");
        assert_eq!((pong.first, &pong.payload[..]), (FINAL | PONG, payload));
    }
    // A pong nobody asked for is ignored.
    client.send(&masked_frame(FINAL | PONG, b"unasked"));
    client.send(&masked_frame(FINAL | TEXT, br#"{"type":"ping"}"#));
    assert!(client.text().contains("pong"));
}

fn frames_against_the_rules_close_with_the_right_code(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for (what, bytes, code) in [
        ("an unmasked frame", b"\x81\x02{}".to_vec(), 1002),
        ("a reserved bit", masked_frame(FINAL | 0x40 | TEXT, b"{}"), 1002),
        ("a reserved opcode", masked_frame(FINAL | 3, b""), 1002),
        ("a fragmented ping", masked_frame(PING, b""), 1002),
        ("a long ping", masked_frame(FINAL | PING, &[0; 126]), 1002),
        ("a continuation of nothing", masked_frame(FINAL | CONTINUATION, b"x"), 1002),
        ("a close code that is none", masked_frame(FINAL | CLOSE, &1005_u16.to_be_bytes()), 1002),
        ("a close code cut in half", masked_frame(FINAL | CLOSE, b"\x03"), 1002),
        ("text that is not UTF-8", masked_frame(FINAL | TEXT, b"\"\xff\""), 1007),
    ] {
        let mut client = authenticated(&gateway);
        client.send(&bytes);
        let close = client.frame().unwrap_or_else(|| panic!("{what}: cut without a close frame"));
        assert_eq!((close.first, close_code(&close.payload)), (FINAL | CLOSE, Some(code)), "{what}");
    }
}

fn a_close_is_answered_with_its_code(binary: &Path) {
    let gateway = Setup::new(binary).start();
    for code in [None, Some(1000_u16), Some(1001), Some(3000), Some(4999)] {
        let mut client = authenticated(&gateway);
        let payload = code.map(u16::to_be_bytes);
        client.send(&masked_frame(FINAL | CLOSE, payload.as_ref().map_or(&[], |code| &code[..])));
        expect_close(&mut client, code);
    }
}

/// The next frame is a close with this code, and nothing comes after it.
fn expect_close(client: &mut RawClient, code: Option<u16>) {
    let close = client.frame().expect("a close frame comes");
    assert_eq!((close.first, close_code(&close.payload)), (FINAL | CLOSE, code));
    assert!(client.is_closed(PATIENCE), "{code:?}");
}

fn close_code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}

fn authenticated(gateway: &roomcast_tests::real::gateway::Gateway) -> RawClient {
    let mut client = RawClient::upgraded(gateway.addr(), &path_with_token(), &[]);
    assert!(client.text().contains("auth_success"));
    client
}

fn path_with_token() -> String {
    format!("/ws?token={}", access_token(SECRET, "alice", &json!({})))
}
