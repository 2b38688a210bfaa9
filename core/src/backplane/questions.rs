//! The questions under way, and when to do something next.

use core::time::Duration;

use super::consumer::Errand;
use super::operator::Operation;
use super::outbound::Batch;
use super::presence;
use super::probe::Asked;
use super::revocations::Revoking;
use super::sessions::Saving;
use super::tail;
use crate::door::ReadId;
use crate::id::{ConnId, ShardId, StreamId, Ticket};
use crate::message::RoomName;
use crate::position::Position;
use crate::store::Lane;
use crate::table::Table;
use crate::time::Time;
use crate::timers::Timers;

/// Open questions by ticket, each with a deadline, and the wake-ups of the parts.
#[derive(Debug)]
pub(super) struct Questions {
    open: Table<Ticket, (Purpose, Lane)>,
    timers: Timers<Wake>,
    next: u64,
    /// How many of the open ones are lasting.
    lasting: usize,
    timeout: Duration,
}

/// What a question is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Probe(Asked),
    /// A caller wants to know whether the store answers, since then.
    Ping(ShardId, ReadId, Time),
    Append(Batch),
    /// What is said on the channels of an ear.
    Heard(u16),
    /// All nodes are asked something.
    Survey(u64),
    /// Another node is told something.
    Told,
    Tip(u16),
    /// The end of a log that was away, with the cursor as it was.
    Doubt(u16, StreamId),
    Relayed,
    /// Where rooms stand, each with what was known when it was asked.
    Positions(Vec<(RoomName, Position)>),
    /// What follows the last message that was told of in a room.
    Heal(RoomName),
    /// What a hub wants to read of a room, with where the room stood when it was asked.
    Page(ShardId, ReadId, RoomName, Position),
    Drop(RoomName, Position),
    Saved(Box<Saving>),
    Restored(ConnId),
    /// What is revoked.
    Revoked,
    /// The store is to know what is revoked.
    Revoking(Box<Revoking>),
    /// Publishers' streams.
    Tail(tail::Errand),
    /// The host's word on the state of a room.
    Snapshot(ShardId, ReadId),
    Source(u16, Errand),
    /// A verdict on an entry of a source.
    Process(u16),
    Operation(Box<Operation>),
    Presence(presence::Errand),
}

/// Why [`super::Backplane::tick`] has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    Overdue(Ticket),
    Probe,
    /// Something that was said should have been heard.
    Echo,
    Relay,
    /// Messages that the store was not known to have are to be given to it again.
    Outbound,
    Channels,
    Survey,
    Check,
    Memory,
    Sessions,
    Revocations,
    Tail,
    TailCheck,
    Tip(u16),
    Source(u16),
    Beat,
    Presence,
}

impl Questions {
    pub(super) fn new(timeout: Duration) -> Questions {
        // Tickets are consecutive numbers of our own, so the table's key need not be secret.
        Questions { open: Table::new(0), timers: Timers::new(), next: 0, lasting: 0, timeout }
    }

    /// Opens a question. Its deadline leaves the store twice the time it may block for: it answers late under load, and
    /// a blocking read given up too early leaves a delivered entry that nobody has seen.
    pub(super) fn ask(&mut self, now: Time, lane: Lane, purpose: Purpose, blocks_for: Duration) -> Ticket {
        self.ask_until(now + blocks_for * 2 + self.timeout, lane, purpose)
    }

    /// The same with a deadline of its own.
    pub(super) fn ask_until(&mut self, deadline: Time, lane: Lane, purpose: Purpose) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.lasting += usize::from(purpose.is_lasting());
        self.open.insert(ticket, (purpose, lane));
        self.timers.arm(deadline, Wake::Overdue(ticket));
        ticket
    }

    /// Closes a question; nothing if it is closed already.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<(Purpose, Lane)> {
        let taken = self.open.remove(&ticket);
        self.lasting -= usize::from(taken.as_ref().is_some_and(|(purpose, _)| purpose.is_lasting()));
        taken
    }

    /// Whether a question is open whose answer the node has to wait for before it ends.
    pub(super) fn has_lasting(&self) -> bool {
        self.lasting > 0
    }

    /// Closes a question that waits for a verdict; nothing if it is closed already, or another: the source.
    pub(super) fn take_process(&mut self, ticket: Ticket) -> Option<u16> {
        match *self.open.get(&ticket)? {
            (Purpose::Process(source), _) => {
                self.take(ticket);
                Some(source)
            }
            _ => None,
        }
    }

    /// The same of a question for the state of a room.
    pub(super) fn take_snapshot(&mut self, ticket: Ticket) -> Option<(ShardId, ReadId)> {
        match *self.open.get(&ticket)? {
            (Purpose::Snapshot(shard, read), _) => {
                self.take(ticket);
                Some((shard, read))
            }
            _ => None,
        }
    }

    pub(super) fn wake_at(&mut self, at: Time, wake: Wake) {
        self.timers.arm(at, wake);
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<Wake> {
        loop {
            match self.timers.pop_due(now)?.1 {
                Wake::Overdue(ticket) if self.open.get(&ticket).is_none() => {}
                wake => return Some(wake),
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.timers.next().map(|(at, _)| at)
    }
}

impl Purpose {
    /// Whether something stands in the store afterwards that was not there before. What is only asked is of no use to a node that
    /// ends.
    fn is_lasting(&self) -> bool {
        match self {
            Purpose::Append(_)
            | Purpose::Drop(..)
            | Purpose::Saved(_)
            | Purpose::Revoking(_)
            | Purpose::Source(..)
            | Purpose::Process(_)
            | Purpose::Operation(_)
            | Purpose::Presence(_) => true,
            Purpose::Probe(_)
            | Purpose::Ping(..)
            | Purpose::Heard(_)
            | Purpose::Survey(_)
            | Purpose::Told
            | Purpose::Tip(_)
            | Purpose::Doubt(..)
            | Purpose::Relayed
            | Purpose::Positions(_)
            | Purpose::Heal(_)
            | Purpose::Page(..)
            | Purpose::Restored(_)
            | Purpose::Revoked
            | Purpose::Tail(_)
            | Purpose::Snapshot(..) => false,
        }
    }

    /// What was asked, for logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Purpose::Probe(_) => "prove the store",
            Purpose::Ping(..) => "ping",
            Purpose::Append(_) => "publish",
            Purpose::Heard(_) => "listen to channels",
            Purpose::Survey(_) | Purpose::Told => "speak to other nodes",
            Purpose::Tip(_) | Purpose::Doubt(..) => "find the end of a relay log",
            Purpose::Relayed => "read the relay logs",
            Purpose::Positions(_) => "find out where rooms stand",
            Purpose::Heal(_) | Purpose::Page(..) => "read what a room remembers",
            Purpose::Drop(..) => "empty an inbox",
            Purpose::Saved(_) => "remember the rooms of a connection",
            Purpose::Restored(_) => "restore the rooms of a connection",
            Purpose::Revoked => "find out what is revoked",
            Purpose::Revoking(_) => "remember what is revoked",
            Purpose::Tail(_) => "read publishers' streams",
            Purpose::Snapshot(..) => "give a snapshot",
            Purpose::Process(_) => "process an entry",
            Purpose::Source(..) => "work on a source",
            Purpose::Operation(_) => "work on dead letters",
            Purpose::Presence(_) => "tell or ask who is there",
        }
    }
}
