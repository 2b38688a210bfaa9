//! Opening handshakes: a head that arrives in pieces is the head that arrives whole, and every answer is a complete one.

use http::{Request, StatusCode};
use roomcast_shell::handshake::{HeadBuffer, HeadError, MAX_HEAD, accept, check_upgrade, parse_head, refuse};

use crate::input::{Cut, Input};

/// Input: bytes with the places to cut them at.
///
/// # Panics
///
/// When the pieces matter, or when an answer is not one.
pub fn run(data: &[u8]) {
    let cut = Cut::read(Input::new(data));
    let whole = parse_head(cut.bytes);
    collect(cut.pieces(), &whole, cut.bytes);
    collect(cut.bytes.chunks(1), &whole, cut.bytes);

    let mut end = 0;
    for piece in cut.pieces() {
        end += piece.len();
        let beginning = parse_head(&cut.bytes[..end]);
        assert!(matches!(beginning, Ok(None)) || shown(&beginning) == shown(&whole), "{beginning:?}, then {whole:?}");
    }
    match whole {
        Ok(Some((request, head))) => {
            assert!(head <= MAX_HEAD.min(cut.bytes.len()));
            answer(&request);
        }
        Ok(None) => assert!(cut.bytes.len() < MAX_HEAD, "a head without end is waited for"),
        Err(error) => check_refusal(&refuse(error.status(), &error.to_string()), error.status()),
    }
}

type Head = Result<Option<(Request<()>, usize)>, HeadError>;

fn collect<'a>(pieces: impl Iterator<Item = &'a [u8]>, whole: &Head, bytes: &[u8]) {
    let (mut buffer, mut end) = (HeadBuffer::new(), 0);
    for piece in pieces {
        let before = end;
        end += piece.len();
        let result = buffer.feed(piece);
        if let Ok(Some((_, head))) = whole {
            assert_eq!(matches!(result, Ok(None)), end < *head, "known with its last byte: {before}, {end}, {head}");
        }
        if !matches!(result, Ok(None)) {
            assert_eq!(shown(&result), shown(whole));
            assert_eq!(buffer.into_bytes(), bytes[..end]);
            return;
        }
    }
    // What cannot become a head may be refused a little later than its beginning allows, but not after line breaks.
    if whole.is_err() {
        assert_eq!(shown(&buffer.feed(b"\n\n")), shown(whole));
    }
}

/// What can be compared of a result; requests cannot.
fn shown(result: &Head) -> String {
    format!("{result:?}")
}

fn answer(request: &Request<()>) {
    if let Err(refusal) = check_upgrade(request) {
        return check_refusal(&refusal.to_response(), refusal.status());
    }
    let offers = request.headers().get_all("sec-websocket-protocol").iter().filter_map(|value| value.to_str().ok());
    let offers: Vec<&str> = offers.flat_map(|value| value.split(',')).map(str::trim).collect();
    for protocol in [None, Some(request.uri().path()), offers.first().copied()] {
        let (status, fields, body) = parse_answer(&accept(request, protocol));
        assert_eq!((status, body), (101, 0));
        let chosen = fields.iter().find(|(name, _)| name == "Sec-WebSocket-Protocol");
        let offered = protocol.filter(|protocol| !protocol.is_empty() && offers.contains(protocol));
        assert_eq!(chosen.map(|(_, value)| value.as_str()), offered);
        assert_eq!(fields.len(), 3 + usize::from(offered.is_some()), "{fields:?}");
    }
}

fn check_refusal(answer: &[u8], expected: StatusCode) {
    let (status, fields, body) = parse_answer(answer);
    assert_eq!(status, expected.as_u16());
    let length = fields.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.as_str());
    assert_eq!(length, Some(body.to_string().as_str()));
}

/// The status, the fields and the length of the body of an answer.
fn parse_answer(answer: &[u8]) -> (u16, Vec<(String, String)>, usize) {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = response.parse(answer) else {
        panic!("no answer: {:?}", String::from_utf8_lossy(answer));
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = response.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect();
    (response.code.unwrap_or_default(), fields, answer.len() - head)
}
