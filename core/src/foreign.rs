//! Foreign messages: the JSON objects of publishers we do not own, read as far as passing them on needs.
//!
//! * A message is a JSON object with a `type`, mostly `{"type","data","timestamp","message_id"}`.
//! * All values are passed on byte for byte, further fields too, but for `room` and `position`, which are not the publisher's.
//! * A name that is read here and occurs twice refuses the message: which one counts would be up to each reader.
//!
//! No nesting can exhaust the stack: `serde_json` skips in a loop what it does not read.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use uuid::Uuid;

use crate::message::{ENVELOPE, put_string};
use crate::time::UnixMillis;

/// Longest message that is passed on, in bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// Why a message cannot be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignError {
    /// It has more than [`MOST_BYTES`].
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// It is not UTF-8.
    NotUtf8 {
        /// Valid bytes before the first invalid one.
        valid: usize,
    },
    /// The text is not one JSON object, or a name occurs twice.
    NotAnObject {
        /// What is wrong, and where.
        reason: String,
    },
    /// There is no `type`, or it is not a string.
    NoType,
}

impl ForeignError {
    /// A name for metrics, which does not change between versions.
    pub fn code(&self) -> &'static str {
        match self {
            ForeignError::TooLarge { .. } => "too_large",
            ForeignError::NotUtf8 { .. } => "not_utf8",
            ForeignError::NotAnObject { .. } => "not_an_object",
            ForeignError::NoType => "no_type",
        }
    }
}

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForeignError::TooLarge { size } => write!(f, "the message has {size} bytes, the limit is {MOST_BYTES}"),
            ForeignError::NotUtf8 { valid } => write!(f, "the message is not UTF-8 after byte {valid}"),
            ForeignError::NotAnObject { reason } => write!(f, "the message is not a JSON object: {reason}"),
            ForeignError::NoType => f.write_str("the message has no type"),
        }
    }
}

impl core::error::Error for ForeignError {}

/// The text of a message.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, ForeignError> {
    if bytes.len() > MOST_BYTES {
        return Err(ForeignError::TooLarge { size: bytes.len() });
    }
    str::from_utf8(bytes).map_err(|error| ForeignError::NotUtf8 { valid: error.valid_up_to() })
}

/// The fields of a JSON object, in their order. Values are only delimited.
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads what must be one object.
    pub(crate) fn read(text: &'a str) -> Result<Fields<'a>, ForeignError> {
        serde_json::from_str(text).map_err(|error| ForeignError::NotAnObject { reason: error.to_string() })
    }

    /// The value of a field that may occur once.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&'a RawValue>, ForeignError> {
        let mut values = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| *value);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(ForeignError::NotAnObject { reason: format!("duplicate field `{name}`") }),
        }
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'de>, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                #[derive(Deserialize)]
                struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A message as it is passed on: each value is JSON text of its publisher.
pub(crate) struct Foreign<'a> {
    kind: &'a str,
    data: &'a str,
    timestamp: Option<&'a str>,
    message_id: Option<&'a str>,
    others: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Foreign<'a> {
    /// The message that an object is.
    pub(crate) fn new(fields: Fields<'a>) -> Result<Foreign<'a>, ForeignError> {
        let value = |name| fields.get(name).map(|value| value.map(RawValue::get));
        let kind = value("type")?.filter(|kind| kind.starts_with('"')).ok_or(ForeignError::NoType)?;
        let data = value("data")?.unwrap_or("null");
        let timestamp = value("timestamp")?.filter(|timestamp| *timestamp != "null");
        let message_id = value("message_id")?.filter(|id| !["null", "\"\""].contains(id));
        let ours = |name: &str| ["type", "data", "timestamp", "message_id", "room", "position"].contains(&name);
        let others = fields.0.into_iter().filter(|(name, _)| !ours(name)).map(|(name, value)| (name, value.get())).collect();
        Ok(Foreign { kind, data, timestamp, message_id, others })
    }

    /// A message of a type, which is a JSON string, with nothing but data.
    pub(crate) fn bare(kind: &'a RawValue, data: &'a str) -> Foreign<'a> {
        Foreign { kind: kind.get(), data, timestamp: None, message_id: None, others: Vec::new() }
    }

    /// Passes on only those of the further fields that are wanted.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        self.others.retain(|(name, _)| wanted(name));
    }

    /// The publisher's identifier, as text.
    pub(crate) fn message_id(&self) -> Option<Cow<'a, str>> {
        // What is not a string, or has letters that no text can have, is told apart as it is written.
        self.message_id.map(|id| serde_json::from_str::<String>(id).map_or(Cow::Borrowed(id), Cow::Owned))
    }

    /// Encodes the envelope for a room: `{"type","data","timestamp","message_id","room"}` and the further fields. `at` and `id`
    /// stand in for a timestamp and an identifier that the publisher did not give.
    pub(crate) fn encode(&self, room: &str, at: UnixMillis, id: impl FnOnce() -> Uuid) -> Bytes {
        let further = self.others.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
        let mut out = BytesMut::with_capacity(self.kind.len() + self.data.len() + further + room.len() + ENVELOPE);
        out.put_slice(b"{\"type\":");
        out.put_slice(self.kind.as_bytes());
        out.put_slice(b",\"data\":");
        out.put_slice(self.data.as_bytes());
        out.put_slice(b",\"timestamp\":");
        match self.timestamp {
            Some(timestamp) => out.put_slice(timestamp.as_bytes()),
            None => put_string(&mut out, &at.to_string()),
        }
        out.put_slice(b",\"message_id\":");
        match self.message_id {
            Some(id) => out.put_slice(id.as_bytes()),
            None => put_string(&mut out, id().hyphenated().encode_lower(&mut Uuid::encode_buffer())),
        }
        out.put_slice(b",\"room\":");
        put_string(&mut out, room);
        for (name, value) in &self.others {
            out.put_u8(b',');
            put_string(&mut out, name);
            out.put_u8(b':');
            out.put_slice(value.as_bytes());
        }
        out.put_u8(b'}');
        out.freeze()
    }
}

/// The identifier of a message that has none: it follows from where and as which one it came, and from its bytes, and is the same
/// on every node and in every version.
pub(crate) fn identifier(place: &str, which: &[u64], message: &[u8]) -> Uuid {
    use core::hash::Hasher as _;
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    which.iter().for_each(|number| hasher.write(&number.to_le_bytes()));
    hasher.write(&(place.len() as u64).to_le_bytes());
    hasher.write(place.as_bytes());
    hasher.write(message);
    uuid::Builder::from_custom_bytes(hasher.finish128().as_bytes()).into_uuid()
}
