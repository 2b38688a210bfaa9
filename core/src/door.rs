//! The door: all that a hub (the clients' side) and a backplane (the store's side) say to each other.
//!
//! The words are plain values, so the two live on one thread ([`crate::node::Node`]) or on several with the same code.

use bytes::Bytes;

use crate::message::RoomName;

/// What a hub asks of the backplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The hub has the first member of a room: send me its messages. Answered by [`Tell::Joined`].
    Join {
        /// The room.
        room: RoomName,
        /// The hub's number for this joining, which the answer repeats: the answer to an earlier one is told apart by it.
        join: u64,
    },
    /// The hub has lost the last member of a room: send me no more of it.
    Leave {
        /// The room.
        room: RoomName,
    },
    /// Publish to a room, on all nodes. Answered by [`Tell::Published`].
    Publish(Publish),
}

/// A message on its way to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The asker's number for it.
    pub id: PublishId,
    /// The room.
    pub room: RoomName,
    /// The encoded envelope.
    pub payload: Bytes,
}

/// A publish that waits for its confirmation, numbered by the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// What the backplane tells a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// From here on the hub gets every message of the room. While the store does not answer, this is not told.
    Joined {
        /// The room.
        room: RoomName,
        /// The number of the joining.
        join: u64,
    },
    /// Messages of a room the hub has joined, in order: those that were read together travel together, and are framed, queued
    /// and written as one. There are never more of them than half an outbox takes.
    Messages {
        /// The room.
        room: RoomName,
        /// The encoded envelopes.
        payloads: Vec<Bytes>,
    },
    /// The store has a message, and every node will see it; or it is not known to have it.
    Published {
        /// The asker's number.
        id: PublishId,
        /// Whether it worked. After an error the message may still have been stored.
        result: Result<(), Unavailable>,
    },
}

/// The store could not be asked, did not answer in time, or refused; what happened is in the logs and in the readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;
