//! Dead letters: what is kept of an entry that could not be routed, how it is read again, and what is known of its earlier lives.
//!
//! A letter is an entry of a dead-letter stream: a header that says what it was and why it stands here, then the original
//! fields as they were. Replayed, the original fields become an entry of the source again, with one more behind them,
//! [`TRAIL_FIELD`], which the router takes away before it looks at the rest.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};

use crate::id::StreamId;
use crate::store::{Entry, Fields};
use crate::time::UnixMillis;

mod request;

pub use request::{FailedLetter, Interrupted, MOST_IDS, OperationId, Outcome, Replay, ReplayedLetter, Request, Selection};

/// The field behind the others in which an entry that was replayed carries its [`Trail`].
pub const TRAIL_FIELD: &str = "roomcast-trail";

/// The names of a header, in their order, before `trail` and `fields`.
const HEADER: [&str; 7] = ["msg_id", "error", "timestamp", "code", "source", "added", "deliveries"];

/// A dead letter.
///
/// ```
/// use bytes::Bytes;
/// use roomcast_core::dead_letter::DeadLetter;
/// use roomcast_core::store::Entry;
///
/// let field = |name: &'static str, value: &'static str| (Bytes::from(name), Bytes::from(value));
/// let fields = vec![field("msg_id", "1-0"), field("error", "unknown service"), field("payload", "{}")];
/// let letter = DeadLetter::read(Entry { id: "5-0".parse().unwrap(), fields });
/// assert_eq!(letter.header.error.as_deref(), Some("unknown service"));
/// assert_eq!(letter.fields, [field("payload", "{}")]);
/// assert_eq!(letter.replayed().unwrap().last(), Some(&field("roomcast-trail", "1-0:unknown")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Its own identifier, in the dead-letter stream.
    pub id: StreamId,
    /// What it says of its entry.
    #[serde(flatten)]
    pub header: Header,
    /// Whether it has all the original fields. Only then can it be replayed.
    pub complete: bool,
    /// The original fields.
    #[serde(serialize_with = "write_fields")]
    pub fields: Fields,
}

/// What a dead letter says of its entry, as far as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Header {
    /// The identifier that the entry had.
    pub msg_id: Option<String>,
    /// Why it is here, in words.
    pub error: Option<String>,
    /// The same as a short name that never changes.
    pub code: Option<String>,
    /// When it was put here.
    pub timestamp: Option<String>,
    /// The stream in which the entry stood.
    pub source: Option<String>,
    /// When the entry was added there.
    pub added: Option<String>,
    /// How often the entry was delivered.
    pub deliveries: Option<u32>,
    /// What became of it before it was replayed.
    pub trail: Trail,
}

/// A dead letter without the original fields, for lists. Texts are cut after 200 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// See [`DeadLetter::id`].
    pub id: StreamId,
    /// See [`DeadLetter::header`].
    #[serde(flatten)]
    pub header: Header,
    /// See [`DeadLetter::complete`].
    pub complete: bool,
    /// How many original fields it has.
    pub field_count: usize,
    /// Bytes of their names and values.
    pub bytes: usize,
}

/// Why an entry becomes a dead letter.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// The stream in which it stood.
    pub source: &'a str,
    /// A short name that never changes.
    pub code: &'a str,
    /// The same in words.
    pub error: &'a str,
    /// How often the entry was delivered.
    pub deliveries: u32,
    /// When that was.
    pub timestamp: UnixMillis,
}

/// The earlier lives of an entry that was replayed, the oldest first, the last 20 at the most.
///
/// Written, each is `<entry>:<code>`, and blanks stand between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Trail(Vec<Life>);

/// One earlier life of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Life {
    /// The identifier that it had, zero where that is not known.
    pub msg_id: StreamId,
    /// Why it became a dead letter.
    pub code: Box<str>,
}

impl DeadLetter {
    /// The fields of the letter that an entry becomes: system A's (`msg_id`, `error`, `timestamp`), then ours, then the
    /// original ones as they were.
    pub fn write(entry: Entry, trail: &Trail, cause: Cause<'_>) -> Fields {
        let count = entry.fields.len();
        let values = [
            entry.id.to_string(),
            cause.error.to_owned(),
            cause.timestamp.to_string(),
            cause.code.to_owned(),
            cause.source.to_owned(),
            UnixMillis(entry.id.millis).to_string(),
            cause.deliveries.to_string(),
        ];
        let trail = (!trail.0.is_empty()).then(|| ("trail", trail.to_string()));
        let header = HEADER.into_iter().zip(values).chain(trail).chain([("fields", count.to_string())]);
        let header = header.map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from(value)));
        header.chain(entry.fields).collect()
    }

    /// Reads a letter of any age: those of system A's own consumer have less of a header, in any order.
    pub fn read(Entry { id, mut fields }: Entry) -> DeadLetter {
        let (original, expected) = match ours(&fields) {
            Some((header, expected)) => (fields.split_off(header), expected),
            None => {
                let is_header = |name: &[u8]| HEADER.iter().any(|known| known.as_bytes() == name);
                let (header, original): (Fields, Fields) = fields.into_iter().partition(|(name, _)| is_header(name));
                fields = header;
                let expected = original.len();
                (original, expected)
            }
        };
        let complete = !original.is_empty() && original.len() == expected;
        DeadLetter { id, header: Header::of(&fields), complete, fields: original }
    }

    /// The fields of the entry that the letter becomes when it is replayed: the original ones, and its trail.
    ///
    /// # Errors
    /// Why it cannot be replayed.
    pub fn replayed(&self) -> Result<Fields, &'static str> {
        if !self.complete {
            return Err("the letter does not have all the fields of its entry");
        }
        let Header { msg_id, code, trail, .. } = &self.header;
        let msg_id = msg_id.as_deref().and_then(|id| id.parse().ok()).unwrap_or_default();
        let code = code.as_deref().filter(|code| is_code(code)).unwrap_or("unknown");
        let trail = trail.and(Life { msg_id, code: code.into() }).to_string();
        let mut fields = self.fields.clone();
        fields.push((Bytes::from_static(TRAIL_FIELD.as_bytes()), Bytes::from(trail)));
        Ok(fields)
    }

    /// The letter in short.
    pub fn summary(self) -> Summary {
        let DeadLetter { id, mut header, complete, fields } = self;
        let Header { msg_id, error, code, timestamp, source, added, deliveries: _, trail: _ } = &mut header;
        for text in [msg_id, error, code, timestamp, source, added].into_iter().flatten() {
            if let Some((end, _)) = text.char_indices().nth(Summary::MOST_CHARS) {
                text.truncate(end);
                text.push('\u{2026}');
            }
        }
        let bytes = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        Summary { id, header, complete, field_count: fields.len(), bytes }
    }
}

impl Header {
    fn of(fields: &[(Bytes, Bytes)]) -> Header {
        let text = |name: &str| {
            let (_, value) = fields.iter().find(|(found, _)| found.as_ref() == name.as_bytes())?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        Header {
            msg_id: text("msg_id"),
            error: text("error"),
            code: text("code"),
            timestamp: text("timestamp"),
            source: text("source"),
            added: text("added"),
            deliveries: text("deliveries").and_then(|number| number.parse().ok()),
            trail: text("trail").and_then(|trail| Trail::parse(trail.as_bytes())).unwrap_or_default(),
        }
    }
}

impl Summary {
    /// Characters of a text that are shown.
    const MOST_CHARS: usize = 200;
}

impl Trail {
    /// The most lives that are told of.
    const MOST: usize = 20;

    /// Takes the trail from an entry that was replayed. Of any other, nothing is taken.
    pub fn take(fields: &mut Fields) -> Trail {
        let last = fields.last().filter(|(name, _)| name.as_ref() == TRAIL_FIELD.as_bytes());
        match last.and_then(|(_, value)| Trail::parse(value)) {
            Some(trail) => {
                fields.pop();
                trail
            }
            None => Trail::default(),
        }
    }

    /// Reads what a trail is written as; nothing where it is something else.
    pub fn parse(text: &[u8]) -> Option<Trail> {
        let lives = str::from_utf8(text).ok()?.split(' ').map(|life| {
            let (msg_id, code) = life.split_once(':').filter(|(_, code)| is_code(code))?;
            Some(Life { msg_id: msg_id.parse().ok()?, code: code.into() })
        });
        let lives = lives.take(Trail::MOST + 1).collect::<Option<Vec<Life>>>()?;
        (lives.len() <= Trail::MOST).then_some(Trail(lives))
    }

    /// The lives, the oldest first.
    pub fn lives(&self) -> &[Life] {
        &self.0
    }

    fn and(&self, life: Life) -> Trail {
        let from = (self.0.len() + 1).saturating_sub(Trail::MOST);
        Trail(self.0.iter().skip(from).cloned().chain([life]).collect())
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Life { msg_id, code }) in self.0.iter().enumerate() {
            let blank = if at == 0 { "" } else { " " };
            write!(f, "{blank}{msg_id}:{code}")?;
        }
        Ok(())
    }
}

/// The length of a header that [`DeadLetter::write`] has written, and how many fields the entry had.
fn ours(fields: &[(Bytes, Bytes)]) -> Option<(usize, usize)> {
    let is = |at: usize, name: &str| fields.get(at).is_some_and(|(found, _)| found.as_ref() == name.as_bytes());
    if !HEADER.iter().enumerate().all(|(at, name)| is(at, name)) {
        return None;
    }
    let at = HEADER.len() + usize::from(is(HEADER.len(), "trail"));
    let (_, count) = fields.get(at).filter(|_| is(at, "fields"))?;
    Some((at + 1, str::from_utf8(count).ok()?.parse().ok()?))
}

/// What may stand in a trail without being taken for something else.
fn is_code(code: &str) -> bool {
    (1..=40).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// `[["name","value"],…]`, in their order.
fn write_fields<S: Serializer>(fields: &Fields, serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(fields.len()))?;
    for (name, value) in fields {
        list.serialize_element(&(Text::of(name), Text::of(value)))?;
    }
    list.end()
}

/// Bytes in JSON: as a string, or, where they are no text, as `{"base64":"…"}`.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Plain(&'a str),
    Binary { base64: String },
}

impl Text<'_> {
    fn of(bytes: &[u8]) -> Text<'_> {
        match str::from_utf8(bytes) {
            Ok(text) => Text::Plain(text),
            Err(_) => Text::Binary { base64: STANDARD.encode(bytes) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample;

    const CAUSE: Cause<'_> =
        Cause { source: "s", code: "not_json", error: "no JSON", deliveries: 2, timestamp: UnixMillis(1_759_712_400_000) };

    fn field(name: &'static str, value: &'static [u8]) -> (Bytes, Bytes) {
        (Bytes::from_static(name.as_bytes()), Bytes::from_static(value))
    }

    fn id(millis: u64) -> StreamId {
        StreamId { millis, sequence: 0 }
    }

    fn letter(fields: &Fields, trail: &Trail) -> DeadLetter {
        let fields = DeadLetter::write(Entry { id: id(7), fields: fields.clone() }, trail, CAUSE);
        DeadLetter::read(Entry { id: id(9), fields })
    }

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        // Fields of the entry may have the names of the header's.
        let fields = vec![field("trail", b"1"), field("fields", b"9"), field("msg_id", b"\xff"), field("", b"")];
        let mut trail = Trail::default();
        for lives in 0..3 {
            let letter = letter(&fields, &trail);
            let header = Header {
                msg_id: Some("7-0".into()),
                error: Some("no JSON".into()),
                code: Some("not_json".into()),
                timestamp: Some("2025-10-06T01:00:00.000Z".into()),
                source: Some("s".into()),
                added: Some("1970-01-01T00:00:00.007Z".into()),
                deliveries: Some(2),
                trail: trail.clone(),
            };
            assert_eq!(letter, DeadLetter { id: id(9), header, complete: true, fields: fields.clone() });
            assert_eq!(trail.lives().len(), lives);
            trail = Trail::take(&mut letter.replayed().unwrap());
        }
        assert_eq!(trail.to_string(), "7-0:not_json 7-0:not_json 7-0:not_json");
    }

    proptest! {
        #[test]
        fn whatever_an_entry_held_is_there_again_when_it_is_replayed(
            fields in vec((sample::select(vec!["", "fields", "msg_id", "trail", TRAIL_FIELD]), vec(any::<u8>(), 0..9)), 1..9),
            again in vec((sample::select(HEADER.to_vec()), vec(any::<u8>(), 0..9)), 0..9),
        ) {
            let owned = |fields: Vec<(&'static str, Vec<u8>)>| -> Fields {
                fields.into_iter().map(|(name, value)| (Bytes::from(name), Bytes::from(value))).collect()
            };
            let fields = owned(fields);
            let mut replayed = letter(&fields, &Trail::default()).replayed().unwrap();
            assert_eq!(Trail::take(&mut replayed).to_string(), "7-0:not_json");
            assert_eq!(replayed, fields);
            // Letters that others wrote may hold anything.
            let foreign = DeadLetter::read(Entry { id: id(9), fields: [owned(again), fields].concat() });
            if let Ok(mut replayed) = foreign.replayed() {
                assert_eq!(Trail::take(&mut replayed).lives().len(), foreign.header.trail.lives().len() + 1);
                assert_eq!(replayed, foreign.fields);
            }
        }
    }

    #[test]
    fn letters_of_an_older_consumer_are_read_as_far_as_they_go() {
        let fields = vec![field("payload", b"{"), field("error", b"e"), field("msg_id", b"3-1"), field("timestamp", b"then")];
        let letter = DeadLetter::read(Entry { id: id(9), fields });
        let header =
            Header { msg_id: Some("3-1".into()), error: Some("e".into()), timestamp: Some("then".into()), ..Header::default() };
        assert_eq!(letter, DeadLetter { id: id(9), header, complete: true, fields: vec![field("payload", b"{")] });
        let replayed = [field("payload", b"{"), field(TRAIL_FIELD, b"3-1:unknown")];
        assert_eq!(letter.replayed().unwrap(), replayed);

        let odd = vec![field("code", b"a b:c"), field("msg_id", b"\xff"), field("deliveries", b"many"), field("x", b"")];
        let letter = DeadLetter::read(Entry { id: id(9), fields: odd });
        assert_eq!((letter.header.deliveries, letter.fields.len()), (None, 1));
        assert_eq!(letter.replayed().unwrap().last(), Some(&field(TRAIL_FIELD, b"0-0:unknown")));
    }

    #[test]
    fn what_was_cut_cannot_be_replayed() {
        let mut fields = DeadLetter::write(Entry { id: id(7), fields: vec![field("a", b"1"); 3] }, &Trail::default(), CAUSE);
        fields.pop();
        let letter = DeadLetter::read(Entry { id: id(9), fields });
        assert!(!letter.complete && letter.fields.len() == 2);
        assert!(letter.replayed().unwrap_err().contains("all the fields"));
        // There is nothing of an entry in this one.
        assert!(!DeadLetter::read(Entry { id: id(9), fields: vec![field("msg_id", b"3-1")] }).complete);
    }

    #[test]
    fn a_summary_is_short_whatever_the_letter_holds() {
        let long = || Bytes::from("\u{1F980}".repeat(1_000));
        let fields = vec![(Bytes::from("error"), long()), (Bytes::from("payload"), long())];
        let summary = DeadLetter::read(Entry { id: id(9), fields }).summary();
        let error = summary.header.error.unwrap();
        assert_eq!((error.chars().count(), error.ends_with('\u{2026}')), (201, true));
        assert_eq!((summary.field_count, summary.bytes), (1, 4_007));
    }

    #[test]
    fn a_trail_is_bounded_and_keeps_the_latest() {
        let mut trail = Trail::default();
        for number in 0..50 {
            trail = trail.and(Life { msg_id: id(number), code: "c".into() });
        }
        let first = trail.lives().first().map(|life| life.msg_id);
        assert_eq!((trail.lives().len(), first), (Trail::MOST, Some(id(30))));
        assert_eq!(Trail::parse(trail.to_string().as_bytes()), Some(trail));
    }

    #[test]
    fn only_a_trail_behind_all_other_fields_is_taken() {
        let others = [
            vec![],
            vec![field(TRAIL_FIELD, b"1-0:a"), field("data", b"")],
            vec![field("data", b""), field(TRAIL_FIELD, b"")],
            vec![field("data", b""), field(TRAIL_FIELD, b"1-0")],
            vec![field("data", b""), field(TRAIL_FIELD, b"1-0:a:b")],
            vec![field("data", b""), field(TRAIL_FIELD, b"1-0:a  2-0:b")],
            vec![field("data", b""), field(TRAIL_FIELD, b"\xff")],
        ];
        for mut fields in others {
            let before = fields.clone();
            assert_eq!(Trail::take(&mut fields), Trail::default(), "{fields:?}");
            assert_eq!(fields, before);
        }
        let mut replayed = vec![field(TRAIL_FIELD, b"1-0:a"), field(TRAIL_FIELD, b"2-0:b 3-0:c")];
        assert_eq!(Trail::take(&mut replayed).to_string(), "2-0:b 3-0:c");
        assert_eq!(replayed, [field(TRAIL_FIELD, b"1-0:a")]);
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_in_json() {
        let letter = letter(&vec![field("data", b"\"\n"), field("data", b"\xff\x00")], &Trail::parse(b"1-2:bomb").unwrap());
        let json = serde_json::to_string(&letter).unwrap();
        let expected = r#"{"id":"9-0","msg_id":"7-0","error":"no JSON","code":"not_json","timestamp":"2025-10-06T01:00:00.000Z","source":"s","added":"1970-01-01T00:00:00.007Z","deliveries":2,"trail":[{"msg_id":"1-2","code":"bomb"}],"complete":true,"fields":[["data","\"\n"],["data",{"base64":"/wA="}]]}"#;
        assert_eq!(json, expected);
    }
}
