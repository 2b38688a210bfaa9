//! What is asked of the store, and what it answers, as typed values.
//!
//! [`redis`] turns an operation into Redis commands and reads the reply; [`memory`] carries it out in memory.
//! Both are pure: runtimes only carry bytes.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::StreamId;
use crate::message::RoomName;
use crate::position::Position;
use crate::time::UnixMillis;
use crate::token::Subject;

mod health;
mod letters;
pub mod memory;
mod page;
mod posting;
mod presence;
mod pubsub;
pub mod redis;
mod revocations;
mod scripts;
mod sessions;
mod tail;

pub use health::GroupHealth;
pub use letters::{LetterOp, Replayed};
pub use page::{Page, Query};
pub use posting::{Kept, Once, Place, Posting, Postings, Relayed, Stamp};
pub use presence::{Change, Here, PresenceAnswer, PresenceOp};
pub use pubsub::{Heard, Said, Subscription, SubscriptionKind};
pub use revocations::RevocationOp;
pub use sessions::{Places, SessionOp};
pub use tail::{STREAM_LENGTH, STREAM_TTL, TailAnswer, TailOp};

/// A way to the store with an order of its own. A blocking read never shares its connection with anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Pipelined commands, answered in order.
    Command,
    /// The blocking read of the relay logs.
    Relay,
    /// The blocking read of the publishers' streams that are the history of rooms.
    Tail,
    /// The reads of one source, by its index in the configuration.
    Source(u16),
    /// Pipelined commands about one source whose stream stands in a Redis of its own.
    Origin(u16),
    /// What is said on channels of the node's own Redis.
    Channels,
    /// What is said on one channel that is in a Redis of its own, by its index in the configuration.
    Channel(u16),
}

/// A stream and the consumer group that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRef {
    /// Key of the stream.
    pub stream: Arc<str>,
    /// Name of the group.
    pub group: Arc<str>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Append messages of one partition to its relay log, as one entry, and to what their rooms remember, in one atomic step.
    /// Answer: [`Answer::Appended`].
    Append {
        /// The partition.
        partition: u16,
        /// The messages.
        messages: Postings,
    },
    /// Write down in the relay log of the room of everybody that every connection of a user is to be closed.
    /// Answer: [`Answer::Appended`], without a position.
    Disconnect {
        /// The partition of that room.
        partition: u16,
        /// The user.
        user: Box<str>,
    },
    /// Where do rooms that remember stand? A room that has no position yet is given the beginning of `epoch`. The positions
    /// stay known for as long again. Answer: [`Answer::Positions`].
    Positions {
        /// The partition of the rooms.
        partition: u16,
        /// The rooms, each with how long its messages are kept.
        rooms: Vec<(RoomName, Duration)>,
        /// The epoch of rooms that have none.
        epoch: u32,
    },
    /// Read what a room remembers. Answer: [`Answer::Page`].
    Page {
        /// The room.
        room: RoomName,
        /// Where it remembers.
        place: Place,
        /// Which messages. Of an inbox, only the oldest ones can be read.
        query: Query,
        /// Of an inbox, messages that were published before this are left out.
        since: UnixMillis,
        /// How many at the most.
        count: usize,
    },
    /// The messages of an inbox up to this position have been delivered, and are dropped; where no message stands there, nothing
    /// is. Answer: [`Answer::Done`].
    Delivered {
        /// The room.
        room: RoomName,
        /// The last of them.
        upto: Position,
    },
    /// The identifier of the last entry of a relay log, zero where it is empty. Answer: [`Answer::Id`].
    RelayTip {
        /// The partition.
        partition: u16,
    },
    /// Read relay logs beyond their cursors; wait for an entry when there is none. Answer: [`Answer::Relayed`].
    RelayRead {
        /// Partition and cursor.
        cursors: Vec<(u16, StreamId)>,
        /// Entries of each log at the most.
        count: usize,
        /// How long to wait.
        block: Duration,
    },
    /// Append an entry without messages to a relay log: whoever reads it back knows that what is appended is read.
    /// Answer: [`Answer::Id`].
    Mark {
        /// The partition.
        partition: u16,
        /// What the entry says.
        mark: Bytes,
    },
    /// Open a consumer group. Where it does not exist it is created, and the stream with it: behind the last entry up to which
    /// all had been acknowledged when it was lost, or at the stream's beginning. Answer: [`Answer::Opened`].
    GroupOpen(GroupRef),
    /// Read entries nobody has been given yet, waiting when there is none. Answer: [`Answer::Entries`].
    GroupRead {
        /// What to read.
        group: GroupRef,
        /// Entries at the most.
        count: usize,
        /// How long to wait.
        block: Duration,
    },
    /// Look for pending entries that nobody has touched for long. Answer: [`Answer::Stale`].
    GroupStale {
        /// Where they are pending.
        group: GroupRef,
        /// Whose.
        whose: Whose,
        /// How long they must have been idle.
        idle: Duration,
        /// Look beyond this one.
        after: StreamId,
        /// Entries at the most.
        count: usize,
    },
    /// Take pending entries over. Answer: [`Answer::Claimed`], without those that somebody else was faster with.
    GroupClaim {
        /// What to claim from.
        group: GroupRef,
        /// Who must hold them.
        whose: Whose,
        /// How long they must have been idle.
        idle: Duration,
        /// The entries, each with the number of deliveries it has from then on.
        ids: Vec<(StreamId, u32)>,
    },
    /// Touch own pending entries, so that nobody takes them over. Answer: [`Answer::Held`].
    GroupHold {
        /// Where they are pending.
        group: GroupRef,
        /// The entries.
        ids: Vec<StreamId>,
    },
    /// How is a group doing? Answer: [`Answer::Health`].
    GroupHealth {
        /// The group.
        group: GroupRef,
    },
    /// Remove other consumers that have nothing pending and were idle for long. Answer: [`Answer::Removed`].
    GroupTidy {
        /// The group.
        group: GroupRef,
        /// How long they must have been idle.
        idle: Duration,
    },
    /// Store a share of the effects of entries whose stream stands elsewhere: in another Redis, or in another slot of a cluster.
    /// They are acknowledged afterwards. Each entry's share is stored once, however often that is asked for: the last [`APPLIED`]
    /// entries are remembered. Answer: [`Answer::Committed`], where nothing is ever not pending, or [`Answer::Replayed`], where
    /// nothing is ever gone.
    Apply {
        /// Where the entries are pending.
        group: GroupRef,
        /// What is to be stored.
        share: Share,
    },
    /// Store the effects of entries and acknowledge them, in one atomic step that does nothing for an entry that is no longer
    /// pending (contract C3). Answer: [`Answer::Committed`], or [`Answer::Declined`].
    Commit {
        /// Where the entries are pending.
        group: GroupRef,
        /// Each entry with its effect.
        effects: Arc<Effects>,
        /// All of them or none: only where each is [`Effect::Relay`] or [`Effect::Nothing`] and every entry is pending with this
        /// consumer; otherwise it is declined. Much cheaper than each by itself.
        together: bool,
    },
    /// Work on the sessions of a token.
    Session {
        /// A hash of the token.
        token: Box<str>,
        /// What to do.
        op: SessionOp,
    },
    /// Work on what is revoked.
    Revocations(RevocationOp),
    /// Hear what is said on channels; wait for it when there is nothing. Nothing is lost between two of these on one connection.
    /// Answered at once where the subscriptions have changed, as soon as they hold. Answer: [`Answer::Heard`].
    Listen {
        /// What to listen to.
        subscriptions: Arc<[Subscription]>,
        /// How long to wait.
        block: Duration,
    },
    /// Say something on a channel. Answer: [`Answer::Count`], of those who have heard it.
    Announce {
        /// The channel.
        channel: Arc<str>,
        /// Whether it belongs to a slot of a cluster.
        sharded: bool,
        /// What to say.
        payload: Bytes,
    },
    /// Does the store answer? Answer: [`Answer::Done`].
    Ping,
    /// Work on a dead-letter stream.
    Letters {
        /// Key of the stream.
        stream: Arc<str>,
        /// What to do.
        op: LetterOp,
    },
    /// Tell who is in rooms, or ask. Answer: [`Answer::Presence`].
    Presence(PresenceOp),
    /// Work on publishers' streams that are the history of rooms.
    Tail(TailOp),
}

/// Whose pending entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This consumer's.
    Own,
    /// Any consumer's, this one's included.
    Any,
}

/// Entries, each with its effect.
pub type Effects = Vec<(StreamId, Effect)>;

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Its messages are appended to the relay logs.
    Relay(Vec<(u16, Postings)>),
    /// It is passed on to another stream.
    Route(NewEntry),
    /// It is kept in a dead-letter stream.
    DeadLetter(NewEntry),
    /// Nothing but the acknowledgement.
    Nothing,
}

/// A share of the effects of entries: what of them stands in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// In the relay log of a partition, and in what its rooms remember. Answer: [`Answer::Committed`].
    Relay {
        /// The partition.
        partition: u16,
        /// Each entry with its messages.
        entries: Vec<(StreamId, Postings)>,
    },
    /// In another stream. Answer: [`Answer::Replayed`].
    Stream {
        /// Key of the stream.
        stream: Arc<str>,
        /// About how many entries it keeps.
        length: u32,
        /// Each entry with the fields of the one that is added: [`MOST_FIELDS`] at the most.
        entries: Vec<(StreamId, Fields)>,
    },
}

/// What is added to a stream as an entry of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Key of the stream.
    pub stream: Arc<str>,
    /// About how many entries the stream keeps.
    pub length: u32,
    /// What is written: the first [`MOST_FIELDS`] of these.
    pub fields: Fields,
}

/// Most fields of an entry that is added: a script of Redis can hand on about 8,000 words at once, and a field has two.
pub const MOST_FIELDS: usize = 2_000;

/// Entries of a source whose effects stand elsewhere that are remembered, so that these are stored once.
pub const APPLIED: usize = 100_000;

/// An entry of a relay log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEntry {
    /// The partition whose log it stands in.
    pub partition: u16,
    /// Its identifier.
    pub id: StreamId,
    /// Its messages.
    pub messages: Vec<Relayed>,
    /// What it says instead, if it is a mark.
    pub mark: Option<Bytes>,
}

/// The fields of a stream entry, in order.
pub type Fields = Vec<(Bytes, Bytes)>;

/// A stream entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its identifier.
    pub id: StreamId,
    /// Its fields.
    pub fields: Fields,
}

/// The answer to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// An entry's identifier.
    Id(StreamId),
    /// Messages are stored: the position of each whose room remembers it.
    Appended(Vec<Option<Position>>),
    /// The positions of rooms, in the order of the question.
    Positions(Vec<Position>),
    /// What a room remembers.
    Page(Page),
    /// Entries of relay logs.
    Relayed(Vec<RelayEntry>),
    /// Entries of a source, none when the wait was in vain.
    Entries(Vec<Entry>),
    /// A group is open; where it had to be created, the entry behind which it begins.
    Opened(Option<StreamId>),
    /// Entries that nobody has touched for long, in order.
    Stale(Vec<Stale>),
    /// What was taken over.
    Claimed {
        /// The entries.
        entries: Vec<Entry>,
        /// Entries that had been deleted or trimmed from the stream; they are pending no longer.
        gone: Vec<StreamId>,
    },
    /// The entries that are still pending with this consumer.
    Held(Vec<StreamId>),
    /// How a group is doing.
    Health(GroupHealth),
    /// The names of the consumers that were removed.
    Removed(Vec<Box<str>>),
    /// The effects cannot be stored together, and none is; each by itself may.
    Declined,
    /// For each effect, what came of it.
    Committed(Vec<Committed>),
    /// How many it was about.
    Count(u64),
    /// The rooms of a connection.
    Places(Places),
    /// What is revoked, and since when.
    Revoked(Vec<(Subject, UnixMillis)>),
    /// For each dead letter, or entry that was added, what came of it.
    Replayed(Vec<Replayed>),
    /// The answer to an operation on presence.
    Presence(PresenceAnswer),
    /// What publishers' streams hold.
    Tail(TailAnswer),
    /// What was heard on channels, nothing when the wait was in vain.
    Heard(Heard),
}

/// A pending entry that nobody has touched for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Its identifier.
    pub id: StreamId,
    /// How long ago it was delivered or touched last.
    pub idle: Duration,
    /// How often it has been delivered.
    pub deliveries: u32,
}

/// What came of one effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The effect is stored and the entry acknowledged.
    Stored,
    /// The entry was no longer pending; nothing was done.
    NotPending,
    /// The effect could not be stored, the entry is still pending.
    Failed(StoreError),
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no connection, or it broke. Whether the operation was carried out is unknown.
    Disconnected(Box<str>),
    /// No answer in time. Whether the operation was carried out is unknown.
    Timeout,
    /// The consumer group or its stream is gone.
    NoGroup,
    /// The store refuses for the moment: loading, out of memory, read-only, failing over.
    Busy(Box<str>),
    /// The store refuses, and will refuse again.
    Refused(Box<str>),
    /// The answer cannot be understood.
    Unexpected(Box<str>),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Disconnected(text) => write!(f, "disconnected: {text}"),
            StoreError::Timeout => f.write_str("no answer in time"),
            StoreError::NoGroup => f.write_str("the consumer group does not exist"),
            StoreError::Busy(text) => write!(f, "refused for the moment: {text}"),
            StoreError::Refused(text) => write!(f, "refused: {text}"),
            StoreError::Unexpected(text) => write!(f, "unexpected answer: {text}"),
        }
    }
}

impl core::error::Error for StoreError {}

impl Entry {
    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        size_of_words(&self.fields)
    }
}

impl Effect {
    /// About how many bytes it writes.
    pub fn bytes(&self) -> usize {
        match self {
            Effect::Relay(partitions) => {
                let messages = partitions.iter().flat_map(|(_, messages)| messages);
                messages.map(|message| message.room.len() + message.payload.len()).sum()
            }
            Effect::Route(entry) | Effect::DeadLetter(entry) => size_of_words(&entry.fields),
            Effect::Nothing => 0,
        }
    }
}

fn size_of_words(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

impl StoreOp {
    /// What the operation is, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            StoreOp::Append { .. } => "append to relay",
            StoreOp::Disconnect { .. } => "disconnect a user",
            StoreOp::Positions { .. } => "look for positions",
            StoreOp::Page { .. } => "read a room",
            StoreOp::Delivered { .. } => "empty an inbox",
            StoreOp::RelayTip { .. } => "relay tip",
            StoreOp::RelayRead { .. } => "read relay",
            StoreOp::Mark { .. } => "mark a relay log",
            StoreOp::GroupOpen(_) => "open group",
            StoreOp::GroupRead { .. } => "read group",
            StoreOp::GroupStale { .. } => "look for stale entries",
            StoreOp::GroupClaim { .. } => "claim",
            StoreOp::GroupHold { .. } => "hold",
            StoreOp::GroupHealth { .. } => "look at a group",
            StoreOp::GroupTidy { .. } => "tidy a group",
            StoreOp::Apply { .. } => "apply",
            StoreOp::Commit { .. } => "commit",
            StoreOp::Session { .. } => "work on a session",
            StoreOp::Revocations(_) => "work on what is revoked",
            StoreOp::Listen { .. } => "listen to channels",
            StoreOp::Announce { .. } => "announce",
            StoreOp::Ping => "ping",
            StoreOp::Letters { op, .. } => op.name(),
            StoreOp::Presence(op) => op.name(),
            StoreOp::Tail(op) => op.name(),
        }
    }

    /// What a read that waits is answered when it waits in vain.
    pub fn nothing(&self) -> Answer {
        match self {
            StoreOp::RelayRead { .. } => Answer::Relayed(Vec::new()),
            StoreOp::Listen { .. } => Answer::Heard(Heard::default()),
            StoreOp::Tail(_) => Answer::Tail(TailAnswer::Entries(Vec::new())),
            _ => Answer::Entries(Vec::new()),
        }
    }

    /// How long the store itself may wait before it answers.
    pub fn blocks_for(&self) -> Duration {
        match self {
            StoreOp::RelayRead { block, .. } | StoreOp::GroupRead { block, .. } | StoreOp::Listen { block, .. } => *block,
            StoreOp::Tail(op) => op.blocks_for(),
            StoreOp::Append { .. }
            | StoreOp::Disconnect { .. }
            | StoreOp::Positions { .. }
            | StoreOp::Page { .. }
            | StoreOp::Delivered { .. }
            | StoreOp::RelayTip { .. }
            | StoreOp::Mark { .. }
            | StoreOp::Announce { .. }
            | StoreOp::GroupOpen(_)
            | StoreOp::GroupStale { .. }
            | StoreOp::GroupClaim { .. }
            | StoreOp::GroupHold { .. }
            | StoreOp::GroupHealth { .. }
            | StoreOp::GroupTidy { .. }
            | StoreOp::Apply { .. }
            | StoreOp::Commit { .. }
            | StoreOp::Session { .. }
            | StoreOp::Revocations(_)
            | StoreOp::Ping
            | StoreOp::Letters { .. }
            | StoreOp::Presence(_) => Duration::ZERO,
        }
    }
}
