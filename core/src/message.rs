//! The envelope: a message as every client of the JSON dialect reads it, encoded once where it enters.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use serde_json::value::RawValue;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::position::Position;
use crate::time::UnixMillis;

/// The name of a room, shared by everything that speaks of the room.
pub type RoomName = Arc<str>;

/// The room of everybody: every open connection of every node is in it, and none can leave.
pub const EVERYBODY: &str = "*";

/// Text that is one JSON value, kept byte for byte as its publisher wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// Checks that `text` is one JSON value; white space around it is dropped.
    ///
    /// ```
    /// use roomcast_core::message::Json;
    ///
    /// assert_eq!(Json::parse(" [1.0e5, null] ").unwrap().as_str(), "[1.0e5, null]");
    /// assert!(Json::parse("{").is_none());
    /// ```
    pub fn parse(text: &'a str) -> Option<Json<'a>> {
        serde_json::from_str::<&RawValue>(text).ok().map(Json::from)
    }

    /// For text that a parser of this crate has just delimited.
    pub(crate) fn trusted(text: &'a str) -> Json<'a> {
        Json(text)
    }

    /// The text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a RawValue> for Json<'a> {
    fn from(raw: &'a RawValue) -> Json<'a> {
        Json(raw.get())
    }
}

/// A message to be sent, before it is encoded.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its type, any string.
    pub kind: &'a str,
    /// Its data.
    pub data: Json<'a>,
    /// When it was made, as its publisher wrote it; the time of publishing where there is none.
    pub timestamp: Option<&'a str>,
    /// Its identifier; a fresh UUID where there is none.
    pub message_id: Option<&'a str>,
}

/// Encodes messages: `{"type","data","timestamp","message_id","room"}` in this order (PROTOCOL section 2).
///
/// ```
/// use roomcast_core::message::{Composer, Json, Outgoing};
/// use roomcast_core::time::UnixMillis;
///
/// let mut composer = Composer::new([7; 32]);
/// let message = Outgoing {
///     kind: "note", data: Json::parse("1.50").unwrap(), timestamp: None, message_id: Some("m-1"),
/// };
/// let envelope = composer.envelope("project:7", &message, UnixMillis(0));
/// assert_eq!(envelope.payload.as_ref(), br#"{"type":"note","data":1.50,"timestamp":"1970-01-01T00:00:00.000Z","message_id":"m-1","room":"project:7"}"#);
/// ```
#[derive(Clone, Debug)]
pub struct Composer {
    rng: ChaCha8Rng,
    /// The last timestamp written, in both forms: many messages are of the same moment.
    stamp: (UnixMillis, String),
}

/// About the bytes of an envelope beside type and data, with a room of the usual length.
pub(crate) const ENVELOPE: usize = 192;

/// An encoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The identifier it carries.
    pub message_id: Box<str>,
    /// The JSON text.
    pub payload: Bytes,
}

impl Composer {
    /// A composer whose identifiers follow from the seed.
    pub fn new(seed: [u8; 32]) -> Composer {
        let epoch = UnixMillis(0);
        Composer { rng: rand_chacha::rand_core::SeedableRng::from_seed(seed), stamp: (epoch, epoch.to_string()) }
    }

    /// Encodes a message for a room.
    pub fn envelope(&mut self, room: &str, message: &Outgoing<'_>, now: UnixMillis) -> Envelope {
        self.envelope_with(room, message, &[], now)
    }

    /// The same with further top-level fields, which are strings and follow the type.
    pub fn envelope_with(&mut self, room: &str, message: &Outgoing<'_>, fields: &[(&str, &str)], now: UnixMillis) -> Envelope {
        let message_id = message.message_id.map_or_else(|| self.uuid().to_string().into(), Box::from);
        let mut payload = BytesMut::new();
        self.put_envelope_with(&mut payload, room, &Outgoing { message_id: Some(&message_id), ..*message }, fields, now);
        Envelope { message_id, payload: payload.freeze() }
    }

    /// An envelope at the end of a buffer: messages that are made together share one.
    pub(crate) fn put_envelope(&mut self, out: &mut BytesMut, room: &str, message: &Outgoing<'_>, now: UnixMillis) {
        self.put_envelope_with(out, room, message, &[], now);
    }

    fn put_envelope_with(
        &mut self,
        out: &mut BytesMut,
        room: &str,
        message: &Outgoing<'_>,
        fields: &[(&str, &str)],
        now: UnixMillis,
    ) {
        out.reserve(message.data.as_str().len() + room.len() + message.kind.len() + ENVELOPE);
        out.put_slice(b"{\"type\":");
        put_string(out, message.kind);
        for (name, value) in fields {
            out.put_u8(b',');
            put_string(out, name);
            out.put_u8(b':');
            put_string(out, value);
        }
        out.put_slice(b",\"data\":");
        out.put_slice(message.data.as_str().as_bytes());
        self.put_tail(out, message.timestamp, message.message_id, now);
        out.put_slice(b",\"room\":");
        put_string(out, room);
        out.put_u8(b'}');
    }

    /// Encodes a frame of the server itself, which belongs to no room: a reply, or a notice.
    pub fn notice(&mut self, kind: &str, data: Option<Json<'_>>, reply_to: Option<&str>, now: UnixMillis) -> Vec<u8> {
        self.notice_with(kind, data, reply_to, &[], now)
    }

    /// The same with further top-level fields, which follow the type as they are.
    pub fn notice_with(
        &mut self,
        kind: &str,
        data: Option<Json<'_>>,
        reply_to: Option<&str>,
        fields: &[(&str, Json<'_>)],
        now: UnixMillis,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.map_or(0, |data| data.as_str().len()) + 160);
        out.put_slice(b"{\"type\":");
        put_string(&mut out, kind);
        for (name, value) in fields {
            out.put_u8(b',');
            put_string(&mut out, name);
            out.put_u8(b':');
            out.put_slice(value.as_str().as_bytes());
        }
        if let Some(data) = data {
            out.put_slice(b",\"data\":");
            out.put_slice(data.as_str().as_bytes());
        }
        self.put_tail(&mut out, None, None, now);
        if let Some(reply_to) = reply_to {
            out.put_slice(b",\"reply_to\":");
            put_string(&mut out, reply_to);
        }
        out.put_u8(b'}');
        out
    }

    fn put_tail(&mut self, out: &mut impl BufMut, timestamp: Option<&str>, message_id: Option<&str>, now: UnixMillis) {
        out.put_slice(b",\"timestamp\":");
        match timestamp {
            Some(timestamp) => put_string(out, timestamp),
            None => {
                if self.stamp.0 != now {
                    self.stamp = (now, now.to_string());
                }
                put_plain(out, &self.stamp.1);
            }
        }
        out.put_slice(b",\"message_id\":");
        match message_id {
            Some(message_id) => put_string(out, message_id),
            None => put_plain(out, self.uuid().encode_lower(&mut Uuid::encode_buffer())),
        }
    }

    fn uuid(&mut self) -> Hyphenated {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated()
    }
}

/// Appends an envelope with its position as its last field.
pub(crate) fn put_with_position(out: &mut Vec<u8>, payload: &[u8], position: Position) {
    match payload.strip_suffix(b"}") {
        Some(object) => {
            out.extend_from_slice(object);
            out.extend_from_slice(b",\"position\":\"");
            position.put(out);
            out.extend_from_slice(b"\"}");
        }
        None => out.extend_from_slice(payload),
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn put_string(out: &mut impl BufMut, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        put_plain(out, text);
    } else {
        // Serialising a string into memory cannot fail.
        let _ = serde_json::to_writer(out.writer(), text);
    }
}

/// The same of text in which nothing has to be escaped.
fn put_plain(out: &mut impl BufMut, text: &str) {
    out.put_u8(b'"');
    out.put_slice(text.as_bytes());
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_publisher_gave_is_kept() {
        let message = Outgoing {
            kind: "a\"b",
            data: Json::parse("{\"z\": 1.0e5,\n \"a\":null}").unwrap(),
            timestamp: Some("yesterday"),
            message_id: Some("m"),
        };
        let envelope = Composer::new([0; 32]).envelope("r", &message, UnixMillis(9));
        let text = str::from_utf8(&envelope.payload).unwrap();
        assert_eq!(
            text,
            "{\"type\":\"a\\\"b\",\"data\":{\"z\": 1.0e5,\n \"a\":null},\"timestamp\":\"yesterday\",\"message_id\":\"m\",\"room\":\"r\"}"
        );
    }

    #[test]
    fn identifiers_follow_from_the_seed_and_do_not_repeat() {
        let (mut one, mut two) = (Composer::new([1; 32]), Composer::new([1; 32]));
        let first = one.uuid();
        assert_eq!(first, two.uuid());
        assert_ne!(first, one.uuid());
        assert_eq!(first.to_string().len(), 36);
    }
}
