//! The door: all that a hub (the clients' side) and a backplane (the store's side) say to each other.
//!
//! The words are plain values, so the two live on one thread ([`crate::node::Node`]) or on several with the same code.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::ConnId;
use crate::message::RoomName;
use crate::position::Position;
use crate::store::{Here, Page, Places, Query, StoreError, Subscription};
use crate::survey::{Question, Survey, Surveyed};
use crate::token::Revoked;

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
    /// Close every connection of a user, on all nodes. Answered by [`Tell::Published`], without a position.
    Disconnect {
        /// The asker's number for it, of the same row as those of its publishes.
        id: PublishId,
        /// The user.
        user: Box<str>,
    },
    /// Read what a room remembers. Answered by [`Tell::Page`].
    Read {
        /// The hub's number for it.
        read: ReadId,
        /// The room.
        room: RoomName,
        /// Which messages.
        query: Query,
        /// How many at the most.
        count: usize,
    },
    /// Remember the rooms of a connection, for when its client comes back.
    Remember {
        /// The connection.
        conn: ConnId,
        /// A hash of its token.
        token: Box<str>,
        /// Its rooms, and what its client certainly has of each.
        places: Places,
        /// Whether the connection has ended.
        over: bool,
        /// How long they are remembered.
        ttl: Duration,
    },
    /// Which rooms was this token in? Answered by [`Tell::Restored`], unless the store cannot say.
    Restore {
        /// The connection that shows it.
        conn: ConnId,
        /// A hash of the token.
        token: Box<str>,
    },
    /// Read the state of a room at the moment, which whoever publishes in it keeps beside its messages. Answered by
    /// [`Tell::Snapshot`].
    Snapshot {
        /// The hub's number for it.
        read: ReadId,
        /// The room.
        room: RoomName,
    },
    /// Messages of an inbox up to this position have been written to a connection.
    Delivered {
        /// The room.
        room: RoomName,
        /// The last of them.
        upto: Position,
    },
    /// So many connections of a user are in a room on this hub now, whose members learn of each other.
    Present {
        /// The room.
        room: RoomName,
        /// The user, never empty.
        user: Arc<str>,
        /// How many.
        connections: u32,
    },
    /// Who is in a room, on all nodes? Answered by [`Tell::Who`].
    Who {
        /// The hub's number for it.
        read: ReadId,
        /// The room.
        room: RoomName,
    },
    /// Tell me what is said on a channel of the node's own server. Answered by [`Tell::Listening`].
    Listen {
        /// The channel, or a pattern of channels.
        subscription: Subscription,
    },
    /// Tell me no more of it.
    Unlisten {
        /// The same.
        subscription: Subscription,
    },
    /// Does the store answer? Answered by [`Tell::Pong`].
    Ping {
        /// The asker's number for it, of the same row as those of its readings.
        read: ReadId,
    },
    /// Somebody in this process asks all nodes. Answered by [`Tell::Surveyed`].
    Survey {
        /// The asker's number for it.
        read: ReadId,
        /// What is asked.
        question: Question,
    },
    /// A hub's answer to [`Tell::Survey`].
    Surveyed {
        /// The number that it was asked under.
        number: u64,
        /// The answer.
        survey: Survey,
    },
}

/// A reading that waits for its answer, numbered by the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// A message on its way to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The asker's number for it.
    pub id: PublishId,
    /// The room.
    pub room: RoomName,
    /// The encoded envelope.
    pub payload: Bytes,
    /// The identifier under which the publisher wants it stored once.
    pub once: Option<Box<str>>,
}

/// What came of a publish: where the message stands in what its room remembers, if it does.
pub type Published = Result<Option<Position>, PublishError>;

/// Why a message is not known to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The store could not be asked, did not answer in time, or refused. The message may have been stored all the same.
    Unavailable,
    /// So many messages wait for the store that this one was not taken.
    Full,
}

impl PublishError {
    /// What publishers are told.
    pub fn message(self) -> &'static str {
        match self {
            PublishError::Unavailable => "The message could not be stored; it may or may not arrive",
            PublishError::Full => "Too many messages wait for the store; this one was not taken",
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for PublishError {}

/// A publish that waits for its confirmation, numbered by the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// What the backplane tells a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// These tokens are good no longer, and no others: all that is known of it.
    Revoked(Arc<Revoked>),
    /// From here on the hub gets every message of the room. While the store does not answer, this is not told.
    Joined {
        /// The room.
        room: RoomName,
        /// The number of the joining.
        join: u64,
        /// Where the room stands: the first message told will be the one after it. Nothing where the room remembers nothing.
        position: Option<Position>,
    },
    /// Messages of a room the hub has joined, in order: those that were read together travel together, and are framed, queued
    /// and written as one. There are never more of them than half an outbox takes.
    Messages {
        /// The room.
        room: RoomName,
        /// The encoded envelopes.
        payloads: Vec<Bytes>,
        /// The position of each; none at all where the room remembers nothing.
        positions: Vec<Position>,
    },
    /// A message of a room for everybody in it but one user. It has no position.
    Others {
        /// The room.
        room: RoomName,
        /// Who is not told.
        user: Box<str>,
        /// The encoded envelope.
        payload: Bytes,
    },
    /// An administrator wants every connection of a user closed.
    Disconnect {
        /// The user.
        user: Box<str>,
    },
    /// Messages of a room were lost, or never were what they seemed: members must be told that they cannot go on from where
    /// they are. What follows is told from this position on.
    Lost {
        /// The room.
        room: RoomName,
        /// Where it stands now.
        position: Position,
    },
    /// The rooms of a token.
    Restored {
        /// The connection that shows it.
        conn: ConnId,
        /// The rooms, and what the client certainly has of each.
        places: Places,
    },
    /// From here on the asker gets everything that is said there. Told once more after every gap: what was said before it was not
    /// heard.
    Listening {
        /// The channel, or the pattern.
        subscription: Subscription,
    },
    /// Something was said on a channel.
    Said {
        /// By which subscription it was heard.
        by: Subscription,
        /// The channel.
        channel: Bytes,
        /// What was said.
        payload: Bytes,
    },
    /// How long the store took to answer.
    Pong {
        /// The asker's number.
        read: ReadId,
        /// The time, on this node's clock; or why there is no answer.
        result: Result<Duration, StoreError>,
    },
    /// What a room remembers.
    Page {
        /// The asker's number.
        read: ReadId,
        /// The messages asked for.
        result: Result<Page, Unavailable>,
    },
    /// Who is in a room.
    Who {
        /// The asker's number.
        read: ReadId,
        /// The users, as the store knows them.
        result: Result<Here, Unavailable>,
    },
    /// The state of a room at the moment.
    Snapshot {
        /// The asker's number.
        read: ReadId,
        /// One JSON value; nothing where there is none, or it could not be read.
        data: Option<Bytes>,
    },
    /// An operator asks what the hub has. Answered by [`Ask::Surveyed`].
    Survey {
        /// The number of the survey.
        number: u64,
        /// What is asked.
        question: Question,
    },
    /// What all nodes have answered.
    Surveyed {
        /// The asker's number.
        read: ReadId,
        /// The answers, joined.
        result: Surveyed,
    },
    /// The store has a message, and every node will see it; or it is not known to have it.
    Published {
        /// The asker's number.
        id: PublishId,
        /// Where it stands in what its room remembers, if it does. After an error the message may still have been stored.
        result: Published,
    },
}

/// The store could not be asked, did not answer in time, or refused; what happened is in the logs and in the readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;
