//! What rooms remember, in memory.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::Memory;
use crate::id::StreamId;
use crate::message::RoomName;
use crate::position::Position;
use crate::store::{Answer, Kept, Page, Place, Posting, Query, RelayEntry, Relayed, Stamp};
use crate::time::{Time, UnixMillis};

/// The relay logs, and what rooms remember.
#[derive(Clone, Debug, Default)]
pub(super) struct Rooms {
    relay: BTreeMap<u16, RelayLog>,
    kept: BTreeMap<RoomName, Room>,
    /// The identifiers that are remembered, each with the position of its message.
    once: BTreeMap<Identifier, Option<Position>>,
    /// When something ends that is remembered.
    ends: BTreeSet<(Time, Ending)>,
}

/// A room, and the identifier of a message in it.
type Identifier = (RoomName, Box<str>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Room(RoomName),
    Once(Identifier),
}

#[derive(Clone, Debug, Default)]
struct RelayLog {
    entries: BTreeMap<StreamId, RelayItem>,
    last: StreamId,
}

/// The messages of an entry, or what it says as a mark.
#[derive(Clone, Debug)]
enum RelayItem {
    Messages(Vec<Relayed>),
    Mark(Bytes),
}

#[derive(Clone, Debug)]
struct Room {
    head: Position,
    until: Time,
    log: Shelf,
    inbox: Shelf,
    /// When it is looked at next, whether something of it has ended.
    due: Time,
}

/// A message that is remembered: where it stands, and when it was published.
type Message = (Position, UnixMillis, Bytes);

/// Messages, oldest first, which all end at the same time.
#[derive(Clone, Debug, Default)]
struct Shelf {
    messages: VecDeque<Message>,
    until: Time,
}

impl Memory {
    /// The entries of a relay log after an identifier, oldest first.
    pub fn relayed_after(&self, partition: u16, after: StreamId) -> impl Iterator<Item = (StreamId, &[Relayed])> {
        let log = self.rooms.relay.get(&partition).into_iter();
        log.flat_map(move |log| log.entries.range(after.next()..).map(|(id, item)| (*id, item.messages())))
    }

    /// What a room remembers, oldest first.
    pub fn remembered(&self, room: &str) -> impl Iterator<Item = (Position, &Bytes)> {
        let shelves = self.rooms.kept.get(room).into_iter().flat_map(|room| [&room.log, &room.inbox]);
        shelves.flat_map(|shelf| shelf.messages.iter().map(|(position, _, payload)| (*position, payload)))
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
            room.log.trim(keep);
            room.inbox.trim(keep);
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
        self.append_item(now, partition, RelayItem::Messages(relayed));
    }

    pub(super) fn append_mark(&mut self, now: Time, partition: u16, mark: Bytes) -> StreamId {
        self.append_item(now, partition, RelayItem::Mark(mark))
    }

    fn append_item(&mut self, now: Time, partition: u16, item: RelayItem) -> StreamId {
        let log = self.rooms.relay.entry(partition).or_default();
        let id = StreamId { millis: now.as_micros() / 1000, sequence: 0 }.max(log.last.next());
        log.last = id;
        log.entries.insert(id, item);
        log.trim(self.relay_length);
        self.wake(now, &super::relay_key(partition));
        id
    }

    pub(super) fn relay_tip(&self, partition: u16) -> StreamId {
        self.rooms.relay.get(&partition).map_or(StreamId::ZERO, |log| log.last)
    }

    pub(super) fn read_relay(&self, cursors: &[(u16, StreamId)], count: usize) -> Vec<RelayEntry> {
        let entries = cursors.iter().flat_map(|(partition, cursor)| {
            let log = self.rooms.relay.get(partition).into_iter();
            let new = log.flat_map(|log| log.entries.range(cursor.next()..)).take(count);
            new.map(|(id, item)| RelayEntry {
                partition: *partition,
                id: *id,
                messages: item.messages().to_vec(),
                mark: item.mark(),
            })
        });
        entries.collect()
    }

    pub(super) fn page(&self, room: &RoomName, place: Place, query: Query, since: UnixMillis, count: usize) -> Answer {
        let query = if place == Place::Inbox { Query::Oldest } else { query };
        let message = |(position, _, payload): &Message| (*position, payload.clone());
        let (head, messages) = match (self.rooms.kept.get(room), place) {
            (None, _) => (Position::default(), Vec::new()),
            (Some(room), Place::Log) => (room.head, room.log.read(query, count).map(message).collect()),
            (Some(room), Place::Inbox) => {
                let fresh = room.inbox.messages.iter().filter(|(_, at, _)| *at >= since);
                (room.head, fresh.take(count).map(message).collect())
            }
        };
        Answer::Page(Page::of_log(query, messages, head, count))
    }

    pub(super) fn delivered(&mut self, room: &RoomName, upto: Position) -> Answer {
        if let Some(Room { inbox: Shelf { messages, .. }, .. }) = self.rooms.kept.get_mut(room)
            && let Some(last) = messages.iter().position(|(position, ..)| *position == upto)
        {
            messages.drain(..=last);
        }
        Answer::Done
    }
}

impl RelayItem {
    fn messages(&self) -> &[Relayed] {
        match self {
            RelayItem::Messages(messages) => messages,
            RelayItem::Mark(_) => &[],
        }
    }

    fn mark(&self) -> Option<Bytes> {
        match self {
            RelayItem::Messages(_) => None,
            RelayItem::Mark(mark) => Some(mark.clone()),
        }
    }
}

impl Rooms {
    pub(super) fn clear(&mut self) {
        *self = Rooms::default();
    }

    /// Forgets what is remembered no longer.
    pub(super) fn expire(&mut self, now: Time) {
        while self.ends.first().is_some_and(|(end, _)| *end <= now) {
            match self.ends.pop_first() {
                Some((end, Ending::Room(name))) => {
                    if let Some(room) = self.kept.get_mut(&name).filter(|room| room.due == end) {
                        room.due = Time::NEVER;
                        room.expire(now);
                        if room.until <= now {
                            self.kept.remove(&name);
                        }
                        self.look_again(&name);
                    }
                }
                Some((_, Ending::Once(identifier))) => drop(self.once.remove(&identifier)),
                None => {}
            }
        }
    }

    pub(super) fn positions(&mut self, now: Time, rooms: &[(RoomName, Duration)], epoch: u32) -> Vec<Position> {
        let position = |(name, ttl): &(RoomName, Duration)| {
            let room = self.room(name, epoch);
            room.until = now + Kept::position_ttl(*ttl);
            let head = room.head;
            self.look_again(name);
            head
        };
        rooms.iter().map(position).collect()
    }

    /// Remembers a message and says where; what is to be relayed of it is added to `relayed`.
    fn keep(&mut self, now: Time, posting: &Posting, relayed: &mut Vec<Relayed>) -> Option<Position> {
        let identifier = posting.once.as_ref().map(|once| (posting.room.clone(), once.id.clone()));
        if let Some(position) = identifier.as_ref().and_then(|identifier| self.once.get(identifier)) {
            return *position;
        }
        let mut stamp = Stamp::Plain;
        let mut position = None;
        if let Some(kept) = posting.kept {
            let room = self.room(&posting.room, kept.epoch);
            let previous = room.head.tag;
            room.head = Position { offset: room.head.offset + 1, tag: kept.tag, ..room.head };
            room.until = now + Kept::position_ttl(kept.ttl);
            stamp = Stamp::At { position: room.head, previous };
            position = Some(room.head);
            let message = (room.head, kept.at, posting.payload.clone());
            room.shelf(kept.place).add(message, kept.size, now + kept.ttl);
            self.look_again(&posting.room);
        }
        if let (Some(identifier), Some(once)) = (identifier, &posting.once) {
            self.once.insert(identifier.clone(), position);
            self.ends.insert((now + once.window, Ending::Once(identifier)));
        }
        let room = Bytes::copy_from_slice(posting.room.as_bytes());
        relayed.push(Relayed { room, stamp, payload: posting.payload.clone() });
        position
    }

    /// The room, which begins here where it is unknown.
    fn room(&mut self, name: &RoomName, epoch: u32) -> &mut Room {
        self.kept.entry(name.clone()).or_insert_with(|| Room {
            head: Position::start(epoch.into()),
            until: Time::NEVER,
            log: Shelf::default(),
            inbox: Shelf::default(),
            due: Time::NEVER,
        })
    }

    /// Sees to it that a room is looked at when the first thing of it ends.
    fn look_again(&mut self, name: &RoomName) {
        let Some(room) = self.kept.get_mut(name) else { return };
        let end = room.until.min(room.log.end()).min(room.inbox.end());
        if end < room.due {
            self.ends.remove(&(room.due, Ending::Room(name.clone())));
            self.ends.insert((end, Ending::Room(name.clone())));
            room.due = end;
        }
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
    fn shelf(&mut self, place: Place) -> &mut Shelf {
        match place {
            Place::Log => &mut self.log,
            Place::Inbox => &mut self.inbox,
        }
    }

    fn expire(&mut self, now: Time) {
        for shelf in [&mut self.log, &mut self.inbox] {
            if shelf.until <= now {
                shelf.messages.clear();
            }
        }
    }
}

impl Shelf {
    fn add(&mut self, message: Message, size: u32, until: Time) {
        self.messages.push_back(message);
        self.trim(size.max(1) as usize);
        self.until = until;
    }

    fn trim(&mut self, keep: usize) {
        self.messages.drain(..self.messages.len().saturating_sub(keep));
    }

    /// When its messages end, where it has any.
    fn end(&self) -> Time {
        if self.messages.is_empty() { Time::NEVER } else { self.until }
    }

    /// The messages that [`Query::reads`] says, oldest first.
    fn read(&self, query: Query, count: usize) -> impl Iterator<Item = &Message> {
        let from = |position: Position| self.messages.partition_point(|(other, ..)| other.offset < position.offset);
        let (reads, length) = (query.reads(count), self.messages.len());
        let (first, end) = match query {
            Query::After(position) => (from(position), from(position).saturating_add(reads).min(length)),
            Query::Oldest => (0, reads.min(length)),
            Query::Before(position) => (from(position).saturating_sub(reads), from(position)),
            Query::Newest => (length.saturating_sub(reads), length),
        };
        self.messages.range(first..end)
    }
}
