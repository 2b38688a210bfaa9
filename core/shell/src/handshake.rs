//! The request that opens a connection, and the answers to it (RFC 9112; RFC 6455, section 4.2).
//!
//! The shard reads the first request of every connection itself, because a silent socket costs it half a kilobyte and an
//! HTTP server 17: a WebSocket stays, any other request is handed on with the bytes read so far. Everything here is a
//! function of bytes, or holds bytes.

use core::fmt;
use core::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use roomcast_core::config::Limits;
use roomcast_core::hub::Refused;
use tungstenite::handshake::derive_accept_key;

use crate::http::{closing, refusal};

/// The longest request head, in bytes. Cookies and tokens fit; more is answered with 431 (RFC 6585, section 5).
pub const MAX_HEAD: usize = 16 * 1024;

/// The most header fields a request may have.
pub const MAX_HEADERS: usize = 64;

/// What a request head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimit {
    /// Its bytes.
    pub bytes: usize,
    /// Its fields, at most [`Limits::MOST_HEADERS`].
    pub fields: usize,
}

impl Default for HeadLimit {
    /// [`MAX_HEAD`] and [`MAX_HEADERS`].
    fn default() -> HeadLimit {
        HeadLimit { bytes: MAX_HEAD, fields: MAX_HEADERS }
    }
}

/// The longest method. Registered ones have up to 17 letters; without a bound, a stream of letters would be waited for.
const MAX_METHOD: usize = 32;

/// The most line breaks before a request; one empty line is to be ignored (RFC 9112, section 2.2).
const MAX_BLANK: usize = 4;

/// Reads a request head that `bytes` begin with: the request and the length of its head, or `None` while it is cut.
///
/// What follows the head is not touched: a client may send its first frame, or a body, together with the request. Bytes
/// that no continuation can make a request are refused as soon as that shows: a TLS greeting at its first byte.
///
/// ```
/// use roomcast_shell::handshake::{HeadError, parse_head};
///
/// let (request, head) = parse_head(b"GET /ws?v=1 HTTP/1.1\r\nHost: a.example\r\n\r\nmore")?.unwrap();
/// assert_eq!((request.uri().path(), &request.headers()["host"], head), ("/ws", &"a.example".parse().unwrap(), 41));
/// assert!(parse_head(b"GET /ws?v=1 HT")?.is_none());
/// assert_eq!(parse_head(b"\x16\x03\x01\x02").unwrap_err(), HeadError::Malformed);
/// # Ok::<(), HeadError>(())
/// ```
///
/// # Errors
///
/// [`HeadError`], which knows the status to answer with.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, HeadError> {
    parse_head_within(bytes, HeadLimit::default())
}

/// The same with other bounds.
///
/// # Errors
///
/// As [`parse_head`].
pub fn parse_head_within(bytes: &[u8], limit: HeadLimit) -> Result<Option<(Request<()>, usize)>, HeadError> {
    let capped = &bytes[..bytes.len().min(limit.bytes)];
    if !may_begin_request(capped) {
        return Err(HeadError::Malformed);
    }
    let mut fields = [const { MaybeUninit::uninit() }; Limits::MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(capped, &mut fields[..limit.fields.min(Limits::MOST_HEADERS)]) {
        Ok(httparse::Status::Complete(head)) => Ok(Some((build(&parsed).ok_or(HeadError::Malformed)?, head))),
        Ok(httparse::Status::Partial) if capped.len() < limit.bytes => Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(_) => Err(HeadError::Malformed),
    }
}

/// Whether the first bytes have what httparse would wait for without end: a method, soon.
fn may_begin_request(bytes: &[u8]) -> bool {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let method = bytes[blank..].iter().take_while(|&&byte| byte != b' ').take(MAX_METHOD + 1).count();
    blank <= MAX_BLANK && method <= MAX_METHOD
}

/// The parsed head as an `http` request; `None` where `http` is stricter than httparse, as with some targets.
fn build(parsed: &httparse::Request<'_, '_>) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    *request.uri_mut() = parsed.path?.parse().ok()?;
    *request.version_mut() = if parsed.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(request)
}

/// Holds a request head that arrives in pieces.
///
/// A head that arrives whole, as nearly all do, needs none of this: try [`parse_head`] first. However small the pieces are,
/// the work is proportional to the bytes, because the head is parsed again only when it may be whole or has doubled.
///
/// ```
/// use roomcast_shell::handshake::{HeadBuffer, HeadError};
///
/// let mut buffer = HeadBuffer::new();
/// assert!(buffer.feed(b"GET /ws HTTP/1.1\r\nHost: a")?.is_none());
/// let (request, head) = buffer.feed(b".example\r\n\r\nmore")?.unwrap();
/// assert_eq!((request.uri().path(), &buffer.into_bytes()[head..]), ("/ws", &b"more"[..]));
/// # Ok::<(), HeadError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct HeadBuffer {
    bytes: Vec<u8>,
    limit: HeadLimit,
    /// The length at which a parse is due although no end of a head is in sight.
    due: usize,
}

impl HeadBuffer {
    /// A buffer that holds nothing yet, not even memory.
    pub fn new() -> HeadBuffer {
        HeadBuffer::default()
    }

    /// The same with other bounds.
    pub fn within(limit: HeadLimit) -> HeadBuffer {
        HeadBuffer { limit, ..HeadBuffer::default() }
    }

    /// Adds bytes from the socket, and returns what [`parse_head`] makes of all so far. Garbage behind a good beginning may
    /// be refused a little later than there.
    ///
    /// # Errors
    ///
    /// As [`parse_head`].
    pub fn feed(&mut self, input: &[u8]) -> Result<Option<(Request<()>, usize)>, HeadError> {
        // A head ends with two line breaks; "\r\n" and "\n" are both taken for one. The last two bytes held may begin them.
        let from = self.bytes.len().saturating_sub(2);
        self.bytes.extend_from_slice(input);
        let fresh = &self.bytes[from..];
        let may_end = fresh.windows(3).any(|three| three == b"\n\r\n") || fresh.windows(2).any(|two| two == b"\n\n");
        if !may_end && self.bytes.len() < self.due.min(self.limit.bytes) {
            return Ok(None);
        }
        self.due = self.bytes.len() * 2;
        parse_head_within(&self.bytes, self.limit)
    }

    /// Everything that was fed: the head, and what came with it.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Why bytes are no request head that can be served.
///
/// ```
/// assert_eq!(roomcast_shell::handshake::HeadError::TooLarge.status(), 431);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// They are not HTTP/1.
    Malformed,
    /// The head is longer than its limit, [`MAX_HEAD`] by default, or has more fields than [`MAX_HEADERS`].
    TooLarge,
}

impl HeadError {
    /// The status to answer with, before the connection is closed.
    pub const fn status(self) -> StatusCode {
        match self {
            HeadError::Malformed => StatusCode::BAD_REQUEST,
            HeadError::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }

    /// What to say about it.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            HeadError::Malformed => "malformed HTTP request",
            HeadError::TooLarge => "request head too large",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for HeadError {}

/// Whether a request asks for a WebSocket, well or badly: [`check_upgrade`] tells which. All others are plain HTTP.
pub fn is_upgrade<B>(request: &Request<B>) -> bool {
    tokens(request.headers(), header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
}

/// Checks an opening handshake as RFC 6455, section 4.2.1, demands. The request may come from another HTTP server as well.
///
/// ```
/// use roomcast_shell::handshake::{Refusal, accept, check_upgrade, is_upgrade};
///
/// let mut request = http::Request::get("/ws")
///     .header("host", "a.example")
///     .header("connection", "keep-alive, Upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())
///     .unwrap();
/// assert!(is_upgrade(&request));
/// assert_eq!(check_upgrade(&request), Ok(()));
/// assert!(accept(&request, None).starts_with(b"HTTP/1.1 101 "));
///
/// request.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
/// assert_eq!(check_upgrade(&request), Err(Refusal::WebSocketVersion));
/// ```
///
/// # Errors
///
/// The first demand that is not met.
pub fn check_upgrade<B>(request: &Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    let demand = |met: bool, refusal: Refusal| if met { Ok(()) } else { Err(refusal) };
    demand(request.method() == Method::GET, Refusal::Method)?;
    demand(request.version() >= Version::HTTP_11, Refusal::HttpVersion)?;
    demand(only(headers, header::HOST).is_some(), Refusal::Host)?;
    let upgrades = tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    demand(upgrades, Refusal::Connection)?;
    demand(is_upgrade(request), Refusal::Upgrade)?;
    demand(only(headers, header::SEC_WEBSOCKET_VERSION) == Some(b"13"), Refusal::WebSocketVersion)?;
    demand(only(headers, header::SEC_WEBSOCKET_KEY).is_some_and(is_key), Refusal::Key)
}

/// Why an opening handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The method is not GET.
    Method,
    /// The request is older than HTTP/1.1.
    HttpVersion,
    /// `Host` is missing or not the only one (also RFC 9112, section 3.2).
    Host,
    /// `Connection` does not say `upgrade`.
    Connection,
    /// `Upgrade` does not name `websocket`.
    Upgrade,
    /// `Sec-WebSocket-Version` is not 13.
    WebSocketVersion,
    /// `Sec-WebSocket-Key` is not the base64 of 16 bytes.
    Key,
}

impl Refusal {
    /// The status to answer with: 426 to another version of WebSocket (RFC 6455, section 4.4), else 400.
    pub const fn status(self) -> StatusCode {
        match self {
            Refusal::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The complete answer, as [`refuse`] makes it. A 426 also says which version is spoken here, as it must.
    pub fn to_response(self) -> Bytes {
        let mut response = refusal(self.status(), &self.to_string());
        if self == Refusal::WebSocketVersion {
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        closing(&response)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Method => "a WebSocket is opened with GET",
            Refusal::HttpVersion => "a WebSocket needs HTTP/1.1",
            Refusal::Host => "exactly one Host is required",
            Refusal::Connection => "Connection must contain upgrade",
            Refusal::Upgrade => "Upgrade must contain websocket",
            Refusal::WebSocketVersion => "Sec-WebSocket-Version must be 13",
            Refusal::Key => "Sec-WebSocket-Key must be the base64 of 16 bytes",
        })
    }
}

impl std::error::Error for Refusal {}

/// The 101 answer to a request that [`check_upgrade`] passed (RFC 6455, section 4.2.2).
///
/// `protocol` is the subprotocol chosen. It is left out unless the client offered it: a client must fail the connection over
/// one it did not ask for, and nothing but an offered token can get into the header.
pub fn accept<B>(request: &Request<B>, protocol: Option<&str>) -> Bytes {
    let headers = request.headers();
    let key = derive_accept_key(only(headers, header::SEC_WEBSOCKET_KEY).unwrap_or_default());
    let offered = |protocol: &&str| tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == *protocol);
    let protocol = match protocol.filter(offered) {
        Some(protocol) => format!("Sec-WebSocket-Protocol: {protocol}\r\n"),
        None => String::new(),
    };
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    Bytes::from(format!("{head}Sec-WebSocket-Accept: {key}\r\n{protocol}\r\n"))
}

/// A complete answer that ends the connection, with `body` as the message of a JSON error.
///
/// The code in it is for programs: the name of the status in snake case, or the shorter name the API has for it.
///
/// ```
/// let answer = roomcast_shell::handshake::refuse(http::StatusCode::NOT_FOUND, "no such path");
/// assert!(answer.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
/// assert!(answer.ends_with(br#"{"error":{"code":"not_found","message":"no such path"}}"#));
/// ```
pub fn refuse(status: StatusCode, body: &str) -> Bytes {
    closing(&refusal(status, body))
}

/// The answer to a request that the hub refuses.
pub(crate) fn refused(Refused { status, message, retry_after }: Refused) -> Bytes {
    let mut response = refusal(status, message);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    closing(&response)
}

/// The members of a list header, over all its lines (RFC 9110, section 5.6.1).
pub(crate) fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The value of a header that is there once. Twice is an error in all that are asked for here.
pub(crate) fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut lines = headers.get_all(name).into_iter();
    lines.next().filter(|_| lines.next().is_none()).map(HeaderValue::as_bytes)
}

/// Whether a key is the base64 of 16 bytes. It need not be decoded (RFC 6455, section 4.2.1).
fn is_key(key: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|letters| letters.len() == 22 && letters.iter().all(letter))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const REQUEST: &str = "GET /ws?token=x HTTP/1.1\r\nHost: a.example\r\nUpgrade: WebSocket\r\nConnection: keep-alive\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, auth-x.y\r\n\r\n";

    fn parse(text: &str) -> Request<()> {
        parse_head(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_good_request_is_accepted() {
        let request = parse(REQUEST);
        assert!(is_upgrade(&request));
        assert_eq!(check_upgrade(&request), Ok(()));
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert_eq!(accept(&request, None), format!("{answer}\r\n"));
        assert_eq!(accept(&request, Some("auth-x.y")), format!("{answer}Sec-WebSocket-Protocol: auth-x.y\r\n\r\n"));
        assert_eq!(accept(&request, Some("other")), format!("{answer}\r\n"));
        assert_eq!(accept(&request, Some("chat\r\nX: y")), format!("{answer}\r\n"));
    }

    #[test]
    fn every_demand_is_checked() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let changes = [
            ("GET", "POST", Refusal::Method),
            ("HTTP/1.1", "HTTP/1.0", Refusal::HttpVersion),
            ("Host:", "Most:", Refusal::Host),
            ("Host:", "Host: b\r\nHost:", Refusal::Host),
            ("Connection: Upgrade", "Connection: Upgraded", Refusal::Connection),
            ("WebSocket\r\n", "h2c\r\n", Refusal::Upgrade),
            ("Version: 13", "Version: 8", Refusal::WebSocketVersion),
            ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 8", Refusal::WebSocketVersion),
            ("Sec-WebSocket-Version: 13\r\n", "", Refusal::WebSocketVersion),
            ("Sec-WebSocket-Key", "X-Key", Refusal::Key),
            (key, "dGhlIHNhbXBsZSBub25jZQ=", Refusal::Key),
            (key, "dGhlIHNhbXBsZSBub25jZQAA", Refusal::Key),
            (key, "dGhlIHNhbXBsZSBub25j-Q==", Refusal::Key),
        ];
        for (from, to, refusal) in changes {
            let request = parse(&REQUEST.replacen(from, to, 1));
            assert_eq!(check_upgrade(&request), Err(refusal), "{to}");
            let status = if refusal == Refusal::WebSocketVersion { 426 } else { 400 };
            assert_eq!(refusal.status(), status);
            let answer = String::from_utf8(refusal.to_response().to_vec()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")));
            assert_eq!(answer.contains("\r\nsec-websocket-version: 13\r\n"), status == 426);
        }
    }

    #[test]
    fn a_refusal_is_a_complete_response() {
        let answer = String::from_utf8(refuse(StatusCode::FORBIDDEN, "no \"\\\n\u{1}é").to_vec()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n") && head.contains("\r\nconnection: close\r\n"));
        assert!(head.ends_with(&format!("\r\ncontent-length: {}", body.len())));
        assert_eq!(body, r#"{"error":{"code":"forbidden","message":"no \"\\\n\u0001é"}}"#);
        for (status, code) in [(400, "bad_request"), (429, "rate_limited"), (431, "request_header_fields_too_large"), (599, "")] {
            let answer = refuse(StatusCode::from_u16(status).unwrap(), "");
            assert!(answer.ends_with(format!(r#"{{"error":{{"code":"{code}","message":""}}}}"#).as_bytes()));
        }
    }

    #[test]
    fn nonsense_is_refused_early() {
        let letters = [b'A'; MAX_METHOD + 1];
        for bytes in [
            &b"\x16"[..],
            b"\0",
            b" ",
            b"\r\n\r\n\r",
            b"GET /\r\n",
            b"*1\r\n$4\r\nPING",
            b"SSH-2.0-x\r\n",
            b"GET / XTTP/",
            &letters,
        ] {
            assert_eq!(parse_head(bytes).unwrap_err(), HeadError::Malformed, "{bytes:x?}");
        }
        assert_eq!(parse_head(b"PRI * HTTP/2.0\r\n\r\n").unwrap_err(), HeadError::Malformed);
        assert_eq!(parse_head(b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n").unwrap_err(), HeadError::Malformed);
        assert!(parse_head(b"\r\nGET / HTTP/1.1\n\n").unwrap().is_some());
        let mut buffer = HeadBuffer::new();
        let stream = [b"GET / HTTP/1.1\r\n", &[0; 64][..]].concat();
        assert!(stream.chunks(1).any(|byte| buffer.feed(byte).is_err()));
    }

    #[test]
    fn a_head_is_bounded() {
        let sized = |length: usize| {
            let head = "GET / HTTP/1.1\r\nA: ";
            format!("{head}{}\r\n\r\n", "x".repeat(length - head.len() - 4))
        };
        assert_eq!(parse_head(sized(MAX_HEAD).as_bytes()).unwrap().unwrap().1, MAX_HEAD);
        assert_eq!(parse_head(sized(MAX_HEAD + 1).as_bytes()).unwrap_err(), HeadError::TooLarge);
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(parse(&fields(MAX_HEADERS)).headers().len(), MAX_HEADERS);
        assert_eq!(parse_head(fields(MAX_HEADERS + 1).as_bytes()).unwrap_err(), HeadError::TooLarge);
        let mut buffer = HeadBuffer::new();
        let endless = sized(2 * MAX_HEAD);
        let refused = endless.as_bytes().chunks(1).position(|byte| buffer.feed(byte).is_err());
        assert_eq!(refused, Some(MAX_HEAD - 1));
    }

    /// What can be compared of a result; requests cannot.
    fn shown(result: &Result<Option<(Request<()>, usize)>, HeadError>) -> String {
        format!("{result:?}")
    }

    /// Requests with some bytes overwritten, and something behind them.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let damage = prop_oneof![2 => vec((any::<Index>(), any::<u8>()), 0..1), 1 => vec((any::<Index>(), any::<u8>()), 1..4)];
        let fields = vec("[A-Za-z-]{1,12}: ?[ -~é]{0,30}\r?\n", 0..70);
        let request = prop_oneof![
            1 => Just(REQUEST.to_owned()),
            2 => ("[A-Z]{1,8} /[a-z?=&%]{0,20} HTTP/1\\.[01]\r?\n", fields)
                .prop_map(|(line, fields)| format!("{line}{}\r\n", fields.concat())),
        ];
        (request, damage, vec(any::<u8>(), 0..20)).prop_map(|(request, damage, behind)| {
            let mut bytes = request.into_bytes();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.extend(behind);
            bytes
        })
    }

    proptest! {
        #[test]
        fn a_beginning_never_contradicts_the_whole(bytes in heads(), cut: Index) {
            let beginning = parse_head(&bytes[..cut.index(bytes.len() + 1)]);
            if !matches!(beginning, Ok(None)) {
                prop_assert_eq!(shown(&beginning), shown(&parse_head(&bytes)));
            }
        }

        #[test]
        fn pieces_change_nothing(bytes in heads(), piece in 1..200usize) {
            let whole = parse_head(&bytes);
            let mut buffer = HeadBuffer::new();
            // The line breaks make it judge garbage that it would have looked at later.
            let mut results = bytes.chunks(piece).chain([&b"\n\n"[..]]).map(|piece| buffer.feed(piece)).enumerate();
            let first = results.find(|(_, result)| !matches!(result, Ok(None)));
            if let Ok(Some((_, head))) = &whole {
                prop_assert_eq!(first.as_ref().map(|(fed, _)| *fed), Some((head - 1) / piece), "with its last byte");
            }
            if !matches!(whole, Ok(None)) {
                prop_assert_eq!(first.map(|(_, result)| shown(&result)), Some(shown(&whole)));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), text: String) {
            let mut buffer = HeadBuffer::new();
            let _ = (parse_head(&bytes), buffer.feed(&bytes), buffer.feed(text.as_bytes()));
            let request = Request::builder().header("sec-websocket-protocol", &bytes[..]).header("upgrade", &bytes[..]).body(());
            if let Ok(request) = request {
                let _ = check_upgrade(&request);
                accept(&request, Some(&text));
            }
            refuse(StatusCode::BAD_REQUEST, &text);
        }
    }
}
