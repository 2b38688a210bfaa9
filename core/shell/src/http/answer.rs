//! The one way in which an answer becomes bytes.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use httpdate::HttpDate;
use roomcast_core::http::error;
use roomcast_core::time::UnixMillis;

use crate::handshake::tokens;

/// Headers that say how the bytes are sent, which is decided here.
const OURS: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING];

/// The last second that has a date: the year has four digits (RFC 9110, section 5.6.7).
const LAST_SECOND: u64 = 253_402_300_799;

/// How an answer is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) persistence: Persistence,
    /// It answers `HEAD`: it has the length of a body, and none.
    pub(crate) bodiless: bool,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Persistence {
    #[default]
    Close,
    Stay,
    /// It stays although the client is older than HTTP/1.1, and has to be told.
    SayStay,
}

impl Manner {
    /// How a request wants to be answered (RFC 9112, section 9.3).
    pub(crate) fn of(request: &Request<()>) -> Manner {
        let persistence = match request.version() >= Version::HTTP_11 {
            _ if says(request.headers(), "close") => Persistence::Close,
            true => Persistence::Stay,
            false if says(request.headers(), "keep-alive") => Persistence::SayStay,
            false => Persistence::Close,
        };
        Manner { persistence, bodiless: request.method() == Method::HEAD }
    }

    /// The same, unless the response is to be the last.
    pub(crate) fn with(self, response: &Response<Bytes>) -> Manner {
        if says(response.headers(), "close") { Manner { persistence: Persistence::Close, ..self } } else { self }
    }
}

fn says(headers: &HeaderMap, option: &str) -> bool {
    tokens(headers, CONNECTION).any(|token| token.eq_ignore_ascii_case(option))
}

/// An error answer as every part of Roomcast gives it, `message` for people and a code for programs: the name of the status in
/// snake case, or the shorter name the API has for it.
pub(crate) fn refusal(status: StatusCode, message: &str) -> Response<Bytes> {
    let named;
    let code = match status {
        StatusCode::REQUEST_TIMEOUT => "timeout",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::INTERNAL_SERVER_ERROR => "internal",
        _ => {
            named = reason(status).to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
            &named
        }
    };
    error(status, code, message)
}

/// A response as the last bytes of a connection that needs no more of HTTP.
pub(crate) fn closing(response: &Response<Bytes>) -> Bytes {
    let mut bytes = Vec::new();
    write(&mut bytes, response, Manner::default(), None);
    bytes.into()
}

/// Appends a response.
pub(crate) fn write(out: &mut Vec<u8>, response: &Response<Bytes>, manner: Manner, unix: Option<UnixMillis>) {
    let (status, headers, body) = (response.status(), response.headers(), response.body());
    // One allocation for nearly all.
    out.reserve(512 + body.len());
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason(status), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut field = |name: &HeaderName, value: &[u8]| {
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    headers.iter().filter(|(name, _)| !OURS.contains(name)).for_each(|(name, value)| field(name, value.as_bytes()));
    // Whoever sends Upgrade has to say that it is for the next hop only (RFC 9110, section 7.8).
    if headers.contains_key(UPGRADE) {
        field(&CONNECTION, b"upgrade");
    }
    match manner.persistence {
        Persistence::Close => field(&CONNECTION, b"close"),
        Persistence::SayStay => field(&CONNECTION, b"keep-alive"),
        Persistence::Stay => {}
    }
    if let Some(unix) = unix {
        let since = Duration::from_secs(unix.as_secs().min(LAST_SECOND));
        field(&DATE, HttpDate::from(UNIX_EPOCH + since).to_string().as_bytes());
    }
    // These have no body, and a length would announce one (RFC 9110, section 8.6).
    let empty = status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    if !empty {
        field(&CONTENT_LENGTH, body.len().to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if !empty && !manner.bodiless {
        out.extend_from_slice(body);
    }
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("")
}
