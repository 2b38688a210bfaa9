//! Answers to the requests of sessions that poll.

use core::fmt;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY,
};
use http::{HeaderValue, Response, StatusCode};

use crate::dialect::json::Object;
use crate::hub::page::Page;

/// A request of a client that polls, numbered by the host: no number twice, as long as a request waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

/// What a request of a client that polls is answered with.
///
/// ```
/// use roomcast_core::hub::PollAnswer;
///
/// let response = PollAnswer::text("ok").into_response();
/// assert_eq!(response.headers()["content-type"], "text/plain; charset=UTF-8");
/// assert_eq!(&response.body()[..], b"ok");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PollAnswer {
    status: StatusCode,
    kind: Kind,
    body: Bytes,
    /// The page that may read it, where one has asked.
    page: Option<Page>,
    retry_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Json,
    /// The answer to a browser that asks what it may ask.
    Preflight,
}

impl fmt::Debug for PollAnswer {
    /// Without the body, which may have secrets of its client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PollAnswer({}, {} bytes)", self.status, self.body.len())
    }
}

impl PollAnswer {
    /// Packets, or a plain word.
    pub fn text(body: impl Into<Bytes>) -> PollAnswer {
        PollAnswer { status: StatusCode::OK, kind: Kind::Text, body: body.into(), page: None, retry_after: None }
    }

    /// An error, as Engine.IO's clients know it.
    pub(super) fn error(error: EngineError) -> PollAnswer {
        let body = Object::new().number("code", error.code()).string("message", error.message()).finish();
        PollAnswer { status: error.status(), kind: Kind::Json, ..PollAnswer::text(body) }
    }

    pub(super) fn preflight() -> PollAnswer {
        PollAnswer { status: StatusCode::NO_CONTENT, kind: Kind::Preflight, ..PollAnswer::text(Bytes::new()) }
    }

    /// The same, and that another attempt may do better after so many seconds.
    pub(super) fn retry_after(self, seconds: Option<u64>) -> PollAnswer {
        PollAnswer { retry_after: seconds, ..self }
    }

    /// The same, to be read by this page.
    pub(super) fn readable_by(self, page: Option<Page>) -> PollAnswer {
        PollAnswer { page, ..self }
    }

    /// The answer with all its headers.
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut put = |name, value| headers.insert(name, HeaderValue::from_static(value));
        match self.kind {
            Kind::Text => drop(put(CONTENT_TYPE, "text/plain; charset=UTF-8")),
            Kind::Json => drop(put(CONTENT_TYPE, "application/json")),
            Kind::Preflight => {
                put(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
                put(ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type");
                put(ACCESS_CONTROL_MAX_AGE, "600");
            }
        }
        put(CACHE_CONTROL, "no-store");
        if let Some(Page { origin, is_trusted }) = self.page {
            put(VARY, "Origin");
            if is_trusted {
                put(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
            }
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Why a request is refused. The first six are numbered by Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineError {
    UnknownTransport,
    UnknownSession,
    HandshakeMethod,
    BadRequest,
    Forbidden,
    UnsupportedVersion,
    /// The session belongs to another node.
    Elsewhere,
    /// A script is asked for, for browsers that know no CORS.
    Jsonp,
    Malformed,
    TooLarge,
    /// There is no room for another session, or the node is going away.
    Busy,
    /// There is none for its address, or not so soon.
    TooMany,
}

impl EngineError {
    fn code(self) -> u64 {
        match self {
            EngineError::UnknownTransport => 0,
            EngineError::UnknownSession | EngineError::Elsewhere => 1,
            EngineError::HandshakeMethod => 2,
            EngineError::BadRequest | EngineError::Jsonp | EngineError::Malformed | EngineError::TooLarge => 3,
            EngineError::Forbidden | EngineError::Busy | EngineError::TooMany => 4,
            EngineError::UnsupportedVersion => 5,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            EngineError::Forbidden => StatusCode::FORBIDDEN,
            EngineError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            EngineError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            EngineError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            EngineError::UnknownTransport => "Transport unknown",
            EngineError::UnknownSession => "Session ID unknown",
            EngineError::HandshakeMethod => "Bad handshake method",
            EngineError::BadRequest => "Bad request",
            EngineError::Forbidden => "Forbidden",
            EngineError::UnsupportedVersion => "Unsupported protocol version",
            EngineError::Elsewhere => {
                "Session ID unknown: it is of another node. Long-polling needs a balancer with sticky sessions; WebSocket does not"
            }
            EngineError::Jsonp => "Bad request: JSONP is not supported",
            EngineError::Malformed => "Bad request: the packets are malformed",
            EngineError::TooLarge => "The payload is too large",
            EngineError::Busy => "The server takes no more sessions at the moment",
            EngineError::TooMany => "Too many connections from this address",
        }
    }
}
