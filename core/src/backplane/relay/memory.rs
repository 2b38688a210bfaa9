//! What rooms remember, seen from a node: where each stands, whether something is missing, and what is read for the hubs.
//!
//! A room that remembers is told to hubs as one chain: every message names the one before it. Where the chain breaks, nothing
//! more is passed on; the node reads from the room's log what follows the last message it has told of. If the log proves that
//! nothing is missing, that is told and all is well. If not, hubs are told that messages were lost (contract C10): a log that was
//! trimmed, expired or flushed, or another one after a fail-over that lost writes.
//!
//! A room that hears nothing is checked now and then, so that a relay log that has gone silent is noticed as well.

use core::time::Duration;
use std::collections::BTreeMap;

use super::super::{Core, Purpose, Shelf, partition, shelf};
use super::room::{Errand, Room};
use super::{Relay, Run, Wake};
use crate::config::Config;
use crate::door::{ReadId, Tell, Unavailable};
use crate::id::{ShardId, ShardSet};
use crate::message::RoomName;
use crate::position::Position;
use crate::report::Report;
use crate::store::{Answer, Lane, Page, Place, Query, StoreError, StoreOp};
use crate::time::Time;

use rand_chacha::rand_core::Rng as _;

/// Rooms that are asked about in one go.
const ROOMS: usize = 500;
/// Messages that are read in one go to heal a room.
const COUNT: usize = 256;
/// Every room is checked once in so many steps.
const STEPS: u32 = 8;

/// What is to be asked about rooms.
#[derive(Debug)]
pub(super) struct Memory {
    /// Rooms whose position is wanted.
    wanted: Vec<RoomName>,
    /// Rooms that could not be asked about or healed, and what of inboxes could not be dropped: tried again after a pause.
    unanswered: Vec<RoomName>,
    ailing: Vec<RoomName>,
    undropped: Vec<(RoomName, Position)>,
    /// The time between two steps of the checking.
    step: Duration,
    /// The slot of the room that is checked next.
    next: usize,
    /// Whether all rooms are to be checked with the next step.
    in_doubt: bool,
}

impl Memory {
    pub(super) fn new(core: &mut Core, config: &Config, now: Time) -> Memory {
        let step = (config.relay.check / STEPS).max(Duration::from_millis(1));
        core.questions.wake_at(now + step, Wake::Check);
        Memory {
            wanted: Vec::new(),
            unanswered: Vec::new(),
            ailing: Vec::new(),
            undropped: Vec::new(),
            step,
            next: 0,
            in_doubt: false,
        }
    }

    /// All rooms are checked soon.
    pub(super) fn doubt(&mut self) {
        self.in_doubt = true;
    }
}

impl Relay {
    /// A hub enters a room whose partition is live.
    pub(super) fn enter(&mut self, core: &mut Core, index: usize, shard: ShardId, join: u64) {
        let Some(Room { name, track, .. }) = self.rooms.get_mut(index) else { return };
        let position = match track {
            None => None,
            Some(track) => match track.errand.as_deref_mut() {
                Some(Errand::Asking { joining, lost: false, .. }) => return joining.push((shard, join)),
                None if track.at.epoch == 0 => {
                    track.errand = Some(Box::new(Errand::Asking { joining: vec![(shard, join)], lost: false, ahead: None }));
                    return self.memory.wanted.push(name.clone());
                }
                // What follows is told from where the others stand, whatever is being done about it.
                None | Some(Errand::Asking { .. } | Errand::Healing { .. }) => Some(track.at),
            },
        };
        core.tell(shard, Tell::Joined { room: name.clone(), join, position });
    }

    /// Something in a room that remembers came by a channel.
    pub(in super::super) fn feed(&mut self, room: &str) {
        let index = self.rooms.find(room);
        if let Some(track) = index.and_then(|index| self.rooms.get_mut(index)?.track.as_mut()) {
            track.fed = true;
        }
    }

    /// Channels were not listened to for a while: in rooms to which something came by one, something may be missing that no log has.
    /// What their logs have is read first.
    pub(in super::super) fn lose_fed(&mut self, core: &mut Core, now: Time) {
        for index in 0..self.rooms.slots() {
            let Some(Room { track: Some(track), .. }) = self.rooms.get_mut(index) else { continue };
            match track.errand.as_deref_mut() {
                _ if !track.fed => {}
                None => self.heal(core, now, index, true),
                Some(Errand::Asking { lost, .. } | Errand::Healing { lost, .. }) => *lost = true,
            }
        }
    }

    /// Asks for all positions that are wanted.
    pub(in super::super) fn flush(&mut self, core: &mut Core, now: Time) {
        while !self.memory.wanted.is_empty() {
            let rest = self.memory.wanted.split_off(self.memory.wanted.len().min(ROOMS));
            let names = core::mem::replace(&mut self.memory.wanted, rest);
            let known = |name: RoomName| {
                let at = self.rooms.get(self.rooms.find(&name)?)?.track.as_ref()?.at;
                let Shelf { ttl, .. } = shelf(&core.config, &name)?;
                Some(((name.clone(), at), (name, ttl)))
            };
            let mut partitions: BTreeMap<u16, Vec<_>> = BTreeMap::new();
            for known in names.into_iter().filter_map(known) {
                partitions.entry(partition(&known.1.0, core.config.relay.partitions)).or_default().push(known);
            }
            for (partition, known) in partitions {
                let (asked, rooms) = known.into_iter().unzip();
                let epoch = core.rng.next_u32().max(1);
                core.ask(now, Lane::Command, Purpose::Positions(asked), StoreOp::Positions { partition, rooms, epoch });
            }
        }
    }

    /// It is known where rooms stand, or could not be found out.
    pub(in super::super) fn positioned(
        &mut self,
        core: &mut Core,
        now: Time,
        asked: Vec<(RoomName, Position)>,
        answer: Result<Answer, StoreError>,
    ) {
        let positions = match answer {
            Ok(Answer::Positions(positions)) if positions.len() == asked.len() => positions,
            _ => {
                self.memory.unanswered.extend(asked.into_iter().map(|(name, _)| name));
                return self.pause.begin(core, now, Wake::Memory);
            }
        };
        for ((name, before), position) in asked.into_iter().zip(positions) {
            let Some(index) = self.rooms.find(&name) else { continue };
            let Some(Room { shards, track: Some(track), .. }) = self.rooms.get_mut(index) else { continue };
            match track.errand.take().map(|errand| *errand) {
                Some(Errand::Asking { joining, lost, ahead }) => {
                    track.stands_at(position);
                    if lost {
                        tell_lost(core, &name, *shards, position);
                    }
                    for (shard, join) in joining {
                        core.tell(shard, Tell::Joined { room: name.clone(), join, position: Some(position) });
                    }
                    if ahead.is_some_and(|ahead| ahead.epoch != position.epoch || ahead.is_after(position)) {
                        self.heal(core, now, index, false);
                    }
                }
                Some(errand @ Errand::Healing { .. }) => track.errand = Some(Box::new(errand)),
                // A check. Where messages have come meanwhile, the answer is older than what is known.
                None if track.at == before && position != before => self.heal(core, now, index, false),
                None => {}
            }
        }
    }

    /// Begins to read what follows the last message that was told of. Once that is told, members may have to be told that more was
    /// `lost`.
    pub(super) fn heal(&mut self, core: &mut Core, now: Time, index: usize, lost: bool) {
        let Some(Room { name, track: Some(track), .. }) = self.rooms.get_mut(index) else { return };
        let Some(Shelf { place, ttl, .. }) = shelf(&core.config, name) else { return };
        track.errand = Some(Box::new(Errand::Healing { ahead: None, lost }));
        let query = match place {
            Place::Log => Query::After(track.at),
            Place::Inbox => Query::Oldest,
        };
        let since = core.wall.unix(now) - ttl;
        let op = StoreOp::Page { room: name.clone(), place, query, since, count: COUNT };
        core.ask(now, Lane::Command, Purpose::Heal(name.clone()), op);
    }

    /// What follows the last message that was told of is here.
    pub(in super::super) fn healed(&mut self, core: &mut Core, now: Time, name: RoomName, answer: Result<Answer, StoreError>) {
        let Some(index) = self.rooms.find(&name) else { return };
        let Some(Room { shards, track: Some(track), .. }) = self.rooms.get_mut(index) else { return };
        let Some(&Errand::Healing { ahead, lost }) = track.errand.as_deref() else { return };
        let Ok(Answer::Page(page)) = answer else {
            self.memory.ailing.push(name);
            return self.pause.begin(core, now, Wake::Memory);
        };
        let is_inbox = matches!(shelf(&core.config, &name), Some(Shelf { place: Place::Inbox, .. }));
        let Page { mut messages, head, whole } = page;
        if head.epoch == 0 || (!whole && !is_inbox) {
            track.errand = Some(Box::new(Errand::Asking { joining: Vec::new(), lost: true, ahead }));
            return self.memory.wanted.push(name);
        }
        let at = track.at;
        // An inbox holds what nobody has been sent yet. What this node has told of is on its way to somebody.
        let full = messages.len() >= COUNT;
        messages.retain(|(position, _)| position.epoch != at.epoch || position.is_after(at));
        let end = messages.last().map_or(at, |(position, _)| *position);
        let is_done = if is_inbox { !full } else { end == head };
        track.stands_at(if is_inbox && is_done { head } else { end });
        track.errand = None;
        core.stats.healed += messages.len() as u64;
        core.report(|| Report::RoomHealed { room: name.clone(), messages: messages.len() });
        let is_behind = ahead.is_some_and(|ahead| ahead.epoch != head.epoch || ahead.is_after(track.at));
        // An inbox of which all that was read is known already cannot be read any further before that is delivered.
        let goes_on = is_behind || (!is_done && end != at);
        let (at, shards) = (track.at, *shards);
        let mut run = Run::new(&core.config.limits);
        for (position, payload) in messages {
            run.add(core, &name, shards, payload, Some(position));
        }
        run.tell(core);
        if goes_on {
            self.heal(core, now, index, lost);
        } else if lost {
            tell_lost(core, &name, shards, at);
        }
    }

    /// The time has come to check some rooms.
    pub(in super::super) fn check(&mut self, core: &mut Core, now: Time) {
        core.questions.wake_at(now + self.memory.step, Wake::Check);
        let in_doubt = core::mem::take(&mut self.memory.in_doubt);
        let slots = self.rooms.slots();
        let count = if in_doubt { slots } else { slots.div_ceil(STEPS as usize) };
        for _ in 0..count {
            let index = self.memory.next;
            self.memory.next = if index + 1 < slots { index + 1 } else { 0 };
            let Some(Room { name, track: Some(track), .. }) = self.rooms.get_mut(index) else { continue };
            if (track.quiet || in_doubt) && track.errand.is_none() {
                self.memory.wanted.push(name.clone());
            }
            track.quiet = true;
        }
    }

    /// What could not be asked or healed is tried again.
    pub(in super::super) fn try_again(&mut self, core: &mut Core, now: Time) {
        self.memory.wanted.append(&mut self.memory.unanswered);
        for name in core::mem::take(&mut self.memory.ailing) {
            if let Some(index) = self.rooms.find(&name)
                && let Some(Room { track: Some(track), .. }) = self.rooms.get(index)
                && let Some(&Errand::Healing { lost, .. }) = track.errand.as_deref()
            {
                self.heal(core, now, index, lost);
            }
        }
        for (name, upto) in core::mem::take(&mut self.memory.undropped) {
            self.delivered(core, now, name, upto);
        }
    }

    /// Whether nothing of inboxes waits to be dropped again.
    pub(in super::super) fn has_dropped_all(&self) -> bool {
        self.memory.undropped.is_empty()
    }

    /// A hub wants to read what a room remembers.
    pub(in super::super) fn page(
        &self,
        core: &mut Core,
        now: Time,
        (shard, read): (ShardId, ReadId),
        room: RoomName,
        query: Query,
        count: usize,
    ) {
        match shelf(&core.config, &room) {
            Some(Shelf { place, ttl, .. }) => {
                let track = self.rooms.find(&room).and_then(|index| self.rooms.get(index)?.track.as_ref());
                let at = track.map_or(Position::default(), |track| track.at);
                let purpose = Purpose::Page(shard, read, room.clone(), at);
                let since = core.wall.unix(now) - ttl;
                core.ask(now, Lane::Command, purpose, StoreOp::Page { room, place, query, since, count });
            }
            None => core.tell(shard, Tell::Page { read, result: Err(Unavailable) }),
        }
    }

    /// A page says where the room stands, which stood at `before` when it was asked for. A log that has come less far since then
    /// is another one.
    pub(in super::super) fn compare(&mut self, core: &mut Core, now: Time, room: &str, before: Position, head: Position) {
        let Some(index) = self.rooms.find(room) else { return };
        let Some(Room { track: Some(track), .. }) = self.rooms.get(index) else { return };
        let goes_on = head == before || (head.epoch == before.epoch && head.is_after(before));
        if before.epoch != 0 && !goes_on && track.errand.is_none() {
            self.heal(core, now, index, false);
        }
    }

    /// Messages of an inbox have reached somebody.
    pub(in super::super) fn delivered(&self, core: &mut Core, now: Time, room: RoomName, upto: Position) {
        core.ask(now, Lane::Command, Purpose::Drop(room.clone(), upto), StoreOp::Delivered { room, upto });
    }

    /// What was delivered has been dropped from an inbox, or not.
    pub(in super::super) fn dropped(
        &mut self,
        core: &mut Core,
        now: Time,
        room: RoomName,
        upto: Position,
        answer: Result<Answer, StoreError>,
    ) {
        if answer.is_err() {
            self.memory.undropped.push((room, upto));
            self.pause.begin(core, now, Wake::Memory);
        }
    }
}

/// Members are told that messages were lost.
fn tell_lost(core: &mut Core, name: &RoomName, shards: ShardSet, position: Position) {
    core.stats.rooms_lost += 1;
    core.report(|| Report::RoomLost { room: name.clone(), position });
    for shard in shards.iter() {
        core.tell(shard, Tell::Lost { room: name.clone(), position });
    }
}
