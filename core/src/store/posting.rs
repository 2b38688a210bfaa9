//! Messages on their way into the store, and on their way out of the relay logs.

use core::time::Duration;

use bytes::Bytes;

use crate::message::{EVERYBODY, RoomName};
use crate::position::Position;
use crate::time::UnixMillis;

/// A message on its way into a relay log, and into what its room remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The room.
    pub room: RoomName,
    /// The encoded envelope, without a position: the store decides about that.
    pub payload: Bytes,
    /// How the room remembers it, where it does.
    pub kept: Option<Kept>,
    /// Where this is given, it is stored only if no message was stored in the room under the same identifier before.
    pub once: Option<Once>,
}

/// How a message is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where.
    pub place: Place,
    /// How many messages are kept: about so many in a log, exactly so many in an inbox.
    pub size: u32,
    /// How long they are kept.
    pub ttl: Duration,
    /// The epoch that begins with this message, where the room has none.
    pub epoch: u32,
    /// The message's tag.
    pub tag: u32,
    /// When it was published. It stays no longer than `ttl` in an inbox, whatever comes after it.
    pub at: UnixMillis,
}

/// Where a room's messages are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the room's log.
    Log,
    /// In an inbox, until they are delivered.
    Inbox,
}

/// A message's identifier, by which a second copy is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// The identifier.
    pub id: Box<str>,
    /// How long it is remembered.
    pub window: Duration,
}

/// Messages on their way into one relay log.
pub type Postings = Vec<Posting>;

/// A message of a relay log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The room.
    pub room: Bytes,
    /// What else there is to know of it.
    pub stamp: Stamp,
    /// The encoded envelope.
    pub payload: Bytes,
}

/// What a relay log says of a message beside its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing: the room remembers nothing.
    Plain,
    /// Its place in what the room remembers, and the tag of the message before it.
    At {
        /// Its position.
        position: Position,
        /// The tag of the message before it.
        previous: u32,
    },
    /// Everybody in the room is told but this user.
    Others(Bytes),
    /// It is no message: every connection of this user is to be closed. It stands in the room of everybody, with an empty envelope.
    Disconnect(Bytes),
}

impl Posting {
    /// A message for a room that remembers nothing.
    pub fn plain(room: RoomName, payload: Bytes) -> Posting {
        Posting { room, payload, kept: None, once: None }
    }

    /// Whether it is appended to a relay log as it is, and nothing else.
    pub fn is_plain(&self) -> bool {
        self.kept.is_none() && self.once.is_none()
    }
}

impl Relayed {
    /// The word that every connection of a user is to be closed.
    pub(super) fn disconnect(user: &str) -> Relayed {
        let stamp = Stamp::Disconnect(Bytes::copy_from_slice(user.as_bytes()));
        Relayed { room: Bytes::from_static(EVERYBODY.as_bytes()), stamp, payload: Bytes::new() }
    }
}

impl Kept {
    /// How long a room's position outlives its messages: a client that missed nothing must not be told that it may have.
    pub fn position_ttl(ttl: Duration) -> Duration {
        ttl.saturating_mul(2).max(Duration::from_secs(24 * 3600))
    }
}
