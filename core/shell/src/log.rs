//! What happened, as structured log lines.
//!
//! What clients do that concerns security has a target of its own, [`AUDIT`]. Whatever they may choose is written as a string value,
//! which the formats escape, and is cut after 256 bytes.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{Method, Request, StatusCode};
use roomcast_core::admission::NotAdmitted;
use roomcast_core::config::Scope;
use roomcast_core::http::{Access, Caller};
use roomcast_core::report::Report;
use serde::Deserialize;
use tracing::field::{DisplayValue, display};
use tracing::{Level, debug, enabled, error, info, warn};

/// The target of the audit log: who connects and goes, is refused or denied, and what is done over the HTTP API.
pub const AUDIT: &str = "roomcast::audit";

/// The most of a text that a client chose, in bytes.
const LONGEST: usize = 256;

/// Whether anyone wants to know: reports are not even made otherwise.
pub fn wanted() -> bool {
    enabled!(Level::ERROR) || enabled!(target: AUDIT, Level::ERROR)
}

/// Writes a report as one log line.
pub fn write(report: &Report) {
    match report {
        Report::Opened { conn, address, path } => {
            debug!(target: AUDIT, ?conn, address = shown(address), path = cut(path), "connection opened");
        }
        Report::Authenticated { conn, address, user } => {
            debug!(target: AUDIT, ?conn, address = shown(address), user = cut(user), "authenticated");
        }
        Report::Closed { conn, address, user, cause } => {
            debug!(target: AUDIT, ?conn, address = shown(address), user = user.as_deref().map(cut), cause, "connection closed");
        }
        Report::AuthFailed { conn, address, code } => {
            info!(target: AUDIT, ?conn, address = shown(address), code, "authentication failed");
        }
        Report::Refused { address, path, origin, status, reason } => {
            let (path, origin) = (cut(path), origin.as_deref().map(cut));
            info!(target: AUDIT, address = shown(address), path, origin, status, reason, "connection refused");
        }
        Report::Denied { conn, address, user, action, room } => {
            let (address, user, room) = (shown(address), user.as_deref().map(cut), cut(room));
            info!(target: AUDIT, ?conn, address, user, action, room, "denied");
        }
        Report::Exceeded { conn, address, user, code, cause } => {
            let (address, user) = (shown(address), user.as_deref().map(cut));
            info!(target: AUDIT, ?conn, address, user, code, cause, "closed at a limit");
        }
        Report::Batch { stream, entry, batch, events, compressed } => {
            info!(stream = &**stream, %entry, batch = &**batch, events, compressed, "received batch");
        }
        Report::Broadcast { room, payload, clients } => {
            if enabled!(Level::INFO) {
                let kind = kind(payload);
                info!(room = &**room, kind = kind.as_deref(), clients, "broadcast to {clients} clients");
            }
        }
        Report::Acked { stream, entry } => info!(stream = &**stream, %entry, "acked"),
        Report::Routed { stream, entry, target } => {
            info!(stream = &**stream, %entry, target = &**target, "routed and acked");
        }
        Report::DeadLettered { stream, entry, reason } => {
            error!(stream = &**stream, %entry, reason = &**reason, "dead-lettered and acked");
        }
        Report::Gone { stream, entry } => warn!(stream = &**stream, %entry, "deleted or trimmed while it was pending"),
        Report::GroupLost { stream, group } => warn!(stream = &**stream, group = &**group, "the consumer group is gone"),
        Report::GroupCreated { stream, group, after } => {
            info!(stream = &**stream, group = &**group, %after, "created the consumer group");
        }
        Report::Failed { stream, entry, reason } => {
            warn!(stream = &**stream, %entry, reason = &**reason, "failed, and tried again later");
        }
        Report::LettersReplayed { stream, replayed, failures } => {
            warn!(stream = &**stream, replayed, failures, "dead letters were replayed");
        }
        Report::LettersPurged { stream, letters } => warn!(stream = &**stream, letters, "dead letters were purged"),
        Report::ConsumerRemoved { stream, consumer } => {
            info!(stream = &**stream, consumer = &**consumer, "removed a consumer whose process is gone");
        }
        Report::RoomHealed { room, messages } => warn!(room = &**room, messages, "read what the relay logs had not brought"),
        Report::RoomLost { room, position } => warn!(room = &**room, %position, "messages were lost"),
        Report::Skipped { stream, entry, reason, sample } => {
            warn!(stream = &**stream, %entry, reason = &**reason, sample = &**sample, "skipped what is no message");
        }
        Report::StoreFailed { what, error } => warn!(what, %error, "the store failed"),
        Report::Deaf { what } => warn!("{what} not heard: the connection is replaced"),
        Report::ChannelGap { channels } => warn!(channels = &**channels, "channels are listened to again, after a gap"),
        Report::Unheard { channel, reason, sample, count } => {
            warn!(channel = &**channel, reason = &**reason, sample = &**sample, count, "cannot be passed on");
        }
        Report::StoreRecovered => info!("the store answers"),
    }
}

/// Somebody is not let in, before anything is known but from where they come.
pub(crate) fn turned_away(address: Option<IpAddr>, refused: NotAdmitted) {
    let (status, reason) = (refused.status().as_u16(), refused.message());
    info!(target: AUDIT, address = shown(&address), status, reason, "turned away");
}

/// Something that is asked of the HTTP API and takes a scope. It is written when it is dropped, so that it is also known of a client
/// that does not wait for its answer.
#[derive(Debug)]
pub(crate) struct Action {
    access: Access,
    address: Option<IpAddr>,
    method: Method,
    path: Box<str>,
    room: Option<Box<str>>,
    /// What came of it, once that is known.
    pub(crate) status: Option<StatusCode>,
}

impl Action {
    pub(crate) fn new<B>(access: Access, address: Option<IpAddr>, request: &Request<B>, room: Option<&str>) -> Action {
        let (method, path) = (request.method().clone(), cut(request.uri().path()).into());
        Action { access, address, method, path, room: room.map(|room| cut(room).into()), status: None }
    }
}

impl Drop for Action {
    fn drop(&mut self) {
        let Action { access: Access { scope, caller }, address, method, path, room, status } = self;
        let (key, user) = match caller {
            Some(Caller::Key(key)) => (Some(&**key), None),
            Some(Caller::User(user)) => (None, Some(cut(user))),
            None => (None, None),
        };
        let (address, scope, method, path, room) = (shown(address), *scope, method.as_str(), &**path, room.as_deref());
        let status = status.map(|status| status.as_u16());
        // Who looks at figures changes nothing and learns nothing that was said, and does so every few seconds.
        if scope == Scope::Inspect && status.is_some_and(|status| status < 400) {
            debug!(target: AUDIT, address, key, user, scope = scope.name(), method, path, room, status, "request to the API");
        } else {
            info!(target: AUDIT, address, key, user, scope = scope.name(), method, path, room, status, "request to the API");
        }
    }
}

fn shown(address: &Option<IpAddr>) -> Option<DisplayValue<&IpAddr>> {
    address.as_ref().map(display)
}

/// The beginning of a text, no longer than [`LONGEST`].
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default()
}

/// The type of an envelope.
fn kind(payload: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_slice::<Envelope<'_>>(payload).ok().map(|envelope| envelope.r#type)
}
