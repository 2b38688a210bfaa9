//! Messages of Pub/Sub channels: to which rooms they go, and what clients are sent of them.
//!
//! * Every node hears every message and maps it to the same rooms and the same bytes, but for a timestamp that is missing.
//! * An envelope is read and passed on as [`crate::foreign`] says; what python-socketio publishes is made one first.
//! * A message with no room, or with the name of a room that cannot be, is refused as a whole, and its reason has a name.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::config::{self, Form, Limits, Piece, Template};
use crate::dialect::json::identifier;
use crate::foreign::{self, Fields, Foreign, ForeignError};
use crate::glob;
use crate::message::RoomName;
use crate::time::UnixMillis;

mod socketio;
#[cfg(test)]
mod tests;

pub use socketio::MOST_ROOMS;

/// Longest identifier of a publisher under which a message is stored, in bytes.
pub const LONGEST_ID: usize = 200;

/// What was heard on a channel.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The name of the channel, also where a pattern is subscribed to.
    pub channel: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// Tells this message from others with the same bytes on the same channel, if it has no identifier of its own.
    pub occurrence: u64,
    /// The time, for a message without a timestamp.
    pub at: UnixMillis,
}

/// A message for a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The room.
    pub room: RoomName,
    /// The encoded envelope.
    pub payload: Bytes,
    /// The identifier under which it is stored once: the publisher's, which the envelope carries. Where there is none, or it has more
    /// than [`LONGEST_ID`] bytes, one that follows from channel, bytes and occurrence.
    pub message_id: Box<str>,
    /// Whether that is not the publisher's.
    pub derived: bool,
}

/// Why a message goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelError {
    /// It is no message.
    Foreign(ForeignError),
    /// It has the placeholders of no room's name, or names nobody.
    NoTarget,
    /// The name of its room is empty, too long or has control characters, or is no text.
    RoomName,
    /// It names more than [`MOST_ROOMS`] rooms.
    TooManyRooms,
    /// It is a pickle, which is never read: python-socketio before version 5.14 publishes that.
    Pickled,
    /// It asks for something else than emitting an event.
    Ignored {
        /// What it asks for, at the most 40 letters.
        method: Box<str>,
    },
    /// Its data is binary.
    Binary,
}

impl ChannelError {
    /// A name for metrics, which does not change between versions.
    pub fn code(&self) -> &'static str {
        match self {
            ChannelError::Foreign(error) => error.code(),
            ChannelError::NoTarget => "no_target",
            ChannelError::RoomName => "room_name",
            ChannelError::TooManyRooms => "too_many_rooms",
            ChannelError::Pickled => "pickled",
            ChannelError::Ignored { .. } => "unsupported_method",
            ChannelError::Binary => "binary",
        }
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Foreign(error) => error.fmt(f),
            ChannelError::NoTarget => f.write_str("the message names no room"),
            ChannelError::RoomName => {
                f.write_str("the name of the room is empty, too long or no text, or has control characters")
            }
            ChannelError::TooManyRooms => write!(f, "the message names more than {MOST_ROOMS} rooms"),
            ChannelError::Pickled => f.write_str("the message is a pickle; python-socketio 5.14 or later publishes JSON"),
            ChannelError::Ignored { method } => write!(f, "the method is {method:?}, and only \"emit\" is passed on"),
            ChannelError::Binary => f.write_str("the message has binary data"),
        }
    }
}

impl core::error::Error for ChannelError {}

impl From<ForeignError> for ChannelError {
    fn from(error: ForeignError) -> ChannelError {
        ChannelError::Foreign(error)
    }
}

/// Maps the messages of a channel.
///
/// ```
/// use roomcast_core::channel::{Heard, Mapper};
/// use roomcast_core::config::{Channel, Limits};
/// use roomcast_core::time::UnixMillis;
///
/// let mapper = Mapper::new(&Channel::task_updates(), &Limits::default());
/// let payload = br#"{"type":"task_update","task_id":"12","data":{"progress": null},"timestamp":1759712400.5,"message_id":"m-1"}"#;
/// let heard = Heard { channel: "task_updates", payload, occurrence: 0, at: UnixMillis(0) };
/// let mapped = &mapper.map(&heard).unwrap()[0];
/// assert_eq!((&*mapped.room, &*mapped.message_id, mapped.derived), ("task:12", "m-1", false));
/// let expected = r#"{"type":"task_update","data":{"progress": null},"timestamp":1759712400.5,"message_id":"m-1","room":"task:12","task_id":"12"}"#;
/// assert_eq!(mapped.payload, expected);
///
/// let error = mapper.map(&Heard { payload: br#"{"type":"task_update"}"#, ..heard }).unwrap_err();
/// assert_eq!((error.code(), error.to_string()), ("no_target", "the message names no room".into()));
/// ```
#[derive(Clone, Debug)]
pub struct Mapper {
    form: Form,
    to: Vec<Template>,
    drop: Vec<String>,
    pattern: Option<String>,
    limits: Limits,
}

impl Mapper {
    /// A mapper for a channel that [`Config::validate`](config::Config::validate) accepts; names of rooms that it does not accept
    /// are passed over.
    pub fn new(channel: &config::Channel, limits: &Limits) -> Mapper {
        Mapper {
            form: channel.form,
            to: channel.to.iter().filter_map(|template| Template::parse(template).ok()).collect(),
            drop: channel.drop.clone(),
            pattern: channel.pattern.clone(),
            limits: limits.clone(),
        }
    }

    /// What is sent, and where to: one message, or one for each room that a message of python-socketio names.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it. Nothing of it is passed on then.
    pub fn map(&self, heard: &Heard<'_>) -> Result<Vec<Mapped>, ChannelError> {
        let (rooms, mut message) = match self.form {
            Form::Envelope => {
                let fields = Fields::read(foreign::text(heard.payload)?)?;
                let room = self.room(heard.channel, |name| field(&fields, name))?;
                (vec![room], Foreign::new(fields)?)
            }
            Form::Socketio => {
                let emit = socketio::Emit::read(heard.payload)?;
                let room =
                    |room| self.room(heard.channel, |name| if name == "room" { Ok(room) } else { field(&emit.fields, name) });
                (emit.rooms()?.into_iter().map(room).collect::<Result<_, _>>()?, emit.message()?)
            }
        };
        message.retain(|name| !self.drop.iter().any(|drop| drop == name));
        let own = message.message_id().filter(|id| id.len() <= LONGEST_ID);
        let derived = own.is_none();
        let id = foreign::identifier(heard.channel, &[heard.occurrence], heard.payload);
        let message_id = own.unwrap_or_else(|| id.to_string().into());
        let mapped = |room: RoomName| Mapped {
            payload: message.encode(&room, heard.at, || id),
            room,
            message_id: message_id.as_ref().into(),
            derived,
        };
        Ok(distinct(rooms).into_iter().map(mapped).collect())
    }

    /// The first name all of whose placeholders have a value.
    fn room<'a, V>(&self, channel: &str, value: V) -> Result<RoomName, ChannelError>
    where
        V: Fn(&str) -> Result<Option<&'a RawValue>, ForeignError>,
    {
        'names: for template in &self.to {
            let mut room = String::new();
            for piece in template.pieces() {
                match piece {
                    Piece::Text(text) => room.push_str(text),
                    Piece::Channel => room.push_str(channel),
                    Piece::Match => match self.starred(channel) {
                        Some(text) => room.push_str(text),
                        None => continue 'names,
                    },
                    Piece::Field(name) => match name_of(value(name)?)? {
                        Some(text) => room.push_str(&text),
                        None => continue 'names,
                    },
                }
            }
            let allowed = self.limits.allows_room_name(&room);
            return if allowed { Ok(room.into()) } else { Err(ChannelError::RoomName) };
        }
        Err(ChannelError::NoTarget)
    }

    /// What stands for the first `*` of the pattern.
    fn starred<'c>(&self, channel: &'c str) -> Option<&'c str> {
        let range = glob::first_star(self.pattern.as_ref()?.as_bytes(), channel.as_bytes())?;
        channel.get(range).filter(|text| !text.is_empty())
    }
}

/// A field, or one within it.
fn field<'a>(fields: &Fields<'a>, path: &str) -> Result<Option<&'a RawValue>, ForeignError> {
    let mut names = path.split('.');
    let mut value = fields.get(names.next().unwrap_or_default())?;
    for name in names {
        let Some(object) = value.filter(|value| value.get().starts_with('{')) else { return Ok(None) };
        value = Fields::read(object.get())?.get(name)?;
    }
    Ok(value)
}

/// What a value says in the name of a room: a string that is not empty, or a number as it is written. Null is nothing; any other
/// value is not taken for nothing, as the message would go to others than it is meant for.
fn name_of(value: Option<&RawValue>) -> Result<Option<Cow<'_, str>>, ChannelError> {
    let Some(value) = value else { return Ok(None) };
    match value.get() {
        "\"\"" | "null" => Ok(None),
        number if number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => Ok(Some(number.into())),
        // It may have letters that no text can have.
        string if string.starts_with('"') => identifier(value).map(Some).ok_or(ChannelError::RoomName),
        _ => Err(ChannelError::RoomName),
    }
}

/// Who is named twice is told once.
fn distinct(rooms: Vec<RoomName>) -> Vec<RoomName> {
    let mut seen = std::collections::BTreeSet::new();
    rooms.into_iter().filter(|room| seen.insert(room.clone())).collect()
}
