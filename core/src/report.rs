//! What happened, as typed values for logs. Runtimes turn them into structured log lines.

use core::net::IpAddr;

use bytes::Bytes;

use crate::id::{ConnId, StreamId};
use crate::message::RoomName;
use crate::position::Position;
use crate::store::StoreError;

/// Something worth a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A connection was accepted.
    Opened {
        /// The connection.
        conn: ConnId,
        /// Where its client is, if that is known.
        address: Option<IpAddr>,
        /// Its path.
        path: Box<str>,
    },
    /// A connection ended.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Where its client is, if that is known.
        address: Option<IpAddr>,
        /// Its user, where it had one.
        user: Option<Box<str>>,
        /// Why.
        cause: &'static str,
    },
    /// A request for a connection was refused before there was one.
    Refused {
        /// Where the client is, if that is known.
        address: Option<IpAddr>,
        /// Its path, without the query.
        path: Box<str>,
        /// The page that it came from, as far as it says so.
        origin: Option<Box<str>>,
        /// The status that it was answered with.
        status: u16,
        /// Why.
        reason: &'static str,
    },
    /// A connection is a user's.
    Authenticated {
        /// The connection.
        conn: ConnId,
        /// Where its client is, if that is known.
        address: Option<IpAddr>,
        /// The user.
        user: Box<str>,
    },
    /// A client asked for what it may not.
    Denied {
        /// The connection.
        conn: ConnId,
        /// Where its client is, if that is known.
        address: Option<IpAddr>,
        /// Its user, where it has one.
        user: Option<Box<str>>,
        /// What it wanted to do: `subscribe`, `publish`, `history` or `presence`.
        action: &'static str,
        /// The room.
        room: Box<str>,
    },
    /// A connection is closed because it is beyond a limit.
    Exceeded {
        /// The connection.
        conn: ConnId,
        /// Where its client is, if that is known.
        address: Option<IpAddr>,
        /// Its user, where it has one.
        user: Option<Box<str>>,
        /// The code that it is closed with.
        code: u16,
        /// Which limit.
        cause: &'static str,
    },
    /// A connection could not be authenticated.
    AuthFailed {
        /// The connection.
        conn: ConnId,
        /// Where its client is, if that is known.
        address: Option<IpAddr>,
        /// The reason's code.
        code: &'static str,
    },
    /// A message was handed to the members of a room on this hub.
    Broadcast {
        /// The room.
        room: RoomName,
        /// The encoded envelope.
        payload: Bytes,
        /// Members it was handed to.
        clients: usize,
    },
    /// A batch was read from a source.
    Batch {
        /// The source's stream.
        stream: RoomName,
        /// The entry.
        entry: StreamId,
        /// The batch's own identifier.
        batch: Box<str>,
        /// Its events.
        events: usize,
        /// Whether it was compressed.
        compressed: bool,
    },
    /// The events of an entry were routed, and it was acknowledged.
    Acked {
        /// The source's stream.
        stream: RoomName,
        /// The entry.
        entry: StreamId,
    },
    /// An entry was passed on to another stream and acknowledged.
    Routed {
        /// The source's stream.
        stream: RoomName,
        /// The entry.
        entry: StreamId,
        /// The stream in which it stands now.
        target: RoomName,
    },
    /// An entry was kept in the dead-letter stream and acknowledged.
    DeadLettered {
        /// The source's stream.
        stream: RoomName,
        /// The entry.
        entry: StreamId,
        /// Why.
        reason: Box<str>,
    },
    /// A pending entry was deleted or trimmed from its stream: nobody can have it any more.
    Gone {
        /// The source's stream.
        stream: RoomName,
        /// The entry.
        entry: StreamId,
    },
    /// A consumer group is gone: it was deleted, or its stream, or the whole store.
    GroupLost {
        /// The source's stream.
        stream: RoomName,
        /// The group.
        group: RoomName,
    },
    /// A consumer group was created.
    GroupCreated {
        /// The source's stream.
        stream: RoomName,
        /// The group.
        group: RoomName,
        /// The entry behind which it begins: all up to there had been acknowledged.
        after: StreamId,
    },
    /// A consumer was removed from its group: it had nothing pending, and its process is gone.
    ConsumerRemoved {
        /// The source's stream.
        stream: RoomName,
        /// The consumer's name.
        consumer: Box<str>,
    },
    /// An entry was refused by the store, or the host's code could not deal with it. It is tried again later.
    Failed {
        /// The source's stream.
        stream: RoomName,
        /// The entry.
        entry: StreamId,
        /// Why.
        reason: Box<str>,
    },
    /// Dead letters were put back into their source.
    LettersReplayed {
        /// The dead-letter stream.
        stream: RoomName,
        /// How many.
        replayed: u64,
        /// How many were to be and could not.
        failures: u64,
    },
    /// Dead letters were deleted.
    LettersPurged {
        /// The dead-letter stream.
        stream: RoomName,
        /// How many.
        letters: u64,
    },
    /// The relay logs did not bring all messages of a room; what was missing was read from the room's own log.
    RoomHealed {
        /// The room.
        room: RoomName,
        /// How many were missing.
        messages: usize,
    },
    /// Messages of a room were lost, or its log is another one now; members are told.
    RoomLost {
        /// The room.
        room: RoomName,
        /// Where it stands now.
        position: Position,
    },
    /// An entry of a publisher's stream is no message, and is skipped, as are others of the stream of which nothing is said as
    /// long as a room is read from it.
    Skipped {
        /// The stream.
        stream: RoomName,
        /// The entry.
        entry: StreamId,
        /// Why.
        reason: Box<str>,
        /// The beginning of what it holds.
        sample: Box<str>,
    },
    /// A question to the store failed.
    StoreFailed {
        /// What was asked.
        what: &'static str,
        /// How it failed.
        error: StoreError,
    },
    /// What this node said to itself did not come back: the connection that should have brought it is replaced.
    Deaf {
        /// What is not heard.
        what: &'static str,
    },
    /// Channels are listened to again. What was said on them meanwhile was not heard by this node.
    ChannelGap {
        /// The channels.
        channels: Box<str>,
    },
    /// A message on a channel cannot be passed on.
    Unheard {
        /// The channel.
        channel: Box<str>,
        /// Why.
        reason: Box<str>,
        /// The beginning of what it says.
        sample: Box<str>,
        /// How many there were since this was reported last.
        count: u64,
    },
    /// The store answers again.
    StoreRecovered,
}
