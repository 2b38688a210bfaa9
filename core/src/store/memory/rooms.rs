//! What rooms remember, in memory.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Memory;
use crate::id::StreamId;
use crate::message::RoomName;
use crate::position::Position;
use crate::store::{Answer, Kept, Page, Place, Posting, Query, RelayEntry, Relayed, Stamp};
use crate::time::{Time, UnixMillis};

use core::time::Duration;

/// The relay logs, and what rooms remember.
#[derive(Clone, Debug, Default)]
pub(super) struct Rooms {
    relay: BTreeMap<u16, RelayLog>,
    kept: BTreeMap<RoomName, Room>,
    /// Until when an identifier is remembered, and the position of its message.
    once: BTreeMap<(RoomName, Box<str>), (Time, Option<Position>)>,
}

#[derive(Clone, Debug, Default)]
struct RelayLog {
    entries: BTreeMap<StreamId, Vec<Relayed>>,
    last: StreamId,
}

#[derive(Clone, Debug)]
struct Room {
    head: Position,
    head_until: Time,
    messages: VecDeque<(Position, UnixMillis, Bytes)>,
    until: Time,
}

impl Memory {
    /// The entries of a relay log after an identifier, oldest first.
    pub fn relayed_after(&self, partition: u16, after: StreamId) -> impl Iterator<Item = (StreamId, &[Relayed])> {
        let log = self.rooms.relay.get(&partition).into_iter();
        log.flat_map(move |log| log.entries.range(after.next()..).map(|(id, messages)| (*id, &messages[..])))
    }

    /// What a room remembers, oldest first.
    pub fn remembered(&self, room: &str) -> impl Iterator<Item = (Position, &Bytes)> {
        let room = self.rooms.kept.get(room).into_iter();
        room.flat_map(|room| room.messages.iter().map(|(position, _, payload)| (*position, payload)))
    }

    /// Deletes relayed messages, as a log that is too short does.
    pub fn trim_relay(&mut self, partition: u16, keep: usize) {
        if let Some(log) = self.rooms.relay.get_mut(&partition) {
            log.trim(keep);
        }
    }

    /// Deletes what a room remembers but for the newest messages. Its position stays.
    pub fn trim_room(&mut self, room: &str, keep: usize) {
        if let Some(room) = self.rooms.kept.get_mut(room) {
            room.messages.drain(..room.messages.len().saturating_sub(keep));
        }
    }

    /// A room is forgotten as if it had never been, as a store does that has evicted its keys.
    pub fn forget_room(&mut self, room: &str) {
        self.rooms.kept.remove(room);
    }

    pub(super) fn post(&mut self, now: Time, partition: u16, postings: &[Posting]) -> Vec<Option<Position>> {
        let mut relayed = Vec::new();
        let positions = postings.iter().map(|posting| self.rooms.keep(now, posting, &mut relayed)).collect();
        if !relayed.is_empty() {
            self.append_relay(now, partition, relayed);
        }
        positions
    }

    pub(super) fn append_relay(&mut self, now: Time, partition: u16, relayed: Vec<Relayed>) {
        let log = self.rooms.relay.entry(partition).or_default();
        log.last = StreamId { millis: now.as_micros() / 1000, sequence: 0 }.max(log.last.next());
        log.entries.insert(log.last, relayed);
        log.trim(self.relay_length);
        self.wake(now, &super::relay_key(partition));
    }

    pub(super) fn relay_tip(&self, partition: u16) -> StreamId {
        self.rooms.relay.get(&partition).map_or(StreamId::ZERO, |log| log.last)
    }

    pub(super) fn read_relay(&self, cursors: &[(u16, StreamId)], count: usize) -> Vec<RelayEntry> {
        let entries = cursors.iter().flat_map(|(partition, cursor)| {
            let new = self.relayed_after(*partition, *cursor).take(count);
            new.map(|(id, messages)| RelayEntry { partition: *partition, id, messages: messages.to_vec() })
        });
        entries.collect()
    }

    pub(super) fn positions(&mut self, now: Time, rooms: &[(RoomName, Duration)], epoch: u32) -> Answer {
        let positions = rooms.iter().map(|(room, ttl)| {
            let head_until = now + Kept::position_ttl(*ttl);
            let room = self.rooms.room(now, room, epoch);
            room.head_until = head_until;
            room.head
        });
        Answer::Positions(positions.collect())
    }

    pub(super) fn page(&mut self, now: Time, room: &RoomName, place: Place, query: Query, count: usize) -> Answer {
        let Some(room) = self.rooms.kept.get_mut(room).filter(|room| room.head_until > now) else {
            return Answer::Page(Page::of_log(query, Vec::new(), Position::default(), count));
        };
        room.expire(now);
        let all = || room.messages.iter().map(|(position, _, payload)| (*position, payload.clone()));
        let newest = |messages: Vec<(Position, Bytes)>| messages[messages.len().saturating_sub(count)..].to_vec();
        let messages: Vec<(Position, Bytes)> = match query {
            // One more: the message at the position itself.
            Query::After(after) => all().filter(|(position, _)| position.offset >= after.offset).take(count + 1).collect(),
            Query::Before(before) => newest(all().filter(|(position, _)| position.offset < before.offset).collect()),
            Query::Newest => newest(all().collect()),
            Query::Oldest => all().take(count).collect(),
        };
        let _ = place;
        Answer::Page(Page::of_log(query, messages, room.head, count))
    }

    pub(super) fn delivered(&mut self, room: &RoomName, upto: Position) -> Answer {
        if let Some(room) = self.rooms.kept.get_mut(room) {
            room.messages.retain(|(position, ..)| position.epoch == upto.epoch && position.is_after(upto));
        }
        Answer::Done
    }
}

impl Rooms {
    pub(super) fn clear(&mut self) {
        *self = Rooms::default();
    }

    /// The room, which begins here where it is unknown.
    fn room(&mut self, now: Time, name: &RoomName, epoch: u32) -> &mut Room {
        let new = || Room { head: Position::start(epoch.into()), head_until: Time::NEVER, messages: VecDeque::new(), until: now };
        let room = self.kept.entry(name.clone()).or_insert_with(new);
        if room.head_until <= now {
            *room = new();
        }
        room
    }

    /// Remembers a message and says where; what is to be relayed of it is added to `relayed`.
    fn keep(&mut self, now: Time, posting: &Posting, relayed: &mut Vec<Relayed>) -> Option<Position> {
        if let Some(once) = &posting.once {
            let key = (posting.room.clone(), once.id.clone());
            if let Some((_, position)) = self.once.get(&key).filter(|(until, _)| *until > now) {
                return *position;
            }
        }
        let name = Bytes::copy_from_slice(posting.room.as_bytes());
        let mut stamp = Stamp::Plain;
        if let Some(kept) = posting.kept {
            let room = self.room(now, &posting.room, kept.epoch);
            let previous = room.head.tag;
            room.expire(now);
            room.head = Position { offset: room.head.offset + 1, tag: kept.tag, ..room.head };
            room.messages.push_back((room.head, kept.at, posting.payload.clone()));
            room.messages.drain(..room.messages.len().saturating_sub(kept.size as usize));
            room.until = now + kept.ttl;
            room.head_until = now + Kept::position_ttl(kept.ttl);
            stamp = Stamp::At { position: room.head, previous };
        }
        let position = match stamp {
            Stamp::At { position, .. } => Some(position),
            Stamp::Plain | Stamp::Others(_) => None,
        };
        if let Some(once) = &posting.once {
            self.once.insert((posting.room.clone(), once.id.clone()), (now + once.window, position));
        }
        relayed.push(Relayed { room: name, stamp, payload: posting.payload.clone() });
        position
    }
}

impl RelayLog {
    fn trim(&mut self, keep: usize) {
        while self.entries.len() > keep {
            self.entries.pop_first();
        }
    }
}

impl Room {
    fn expire(&mut self, now: Time) {
        if self.until <= now {
            self.messages.clear();
        }
    }
}
