//! The relay: what any node accepted, read from the relay logs and told to the hubs that have the room.
//!
//! Rooms are hashed over partitions, each with a log. A node reads only the logs of partitions it has rooms in, with a cursor
//! of its own:
//!
//! ```text
//! Cold ──first room──▶ Resolving ──the log's end is known──▶ Live(cursor) ──last room left──▶ Cold
//! ```
//!
//! A join is confirmed when its partition is live: from then on no message is missed, whatever happens to the connection,
//! because reading goes on from the cursor.

use bytes::Bytes;

use super::backoff::Backoff;
use super::questions::{Purpose, Wake};
use super::{Core, partition};
use crate::config::{Config, Limits};
use crate::door::Tell;
use crate::id::{ShardId, ShardSet, StreamId};
use crate::message::RoomName;
use crate::store::{Answer, Lane, RelayEntry, Relayed, Stamp, StoreError, StoreOp};
use crate::table::Table;
use crate::time::Time;

use core::time::Duration;

/// Entries of each log that one read may return.
const COUNT: usize = 256;
/// Bytes of messages that are told as one at the most: what a shard writes in one piece.
const MOST_BYTES: usize = 60 * 1024;

/// The reader of the relay logs.
#[derive(Debug)]
pub(super) struct Relay {
    partitions: Vec<Partition>,
    rooms: Table<RoomName, ShardSet>,
    block: Duration,
    /// Messages and bytes that are told at once at the most.
    longest_run: (usize, usize),
    reading: Reading,
    backoff: Backoff,
    /// The end of the last pause. What fails before it shares it: many logs that fail together are one failure.
    paused_until: Time,
    failing: Option<StoreError>,
}

#[derive(Debug, Default)]
struct Partition {
    rooms: usize,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Cold,
    Resolving(Vec<Joining>),
    Live(StreamId),
}

#[derive(Debug)]
struct Joining {
    shard: ShardId,
    room: RoomName,
    join: u64,
}

/// The one blocking read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    No,
    Yes,
    /// Told to end, because its set of logs is out of date.
    Ending,
    /// It failed, and is tried again when the pause is over.
    Paused,
}

impl Relay {
    pub(super) fn new(config: &Config, key: u64) -> Relay {
        let Limits { outbox_messages, outbox_bytes, .. } = config.limits;
        Relay {
            partitions: (0..config.relay.partitions).map(|_| Partition::default()).collect(),
            rooms: Table::new(key),
            block: config.relay.block,
            longest_run: ((outbox_messages / 2).max(1), (outbox_bytes / 2).min(MOST_BYTES)),
            reading: Reading::No,
            backoff: Backoff::default(),
            paused_until: Time::ZERO,
            failing: None,
        }
    }

    pub(super) fn join(&mut self, core: &mut Core, now: Time, shard: ShardId, room: RoomName, join: u64) {
        let number = partition(&room, self.partitions.len() as u16);
        let Some(partition) = self.partitions.get_mut(usize::from(number)) else { return };
        match self.rooms.get_mut(&room) {
            Some(shards) => shards.insert(shard),
            None => {
                let mut shards = ShardSet::default();
                shards.insert(shard);
                self.rooms.insert(room.clone(), shards);
                partition.rooms += 1;
            }
        }
        match &mut partition.state {
            State::Live(_) => core.tell(shard, Tell::Joined { room, join, position: None }),
            State::Resolving(joining) => joining.push(Joining { shard, room, join }),
            State::Cold => {
                partition.state = State::Resolving(vec![Joining { shard, room, join }]);
                self.resolve(core, now, number);
            }
        }
    }

    /// Asks for the end of a log that somebody waits for.
    pub(super) fn resolve(&self, core: &mut Core, now: Time, number: u16) {
        let state = self.partitions.get(usize::from(number)).map(|partition| &partition.state);
        if matches!(state, Some(State::Resolving(_))) {
            core.ask(now, Lane::Command, Purpose::Tip(number), StoreOp::RelayTip { partition: number });
        }
    }

    pub(super) fn leave(&mut self, shard: ShardId, room: &RoomName) {
        let number = partition(room, self.partitions.len() as u16);
        let Some(partition) = self.partitions.get_mut(usize::from(number)) else { return };
        let Some(shards) = self.rooms.get_mut(room) else { return };
        shards.remove(shard);
        if let State::Resolving(joining) = &mut partition.state {
            joining.retain(|waiting| waiting.shard != shard || waiting.room != *room);
        }
        if shards.is_empty() {
            self.rooms.remove(room);
            partition.rooms -= 1;
            // One that is being resolved stays so until the answer, so that no second question is asked.
            if partition.rooms == 0 && matches!(partition.state, State::Live(_)) {
                partition.state = State::Cold;
            }
        }
    }

    /// The end of a log is known, or could not be found out.
    pub(super) fn resolved(&mut self, core: &mut Core, now: Time, number: u16, answer: Result<Answer, StoreError>) {
        let Some(partition) = self.partitions.get_mut(usize::from(number)) else { return };
        let State::Resolving(joining) = core::mem::take(&mut partition.state) else { return };
        if partition.rooms == 0 {
            return;
        }
        let tip = match answer {
            Ok(Answer::Id(tip)) => tip,
            other => {
                partition.state = State::Resolving(joining);
                self.failing = Some(other.err().unwrap_or(StoreError::Unexpected("not an identifier".into())));
                self.wake_after_pause(core, now, Wake::Tip(number));
                return;
            }
        };
        self.backoff.reset();
        self.failing = None;
        partition.state = State::Live(tip);
        for Joining { shard, room, join } in joining {
            core.tell(shard, Tell::Joined { room, join, position: None });
        }
        match self.reading {
            Reading::No => self.start(core, now),
            Reading::Yes => {
                self.reading = Reading::Ending;
                core.actions.push_back(super::BackplaneAction::Interrupt(Lane::Relay));
            }
            Reading::Ending | Reading::Paused => {}
        }
    }

    /// A read came back.
    pub(super) fn read(&mut self, core: &mut Core, now: Time, answer: Result<Answer, StoreError>) {
        self.reading = Reading::No;
        match answer {
            Ok(Answer::Relayed(entries)) => {
                self.backoff.reset();
                self.failing = None;
                let mut run = Run::default();
                for entry in entries {
                    self.relay(core, &mut run, entry);
                }
                run.tell(core);
                self.start(core, now);
            }
            Ok(_) => self.pause(core, now, StoreError::Unexpected("not relay entries".into())),
            Err(error) => self.pause(core, now, error),
        }
    }

    /// A pause is over.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        if self.reading == Reading::Paused {
            self.reading = Reading::No;
            self.start(core, now);
        }
    }

    pub(super) fn unready(&self) -> Option<String> {
        self.failing.as_ref().map(|error| format!("the relay logs cannot be read: {error}"))
    }

    fn start(&mut self, core: &mut Core, now: Time) {
        let live = (0..).zip(&self.partitions).filter_map(|(number, partition)| match partition.state {
            State::Live(cursor) => Some((number, cursor)),
            State::Cold | State::Resolving(_) => None,
        });
        let cursors: Vec<(u16, StreamId)> = live.collect();
        if cursors.is_empty() {
            self.failing = None;
            return;
        }
        self.reading = Reading::Yes;
        // After a failure the first read does not wait, so that it is known at once that the logs can be read again.
        let block = if self.failing.is_some() { Duration::ZERO } else { self.block };
        let op = StoreOp::RelayRead { cursors, count: COUNT, block };
        core.ask(now, Lane::Relay, Purpose::Relayed, op);
    }

    fn pause(&mut self, core: &mut Core, now: Time, error: StoreError) {
        self.failing = Some(error);
        self.reading = Reading::Paused;
        self.wake_after_pause(core, now, Wake::Relay);
    }

    fn wake_after_pause(&mut self, core: &mut Core, now: Time, wake: Wake) {
        if self.paused_until <= now {
            self.paused_until = now + self.backoff.pause(&mut core.rng);
        }
        core.questions.wake_at(self.paused_until, wake);
    }

    fn relay(&mut self, core: &mut Core, run: &mut Run, RelayEntry { partition: number, id, messages }: RelayEntry) {
        // The partition may have been left, and even joined again, since the read was sent.
        let Some(Partition { state: State::Live(cursor), .. }) = self.partitions.get_mut(usize::from(number)) else { return };
        if id <= *cursor {
            return;
        }
        *cursor = id;
        for Relayed { room, stamp, payload } in messages {
            core.stats.relayed += 1;
            let Ok(room) = str::from_utf8(&room) else { continue };
            let Some((room, shards)) = self.rooms.get_key_value(room) else { continue };
            if let Stamp::Others(user) = stamp {
                run.tell(core);
                let user: Box<str> = String::from_utf8_lossy(&user).into();
                for shard in shards.iter() {
                    core.tell(shard, Tell::Others { room: room.clone(), user: user.clone(), payload: payload.clone() });
                }
                continue;
            }
            let (most_messages, most_bytes) = self.longest_run;
            let full = run.payloads.len() >= most_messages || run.bytes + payload.len() > most_bytes;
            if full || run.room.as_ref() != Some(room) {
                run.tell(core);
                *run = Run { room: Some(room.clone()), shards: *shards, ..Run::default() };
            }
            run.bytes += payload.len();
            run.payloads.push(payload);
        }
    }
}

/// Messages of one room that follow each other.
#[derive(Debug, Default)]
struct Run {
    room: Option<RoomName>,
    shards: ShardSet,
    payloads: Vec<Bytes>,
    bytes: usize,
}

impl Run {
    fn tell(&mut self, core: &mut Core) {
        let Some(room) = self.room.take() else { return };
        let mut payloads = core::mem::take(&mut self.payloads);
        let mut shards = self.shards.iter().peekable();
        while let Some(shard) = shards.next() {
            // The last one gets the list itself: mostly there is only one.
            let payloads = if shards.peek().is_some() { payloads.clone() } else { core::mem::take(&mut payloads) };
            core.tell(shard, Tell::Messages { room: room.clone(), payloads, positions: Vec::new() });
        }
    }
}
