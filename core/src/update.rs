//! Updates: the messages that publishers write into streams of their own, which are the history of rooms, and what clients are
//! sent of them.
//!
//! An update is a message as [`crate::foreign`] reads it, in one field of an entry. Without a `message_id` it gets one that follows
//! from stream and entry, so that all nodes and all readings say the same; and without a timestamp, that of the entry.

use std::fmt;

use bytes::Bytes;

use crate::foreign::{self, Fields, Foreign, ForeignError, MOST_BYTES};
use crate::message::Json;
use crate::store::Entry;
use crate::time::UnixMillis;

/// Why an entry is no update.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// The entry lacks the field.
    NoField(Box<str>),
    /// What the field holds is no message.
    Foreign(ForeignError),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::NoField(name) => write!(f, "the field `{name}` is missing"),
            UpdateError::Foreign(error) => error.fmt(f),
        }
    }
}

impl From<ForeignError> for UpdateError {
    fn from(error: ForeignError) -> UpdateError {
        UpdateError::Foreign(error)
    }
}

impl core::error::Error for UpdateError {}

/// Encodes what clients of a room are sent of an entry of the stream at `key`: `{"type","data","timestamp","message_id","room"}`
/// and whatever else the update has.
///
/// ```
/// use bytes::Bytes;
/// use roomcast_core::id::StreamId;
/// use roomcast_core::store::Entry;
/// use roomcast_core::update::envelope;
///
/// let update = r#"{"timestamp":1.5,"type":"job_started","data":{"status": "processing"},"message_id":"m-1","retry":2}"#;
/// let fields = vec![(Bytes::from("message"), Bytes::from(update))];
/// let envelope = envelope("job:updates:7", "message", "job:7", &Entry { id: StreamId::ZERO, fields });
/// let expected = r#"{"type":"job_started","data":{"status": "processing"},"timestamp":1.5,"message_id":"m-1","room":"job:7","retry":2}"#;
/// assert_eq!(envelope.unwrap(), expected);
/// ```
///
/// # Errors
///
/// Whatever is wrong with it.
pub fn envelope(key: &str, field: &str, room: &str, entry: &Entry) -> Result<Bytes, UpdateError> {
    let bytes = value(field, entry).ok_or_else(|| UpdateError::NoField(field.into()))?;
    let update = Foreign::new(Fields::read(foreign::text(bytes)?)?)?;
    // A stream that was deleted and begun anew may use the identifiers of its entries again: hence the bytes.
    let id = || foreign::identifier(key, &[entry.id.millis, entry.id.sequence], bytes);
    Ok(update.encode(room, UnixMillis(entry.id.millis), id))
}

/// The beginning of what an entry holds, for a log.
pub fn sample(field: &str, entry: &Entry) -> Box<str> {
    const LENGTH: usize = 200;
    let bytes = match value(field, entry) {
        Some(value) => value,
        None => entry.fields.first().map_or(&[][..], |(name, _)| name),
    };
    String::from_utf8_lossy(bytes.get(..LENGTH).unwrap_or(bytes)).into()
}

/// Checks a snapshot: one JSON value of at most [`MOST_BYTES`].
pub fn snapshot(value: &Bytes) -> Option<Bytes> {
    let json = str::from_utf8(value).ok().filter(|text| text.len() <= MOST_BYTES).and_then(Json::parse)?;
    Some(value.slice_ref(json.as_str().as_bytes()))
}

fn value<'e>(field: &str, entry: &'e Entry) -> Option<&'e [u8]> {
    entry.fields.iter().find(|(name, _)| name.as_ref() == field.as_bytes()).map(|(_, value)| value.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StreamId;
    use proptest::prelude::*;

    fn entry(update: &[u8]) -> Entry {
        let id = StreamId { millis: 1_759_712_400_123, sequence: 4 };
        Entry { id, fields: vec![("message".into(), Bytes::copy_from_slice(update))] }
    }

    fn encode(update: &str) -> Result<String, UpdateError> {
        let envelope = envelope("job:updates:7", "message", "job:7", &entry(update.as_bytes()))?;
        Ok(String::from_utf8(envelope.to_vec()).unwrap())
    }

    #[test]
    fn values_are_kept_as_they_were_written() {
        let update = r#" {"data" : {"z":1.0e05,  "a":null}, "a\u002fb": [ 1 ],"type":"a\u0062c","timestamp":"2025-07-14T15:54:56.123456","message_id":7, "room":"x","position":"y","n":12345678901234567890123} "#;
        let expected = r#"{"type":"a\u0062c","data":{"z":1.0e05,  "a":null},"timestamp":"2025-07-14T15:54:56.123456","message_id":7,"room":"job:7","a/b":[ 1 ],"n":12345678901234567890123}"#;
        assert_eq!(encode(update).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_follows_from_the_entry() {
        let update = br#"{"type":"t","timestamp":null,"message_id":""}"#;
        let encoded = encode(str::from_utf8(update).unwrap()).unwrap();
        let id = "47e38cde-3016-8378-a0fa-bb47ba2efd01";
        let expected =
            format!(r#"{{"type":"t","data":null,"timestamp":"2025-10-06T01:00:00.123Z","message_id":"{id}","room":"job:7"}}"#);
        assert_eq!(encoded, expected, "an identifier is the same on every node and in every version");
        let other = |key: &str, entry: &Entry| envelope(key, "message", "job:7", entry).unwrap();
        let (one, two) = (entry(update), Entry { id: StreamId { millis: 1_759_712_400_123, sequence: 5 }, ..entry(update) });
        assert_ne!(other("a", &one), other("a", &two));
        assert_ne!(other("a", &one), other("b", &one));
    }

    #[test]
    fn what_is_no_update_says_why() {
        for (update, expected) in [
            ("", "not a JSON object: EOF"),
            ("nonsense", "not a JSON object: expected"),
            ("[]", "not a JSON object: invalid type: sequence, expected an object"),
            ("{} {}", "not a JSON object: trailing characters"),
            ("{}", "no type"),
            (r#"{"data":{}}"#, "no type"),
            (r#"{"type":7}"#, "no type"),
            (r#"{"type":null}"#, "no type"),
            (r#"{"type":"a","t\u0079pe":"b"}"#, "duplicate field `type`"),
        ] {
            let error = encode(update).unwrap_err().to_string();
            assert!(error.contains(expected), "{update}: {error}");
        }
        let error = |entry: &Entry| envelope("k", "message", "r", entry).unwrap_err().to_string();
        assert_eq!(error(&entry(b"\xff")), "the message is not UTF-8 after byte 0");
        assert_eq!(error(&Entry { fields: vec![], ..entry(b"") }), "the field `message` is missing");
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(MOST_BYTES));
        assert_eq!(error(&entry(long.as_bytes())), "the message has 1048587 bytes, the limit is 1048576");
    }

    #[test]
    fn deep_nesting_is_no_harm() {
        let deep = format!(r#"{{"type":"t","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(encode(&deep).is_ok());
    }

    #[test]
    fn a_sample_is_short_and_always_text() {
        assert_eq!(&*sample("message", &entry(b"a\xff")), "a\u{fffd}");
        assert_eq!(&*sample("other", &entry(b"a")), "message");
        assert_eq!(sample("message", &entry(&[b'x'; 500])).len(), 200);
    }

    #[test]
    fn a_snapshot_is_one_json_value() {
        assert_eq!(snapshot(&Bytes::from(" {\"a\": 1.0} ")), Some(Bytes::from("{\"a\": 1.0}")));
        for broken in [&b""[..], b"{", b"{} {}", b"\xff"] {
            assert_eq!(snapshot(&Bytes::from_static(broken)), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_passed_on_is_a_json_object_with_our_fields(
            names in prop::collection::vec("type|data|timestamp|message_id|room|position|[a-z\"\\\\\u{1}é]{0,3}", 0..8),
            values in prop::collection::vec("\"[a-z]{0,3}\"|[0-9]{1,3}|null|\\{\\}|x", 8),
        ) {
            let fields: Vec<String> = names.iter().zip(&values).map(|(name, value)| format!("{}:{value}", serde_json::to_string(name).unwrap())).collect();
            if let Ok(encoded) = encode(&format!("{{{}}}", fields.join(","))) {
                let value: serde_json::Value = serde_json::from_str(&encoded).unwrap();
                prop_assert_eq!(&value["room"], "job:7");
                prop_assert!(value["type"].is_string() && value.get("position").is_none());
            }
        }
    }
}
