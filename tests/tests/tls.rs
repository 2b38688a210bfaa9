//! TLS for clients: the real binaries over HTTPS and WSS, with certificates that are replaced while they run.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::process::run;
use roomcast_tests::real::raw::{RawClient, get_request};
use roomcast_tests::real::setup::{SECRET, Setup, clean_command};
use roomcast_tests::real::tls::{Authority, TlsStream, get, next_text, shown, websocket};
use roomcast_tests::real::{PATIENCE, poll_until};
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

gateway_tests!(
    https_and_wss_are_served_in_both_versions,
    long_messages_arrive_as_they_are,
    a_version_that_is_too_old_is_refused,
    who_speaks_in_the_clear_is_told,
    a_plain_port_does_not_understand_tls,
    who_does_not_come_to_the_end_of_the_handshake_is_let_go,
    a_certificate_is_replaced_and_connections_live_on,
    a_drain_says_goodbye,
    what_is_wrong_with_the_files_is_told_at_the_start,
    commands_reach_a_gateway_that_proves_who_it_is,
);

fn setup(binary: &Path, authority: &Authority) -> Setup {
    authority.issue();
    Setup::new(binary).option("--tls-cert", &authority.path("cert.pem")).option("--tls-key", &authority.path("key.pem"))
}

fn connect(authority: &Authority, gateway: &Gateway) -> TlsStream {
    authority.connect(gateway.addr(), &[&TLS13, &TLS12]).expect("the handshake succeeds")
}

/// A client that is in a room.
fn member(stream: TlsStream, room: &str) -> WebSocket<TlsStream> {
    let mut socket = websocket(stream, "/ws", &access_token(SECRET, "7", &json!({})));
    assert!(next_text(&mut socket).contains("auth_success"));
    let subscribe = json!({"type": "subscription", "data": {"action": "subscribe", "room": room}});
    socket.send(Message::text(subscribe.to_string())).expect("the connection lives");
    assert!(next_text(&mut socket).contains("subscribed"));
    socket
}

fn publish(stream: &mut TlsStream, room: &str, data: &Value) {
    let body = json!({"room": room, "type": "note", "data": data}).to_string();
    let bearer = access_token(SECRET, "operator", &json!({"role": "admin"}));
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nhost: gateway.example\r\nauthorization: Bearer {bearer}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it can be sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("there is an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

fn https_and_wss_are_served_in_both_versions(binary: &Path) {
    let authority = Authority::new();
    let gateway = setup(binary, &authority).launch();
    for version in [&TLS12, &TLS13] {
        let connect = || authority.connect(gateway.addr(), &[version]).expect("the handshake succeeds");
        let stream = connect();
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(get(stream, "/readyz").status, 200);
        let mut socket = member(connect(), "workspace:1");
        publish(&mut connect(), "workspace:1", &json!({"version": format!("{:?}", version.version)}));
        assert!(next_text(&mut socket).contains(&format!("{:?}", version.version)));
        socket.send(Message::Ping("ping".into())).expect("the connection lives");
        assert!(matches!(socket.read().expect("there is an answer"), Message::Pong(_)));
    }
}

fn long_messages_arrive_as_they_are(binary: &Path) {
    const LETTERS: usize = 50_000;
    let authority = Authority::new();
    let gateway = setup(binary, &authority).launch();
    let mut socket = member(connect(&authority, &gateway), "workspace:1");
    let mut publisher = connect(&authority, &gateway);
    for letter in ["a", "b", "c"] {
        publish(&mut publisher, "workspace:1", &json!(letter.repeat(LETTERS)));
        let rest = &mut [0; 4_000];
        // The rest of the answer, which is short.
        let _ = publisher.read(rest).expect("there is an answer");
        let message: Value = serde_json::from_str(&next_text(&mut socket)).expect("it is JSON");
        assert!(message["data"] == json!(letter.repeat(LETTERS)));
    }
}

fn a_version_that_is_too_old_is_refused(binary: &Path) {
    let authority = Authority::new();
    let gateway = setup(binary, &authority).option("--tls-min", "1.3").launch();
    let error = authority.connect(gateway.addr(), &[&TLS12]).expect_err("it is too old").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    assert_eq!(get(authority.connect(gateway.addr(), &[&TLS13]).expect("it is new enough"), "/readyz").status, 200);
}

fn who_speaks_in_the_clear_is_told(binary: &Path) {
    let authority = Authority::new();
    let gateway = setup(binary, &authority).launch();
    let mut client = RawClient::connect(gateway.addr());
    client.send(&get_request("/readyz", &[]));
    let answer = client.response();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("HTTPS is spoken here"), "{}", answer.text());
}

fn a_plain_port_does_not_understand_tls(binary: &Path) {
    let authority = Authority::new();
    let gateway = Setup::new(binary).start();
    let error = authority.connect(gateway.addr(), &[&TLS13]).expect_err("nobody speaks TLS").to_string();
    assert!(error.contains("InvalidContentType"), "{error}");
}

fn who_does_not_come_to_the_end_of_the_handshake_is_let_go(binary: &Path) {
    let authority = Authority::new();
    let gateway = setup(binary, &authority).launch();
    // The header of a record that announces a greeting, and a part of that.
    let half = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 40]].concat();
    let mut clients = [&[][..], &half[..]].map(|bytes| {
        let mut client = RawClient::connect(gateway.addr());
        client.send(bytes);
        client
    });
    for client in &mut clients {
        assert!(client.is_closed(2 * PATIENCE), "nobody waits for ever");
    }
    assert_eq!(get(connect(&authority, &gateway), "/readyz").status, 200);
}

fn a_certificate_is_replaced_and_connections_live_on(binary: &Path) {
    let authority = Authority::new();
    let mut gateway = setup(binary, &authority).launch();
    let stream = connect(&authority, &gateway);
    let first = shown(&stream);
    let mut socket = member(stream, "workspace:1");

    let mark = gateway.log_mark();
    fs::write(authority.path("key.pem"), "no key").expect("the file can be written");
    let line = gateway.wait_for_log_since(mark, "the old one stays", PATIENCE);
    assert!(line.contains("key.pem"), "{line}");
    assert_eq!(shown(&connect(&authority, &gateway)), first);

    authority.issue();
    gateway.signal(Signal::SIGHUP);
    let second = poll_until(PATIENCE, || Some(shown(&connect(&authority, &gateway))).filter(|shown| *shown != first));
    let second = second.expect("the new certificate is shown");
    authority.issue();
    let third = poll_until(PATIENCE, || Some(shown(&connect(&authority, &gateway))).filter(|shown| *shown != second));
    assert!(third.is_some(), "without a signal as well");

    publish(&mut connect(&authority, &gateway), "workspace:1", &json!("still here"));
    assert!(next_text(&mut socket).contains("still here"));
}

fn a_drain_says_goodbye(binary: &Path) {
    let authority = Authority::new();
    let mut gateway = setup(binary, &authority).launch();
    let mut socket = member(connect(&authority, &gateway), "workspace:1");
    gateway.signal(Signal::SIGTERM);
    let close = loop {
        if let Message::Close(close) = socket.read().expect("the connection is closed in good order") {
            break close;
        }
    };
    assert!(close.is_some());
    // The answer to the close, and then `close_notify`, without which this would be another error.
    let end = loop {
        if let Err(error) = socket.read() {
            break error;
        }
    };
    assert!(matches!(end, tungstenite::Error::ConnectionClosed), "{end:?}");
    assert!(gateway.wait(PATIENCE).success());
}

fn what_is_wrong_with_the_files_is_told_at_the_start(binary: &Path) {
    let authority = Authority::new();
    authority.issue();
    let (certificate, key, ca) = (authority.path("cert.pem"), authority.path("key.pem"), authority.path("ca.pem"));
    for (arguments, told) in [
        (vec!["--tls-cert", &certificate, "--tls-key", "/nowhere/key.pem"], vec!["/nowhere/key.pem: "]),
        (vec!["--tls-cert", &certificate, "--tls-key", &certificate], vec!["cert.pem: ", "no private key"]),
        (vec!["--tls-cert", &ca, "--tls-key", &key], vec!["ca.pem: ", "KeyMismatch"]),
        (vec!["--tls-cert", &certificate], vec!["--tls-key"]),
        (vec!["--tls-cert", &certificate, "--tls-key", &key, "--tls-min", "1.1"], vec!["1.2 or 1.3"]),
    ] {
        let output = run(clean_command(binary).args(["serve", "--listen", "127.0.0.1:0"]).args(&arguments));
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.iter().all(|told| printed.contains(told)), "{arguments:?}: {printed}");
    }
}

fn commands_reach_a_gateway_that_proves_who_it_is(binary: &Path) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let gateway = setup(binary, &authority).launch();
    let url = format!("https://{}", gateway.addr());
    let ping =
        |authority: &Authority| run(clean_command(binary).args(["ping", "--url", &url, "--ca", &authority.path("ca.pem")]));
    let output = ping(&authority);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = ping(&stranger);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && printed.contains("UnknownIssuer"), "{printed}");
}
