//! The relay: what any node accepted, read from the relay logs and told to the hubs that have the room.
//!
//! Rooms are hashed over partitions, each with a log. A node reads only the logs of partitions it has rooms in, with a cursor
//! of its own:
//!
//! ```text
//! Cold ──first room──▶ Resolving ──the log's end is known──▶ Live(cursor) ──last room left──▶ Cold
//! ```
//!
//! A join is confirmed when its partition is live and, in a room that remembers, when it is known where the room stands: from
//! then on no message is missed, whatever happens to the connection, because reading goes on from the cursor. What the logs
//! themselves may lose is noticed and read again by [`memory`].

use super::pause::Pause;
use super::probe::Probe;
use super::questions::{Purpose, Wake};
use super::reading::Reading;
use super::run::Run;
use super::{Core, partition, shelf};
use crate::config::Config;
use crate::door::{Publish, Tell};
use crate::id::{ShardId, StreamId};
use crate::message::RoomName;
use crate::store::{Answer, Lane, RelayEntry, Relayed, Stamp, StoreError, StoreOp};
use crate::time::Time;

use bytes::Bytes;
use core::time::Duration;

mod memory;
mod room;

use memory::Memory;
use room::{Rooms, Verdict};

/// Entries of each log that one read may return.
const COUNT: usize = 256;

/// The reader of the relay logs.
#[derive(Debug)]
pub(super) struct Relay {
    partitions: Vec<Partition>,
    rooms: Rooms,
    memory: Memory,
    block: Duration,
    reading: Reading,
    pause: Pause,
    failing: Option<StoreError>,
    /// The log that was given a mark last.
    marked: u16,
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

impl Relay {
    pub(super) fn new(core: &mut Core, config: &Config, key: u64, now: Time) -> Relay {
        Relay {
            partitions: (0..config.relay.partitions).map(|_| Partition::default()).collect(),
            rooms: Rooms::new(key),
            memory: Memory::new(core, config, now),
            block: config.relay.block,
            reading: Reading::No,
            pause: Pause::default(),
            failing: None,
            marked: 0,
        }
    }

    pub(super) fn join(&mut self, core: &mut Core, now: Time, shard: ShardId, room: RoomName, join: u64) {
        let number = partition(&room, self.partitions.len() as u16);
        let Some(partition) = self.partitions.get_mut(usize::from(number)) else { return };
        let index = self.rooms.find(&room).unwrap_or_else(|| {
            partition.rooms += 1;
            self.rooms.add(room.clone(), shelf(&core.config, &room).is_some())
        });
        if let Some(room) = self.rooms.get_mut(index) {
            room.shards.insert(shard);
        }
        let is_live = matches!(partition.state, State::Live(_));
        if core.away && !is_live && core.config.is_local(&room) {
            // It need not wait for the store. What other nodes say comes once that is back.
            core.tell(shard, Tell::Joined { room: room.clone(), join, position: None });
        }
        match &mut partition.state {
            State::Live(_) => self.enter(core, index, shard, join),
            State::Resolving(joining) => joining.push(Joining { shard, room, join }),
            State::Cold => {
                partition.state = State::Resolving(vec![Joining { shard, room, join }]);
                self.resolve(core, now, number);
            }
        }
    }

    /// The store is away, and a room goes on without it: a message is told to the hubs of this node, and that is all.
    pub(super) fn tell_here(&mut self, core: &mut Core, shard: ShardId, publish: Publish) {
        let Publish { id, room, payload, .. } = publish;
        let mut run = Run::new(&core.config.limits);
        self.pass_on(core, &mut run, &room, payload);
        run.tell(core);
        core.stats.published += 1;
        core.tell(shard, Tell::Published { id, result: Ok(None) });
    }

    /// Tells the hubs of this node of a message in a room that remembers nothing, which came by another way than the relay logs.
    pub(super) fn pass_on(&self, core: &mut Core, run: &mut Run, room: &str, payload: Bytes) {
        if let Some(room) = self.rooms.find(room).and_then(|index| self.rooms.get(index)) {
            run.add(core, &room.name, room.shards, payload, None);
        }
    }

    /// One of the logs that are read, in turn.
    pub(super) fn next_log(&mut self) -> Option<u16> {
        let live = (0..).zip(&self.partitions).filter(|(_, partition)| matches!(partition.state, State::Live(_)));
        let live: Vec<u16> = live.map(|(number, _)| number).collect();
        let next = live.iter().find(|number| **number > self.marked).or(live.first()).copied();
        self.marked = next.unwrap_or_default();
        next
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
        if let State::Resolving(joining) = &mut partition.state {
            joining.retain(|waiting| waiting.shard != shard || waiting.room != *room);
        }
        let Some(index) = self.rooms.find(room) else { return };
        let Some(room) = self.rooms.get_mut(index) else { return };
        room.shards.remove(shard);
        if let Some(track) = &mut room.track {
            track.forget(shard);
        }
        if room.shards.is_empty() {
            self.rooms.remove(index);
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
        // It may have been asked twice.
        let State::Resolving(joining) = &mut partition.state else { return };
        let joining = core::mem::take(joining);
        if partition.rooms == 0 {
            partition.state = State::Cold;
            return;
        }
        let tip = match answer {
            Ok(Answer::Id(tip)) => tip,
            other => {
                partition.state = State::Resolving(joining);
                self.failing = Some(other.err().unwrap_or(StoreError::Unexpected("not an identifier".into())));
                self.pause.begin(core, now, Wake::Tip(number));
                return;
            }
        };
        self.pause.reset();
        self.failing = None;
        partition.state = State::Live(tip);
        for Joining { shard, room, join } in joining {
            if let Some(index) = self.rooms.find(&room) {
                self.enter(core, index, shard, join);
            }
        }
        self.restart(core, now);
    }

    /// A read came back.
    pub(super) fn read(&mut self, core: &mut Core, now: Time, probe: &mut Probe, answer: Result<Answer, StoreError>) {
        self.reading = Reading::No;
        match answer {
            Ok(Answer::Relayed(entries)) => {
                self.pause.reset();
                if self.failing.take().is_some() {
                    self.doubt(core, now);
                }
                let mut run = Run::new(&core.config.limits);
                for entry in entries {
                    if let Some(mark) = &entry.mark {
                        probe.read(core, now, mark);
                    }
                    self.relay(core, now, &mut run, entry);
                }
                run.tell(core);
                self.start(core, now);
            }
            Ok(_) => self.fail(core, now, StoreError::Unexpected("not relay entries".into())),
            Err(error) => self.fail(core, now, error),
        }
    }

    /// A pause is over.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        if self.reading == Reading::Paused {
            self.reading = Reading::No;
            self.start(core, now);
        }
    }

    /// The store is back: nothing waits any longer to be tried again.
    pub(super) fn hurry(&mut self, core: &mut Core, now: Time) {
        self.pause.end();
        self.wake(core, now);
        self.try_again(core, now);
        (0..self.partitions.len() as u16).for_each(|number| self.resolve(core, now, number));
    }

    pub(super) fn unready(&self) -> Option<String> {
        self.failing.as_ref().map(|error| format!("the relay logs cannot be read: {error}"))
    }

    /// The logs were away, and are back: they may be others, and so may be what the rooms remember.
    fn doubt(&mut self, core: &mut Core, now: Time) {
        for (number, partition) in (0..).zip(&self.partitions) {
            if let State::Live(cursor) = partition.state {
                core.ask(now, Lane::Command, Purpose::Doubt(number, cursor), StoreOp::RelayTip { partition: number });
            }
        }
        self.memory.doubt();
    }

    /// The end of a log that was away is known. Where it lies before the cursor it is another log, and what it gets need not be
    /// beyond the cursor.
    pub(super) fn doubted(
        &mut self,
        core: &mut Core,
        now: Time,
        (number, before): (u16, StreamId),
        answer: Result<Answer, StoreError>,
    ) {
        let partition = self.partitions.get_mut(usize::from(number));
        let (Some(Partition { state: State::Live(cursor), .. }), Ok(Answer::Id(tip))) = (partition, answer) else { return };
        if *cursor == before && tip < before {
            *cursor = tip;
            self.restart(core, now);
        }
    }

    /// Reads on with the set of logs as it is now.
    fn restart(&mut self, core: &mut Core, now: Time) {
        if self.reading.renew(core, Lane::Relay) {
            self.start(core, now);
        }
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

    fn fail(&mut self, core: &mut Core, now: Time, error: StoreError) {
        self.failing = Some(error);
        self.reading = Reading::Paused;
        self.pause.begin(core, now, Wake::Relay);
    }

    fn relay(&mut self, core: &mut Core, now: Time, run: &mut Run, entry: RelayEntry) {
        let RelayEntry { partition: number, id, messages, .. } = entry;
        // The partition may have been left, and even joined again, since the read was sent.
        let Some(Partition { state: State::Live(cursor), .. }) = self.partitions.get_mut(usize::from(number)) else { return };
        // A read that was sent before the cursor was set back says nothing of the log as it is now.
        if id <= *cursor {
            return;
        }
        *cursor = id;
        for Relayed { room, stamp, payload } in messages {
            core.stats.relayed += 1;
            let Ok(name) = str::from_utf8(&room) else { continue };
            let Some(index) = self.rooms.find(name) else { continue };
            let Some(room) = self.rooms.get_mut(index) else { continue };
            let position = match (stamp, &mut room.track) {
                (Stamp::Disconnect(user), _) => {
                    run.tell(core);
                    let user = String::from_utf8_lossy(&user);
                    room.shards.iter().for_each(|shard| core.tell(shard, Tell::Disconnect { user: user.as_ref().into() }));
                    continue;
                }
                (Stamp::Others(user), _) => {
                    run.tell(core);
                    let user = String::from_utf8_lossy(&user);
                    for shard in room.shards.iter() {
                        let (room, user, payload) = (room.name.clone(), user.as_ref().into(), payload.clone());
                        core.tell(shard, Tell::Others { room, user, payload });
                    }
                    continue;
                }
                (Stamp::At { position, previous }, Some(track)) => match track.hear(position, previous) {
                    Verdict::Pass => Some(position),
                    Verdict::Skip => continue,
                    Verdict::Heal => {
                        run.tell(core);
                        self.heal(core, now, index, false);
                        continue;
                    }
                },
                (Stamp::Plain, _) | (Stamp::At { .. }, None) => None,
            };
            run.add(core, &room.name, room.shards, payload, position);
        }
    }
}
