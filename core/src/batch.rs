//! Batches: the `data` field of a file-event stream entry, decoded into events.
//!
//! A publisher writes a batch as a JSON object, or as base64 of gzip of that object. [`Decoder`] tells the forms
//! apart by looking, refuses what is broken or too big, and hands out every event's bytes exactly as they were
//! published, next to the few fields that routing and the log lines need.
//!
//! * A batch is all or nothing: one bad event refuses it, as one bad event failed the original's validation.
//! * Required are `batch_id` and `events`, and in each event `event_id`, `timestamp`, `workspace.id`, `file.path`,
//!   `file.event_type` and `change.type`. All are strings; `workspace.id` may also be a whole number.
//!   `batch_count` and the batch's `timestamp` may be anything.
//! * A key that occurs twice where this module reads it refuses the batch, however its letters are escaped: a client
//!   must never read another workspace in an event than the one it was routed by. Other keys may repeat.
//!
//! No nesting can exhaust the stack: `serde_json` skips in a loop what it does not read, and what it does read is two
//! levels deep.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub use crate::config::BatchLimits as Limits;

use gzip::Gunzip;
pub use gzip::GzipError;

mod gzip;
#[cfg(test)]
mod tests;

/// One decoded batch. It borrows from the field where it can, and from the [`Decoder`] otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// The publisher's `batch_id`.
    pub id: Cow<'a, str>,
    /// Whether the field was compressed.
    pub compressed: bool,
    /// The events, in the publisher's order.
    pub events: Vec<Event<'a>>,
}

/// One event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// `workspace.id`, which names the room. A number is taken as its digits.
    pub workspace: Cow<'a, str>,
    /// `file.event_type`, for the log.
    pub event_type: Cow<'a, str>,
    /// `file.path`, for the log.
    pub path: Cow<'a, str>,
    /// The event as published, byte for byte: one JSON object, which may span lines.
    pub json: &'a str,
}

/// Why a batch was refused. Retrying cannot help any of these: the entry belongs in the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// There is nothing but whitespace.
    Empty,
    /// The field starts neither like a JSON object nor like gzip, and it is not base64.
    Base64,
    /// The gzip data is unusable.
    Gzip(GzipError),
    /// The field is larger than its limit.
    TooLarge {
        /// Bytes of the field.
        size: usize,
        /// The limit that applies to its form.
        limit: usize,
    },
    /// The gzip data inflates beyond the limit.
    Bomb {
        /// [`Limits::inflated`].
        limit: usize,
    },
    /// The JSON text is not UTF-8.
    NotUtf8 {
        /// Valid bytes before the first invalid one.
        valid: usize,
    },
    /// The text is not JSON.
    NotJson {
        /// What is wrong, and where.
        reason: String,
    },
    /// The text is JSON, but a value has the wrong type, or a key occurs twice.
    Shape {
        /// What is wrong, and where.
        reason: String,
    },
    /// Objects and arrays are nested too deeply.
    TooDeep {
        /// [`Limits::depth`].
        limit: usize,
    },
    /// The batch has too many events.
    TooManyEvents {
        /// [`Limits::events`].
        limit: usize,
    },
    /// A required field, of the batch or of one of its events, is missing.
    Missing(&'static str),
}

impl BatchError {
    /// A short name that never changes, for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            BatchError::Empty => "empty",
            BatchError::Base64 => "base64",
            BatchError::Gzip(error) => error.code(),
            BatchError::TooLarge { .. } => "too_large",
            BatchError::Bomb { .. } => "bomb",
            BatchError::NotUtf8 { .. } => "not_utf8",
            BatchError::NotJson { .. } => "not_json",
            BatchError::Shape { .. } => "shape",
            BatchError::TooDeep { .. } => "too_deep",
            BatchError::TooManyEvents { .. } => "too_many_events",
            BatchError::Missing(_) => "missing",
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Empty => f.write_str("the data is empty"),
            BatchError::Base64 => f.write_str("the data is neither a JSON object nor base64"),
            BatchError::Gzip(error) => error.fmt(f),
            BatchError::TooLarge { size, limit } => write!(f, "the data has {size} bytes, the limit is {limit}"),
            BatchError::Bomb { limit } => write!(f, "the data inflates to more than the limit of {limit} bytes"),
            BatchError::NotUtf8 { valid } => write!(f, "the text is not UTF-8 after byte {valid}"),
            BatchError::NotJson { reason } => write!(f, "the text is not JSON: {reason}"),
            BatchError::Shape { reason } => write!(f, "the text is not a batch of events: {reason}"),
            BatchError::TooDeep { limit } => write!(f, "the JSON is nested more than {limit} levels deep"),
            BatchError::TooManyEvents { limit } => write!(f, "the batch has more than {limit} events"),
            BatchError::Missing(field) => write!(f, "the field `{field}` is missing"),
        }
    }
}

impl std::error::Error for BatchError {}

impl From<GzipError> for BatchError {
    fn from(error: GzipError) -> BatchError {
        BatchError::Gzip(error)
    }
}

/// Decodes batches, one after the other, reusing its inflate state and its buffers.
///
/// ```
/// use roomcast_core::batch::{Decoder, Limits};
///
/// let mut decoder = Decoder::new(Limits::default());
/// let batch = decoder.decode(br#"{"batch_id": "b-1", "events": [{
///     "event_id": "e-1", "timestamp": "2025-10-06T01:00:00Z", "workspace": {"id": 7},
///     "file": {"path": "a.py", "event_type": "modify"}, "change": {"type": "diff"}
/// }]}"#)?;
/// assert_eq!(batch.id, "b-1");
/// assert_eq!(batch.events[0].workspace, "7");
/// assert!(batch.events[0].json.starts_with("{\n    \"event_id\": \"e-1\""));
///
/// let error = decoder.decode(br#"{"events": []}"#).unwrap_err();
/// assert_eq!(error.to_string(), "the field `batch_id` is missing");
/// assert_eq!(error.code(), "missing");
/// # Ok::<(), roomcast_core::batch::BatchError>(())
/// ```
pub struct Decoder {
    limits: Limits,
    /// The gzip data, out of base64.
    packed: Vec<u8>,
    gunzip: Gunzip,
}

impl Decoder {
    /// A decoder with these limits.
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits, packed: Vec::new(), gunzip: Gunzip::new() }
    }

    /// Decodes the `data` field of one entry: a JSON object, base64 of its gzip, or its gzip.
    ///
    /// Base64 is of the standard alphabet, with or without padding, and may contain whitespace.
    /// What one call decodes does not depend on the calls before it.
    ///
    /// # Errors
    ///
    /// Whatever is broken, beyond the [`Limits`], or not a batch. The decoder remains usable.
    pub fn decode<'a>(&'a mut self, data: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        self.shrink();
        let limits = self.limits;
        let (text, compressed) = self.unpack(data)?;
        let text = str::from_utf8(text).map_err(|error| BatchError::NotUtf8 { valid: error.valid_up_to() })?;
        let (id, events) = Walk { text, at: 0 }.batch(&limits)?;
        Ok(Batch { id, compressed, events })
    }

    /// Gives back buffers that a large entry made grow beyond 1 MiB. [`Decoder::decode`] does so before it starts;
    /// call it when nothing may come for a while.
    pub fn shrink(&mut self) {
        for buffer in [&mut self.packed, self.gunzip.buffer()] {
            if buffer.capacity() > RETAINED {
                *buffer = Vec::new();
            }
        }
    }

    /// The JSON text, and whether it was compressed.
    fn unpack<'a>(&'a mut self, data: &'a [u8]) -> Result<(&'a [u8], bool), BatchError> {
        let trimmed = data.trim_ascii();
        let plain = *trimmed.first().ok_or(BatchError::Empty)? == b'{';
        let limit = if plain { self.limits.inflated } else { self.limits.compressed };
        if data.len() > limit {
            return Err(BatchError::TooLarge { size: data.len(), limit });
        }
        if plain {
            return Ok((data, false));
        }
        let packed = if data.starts_with(&gzip::MAGIC) {
            data
        } else {
            unbase64(trimmed, &mut self.packed)?;
            &self.packed
        };
        let limit = self.limits.inflated;
        let text = self.gunzip.unpack(packed, limit)?.ok_or(BatchError::Bomb { limit })?;
        Ok((text, true))
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new(Limits::default())
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Buffers up to this size are kept between entries.
const RETAINED: usize = 1 << 20;
/// As tolerant as the original's decoder about what follows the last byte.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

fn unbase64(field: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    out.clear();
    if BASE64.decode_vec(field, out).is_ok() {
        return Ok(());
    }
    // Wrapped lines are rare, so that only what fails pays for looking.
    let dense: Vec<u8> = field.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    out.clear();
    BASE64.decode_vec(dense, out).map_err(|_| BatchError::Base64)
}

/// Walks a JSON text from value to value. `serde_json` reads the values and tells where they end; that way an event is
/// read once, where collecting `RawValue`s and reading them afterwards goes over each event twice.
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// `{"batch_id": …, "events": […], …}`, in any order.
    fn batch(mut self, limits: &Limits) -> Result<(Cow<'a, str>, Vec<Event<'a>>), BatchError> {
        let (mut id, mut events) = (None, None);
        if !self.take(b'{') {
            return Err(self.instead_of("an object"));
        }
        let mut done = self.take(b'}');
        while !done {
            match self.key()?.as_ref() {
                "batch_id" if id.is_some() => return Err(self.shape("duplicate field `batch_id`")),
                "events" if events.is_some() => return Err(self.shape("duplicate field `events`")),
                "batch_id" => id = Some(self.value::<Text<'a>>(None)?.0),
                "events" => events = Some(self.events(limits)?),
                _ => {
                    let (_, json) = self.value::<IgnoredAny>(None)?;
                    if deeper_than(json, limits.depth.saturating_sub(1)) {
                        return Err(BatchError::TooDeep { limit: limits.depth });
                    }
                }
            }
            done = self.ends(b'}')?;
        }
        if self.peek().is_some() {
            return Err(self.not_json("expected nothing more"));
        }
        let Text(id) = id.ok_or(BatchError::Missing("batch_id"))?;
        Ok((id, events.ok_or(BatchError::Missing("events"))?))
    }

    fn events(&mut self, limits: &Limits) -> Result<Vec<Event<'a>>, BatchError> {
        let mut events = Vec::with_capacity(16);
        if !self.take(b'[') {
            return Err(self.instead_of("a list of events"));
        }
        let mut done = self.take(b']');
        while !done {
            if events.len() >= limits.events {
                return Err(BatchError::TooManyEvents { limit: limits.events });
            }
            let (routing, json) = self.value(Some(events.len()))?;
            // The batch and this list are two levels of their own.
            if deeper_than(json, limits.depth.saturating_sub(2)) {
                return Err(BatchError::TooDeep { limit: limits.depth });
            }
            events.push(Event::new(routing, json, events.len())?);
            done = self.ends(b']')?;
        }
        Ok(events)
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<Cow<'a, str>, BatchError> {
        if self.peek() != Some(b'"') {
            return Err(self.not_json("expected a key"));
        }
        let (Text(key), _) = self.value(None)?;
        if self.take(b':') { Ok(key) } else { Err(self.not_json("expected `:`")) }
    }

    /// A value, and its bytes. The error says which event it is about.
    fn value<T: Deserialize<'a>>(&mut self, event: Option<usize>) -> Result<(T, &'a str), BatchError> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                let length = values.byte_offset();
                self.at += length;
                Ok((value, rest.get(..length).unwrap_or_default()))
            }
            Some(Err(error)) => Err(match event {
                Some(index) => unreadable(&error, format_args!("event {index}")),
                None => unreadable(&error, format_args!("the value at byte {}", self.at)),
            }),
            None => Err(self.not_json("expected a value")),
        }
    }

    /// Whether an object or a list ends here, or else goes on after a comma.
    fn ends(&mut self, close: u8) -> Result<bool, BatchError> {
        if self.take(close) {
            return Ok(true);
        }
        if self.take(b',') { Ok(false) } else { Err(self.not_json("expected `,` or the end of the list or object")) }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// The next byte that is not whitespace.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let space = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += space;
        rest.get(space).copied()
    }

    /// What is here is not what it should be; it may even be no JSON.
    fn instead_of(&mut self, expected: &str) -> BatchError {
        let error = self.shape(&format!("expected {expected}"));
        self.value::<IgnoredAny>(None).map_or_else(|broken| broken, |_| error)
    }

    fn not_json(&self, reason: &str) -> BatchError {
        BatchError::NotJson { reason: format!("{reason} at byte {}", self.at) }
    }

    fn shape(&self, reason: &str) -> BatchError {
        BatchError::Shape { reason: format!("{reason} at byte {}", self.at) }
    }
}

impl<'a> Event<'a> {
    fn new(routing: Object<Routing<'a>>, json: &'a str, index: usize) -> Result<Event<'a>, BatchError> {
        let Object(Routing { event_id, timestamp, workspace, file, change }) = routing;
        event_id.ok_or(BatchError::Missing("event_id"))?;
        timestamp.ok_or(BatchError::Missing("timestamp"))?;
        let workspace = workspace.and_then(|Object(workspace)| workspace.id).ok_or(BatchError::Missing("workspace.id"))?;
        let (path, event_type) = file.map(|Object(file)| (file.path, file.event_type)).unwrap_or_default();
        let Text(path) = path.ok_or(BatchError::Missing("file.path"))?;
        let Text(event_type) = event_type.ok_or(BatchError::Missing("file.event_type"))?;
        change.and_then(|Object(change)| change.kind).ok_or(BatchError::Missing("change.type"))?;
        Ok(Event { workspace: identifier(workspace.get(), index)?, event_type, path, json })
    }
}

/// `serde_json` echoes numbers at most: every visitor below keeps text out of its messages, which may go to a log.
fn unreadable(error: &serde_json::Error, place: fmt::Arguments<'_>) -> BatchError {
    let reason = format!("{error} of {place}");
    if error.is_data() { BatchError::Shape { reason } } else { BatchError::NotJson { reason } }
}

/// A string, or the digits of a whole number as they are written: numbers of any size keep all of them.
fn identifier(json: &str, index: usize) -> Result<Cow<'_, str>, BatchError> {
    if let Some(text) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return match text.contains('\\') {
            false => Ok(Cow::Borrowed(text)),
            true => serde_json::from_str(json).map(Cow::Owned).map_err(|error| unreadable(&error, format_args!("event {index}"))),
        };
    }
    let digits = json.strip_prefix('-').unwrap_or(json);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Cow::Borrowed(json));
    }
    Err(BatchError::Shape { reason: format!("`workspace.id` is neither a string nor a whole number in event {index}") })
}

/// Whether valid JSON is nested deeper than this.
pub(crate) fn deeper_than(json: &str, limit: usize) -> bool {
    // Hardly an event has as many brackets as it may have levels, and counting them is far cheaper than pairing them.
    brackets(json) > limit && depth(json) > limit
}

/// Counts `[` and `{`, which are one bit apart. Counters of one byte let the compiler use vectors of bytes; hence the
/// short chunks.
fn brackets(json: &str) -> usize {
    let count = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    json.as_bytes().chunks(240).map(|chunk| usize::from(count(chunk))).sum()
}

fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next().filter(|&byte| byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// What an event must contain; the rest is not looked at.
#[derive(Deserialize)]
struct Routing<'a> {
    #[serde(default, deserialize_with = "present")]
    event_id: Option<AnyText>,
    #[serde(default, deserialize_with = "present")]
    timestamp: Option<AnyText>,
    #[serde(borrow, default, deserialize_with = "present")]
    workspace: Option<Object<Workspace<'a>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    file: Option<Object<File<'a>>>,
    #[serde(default, deserialize_with = "present")]
    change: Option<Object<Change>>,
}

#[derive(Deserialize)]
struct Workspace<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    path: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    event_type: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(rename = "type", default, deserialize_with = "present")]
    kind: Option<AnyText>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A JSON object, and nothing else: what `serde` derives would also read a list of the fields' values.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct ObjectVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Object<T>, E> {
                Err(E::invalid_type(Unexpected::Other("a string"), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_any(ObjectVisitor(std::marker::PhantomData))
    }
}

/// A string, borrowed unless it has escapes. (`serde` borrows a `Cow` only where it is not in an `Option`.)
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// A string that only has to be there.
struct AnyText;

impl<'de> Deserialize<'de> for AnyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AnyText, D::Error> {
        Text::deserialize(deserializer).map(|_| AnyText)
    }
}
