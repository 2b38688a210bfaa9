//! Engine.IO sessions of a whole gateway with two shards: whichever has the connection, requests reach their session.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use roomcast_core::config::{AuthMode, Config, DialectName, Route};

use super::client::{Client, connect, request};
use super::patience::eventually;
use super::rooms::{config, start, stop};
use super::{Subject, Surroundings};

cases!("sessions":
    requests_reach_their_session_by_any_connection,
    a_websocket_takes_a_session_over_by_any_connection,
    a_session_ends_when_its_client_hangs_up,
);

/// More than there are shards, so that each has connections of either kind.
const ROUNDS: usize = 5;

fn requests_reach_their_session_by_any_connection<S: Subject>(subject: &S, _: &Surroundings) {
    let gateway = start(subject, engine());
    for _ in 0..ROUNDS {
        let session = open(gateway.address);
        let waiting = ask(gateway.address, "GET", &session, "");
        assert_eq!(answer(ask(gateway.address, "POST", &session, "4hello")), "ok");
        assert_eq!(answer(waiting), "4hello");
    }
    stop(gateway);
}

fn a_websocket_takes_a_session_over_by_any_connection<S: Subject>(subject: &S, _: &Surroundings) {
    let gateway = start(subject, engine());
    for _ in 0..ROUNDS {
        let session = open(gateway.address);
        let waiting = ask(gateway.address, "GET", &session, "");
        let mut stream = connect(gateway.address);
        stream.write_all(&request(&session.replace("polling", "websocket"))).expect("a request can be sent");
        let mut client = Client::upgrade(stream);
        client.send("2probe");
        assert_eq!(client.text(), "3probe");
        assert_eq!(answer(waiting), "6", "whoever polls is let go");
        client.send("5");
        for number in 0..100 {
            client.send(&format!("4{number}"));
            assert_eq!(client.text(), format!("4{number}"));
        }
    }
    stop(gateway);
}

fn a_session_ends_when_its_client_hangs_up<S: Subject>(subject: &S, _: &Surroundings) {
    let gateway = start(subject, engine());
    for _ in 0..ROUNDS {
        let session = open(gateway.address);
        drop(ask(gateway.address, "GET", &session, ""));
        eventually("the end of the session", || {
            let said = answer(ask(gateway.address, "POST", &session, "3"));
            said.contains("Session ID unknown").then_some(())
        });
    }
    stop(gateway);
}

/// A gateway whose sessions echo.
fn engine() -> Config {
    let route = Route { dialect: DialectName::EngineEcho, ..Route::json("/engine.io/", AuthMode::Ignored) };
    Config { routes: vec![route], ..config() }
}

/// A session, as its requests name it.
fn open(address: SocketAddr) -> String {
    const POLL: &str = "/engine.io/?EIO=4&transport=polling";
    let open = answer(ask(address, "GET", POLL, ""));
    let sid = open.strip_prefix("0{\"sid\":\"").and_then(|open| open.split('"').next());
    format!("{POLL}&sid={}", sid.unwrap_or_else(|| panic!("no session: {open}")))
}

/// Sends a request on a connection of its own.
fn ask(address: SocketAddr, method: &str, target: &str, body: &str) -> TcpStream {
    let mut stream = connect(address);
    let length = body.len();
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: roomcast\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("a request can be sent");
    stream
}

/// The body of the answer.
fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a request is answered");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    body.to_owned()
}
