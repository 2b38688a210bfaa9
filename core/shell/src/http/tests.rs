mod properties;

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
fn serve(http: &mut Http, wire: &mut String) -> Option<(String, Vec<u8>)> {
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
            Event::Upgrade(request, rest) => return Some((request.uri().to_string(), rest)),
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
fn a_connection_persists_unless_somebody_objects() {
    let old = |fields: &str| format!("GET / HTTP/1.0\r\n{fields}\r\n");
    assert_eq!(short(&get("").repeat(2)), ["200 GET / ", "200 GET / "]);
    // Nothing behind the last request is looked at.
    for fields in ["Connection: close\r\n", "Connection: x, Close\r\n", "Connection: keep-alive\r\nConnection: close\r\n"] {
        assert_eq!(short(&get(fields).repeat(2)), ["200 GET / ", "x"]);
        assert_eq!(short(&old(fields).repeat(2)), ["200 GET / ", "x"]);
    }
    assert_eq!(short(&old("")), ["200 GET / ", "x"]);
    assert_eq!(short(&old("Connection: Keep-Alive\r\n").repeat(2)), ["200 GET / ", "200 GET / "]);

    let answer = |connection: &str| format!("HTTP/1.1 200 OK\r\n{connection}content-length: 6\r\n\r\nGET / ");
    assert_eq!(answers(&get("")), answer(""));
    assert_eq!(answers(&get("Connection: close\r\n")), answer("connection: close\r\n"));
    assert_eq!(answers(&old("")), answer("connection: close\r\n"));
    assert_eq!(answers(&old("Connection: keep-alive\r\n")), answer("connection: keep-alive\r\n"));
}

#[test]
fn an_application_may_end_a_connection() {
    let mut http = Http::new(get("").repeat(2).into_bytes());
    assert!(matches!(http.next(UNIX), Event::Request(_)));
    http.respond(UNIX, Response::builder().header("connection", "Close").body(Bytes::new()).unwrap());
    assert!(
        http.is_over()
            && http.output().ends_with(b"connection: close\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n")
    );
    assert!(matches!(http.next(UNIX), Event::Wait));
}

#[test]
fn a_body_is_read_whatever_the_method() {
    for method in ["GET", "HEAD", "DELETE", "POST", "OPTIONS", "BREW"] {
        let head = format!("{method} /a HTTP/1.1\r\nHost: a\r\n");
        let body = if method == "HEAD" { String::new() } else { format!("{method} /a GET /evil") };
        for framed in ["Content-Length: 9\r\n\r\nGET /evil", "Transfer-Encoding: chunked\r\n\r\n9\r\nGET /evil\r\n0\r\n\r\n"] {
            assert_eq!(short(&format!("{head}{framed}{}", get(""))), [format!("200 {body}"), "200 GET / ".into()]);
        }
        // Without a length there is no body: what follows is the next request.
        let body = if method == "HEAD" { String::new() } else { format!("{method} /a ") };
        assert_eq!(short(&format!("{head}\r\n{}", get(""))), [format!("200 {body}"), "200 GET / ".into()]);
    }
}

#[test]
fn a_content_length_is_one_number() {
    let of = |length: &str| short(&get(&format!("Content-Length:{length}\r\n")).replace("\r\n\r\n", "\r\n\r\nhello"));
    for good in ["5", " 5", "\t5 ", " 00000000000000000000005"] {
        assert_eq!(of(good), ["200 GET / hello"], "{good:?}");
    }
    for bad in ["", " ", " +5", " -5", " 5, 5", " 5,5", " 5 5", " 0x5", " 5;", " 5.0", " ٥", " 5\r\nContent-Length: 5"] {
        assert_eq!(of(bad), ["400 bad_request", "x"], "{bad:?}");
    }
    assert_eq!(short(&get("Content-Length : 5\r\n")), ["400 bad_request", "x"]);
}

#[test]
fn transfer_encoding_is_chunked_or_nothing() {
    let of = |fields: &str| short(&chunked("0\r\n\r\n").replace("Transfer-Encoding: chunked\r\n", fields));
    assert_eq!(of("transfer-encoding:  Chunked \r\n"), ["200 POST / "]);
    for strange in ["gzip", "", "identity", "gzip, chunked", "chunked, chunked", "chunked;a=b", "\u{b}chunked", "xchunked"] {
        let answer = of(&format!("Transfer-Encoding: {strange}\r\n"));
        // Control characters are no header at all.
        let expected = if strange.starts_with('\u{b}') { "400 bad_request" } else { "501 not_implemented" };
        assert_eq!(answer, [expected, "x"], "{strange:?}");
    }
    assert_eq!(of("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), ["501 not_implemented", "x"]);
    assert_eq!(of("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), ["501 not_implemented", "x"]);
    assert_eq!(of("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), ["400 bad_request", "x"]);
    assert_eq!(of("Content-Length: 0\r\nTransfer-Encoding: identity\r\n"), ["400 bad_request", "x"]);
    let old = chunked("0\r\n\r\n").replace("1.1", "1.0");
    assert_eq!(short(&old), ["400 bad_request", "x"]);
}

#[test]
fn chunks_are_joined() {
    for chunks in [
        "5\r\nhello\r\n0\r\n\r\n",
        "2\r\nhe\r\n0000000000000003\r\nllo\r\n000\r\n\r\n",
        "5;a=b;c=\"d\"\r\nhello\r\n0;z\r\n\r\n",
        "5 ; a\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n",
    ] {
        assert_eq!(short(&[chunked(chunks), get("")].concat()), ["200 POST / hello", "200 GET / "], "{chunks:?}");
    }
    let long = "x".repeat(0xab);
    assert_eq!(short(&chunked(&format!("aB\r\n{long}\r\n0\r\n\r\n"))), [format!("200 POST / {long}")]);
}

#[test]
fn chunks_are_read_strictly() {
    for bad in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\n",
        ";a\r\n\r\n",
        " \r\n\r\n",
        "5_0\r\n",
        "5 5\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\rhello\r\n",
        "5;a\n",
        "5;a\rb\r\n",
        "00000000000000005\r\nhello\r\n",
        "10000000000000005\r\nhello\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello!!!",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\rZ: y\r\n",
        "0\r\nno field\r\n",
        "0\r\nX : y\r\n",
        "0\r\n: y\r\n",
        "0\r\nX: y\r\n folded\r\n",
        "0\r\nGET / HTTP/1.1\r\n",
    ] {
        assert_eq!(short(&chunked(bad)), ["400 bad_request", "x"], "{bad:?}");
    }
}

#[test]
fn chunk_extensions_and_trailers_are_bounded() {
    let padded = |length: usize| format!("0{}", ";".repeat(length));
    assert_eq!(short(&chunked(&format!("{}\r\n\r\n", padded(MAX_HEAD)))), ["200 POST / "]);
    assert_eq!(short(&chunked(&padded(MAX_HEAD + 18))), ["400 bad_request", "x"]);
    let field = "X: 345678\r\n";
    assert_eq!(short(&chunked(&format!("0\r\n{}\r\n", field.repeat(MAX_HEAD / field.len())))), ["200 POST / "]);
    assert_eq!(short(&chunked(&format!("0\r\n{}", field.repeat(MAX_HEAD / field.len() + 1)))), ["400 bad_request", "x"]);
    // Over all chunks, not for each.
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1015));
    assert_eq!(short(&chunked(&format!("{}0\r\n\r\n", chunk.repeat(16))))[0].len(), "200 POST / ".len() + 16);
    assert_eq!(short(&chunked(&chunk.repeat(17))), ["400 bad_request", "x"]);
}

#[test]
fn a_body_that_is_too_long_is_refused_at_once() {
    let announced = |length: &str| short(&get(&format!("Content-Length: {length}\r\n")));
    assert_eq!(announced(&MOST_BODY.to_string()), [] as [&str; 0], "it is waited for");
    assert_eq!(announced(&(MOST_BODY + 1).to_string()), ["413 too_large", "x"]);
    assert_eq!(announced("99999999999999999999999999"), ["413 too_large", "x"]);
    assert_eq!(short(&chunked(&format!("{:x}\r\n", MOST_BODY + 1))), ["413 too_large", "x"]);
    assert_eq!(short(&chunked("ffffffffffffffff\r\n")), ["413 too_large", "x"]);
    let half = format!("{:x}\r\n{}\r\n", MOST_BODY / 2, "x".repeat(MOST_BODY / 2));
    assert_eq!(short(&chunked(&format!("{half}{half}0\r\n\r\n")))[0].len(), "200 POST / ".len() + MOST_BODY);
    assert_eq!(short(&chunked(&format!("{half}{half}1\r\n"))), ["413 too_large", "x"]);
}

#[test]
fn a_client_is_told_to_continue_where_it_waits_for_that() {
    let expects = "Expect: 100-Continue\r\n";
    let post = get(&format!("{expects}Content-Length: 2\r\n"));
    assert_eq!(answers(&post), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(answers(&chunked("").replace("Host", &format!("{expects}Host"))), "HTTP/1.1 100 Continue\r\n\r\n");
    // It has begun without; there is nothing to send; it does not know of this; it is not wanted.
    assert_eq!(answers(&format!("{post}h")), "");
    assert_eq!(short(&format!("{post}hi")), ["200 GET / hi"]);
    assert_eq!(short(&get(expects)), ["200 GET / "]);
    assert_eq!(answers(&post.replace("1.1", "1.0")), "");
    assert_eq!(short(&get(&format!("{expects}Content-Length: 1048577\r\n"))), ["413 too_large", "x"]);
    assert_eq!(short(&get(&format!("{expects}Transfer-Encoding: x\r\n"))), ["501 not_implemented", "x"]);

    let (mut http, mut wire) = after(&post);
    http.feed(b"hi");
    serve(&mut http, &mut wire);
    assert!(wire.ends_with("\r\n\r\nGET / hi") && !http.is_over());
}

#[test]
fn other_expectations_fail() {
    for expectation in ["200-ok", "", "100-continue, x", "100-continue\r\nExpect: x"] {
        let request = get(&format!("Expect: {expectation}\r\nContent-Length: 2\r\n"));
        assert_eq!(short(&request), ["417 expectation_failed", "x"], "{expectation:?}");
    }
}

#[test]
fn a_request_has_one_host() {
    let of = |version: &str, fields: &str| short(&format!("GET / HTTP/1.{version}\r\n{fields}\r\n"));
    for good in ["a", "a.example:8080", "127.0.0.1", "[::1]:80", "my_service", ""] {
        assert_eq!(of("1", &format!("Host: {good}\r\n")), ["200 GET / "], "{good:?}");
    }
    for bad in ["a b", "a, b", "a/b", "me@a", "é", "a\r\nHost: a", "a\r\nhost: b"] {
        assert_eq!(of("1", &format!("Host: {bad}\r\n")), ["400 bad_request", "x"], "{bad:?}");
        assert_eq!(of("0", &format!("Host: {bad}\r\n")), ["400 bad_request", "x"], "{bad:?}");
    }
    assert_eq!(of("1", ""), ["400 bad_request", "x"]);
    assert_eq!(of("0", ""), ["200 GET / ", "x"]);
}

#[test]
fn what_is_no_request_is_refused() {
    let error = |code: &str, message: &str| format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
    let refused = |status: &str, body: String| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let malformed = refused("400 Bad Request", error("bad_request", "malformed HTTP request"));
    for bytes in ["\u{16}\u{3}\u{1}", "GET / HTTP/2.0\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nA b\r\n\r\n", "{}"] {
        assert_eq!(answers(bytes), malformed, "{bytes:?}");
        assert!(after(bytes).1.contains(DATE));
    }
    let large =
        refused("431 Request Header Fields Too Large", error("request_header_fields_too_large", "request head too large"));
    assert_eq!(answers(&get(&"A: b\r\n".repeat(MAX_HEADERS))), large);
    assert_eq!(answers(&get(&format!("A: {}\r\n", "x".repeat(MAX_HEAD)))), large);
    // HEAD has no body even then.
    let (_, wire) = after("HEAD / HTTP/1.1\r\n\r\n");
    assert!(wire.starts_with("HTTP/1.1 400 ") && wire.ends_with("\r\n\r\n"), "{wire}");
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    assert_eq!(short(&format!("\r\n{}\r\n\n{}", get(""), get(""))), ["200 GET / ", "200 GET / "]);
    let post = get("Content-Length: 2\r\n");
    assert_eq!(short(&format!("{post}hi\r\n{}", get(""))), ["200 GET / hi", "200 GET / "]);
    assert_eq!(short(&format!("{post}hi!{}", get(""))), ["200 GET / hi", "200 !GET / "], "a method may be anything");
    assert_eq!(short(&format!("{post}hi {}", get(""))), ["200 GET / hi", "400 bad_request", "x"]);
    assert_eq!(short(&format!("{}{}", get(""), "\r\n".repeat(3))), ["200 GET / ", "400 bad_request", "x"]);
}

#[test]
fn an_answer_is_framed_here() {
    let answer = |method: &str, response: http::response::Builder| {
        let mut http = Http::new(get("").replace("GET", method).into_bytes());
        assert!(matches!(http.next(UNIX), Event::Request(_)));
        http.respond(UNIX, response.body(Bytes::from_static(b"body")).unwrap());
        String::from_utf8(http.output().to_vec()).unwrap().replace(DATE, "")
    };
    let plain = || Response::builder();
    assert_eq!(answer("GET", plain()), "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(answer("HEAD", plain()), "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(answer("GET", plain().status(204)), "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(answer("GET", plain().status(304)), "HTTP/1.1 304 Not Modified\r\n\r\n");
    assert_eq!(answer("GET", plain().status(599)), "HTTP/1.1 599 \r\ncontent-length: 4\r\n\r\nbody");
    let meddling = plain()
        .header("content-length", "99")
        .header("transfer-encoding", "chunked")
        .header("connection", "keep-alive")
        .header("date", "today")
        .header("set-cookie", "a")
        .header("set-cookie", &b"\xe9"[..]);
    let expected = "HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: \u{fffd}\r\ncontent-length: 4\r\n\r\nbody";
    let mut http = Http::new(get("").into_bytes());
    assert!(matches!(http.next(UNIX), Event::Request(_)));
    http.respond(UNIX, meddling.body(Bytes::from_static(b"body")).unwrap());
    assert_eq!(String::from_utf8_lossy(http.output()).replace(DATE, ""), expected);
    let upgrade = plain().status(426).header("upgrade", "websocket");
    let expected = "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 4\r\n\r\nbody";
    assert_eq!(answer("GET", upgrade), expected);
}

#[test]
fn every_moment_has_a_date() {
    for (unix, date) in [(0, "Thu, 01 Jan 1970 00:00:00 GMT"), (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT")] {
        let mut http = Http::new(get("").into_bytes());
        assert!(matches!(http.next(UNIX), Event::Request(_)));
        http.respond(UnixMillis(unix), Response::new(Bytes::new()));
        assert!(String::from_utf8_lossy(http.output()).contains(&format!("\r\ndate: {date}\r\n")));
    }
}

#[test]
fn a_websocket_is_given_away_with_all_that_follows() {
    let upgrade = get("Upgrade: h2c, WebSocket\r\nContent-Length: 3\r\n");
    for before in [String::new(), get(""), chunked("0\r\n\r\n")] {
        let (mut http, mut wire) = (Http::new(Vec::new()), String::new());
        http.feed(format!("{before}{upgrade}frames").as_bytes());
        assert_eq!(serve(&mut http, &mut wire), Some(("/".to_owned(), b"frames".to_vec())));
        assert!(http.is_done() && http.is_over() && !http.wants_input() && http.output().is_empty());
        assert_eq!(wire.is_empty(), before.is_empty());
    }
    let (mut http, mut wire) = after(&upgrade[..40]);
    http.feed(&upgrade.as_bytes()[40..]);
    assert_eq!(serve(&mut http, &mut wire), Some(("/".to_owned(), Vec::new())));
}

#[test]
fn one_request_is_served_at_a_time() {
    let mut http = Http::new(get("").repeat(2).into_bytes());
    for turn in 0..2 {
        assert!(matches!(http.next(UNIX), Event::Request(_)));
        assert!(matches!(http.next(UNIX), Event::Wait), "it is not answered");
        assert_eq!(http.wants_input(), turn == 1, "only whether the client is still there is of interest");
        http.respond(UNIX, Response::new(Bytes::new()));
        assert!(matches!(http.next(UNIX), Event::Wait) && !http.wants_input(), "the answer is not written");
        http.written(http.output().len() - 1);
        assert!(matches!(http.next(UNIX), Event::Wait) && !http.wants_input(), "its last byte is not");
        assert_eq!(http.output(), b"\n");
        http.respond(UNIX, Response::new(Bytes::new()));
        assert_eq!(http.output(), b"\n", "there is nothing to be answered");
        http.written(usize::MAX);
        assert_eq!(http.wants_input(), turn == 1, "what is there comes first");
    }
    assert!(http.output().is_empty() && matches!(http.next(UNIX), Event::Wait));
}

#[test]
fn a_client_that_waits_is_listened_to_until_it_has_sent_something() {
    let mut http = Http::new(get("").into_bytes());
    assert!(matches!(http.next(UNIX), Event::Request(_)));
    assert!(http.wants_input());
    http.feed(get("Connection: close\r\n").as_bytes());
    assert!(!http.wants_input() && matches!(http.next(UNIX), Event::Wait));
    http.respond(UNIX, Response::new(Bytes::new()));
    http.written(usize::MAX);
    assert!(matches!(http.next(UNIX), Event::Request(_)), "what came meanwhile is served");
    assert!(http.wants_input());
    http.ended();
    assert!(!http.wants_input(), "there is nothing behind the end");
}

#[test]
fn a_peer_that_has_closed_still_gets_its_answers() {
    let (mut http, mut wire) = (Http::new([get("").repeat(2), "GET".into()].concat().into_bytes()), String::new());
    http.ended();
    serve(&mut http, &mut wire);
    assert_eq!(wire.matches("200 OK").count(), 2);
    assert!(http.is_over() && http.is_done());

    for cut in ["", "GET / ", &get("Content-Length: 2\r\n"), &chunked("5\r\n")] {
        let (mut http, mut wire) = after(cut);
        assert!(http.wants_input());
        http.ended();
        assert!(!http.wants_input());
        serve(&mut http, &mut wire);
        assert!(http.is_done() && wire.is_empty(), "{cut:?}");
    }

    let mut http = Http::new(get("Connection: close\r\n").into_bytes());
    assert!(matches!(http.next(UNIX), Event::Request(_)));
    http.ended();
    http.respond(UNIX, Response::new(Bytes::new()));
    assert!(http.is_over() && !http.is_done());
    http.written(usize::MAX);
    assert!(http.is_done(), "there is nothing to be waited for");
}

#[test]
fn our_side_is_closed_first_and_theirs_waited_for() {
    let (mut http, _) = after(&get("Connection: close\r\n").repeat(2));
    assert!(http.is_over() && !http.is_done() && http.wants_input(), "or the answer might be lost in a reset");
    http.feed(&[b'x'; 1000]);
    assert!(http.input.capacity() == 0 && matches!(http.next(UNIX), Event::Wait));
    http.ended();
    assert!(http.is_done() && !http.wants_input());
}

#[test]
fn who_is_hung_up_on_is_answered_what_it_has_asked_and_asks_nothing_more() {
    let (mut http, _) = after(&get(""));
    http.hang_up();
    assert!(http.is_over() && http.wants_input());
    http.feed(get("").as_bytes());
    assert!(matches!(http.next(UNIX), Event::Wait) && http.output().is_empty());
    http.ended();
    assert!(http.is_done());

    let mut http = Http::new(get("").into_bytes());
    assert!(matches!(http.next(UNIX), Event::Request(_)));
    http.hang_up();
    http.respond(UNIX, Response::new(Bytes::from_static(b"hi")));
    assert!(!http.is_over() && http.output().ends_with(b"hi"));
    http.hang_up();
    assert!(http.is_over() && http.output().ends_with(b"hi"));
    http.written(usize::MAX);
    assert!(http.wants_input() && !http.is_done());
}

#[test]
fn deadlines_run_from_the_beginning_of_a_phase() {
    let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
    let post = get("Content-Length: 2\r\n").replace("GET", "POST");
    let mut http = Http::new(Vec::new());
    assert_eq!(http.deadline(at(0)), at(0) + HEAD, "the first request may not be waited for");
    for (now, byte) in post.bytes().enumerate() {
        http.feed(&[byte]);
        assert!(matches!(http.next(UNIX), Event::Wait));
        let last = now + 1 == post.len();
        assert_eq!(http.deadline(at(now as u64)), if last { at(now as u64) + BODY } else { at(0) + HEAD });
    }
    http.feed(b"h");
    assert!(matches!(http.next(UNIX), Event::Wait));
    assert_eq!(http.deadline(at(60)), at(post.len() as u64 - 1) + BODY);
    http.feed(b"i");
    assert!(matches!(http.next(UNIX), Event::Request(_)));
    assert_eq!(http.deadline(at(61)), Time::NEVER);
    http.respond(UNIX, Response::new(Bytes::from(vec![0; 1000])));
    assert_eq!(http.deadline(at(70)), at(70) + WRITE);
    http.written(500);
    assert_eq!(http.deadline(at(71)), at(70) + WRITE);
    http.written(1000);
    assert_eq!(http.deadline(at(72)), at(72) + IDLE);

    let (mut http, _) = after(&get("Connection: close\r\n"));
    assert_eq!(http.deadline(at(1)), at(1) + LINGER);
    http.feed(b"more");
    assert_eq!(http.deadline(at(2)), at(1) + LINGER);
    http.ended();
    assert_eq!(http.deadline(at(3)), Time::NEVER);
}

#[test]
fn patience_ends_in_408_where_a_request_has_begun() {
    for begun in ["GET", &get("Content-Length: 2\r\n"), &chunked("5\r\nhel")] {
        let (mut http, mut wire) = after(begun);
        http.expire(UNIX);
        serve(&mut http, &mut wire);
        assert!(wire.starts_with("HTTP/1.1 408 ") && wire.contains("\r\nconnection: close\r\n"), "{wire}");
        assert!(http.is_over() && !http.is_done());
    }
    // Between requests nobody waits for an answer; nor does who does not read it, or does not close.
    let (mut http, _) = after(&get(""));
    http.expire(UNIX);
    assert!(http.output().is_empty() && http.is_over() && !http.is_done());
    http.expire(UNIX);
    assert!(http.is_done());
    let mut http = Http::new(get("").into_bytes());
    assert!(matches!(http.next(UNIX), Event::Request(_)));
    http.expire(UNIX);
    assert!(!http.is_over(), "the application has no deadline here");
    http.respond(UNIX, Response::new(Bytes::new()));
    http.written(1);
    http.expire(UNIX);
    assert!(http.is_done() && http.output().is_empty());
}

#[test]
fn requests_that_are_served_are_not_kept() {
    let mut http = Http::new(get("").repeat(2).into_bytes());
    for _ in 0..100 {
        assert!(matches!(http.next(UNIX), Event::Request(_)));
        http.respond(UNIX, Response::new(Bytes::new()));
        http.written(usize::MAX);
        // Against the advice of `wants_input`.
        http.feed(get("").as_bytes());
        assert_eq!(held(&http), 2 * get("").len());
    }
}

/// The bytes held of what was fed.
fn held(http: &Http) -> usize {
    let stage = match &http.stage {
        Stage::Head(buffer) => buffer.clone().into_bytes().len(),
        Stage::Body(reading) => reading.1.held(),
        _ => 0,
    };
    http.input.len() + stage
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    assert!(size_of::<Http>() <= 192, "{}", size_of::<Http>());
    let (http, _) = after(&chunked("5;a\r\nhello\r\n0\r\nX: y\r\n\r\n").repeat(20));
    assert!(matches!(http.stage, Stage::Idle));
    assert_eq!(http.input.capacity() + http.output.capacity(), 0);
}

#[test]
fn a_request_without_end_is_bounded() {
    const PIECE: usize = 60_000;
    for (begin, on) in [
        ("", "\r"),
        ("", "A"),
        ("GET / HTTP/1.1\r\n", "A: b\r\n"),
        ("GET / HTTP/1.1\r\nA: ", "x"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n", "x"),
        (&chunked("0;"), "x"),
        (&chunked("0\r\n"), "A: b\r\n"),
        (&chunked("0\r\nA: "), "x"),
        (&chunked("100000\r\n"), "x"),
        (&chunked(""), "1\r\nx\r\n"),
        (&chunked(""), "1;a=bcdefghijklmnopqrstuvwxyz\r\nx\r\n"),
    ] {
        let mut http = Http::new(begin.as_bytes().to_vec());
        let stream: Vec<u8> = on.bytes().cycle().take(PIECE / on.len() * on.len()).collect();
        let mut fed = 0;
        // Nobody answers.
        while !http.is_over() && !matches!(http.stage, Stage::Answer) {
            assert!(fed <= 8 * MOST_BODY, "{begin:?} {on:?} has no end");
            http.feed(&stream);
            fed += stream.len();
            assert!(held(&http) <= 2 * MAX_HEAD + MOST_BODY + PIECE);
            if let Event::Request(request) = http.next(UNIX) {
                assert!(request.body().len() <= MOST_BODY);
            }
            assert!(held(&http) <= 2 * MAX_HEAD + MOST_BODY || matches!(http.stage, Stage::Answer));
        }
    }
}

#[test]
fn many_small_pieces_are_no_more_work_than_one() {
    // Were any of these quadratic, this would not come to an end.
    let (mut http, mut wire) = (Http::new(Vec::new()), String::new());
    for byte in chunked(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(MOST_BODY / 4))).bytes() {
        http.feed(&[byte]);
        serve(&mut http, &mut wire);
    }
    assert!(wire.ends_with(&"x".repeat(MOST_BODY / 4)));
    assert_eq!(short(&get("").repeat(30_000)).len(), 30_000);
}
