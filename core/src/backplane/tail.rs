//! The tail: publishers' own streams that are the history of rooms, read by every node that has members, each with its own
//! cursors.
//!
//! ```text
//! Resolving ──the stream's end is known──▶ Live(cursor) ──a gap is possible──▶ Proving(cursor)
//!                                             ▲────the entry at the cursor is still there, or hubs are told──┘
//! ```
//!
//! A join is confirmed when the end of its stream is known: from then on every entry behind it is told, in order and once. A
//! stream need not exist for that, nor go on existing: the read waits for what comes under its key next. All streams are read by
//! one blocking read, which is ended and begun anew when there is another one to be read.
//!
//! Where a gap is possible, nothing is told before it is proven that there is none: see [`proof`]. What comes under a key after
//! a deletion may have smaller identifiers than what was before, and no read would ever bring it; hence streams that are quiet are
//! checked now and then.

use core::time::Duration;
use std::sync::Arc;

use super::Core;
use super::pause::Pause;
use super::questions::{Purpose, Wake};
use super::reading::Reading;
use crate::config::Config;
use crate::door::{ReadId, Tell};
use crate::id::ShardId;
use crate::message::RoomName;
use crate::pattern::Pattern;
use crate::position::Position;
use crate::store::{Answer, Entry, Lane, StoreError, StoreOp, TailAnswer, TailOp};
use crate::time::Time;

mod page;
mod proof;
mod snapshot;
mod streams;

pub(super) use page::Reading as PageReading;
pub(super) use snapshot::tell as tell_snapshot;
use streams::{State, Streams};

/// Entries of each stream that one read may return, and about so many of all streams together. Where there are as many, the
/// publisher may be so far ahead that it has trimmed some already.
const COUNT: usize = 256;
const MOST_ENTRIES: usize = 50_000;
/// The least that is read of each.
const LEAST: usize = 16;
/// Streams that are asked about in one go. Redis serves nobody else meanwhile.
const STREAMS: usize = 128;
/// How far back it is looked for the last message of a stream that ends with entries that are none.
const DEPTH: usize = 100;
/// Every stream is checked once in so many steps.
const STEPS: u32 = 8;

/// The reader of publishers' streams.
#[derive(Debug)]
pub(super) struct Tail {
    streams: Streams,
    /// Streams whose ends are wanted.
    wanted: Vec<Arc<str>>,
    /// Streams whose ends could not be found out, and those that could not be read: tried again after a pause.
    unanswered: Vec<Arc<str>>,
    unproven: Vec<Arc<str>>,
    block: Duration,
    reading: Reading,
    /// How many reads there were, the one under way included, and how many entries of each stream that one may return.
    reads: u64,
    count: usize,
    pause: Pause,
    failing: Option<StoreError>,
    /// The time between two steps of the checking; whether one is to come; the slot that is checked next.
    step: Duration,
    checking: bool,
    next: usize,
    /// Rooms whose snapshots the host gives.
    provided: Vec<Pattern>,
}

/// What a question is for.
#[derive(Debug)]
pub(super) enum Errand {
    /// The ends of streams that are to be read, for which so many entries of each were asked for.
    Resolve(Vec<Arc<str>>, usize),
    /// What is new.
    Read,
    /// The ends of streams, each with the cursor as it was.
    Check(Vec<(Arc<str>, Position)>),
    /// What follows the entry at the cursor of a stream, and that entry itself.
    Prove(Arc<str>, Position),
    /// What a stream holds, for a hub.
    Page(Box<PageReading>),
    /// The value of a snapshot's key.
    Snapshot(ShardId, ReadId),
}

impl Tail {
    pub(super) fn new(config: &Config, key: u64) -> Tail {
        Tail {
            streams: Streams::new(key),
            wanted: Vec::new(),
            unanswered: Vec::new(),
            unproven: Vec::new(),
            block: config.relay.block,
            reading: Reading::No,
            reads: 0,
            count: COUNT,
            pause: Pause::default(),
            failing: None,
            step: (config.relay.check / STEPS).max(Duration::from_millis(1)),
            checking: false,
            next: 0,
            provided: Vec::new(),
        }
    }

    pub(super) fn join(&mut self, core: &mut Core, now: Time, shard: ShardId, room: RoomName, join: u64) {
        let Some(key) = core.config.stream(&room).map(|(stream, id)| stream.key_of(id)) else { return };
        let stream = self.streams.enter(&key, &room, shard);
        match &mut stream.state {
            State::Live { told, .. } => core.tell(shard, Tell::Joined { room, join, position: Some(*told) }),
            State::Resolving(joining) => {
                if joining.is_empty() {
                    self.wanted.push(stream.key.clone());
                }
                joining.push((shard, room, join));
            }
        }
        if !self.checking {
            self.checking = true;
            core.questions.wake_at(now + self.step, Wake::TailCheck);
        }
    }

    pub(super) fn leave(&mut self, core: &Core, shard: ShardId, room: &RoomName) {
        if let Some((stream, id)) = core.config.stream(room) {
            self.streams.leave(&stream.key_of(id), room, shard);
        }
    }

    /// Asks for all ends that are wanted.
    pub(super) fn flush(&mut self, core: &mut Core, now: Time) {
        while !self.wanted.is_empty() {
            let rest = self.wanted.split_off(self.wanted.len().min(STREAMS));
            let keys = core::mem::replace(&mut self.wanted, rest);
            self.resolve(core, now, keys, 1);
        }
    }

    pub(super) fn answered(&mut self, core: &mut Core, now: Time, errand: Errand, answer: Result<Answer, StoreError>) {
        let unexpected = || StoreError::Unexpected("not what was asked for".into());
        let answer = answer.and_then(|answer| if let Answer::Tail(answer) = answer { Ok(answer) } else { Err(unexpected()) });
        match (errand, answer) {
            (Errand::Resolve(keys, count), Ok(TailAnswer::Tips(tips))) => self.resolved(core, now, keys, count, tips),
            (Errand::Resolve(keys, _), other) => {
                self.failing = Some(other.err().unwrap_or_else(unexpected));
                self.unanswered.extend(keys);
                self.pause.begin(core, now, Wake::Tail);
            }
            (Errand::Read, Ok(TailAnswer::Entries(streams))) => self.read(core, now, streams),
            (Errand::Read, other) => self.fail(core, now, other.err().unwrap_or_else(unexpected)),
            (Errand::Check(asked), Ok(TailAnswer::Tips(tips))) => self.checked(core, now, asked, tips),
            // The next check comes in time.
            (Errand::Check(_), _) => {}
            (Errand::Prove(key, cursor), answer) => self.proven(core, now, key, cursor, answer),
            (Errand::Page(reading), answer) => self.page_read(core, now, *reading, answer),
            (Errand::Snapshot(shard, read), answer) => self.snapshot_read(core, shard, read, answer),
        }
    }

    /// The store is back: nothing waits any longer to be tried again.
    pub(super) fn hurry(&mut self, core: &mut Core, now: Time) {
        self.pause.end();
        self.wake(core, now);
    }

    /// A pause is over.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        self.wanted.append(&mut self.unanswered);
        for key in core::mem::take(&mut self.unproven) {
            self.prove(core, now, &key);
        }
        if self.reading == Reading::Paused && self.pause.is_over(now) {
            self.reading = Reading::No;
            // The store was away, and may be another one by now.
            let all: Vec<_> = self.streams.readable().collect();
            all.into_iter().for_each(|(key, _)| self.prove(core, now, &key));
            self.start(core, now);
        }
    }

    /// The time has come to check some streams.
    pub(super) fn check(&mut self, core: &mut Core, now: Time) {
        self.checking = !self.streams.is_empty();
        if !self.checking {
            return;
        }
        core.questions.wake_at(now + self.step, Wake::TailCheck);
        let slots = self.streams.slots();
        let count = slots.div_ceil(STEPS as usize);
        let mut quiet = Vec::new();
        for _ in 0..count {
            let index = self.next;
            self.next = if index + 1 < slots { index + 1 } else { 0 };
            let Some(stream) = self.streams.at_mut(index) else { continue };
            if core::mem::replace(&mut stream.quiet, true) {
                quiet.extend(stream.cursor());
            }
        }
        self.examine(core, now, quiet);
    }

    pub(super) fn unready(&self) -> Option<String> {
        self.failing.as_ref().map(|error| format!("publishers' streams cannot be read: {error}"))
    }

    fn resolve(&self, core: &mut Core, now: Time, keys: Vec<Arc<str>>, count: usize) {
        let op = StoreOp::Tail(TailOp::Tips { keys: keys.clone(), count });
        core.ask(now, Lane::Command, Purpose::Tail(Errand::Resolve(keys, count)), op);
    }

    /// The ends of streams that somebody waits for are known.
    fn resolved(
        &mut self,
        core: &mut Core,
        now: Time,
        keys: Vec<Arc<str>>,
        count: usize,
        tips: Vec<Result<Vec<Entry>, StoreError>>,
    ) {
        self.pause.reset();
        if self.reading != Reading::Paused {
            self.failing = None;
        }
        let (mut are_more, mut deeper) = (false, Vec::new());
        for (key, tips) in keys.into_iter().zip(tips) {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            let State::Resolving(joining) = &mut stream.state else { continue };
            let entries = match tips {
                Ok(entries) => entries,
                Err(error) => {
                    core.failed(Lane::Command, "read a stream", &error);
                    self.unanswered.push(key);
                    continue;
                }
            };
            let told = entries.iter().rev().find(|entry| stream.rooms.iter().any(|room| room.reads(core, &key, entry)));
            if told.is_none() && entries.len() == count && count < DEPTH {
                deeper.push(key);
                continue;
            }
            let told = told.map(Entry::position).unwrap_or_default();
            let joining = core::mem::take(joining);
            stream.state = State::Live { cursor: entries.last().map(Entry::position).unwrap_or_default(), told };
            stream.from_read = self.reads + 1;
            for (shard, room, join) in joining {
                core.tell(shard, Tell::Joined { room, join, position: Some(told) });
            }
            are_more = true;
        }
        if !deeper.is_empty() {
            self.resolve(core, now, deeper, DEPTH);
        }
        if !self.unanswered.is_empty() {
            self.pause.begin(core, now, Wake::Tail);
        }
        if are_more {
            self.restart(core, now);
        }
    }

    /// A read came back.
    fn read(&mut self, core: &mut Core, now: Time, streams: Vec<(Arc<str>, Vec<Entry>)>) {
        self.reading = Reading::No;
        self.pause.reset();
        self.failing = None;
        for (key, entries) in streams {
            // The stream may have been left, and even joined again, since the read was sent.
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            if !stream.is_readable() || stream.from_read > self.reads {
                continue;
            }
            // The first entries of all follow nothing that could be looked for.
            if entries.len() < self.count || stream.is_new() {
                stream.tell(core, entries);
            } else {
                stream.served = entries;
                self.prove(core, now, &key);
            }
        }
        self.start(core, now);
    }

    /// Asks for the ends of streams, to compare them with their cursors.
    fn examine(&self, core: &mut Core, now: Time, all: Vec<(Arc<str>, Position)>) {
        for asked in all.chunks(STREAMS) {
            let keys = asked.iter().map(|(key, _)| key.clone()).collect();
            let op = StoreOp::Tail(TailOp::Tips { keys, count: 1 });
            core.ask(now, Lane::Command, Purpose::Tail(Errand::Check(asked.to_vec())), op);
        }
    }

    fn checked(
        &mut self,
        core: &mut Core,
        now: Time,
        asked: Vec<(Arc<str>, Position)>,
        tips: Vec<Result<Vec<Entry>, StoreError>>,
    ) {
        let mut is_other_set = false;
        for ((key, before), tips) in asked.into_iter().zip(tips) {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            if let Err(error) = &tips {
                // Something else stands in its place. One such key would fail the read of all.
                is_other_set |= !core::mem::replace(&mut stream.refused, true);
                core.failed(Lane::Command, "read a stream", error);
                continue;
            }
            if stream.proving {
                continue;
            }
            if core::mem::replace(&mut stream.refused, false) {
                self.prove(core, now, &key);
                continue;
            }
            let State::Live { cursor, .. } = &mut stream.state else { continue };
            // A stream that has no entries now says nothing of what it gets next. And where entries have come meanwhile, the
            // answer is older than what is known.
            let Some(last) = tips.ok().and_then(|mut tips| tips.pop()).filter(|_| *cursor == before) else { continue };
            if last.position() != before && last.id <= before.entry() {
                self.prove(core, now, &key);
            }
        }
        if is_other_set {
            self.restart(core, now);
        }
    }

    /// Reads on with the streams and cursors as they are now.
    fn restart(&mut self, core: &mut Core, now: Time) {
        if self.reading.renew(core, Lane::Tail) {
            self.start(core, now);
        }
    }

    fn start(&mut self, core: &mut Core, now: Time) {
        let cursors: Vec<_> = self.streams.readable().map(|(key, cursor)| (key, cursor.entry())).collect();
        core.stats.streams = cursors.len() as u64;
        if cursors.is_empty() {
            if !self.streams.are_proving() {
                self.failing = None;
            }
            return;
        }
        self.reading = Reading::Yes;
        self.reads += 1;
        self.count = (MOST_ENTRIES / cursors.len()).clamp(LEAST, COUNT);
        // After a failure the first read does not wait, so that it is known at once that streams can be read again.
        let block = if self.failing.is_some() { Duration::ZERO } else { self.block };
        let op = StoreOp::Tail(TailOp::Read { cursors, count: self.count, block });
        core.ask(now, Lane::Tail, Purpose::Tail(Errand::Read), op);
    }

    fn fail(&mut self, core: &mut Core, now: Time, error: StoreError) {
        self.failing = Some(error);
        self.reading = Reading::Paused;
        self.pause.begin(core, now, Wake::Tail);
    }
}
