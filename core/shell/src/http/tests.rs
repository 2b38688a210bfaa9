use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use roomcast_core::http::MOST_BODY;

use super::*;
use crate::handshake::{MAX_HEAD, MAX_HEADERS};

/// Its date is [`DATE`].
const UNIX: UnixMillis = UnixMillis(784_111_777_999);
const DATE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

/// An application that says what it was asked: method, target and body.
fn echo(request: &Request<Bytes>) -> Response<Bytes> {
    let asked = format!("{} {} ", request.method(), request.uri());
    Response::new([asked.as_bytes(), request.body()].concat().into())
}

/// Serves everything that has been fed; what is written is appended to `wire`, and what asks for a WebSocket returned.
fn serve(http: &mut Http, wire: &mut String) -> Option<Vec<u8>> {
    loop {
        let event = http.next(UNIX);
        if let Event::Request(request) = &event {
            http.respond(UNIX, echo(request));
        }
        wire.push_str(&String::from_utf8_lossy(http.output()));
        http.written(http.output().len());
        match event {
            Event::Request(_) => {}
            Event::Wait => return None,
            Event::Upgrade(bytes) => return Some(bytes),
        }
    }
}

/// A connection that was fed `text`, and everything it has written.
fn after(text: &str) -> (Http, String) {
    let (mut http, mut wire) = (Http::new(text.as_bytes().to_vec()), String::new());
    assert_eq!(serve(&mut http, &mut wire), None);
    (http, wire)
}

/// What is written to an input, without the dates.
fn answers(text: &str) -> String {
    after(text).1.replace(DATE, "")
}

/// The answers to several requests as `status body`, with an `x` behind the last where the connection is closed.
fn short(text: &str) -> Vec<String> {
    let (http, wire) = after(text);
    let mut answers: Vec<String> = wire
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            // Of an error, the code is enough.
            let body = body.split("\"code\":\"").nth(1).map_or(body, |code| code.split('"').next().unwrap());
            format!("{} {body}", &head[..3])
        })
        .collect();
    if http.is_over() {
        answers.push("x".into());
    }
    answers
}

/// A request without a body.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A request with a chunked body.
fn chunked(chunks: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

#[test]
fn answers_carry_what_a_reader_needs() {
    let plain = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 6\r\n\r\nGET / ";
    assert_eq!(after(&get("")).1, plain);
}
