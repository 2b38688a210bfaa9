//! The audit log: what it says of clients and operators, and that no secret is ever in a log.

use std::net::Ipv4Addr;
use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token, unix_time};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::http;
use roomcast_tests::real::packets::PacketSocket;
use roomcast_tests::real::poller::Poller;
use roomcast_tests::real::raw::{FINAL, RawClient, TEXT, get_request, masked_frame, upgrade_request};
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::session::Session;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};

gateway_tests!(
    denials_and_what_operators_do_are_told_by_default,
    each_connection_is_told_where_that_is_asked_for,
    every_line_says_from_where_a_client_comes,
    who_is_turned_away_behind_a_proxy_is_told_by_address,
    what_clients_choose_cannot_forge_a_line,
    no_secret_is_ever_logged,
);

const KEY: &str = "rck_0123456789abcdef0123456789abcdef";

fn config() -> String {
    format!("[[api.keys]]\nname = \"deploy\"\nkey = \"{KEY}\"\nscopes = [\"publish\"]\n")
}

/// A line of the audit log with these fields, which may not have been written yet.
fn wait_for_line(gateway: &Gateway, expected: &Value) -> Value {
    let expected = expected.as_object().expect("fields are an object");
    let fits = |line: &Value| expected.iter().all(|(name, value)| line["fields"][name] == *value);
    let found = poll_until(PATIENCE, || lines(gateway).into_iter().find(fits));
    found.unwrap_or_else(|| panic!("no line has {expected:?}:\n{}", gateway.tail()))
}

fn lines(gateway: &Gateway) -> Vec<Value> {
    let parsed = gateway.log_lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    parsed.filter(|line| line["target"] == "roomcast::audit").collect()
}

fn denials_and_what_operators_do_are_told_by_default(binary: &Path) {
    let gateway = Setup::new(binary)
        .option("--log-format", "json")
        .option("--origins", "https://app.example")
        .config(&format!("{}[limits]\nerror_budget = 3\n", config()))
        .start();
    let mut alice = gateway.client("alice");
    for (action, message) in [
        ("subscribe", json!({"type": "subscribe", "room": "user:bob"})),
        ("publish", json!({"type": "publish", "data": {"room": "project:1", "type": "t", "data": 1}})),
        ("presence", json!({"type": "presence", "data": {"room": "user:carol"}})),
        ("history", json!({"type": "history", "data": {"room": "user:dave"}})),
    ] {
        alice.send(&message);
        let line = wait_for_line(&gateway, &json!({"message": "denied", "action": action}));
        assert_eq!((&line["fields"]["user"], &line["level"]), (&json!("alice"), &json!("INFO")));
        assert!(line["fields"]["conn"].is_string() && line["fields"]["room"].is_string(), "{line}");
    }
    // The last of them was one error too many.
    assert_eq!(alice.close_code(PATIENCE), Some(4009));
    wait_for_line(&gateway, &json!({"message": "closed at a limit", "user": "alice", "code": 4009, "cause": "too many errors"}));

    JsonClient::connect(gateway.addr(), "/ws", Credential::Header("nonsense")).expect_type("auth_failed");
    wait_for_line(&gateway, &json!({"message": "authentication failed", "code": "token_invalid"}));
    let mut socket = PacketSocket::open(gateway.addr(), "/socket.io/");
    socket.say(r#"40/ws,{"token":"nonsense"}"#);
    assert!(socket.text().starts_with("44/ws,"));
    let failed = |line: &Value| line["fields"]["message"] == "authentication failed";
    assert!(poll_until(PATIENCE, || (lines(&gateway).iter().filter(|line| failed(line)).count() == 2).then_some(())).is_some());

    let evil = [("origin", "https://evil.example")];
    for path in ["/ws?token=hidden", "/socket.io/?EIO=4&transport=websocket", "/nowhere"] {
        let mut client = RawClient::connect(gateway.addr());
        client.send(&upgrade_request(path, &evil));
        let path = path.split('?').next().unwrap_or_default();
        let status = client.response().status;
        let line = wait_for_line(&gateway, &json!({"message": "connection refused", "path": path, "status": status}));
        assert_eq!(line["fields"]["origin"], "https://evil.example");
    }
    assert_eq!(gateway.http("GET", "/socket.io/?EIO=4&transport=polling", &evil, b"").status, 403);
    let refused = json!({"message": "connection refused", "path": "/socket.io/", "reason": "The origin is not allowed"});
    wait_for_line(&gateway, &refused);

    let admin = access_token(SECRET, "operator", &json!({"role": "admin"}));
    let body = r#"{"room":"project:1","type":"t","data":1}"#;
    for (method, path, bearer, expected) in [
        ("POST", "/api/publish", KEY, json!({"key": "deploy", "room": "project:1", "status": 200})),
        ("POST", "/api/publish", &admin, json!({"user": "operator", "room": "project:1", "status": 200})),
        ("POST", "/api/users/bob/disconnect", &admin, json!({"user": "operator", "scope": "users", "status": 200})),
        ("POST", "/api/users/eve/disconnect", KEY, json!({"key": "deploy", "scope": "users", "status": 403})),
        ("GET", "/api/rooms/project:1/history", &admin, json!({"user": "operator", "scope": "history", "status": 200})),
        ("DELETE", "/api/dlq/stream:file-events", "nonsense", json!({"scope": "dead_letters", "status": 401})),
        ("GET", "/api/rooms", "nonsense", json!({"scope": "inspect", "status": 401})),
    ] {
        gateway.http(method, path, &[("authorization", &format!("Bearer {bearer}"))], body.as_bytes());
        let mut fields = expected;
        (fields["message"], fields["method"], fields["path"]) = ("request to the API".into(), method.into(), path.into());
        wait_for_line(&gateway, &fields);
    }
    // Figures are looked at often, and connections come and go: neither is told unless it is asked for.
    gateway.http("GET", "/api/rooms", &[("authorization", &format!("Bearer {admin}"))], b"");
    gateway.http("POST", "/api/publish", &[("authorization", &format!("Bearer {KEY}"))], b"");
    wait_for_line(&gateway, &json!({"key": "deploy", "status": 400}));
    assert!(lines(&gateway).iter().all(|line| line["level"] == "INFO"));
}

fn each_connection_is_told_where_that_is_asked_for(binary: &Path) {
    let filter = "off,roomcast::audit=debug";
    let gateway = Setup::new(binary).option("--log-format", "json").option("--log", filter).start();
    gateway.client("alice").close();
    let opened = wait_for_line(&gateway, &json!({"message": "connection opened", "path": "/ws"}));
    let conn = &opened["fields"]["conn"];
    wait_for_line(&gateway, &json!({"message": "authenticated", "conn": conn, "user": "alice"}));
    wait_for_line(&gateway, &json!({"message": "connection closed", "conn": conn, "cause": "closed by the client"}));
    let mut socket = PacketSocket::open(gateway.addr(), "/socket.io/");
    socket.say(&format!(r#"40/ws,{{"token":"{}"}}"#, access_token(SECRET, "bob", &json!({}))));
    wait_for_line(&gateway, &json!({"message": "connection opened", "path": "/ws"}));
    wait_for_line(&gateway, &json!({"message": "authenticated", "user": "bob"}));
    let admin = access_token(SECRET, "operator", &json!({"role": "admin"}));
    gateway.http("GET", "/api/rooms", &[("authorization", &format!("Bearer {admin}"))], b"");
    wait_for_line(&gateway, &json!({"message": "request to the API", "user": "operator", "scope": "inspect", "status": 200}));
}

/// The proxy of ours in the tests: another address of this machine than the one that everybody else has.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn every_line_says_from_where_a_client_comes(binary: &Path) {
    let gateway = Setup::new(binary)
        .option("--log-format", "json")
        .option("--log", "off,roomcast::audit=debug")
        .option("--origins", "https://app.example")
        .config("[limits]\nproxies = [\"127.0.0.2\"]\n")
        .start();
    // What a proxy of ours has written is believed of the client before it, and nobody else of anybody.
    for (source, address) in [(PROXY, "192.0.2.7"), (STRANGER, "127.0.0.3")] {
        let ask = |bytes: &[u8]| {
            let mut client = RawClient::connect_from(source, gateway.addr());
            client.send(bytes);
            (client.response(), client)
        };
        let forwarded = ("x-forwarded-for", "6.6.6.6, 192.0.2.7");
        let bearer = |token: &str| format!("Bearer {token}");
        let told = |mut fields: Value| {
            fields["address"] = address.into();
            wait_for_line(&gateway, &fields)
        };

        let token = bearer(&access_token(SECRET, "alice", &json!({})));
        let (_, mut client) = ask(&upgrade_request("/ws", &[forwarded, ("authorization", &token)]));
        client.send(&masked_frame(FINAL | TEXT, br#"{"type":"subscribe","room":"user:bob"}"#).repeat(8));
        assert_eq!(client.close_code(), Some(4009));
        for fields in [
            json!({"message": "connection opened", "path": "/ws"}),
            json!({"message": "authenticated", "user": "alice"}),
            json!({"message": "denied", "user": "alice", "action": "subscribe"}),
            json!({"message": "closed at a limit", "user": "alice", "code": 4009}),
            json!({"message": "connection closed", "user": "alice"}),
        ] {
            told(fields);
        }
        let (_, mut client) = ask(&upgrade_request("/ws", &[forwarded, ("authorization", "Bearer nonsense")]));
        assert_eq!(client.close_code(), Some(4001));
        told(json!({"message": "authentication failed", "code": "token_invalid"}));

        let evil = ("origin", "https://evil.example");
        assert_eq!(ask(&upgrade_request("/ws", &[forwarded, evil])).0.status, 403);
        told(json!({"message": "connection refused", "path": "/ws"}));
        let target = "/socket.io/?EIO=4&transport=polling";
        let (handshake, _) = ask(&get_request(target, &[forwarded]));
        let sid = handshake.text().split('"').nth(3).expect("a session has an identifier").to_owned();
        // The session's own page is not asked again who it is, but this one is.
        assert_eq!(ask(&get_request(&format!("{target}&sid={sid}"), &[forwarded, evil])).0.status, 403);
        let told_twice = |message: &str| {
            let fits = |line: &&Value| line["fields"]["message"] == message && line["fields"]["address"] == address;
            let all = || (lines(&gateway).iter().filter(fits).count() == 2).then_some(());
            assert!(poll_until(PATIENCE, all).is_some(), "{message}: {}", gateway.tail());
        };
        told(json!({"message": "connection refused", "path": "/socket.io/"}));

        for token in ["nonsense", &access_token(SECRET, "carol", &json!({}))] {
            let packet = format!(r#"40/ws,{{"token":"{token}"}}"#);
            let head =
                format!("POST {target}&sid={sid} HTTP/1.1\r\nhost: gateway.example\r\ncontent-length: {}\r\n\r\n", packet.len());
            assert_eq!(ask(&[head.as_bytes(), packet.as_bytes()].concat()).0.status, 200);
        }
        // Once by each way to connect.
        told_twice("authentication failed");
        told(json!({"message": "authenticated", "user": "carol"}));

        let admin = access_token(SECRET, "operator", &json!({"role": "admin"}));
        // An identifier of a session that is none here does not hide anybody.
        for (path, token, status) in [("/api/rooms", &*admin, 200), (&format!("/api/rooms?sid={sid}"), "nonsense", 401)] {
            assert_eq!(ask(&get_request(path, &[forwarded, ("authorization", &bearer(token))])).0.status, status);
            told(json!({"message": "request to the API", "path": "/api/rooms", "status": status}));
        }
    }
    for line in lines(&gateway) {
        let is_known = ["192.0.2.7", "127.0.0.3"].iter().any(|address| line["fields"]["address"] == *address);
        assert!(is_known, "{line}");
    }
}

fn who_is_turned_away_behind_a_proxy_is_told_by_address(binary: &Path) {
    let config = "[limits]\nproxies = [\"127.0.0.2\"]\n[limits.per_address]\nconnections = 1\n";
    let gateway = Setup::new(binary).option("--log-format", "json").config(config).start();
    let open = || {
        let mut client = RawClient::connect_from(PROXY, gateway.addr());
        client.send(&upgrade_request("/ws/tasks", &[("x-forwarded-for", "192.0.2.7")]));
        (client.status(), client)
    };
    let (first, second) = (open(), open());
    assert_eq!((first.0, second.0), (Some(101), Some(429)));
    let reason = "Too many connections from this address";
    wait_for_line(&gateway, &json!({"message": "turned away", "address": "192.0.2.7", "status": 429, "reason": reason}));
}

fn what_clients_choose_cannot_forge_a_line(binary: &Path) {
    let gateway = Setup::new(binary).option("--log", "debug").start();
    let forged = "x\n2026-01-01T00:00:00Z  INFO roomcast::audit: request to the API user=\"mallory\"\u{1b}[31m";
    let user = format!("{forged}{}", "y".repeat(150));
    let token = access_token(SECRET, &user, &json!({}));
    let mut client = JsonClient::connect(gateway.addr(), "/ws", Credential::Header(&token));
    client.expect_type("auth_success");
    client.send(&json!({"type": "subscribe", "room": "user:\u{202e}bob"}));
    let line = gateway.wait_for_log(" denied ", PATIENCE);
    assert!(line.contains("\\n2026") && line.contains("\\u{202e}bob"), "{line}");
    assert!(line.len() < 1000, "it is cut: {line}");
    for path in ["/%0aforged", &format!("/{}", "z".repeat(4000))] {
        let mut client = RawClient::connect(gateway.addr());
        client.send(&upgrade_request(path, &[("origin", "\u{202e}\tforged")]));
        client.response();
    }
    gateway.wait_for_log("/zzzz", PATIENCE);
    for line in gateway.log_lines() {
        assert!(!line.starts_with("2026-01-01T") && !line.contains('\u{1b}') && !line.contains('\u{202e}'), "{line:?}");
        assert!(line.len() < 1000, "{line}");
    }
}

/// Every way to give a token, a key or a password, each with one of its own, at the level that says most.
fn no_secret_is_ever_logged(binary: &Path) {
    const PASSWORD: &str = "the-password-of-redis-3b1f";
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "requirepass", PASSWORD]);
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", redis.port());
    let routes = "[[routes]]\npath = \"/ws\"\nrestore = \"1m\"\n\
        [[routes]]\npath = \"/socket.io/\"\ndialect = \"socketio\"\nrecovery = \"2m\"\n";
    let setup = Setup::new(binary).option("--redis", &url).option("--log", "trace").option("--log-format", "json");
    let gateway = setup.config(&format!("{routes}{}", config())).start();
    let addr = gateway.addr();
    let mut secrets = vec![SECRET.to_owned(), KEY.into(), PASSWORD.into()];
    let (mut number, mut sids) = (0, Vec::new());
    let mut made = |more: Value| {
        number += 1;
        let token = access_token(SECRET, &format!("user-{number}"), &more);
        // Without its signature a token is worth nothing, and with a part of it no more.
        secrets.extend(token.split('.').skip(1).map(String::from));
        token
    };

    for bad in [json!({}), json!({"exp": unix_time() - 1000}), json!({"token_type": "refresh"})] {
        for _ in 0..3 {
            let token = made(bad.clone());
            let kind = if bad == json!({}) { "auth_success" } else { "auth_failed" };
            for credential in [Credential::Header(&token), Credential::Query(&token), Credential::Protocol(&token)] {
                JsonClient::connect(addr, "/ws", credential).expect_type(kind);
            }
            let mut client = JsonClient::connect(addr, "/ws", Credential::None);
            client.expect_type("auth_required");
            client.send(&json!({"type": "auth", "data": {"token": token}}));
            client.expect_type(kind);
            let mut client = JsonClient::connect(addr, "/ws", Credential::None);
            client.expect_type("auth_required");
            client.send(&json!({"type": "auth", "data": {"tokens": [token]}}));
            client.expect_type("error");
            client.send_text(&format!("{{\"type\": \"auth\", \"data\": {{\"token\": \"{token}"));
            client.expect_type("error");
            let mut socket = PacketSocket::open(addr, "/socket.io/");
            socket.say(&format!(r#"40/ws,{{"token":"{token}"}}"#));
            socket.text();
            let polling = Poller::open(addr, "/socket.io/");
            polling.post(format!(r#"40/ws,{{"token":"{token}"}}"#).as_bytes());
            assert_eq!(polling.get().status, 200);
            // Who knows it speaks for the session.
            sids.push(polling.handshake()["sid"].as_str().expect("a session has an identifier").to_owned());
            let target = format!("/socket.io/?EIO=4&transport=polling&token={token}");
            assert_eq!(http("GET", addr, &target, &[("authorization", &format!("Bearer {token}"))], b"").status, 200);
            // Where nothing is served, or something else.
            for path in ["/nowhere", "/healthz", "/"] {
                http("GET", addr, &format!("{path}?token={token}"), &[("authorization", &format!("Bearer {token}"))], b"");
            }
            let mut refused = RawClient::connect(addr);
            refused.send(&upgrade_request(&format!("/ws?token={token}"), &[("origin", "no origin")]));
            assert_eq!(refused.response().status, 403);
        }
    }
    // Renewed, for the same user and for another.
    let (mine, more) = (made(json!({})), made(json!({})));
    let mut client = JsonClient::connect(addr, "/ws", Credential::Header(&mine));
    client.expect_type("auth_success");
    for token in [&mine, &more] {
        client.send(&json!({"type": "auth", "data": {"token": token}}));
    }
    assert_eq!(client.close_code(PATIENCE), Some(4001));
    let admin = made(json!({"role": "admin"}));
    for bearer in [&admin, KEY, &KEY[1..], &admin[1..]] {
        for path in ["/api/publish", "/api/users/7/disconnect", "/api/rooms"] {
            let body = json!({"room": "project:1", "type": "t", "data": 1}).to_string();
            http("POST", addr, path, &[("authorization", &format!("Bearer {bearer}"))], body.as_bytes());
        }
    }
    assert_eq!(gateway.http("GET", "/api/rooms", &[("authorization", &format!("Bearer {admin}"))], b"").status, 200);
    wait_for_line(&gateway, &json!({"message": "request to the API", "path": "/api/rooms", "status": 200}));

    let mut gateway = gateway;
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(gateway.wait(PATIENCE).success());
    gateway.wait_for_end_of_output(PATIENCE);
    let lines = gateway.log_lines();
    assert!(lines.iter().any(|line| line.contains("\"TRACE\"")), "everything is logged");
    for line in &lines {
        for secret in secrets.iter().chain(&sids) {
            assert!(!line.contains(secret), "{secret} is in the log:\n{line}");
        }
    }
}
