//! What the audit log is told of clients: who they are, and what they ask for and do not get.

use core::net::IpAddr;

use http::Request;
use http::header::ORIGIN;

use super::{Hub, Intent, Refused};
use crate::address::ClientAddress;
use crate::admission::TOLD_PER_SECOND;
use crate::dialect::json::ErrorCode;
use crate::id::ConnId;
use crate::report::Report;
use crate::time::Time;

/// The codes of closes that say that a limit was exceeded: policy, size, slowness, errors, connections.
const LIMITS: [u16; 5] = [1008, 1009, 4008, 4009, 4029];

impl Hub {
    /// A request is refused before there is a connection. Of those that come in floods, all on one socket if they like, not each is told.
    pub(super) fn note_refusal<B>(&mut self, now: Time, request: &Request<B>, refused: Refused) -> Refused {
        self.stats.refused += 1;
        if self.told.take(now, TOLD_PER_SECOND, TOLD_PER_SECOND).is_err() {
            return refused;
        }
        let origin = || request.headers().get(ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()).into());
        let ((path, address), status, reason) = (source_of(request), refused.status.as_u16(), refused.message);
        self.report(|| Report::Refused { address, path: path.into(), origin: origin(), status, reason });
        refused
    }

    /// A client may not do something in a room, and is told so.
    pub(super) fn deny(
        &mut self,
        now: Time,
        id: ConnId,
        (intent, room): (Intent, &str),
        (code, message): (ErrorCode, &str),
        request: Option<&str>,
    ) {
        if code == ErrorCode::Forbidden {
            self.note_denial(id, intent, room);
        }
        self.error(now, id, code, message, request);
    }

    /// A client may not do something, or not any more.
    pub(super) fn note_denial(&mut self, id: ConnId, intent: Intent, room: &str) {
        let (address, user, action) = (self.address_of(id), self.user_of(id), intent.name());
        self.report(|| Report::Denied { conn: id, address, user, action, room: room.into() });
    }

    /// A connection is about to be closed with a code.
    pub(super) fn note_limit(&mut self, id: ConnId, code: Option<u16>, cause: &'static str) {
        if let Some(code) = code.filter(|code| LIMITS.contains(code)) {
            let (address, user) = (self.address_of(id), self.user_of(id));
            self.report(|| Report::Exceeded { conn: id, address, user, code, cause });
        }
    }

    /// A connection cannot be authenticated.
    pub(super) fn note_bad_token(&mut self, id: ConnId, code: &'static str) {
        let address = self.address_of(id);
        self.report(|| Report::AuthFailed { conn: id, address, code });
    }

    /// A connection has become a user's.
    pub(super) fn note_user(&mut self, id: ConnId, user: &str) {
        let address = self.address_of(id);
        self.report(|| Report::Authenticated { conn: id, address, user: user.into() });
    }

    /// Where the client of a connection is, as far as that is known.
    pub(super) fn address_of(&self, id: ConnId) -> Option<IpAddr> {
        self.peek(id)?.address
    }

    fn user_of(&self, id: ConnId) -> Option<Box<str>> {
        let identity = self.peek(id)?.identity.as_ref()?;
        self.reporting.then(|| identity.user.clone())
    }
}

/// The path of a request, and where its client is, as far as that is known.
pub(super) fn source_of<B>(request: &Request<B>) -> (&str, Option<IpAddr>) {
    (request.uri().path(), request.extensions().get().map(|ClientAddress(address)| *address))
}
