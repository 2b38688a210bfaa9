//! What a request head must have, and what it says about the body.

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Request, StatusCode, Version};

use crate::handshake::{HeadError, only};

/// Why a request is not served: the answer, after which the connection is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) message: &'static str,
}

impl Fault {
    pub(super) const fn new(status: StatusCode, message: &'static str) -> Fault {
        Fault { status, message }
    }

    pub(super) const fn bad(message: &'static str) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<HeadError> for Fault {
    fn from(error: HeadError) -> Fault {
        Fault::new(error.status(), error.message())
    }
}

/// Exactly one `Host` that is one; before HTTP/1.1 there may be none (RFC 9112, section 3.2).
pub(super) fn check_host(request: &Request<()>) -> Result<(), Fault> {
    let absent = !request.headers().contains_key(header::HOST);
    let good = match only(request.headers(), header::HOST) {
        // A target may have no authority, and then the field is empty.
        Some(host) => host.is_empty() || !host.contains(&b'@') && Authority::try_from(host).is_ok(),
        None => absent && request.version() < Version::HTTP_11,
    };
    if good { Ok(()) } else { Err(Fault::bad("exactly one Host is required")) }
}

/// Whether the client waits for leave to send the body. HTTP/1.0 knows no interim answers (RFC 9110, section 10.1.1).
pub(super) fn expects_continue(request: &Request<()>) -> Result<bool, Fault> {
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let expectations = request.headers().get_all(header::EXPECT);
    if !expectations.iter().all(known) {
        return Err(Fault::new(StatusCode::EXPECTATION_FAILED, "only 100-continue can be expected"));
    }
    Ok(expectations.iter().next().is_some() && request.version() >= Version::HTTP_11)
}
