//! What python-socketio's managers publish on their channel, as JSON: `{"method":"emit","event","data","namespace","room",…}`.
//!
//! * `data` is the list of the event's arguments from version 5.15.1 on, and in 5.14.0 to 5.15.0 the argument itself, which may be
//!   a list too. The two cannot be told apart, so that a list of one is taken for its element, and any other as it is.
//! * An argument with the `type` of the event and `data` is system E's envelope, whose fields are passed on. Any other is the data,
//!   also where it has a `type` of its own: nothing of it is lost, and clients know the event under its name.
//! * Room null is everybody; a list of rooms is each of them, and an empty one nobody.
//! * `skip_sid` and `callback` mean clients of the publisher's own servers, and namespaces have the same rooms: none counts here.

use serde_json::value::RawValue;

use super::{ChannelError, name_of};
use crate::foreign::{self, Fields, Foreign, ForeignError};

/// The most rooms that one message may name.
pub const MOST_ROOMS: usize = 100;

/// Binary protocols of pickle begin with it, and no JSON does.
const PICKLE: u8 = 0x80;

/// An event to be emitted.
pub(super) struct Emit<'a> {
    /// The fields around it.
    pub(super) fields: Fields<'a>,
    event: &'a RawValue,
}

impl<'a> Emit<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Result<Emit<'a>, ChannelError> {
        if payload.first() == Some(&PICKLE) {
            return Err(ChannelError::Pickled);
        }
        let fields = Fields::read(foreign::text(payload)?)?;
        let method = fields.get("method")?.and_then(string).unwrap_or_default();
        if method != "emit" {
            return Err(ChannelError::Ignored { method: method.chars().take(40).collect() });
        }
        if fields.get("binary")?.is_some_and(|binary| binary.get() == "true") {
            return Err(ChannelError::Binary);
        }
        let event = fields.get("event")?.filter(|event| event.get().starts_with('"')).ok_or(ForeignError::NoType)?;
        Ok(Emit { fields, event })
    }

    /// The rooms that it names; nothing in the place of one is everybody.
    pub(super) fn rooms(&self) -> Result<Vec<Option<&'a RawValue>>, ChannelError> {
        let Some(room) = self.fields.get("room")?.filter(|room| room.get() != "null") else { return Ok(vec![None]) };
        let rooms = list(room).unwrap_or_else(|| vec![room]);
        if rooms.len() > MOST_ROOMS {
            return Err(ChannelError::TooManyRooms);
        }
        for room in &rooms {
            name_of(Some(room))?.ok_or(ChannelError::RoomName)?;
        }
        if rooms.is_empty() { Err(ChannelError::NoTarget) } else { Ok(rooms.into_iter().map(Some).collect()) }
    }

    pub(super) fn message(&self) -> Result<Foreign<'a>, ChannelError> {
        let data = self.fields.get("data")?;
        let argument = match data.and_then(list).as_deref() {
            Some([only]) => Some(*only),
            _ => data,
        };
        let Some(argument) = argument else { return Ok(Foreign::bare(self.event, "null")) };
        // Not every reader takes every object; as data it is passed on all the same.
        if let Ok(fields) = Fields::read(argument.get()) {
            let kind = fields.get("type")?.and_then(string);
            if fields.get("data")?.is_some() && kind.is_some() && kind == string(self.event) {
                return Ok(Foreign::new(fields)?);
            }
        }
        Ok(Foreign::bare(self.event, argument.get()))
    }
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn list(value: &RawValue) -> Option<Vec<&RawValue>> {
    value.get().starts_with('[').then(|| serde_json::from_str(value.get()).ok()).flatten()
}
