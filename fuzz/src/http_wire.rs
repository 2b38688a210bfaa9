//! Plain HTTP: any split of the same bytes gives the same requests and answers, and what is understood is understood again when
//! it is written down.

use bytes::Bytes;
use http::{Method, Request, Response, Version, header};
use roomcast_core::http::MOST_BODY;
use roomcast_core::time::UnixMillis;
use roomcast_shell::handshake::MAX_HEAD;
use roomcast_shell::http::{Event, Http};

use crate::input::{Cut, Input};

const UNIX: UnixMillis = UnixMillis(0);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Input: how many bytes are written at a time (zero: all), then bytes with the places to cut them at.
///
/// # Panics
///
/// When the pieces matter, when a request is not what its bytes say, or when an answer is not a complete one.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let write = match input.below(256) {
        0 => usize::MAX,
        some => some,
    };
    let cut = Cut::read(input);

    let whole = serve([cut.bytes], write);
    assert_eq!(serve(cut.pieces(), write), whole, "cut at some places");
    assert_eq!(serve(cut.bytes.chunks(1), write), whole, "cut everywhere");
    check_answers(&whole);
}

/// What shows of a connection.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    /// The requests, printed, and whether their answers have no body.
    requests: Vec<(String, bool)>,
    /// What was written, without leave to continue: only who has not sent anything of the body yet gets that.
    wire: Vec<u8>,
    /// What came behind the request for a WebSocket.
    given: Option<Vec<u8>>,
    over: bool,
}

fn serve<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, write: usize) -> Shown {
    let (mut http, mut shown) = (Http::new(Vec::new()), Shown::default());
    // The line breaks make it judge garbage that it would have looked at later.
    for piece in pieces.into_iter().chain([&b"\n\n"[..]]) {
        if let Some(given) = &mut shown.given {
            given.extend(piece);
        } else {
            assert_eq!(http.wants_input(), !http.is_done(), "all is answered, all is written");
            http.feed(piece);
            shown.step(&mut http, write);
        }
    }
    shown.over = http.is_over();
    shown
}

impl Shown {
    /// Serves what there is to serve.
    fn step(&mut self, http: &mut Http, write: usize) {
        loop {
            let event = http.next(UNIX);
            if let Event::Request(request) = &event {
                assert!(self.given.is_none() && !http.is_over());
                check_request(request);
                self.requests.push((format!("{request:?}"), request.method() == Method::HEAD));
                http.respond(UNIX, Response::new(Bytes::from_static(b"answer")));
            }
            if http.output().starts_with(CONTINUE) {
                http.written(CONTINUE.len());
            }
            while !http.output().is_empty() {
                assert!(matches!(http.next(UNIX), Event::Wait) && !http.wants_input());
                let written = &http.output()[..write.min(http.output().len())];
                self.wire.extend(written);
                http.written(written.len());
            }
            match event {
                Event::Request(_) => {}
                Event::Wait => return,
                Event::Upgrade(_, bytes) => {
                    assert!(http.is_done());
                    self.given = Some(bytes);
                    return;
                }
            }
        }
    }
}

fn check_request(request: &Request<Bytes>) {
    let count = |name| request.headers().get_all(name).iter().count();
    assert!(request.body().len() <= MOST_BODY);
    assert!(count(header::HOST) == 1 || request.version() == Version::HTTP_10 && count(header::HOST) == 0);
    assert!(count(header::CONTENT_LENGTH) + count(header::TRANSFER_ENCODING) <= 1, "two ways to tell its end");

    // A target or a field that `http` prints otherwise than it reads it would show here.
    let mut again = format!("{} {} {:?}\r\n", request.method(), request.uri(), request.version()).into_bytes();
    let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    for (name, value) in request.headers().iter().filter(|(name, _)| !framing.contains(name)) {
        again.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    // One field for the one left out; a request without a body may have as many as are allowed without that.
    if !request.body().is_empty() {
        again.extend(format!("content-length: {}\r\n", request.body().len()).into_bytes());
    }
    again.extend(b"\r\n");
    if again.len() > MAX_HEAD {
        return;
    }
    again.extend_from_slice(request.body());
    let Event::Request(same) = Http::new(again).next(UNIX) else { panic!("{request:?} is not understood again") };
    let what = |request: &Request<Bytes>| {
        let mut headers = request.headers().clone();
        framing.iter().for_each(|name| drop(headers.remove(name)));
        (request.method().clone(), request.uri().clone(), request.version(), headers, request.body().clone())
    };
    assert_eq!(what(&same), what(request));
}

/// There is an answer to each request, and perhaps one to what is none; then the connection is over.
fn check_answers(shown: &Shown) {
    let (mut rest, mut answers) = (&shown.wire[..], 0);
    while !rest.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(head)) = response.parse(rest) else {
            panic!("no answer: {:?}", String::from_utf8_lossy(rest));
        };
        let field = |name: &str| response.headers.iter().find(|field| field.name == name).map(|field| field.value);
        let length = field("content-length").and_then(|length| str::from_utf8(length).ok()).expect("it has a length");
        let length: usize = length.parse().expect("the length is a number");
        assert!(field("date").is_some());
        rest = &rest[head..];
        let bodiless = match shown.requests.get(answers) {
            Some((_, bodiless)) => *bodiless,
            // Whether this was to be HEAD cannot be known.
            None => rest.is_empty(),
        };
        assert_eq!(response.code == Some(200), answers < shown.requests.len());
        answers += 1;
        if !bodiless {
            rest = &rest[length..];
        }
        if field("connection") == Some(b"close") {
            assert!(shown.over && rest.is_empty(), "more than the last answer");
        }
    }
    assert!(answers == shown.requests.len() || answers == shown.requests.len() + 1 && shown.over);
}
