//! Catching up: what a room remembers is sent to those who come in, page by page, and then they become members.
//!
//! ```text
//! let in ──▶ Reading ──a page, and more to come──▶ Paused ──the outbox is empty──▶ Reading ──the last page──▶ member
//! ```
//!
//! The join is exact (contract C2). Members have been sent the room's messages up to some position; whoever comes in is sent what
//! the room remembers up to that same position, and is a member from then on. What members are sent while the last page is
//! being read is kept beside, to be sent after the page. Those who want the same page share one read, and one frame.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Connection, Phase};
use super::room::{Membership, Memory, Reply, Room, Wish};
use super::wire::{Content, Wire};
use super::{Hub, HubAction, Wake, find};
use crate::dialect::json::{ErrorCode, Object};
use crate::door::{Ask, ReadId, Unavailable};
use crate::id::ConnId;
use crate::message::{Json, Outgoing, RoomName};
use crate::position::Position;
use crate::store::{Page, Query};
use crate::time::Time;

mod serving;

pub(super) use serving::Turn;

use serving::Serving;

/// Messages of an inbox that are read at once: they may be large.
const INBOX_PAGE: usize = 100;
/// Messages of a log that are read at once, unless outboxes hold less.
const LOG_PAGE: usize = 500;
/// What could not be read is read again after this time, where nobody waits for an answer.
const AGAIN: Duration = Duration::from_secs(1);

/// About the bytes of a message beside its envelope; and of the offset that those are told who can recover.
const AROUND: usize = 64;
const OFFSET: usize = 768;

/// Those who catch up in one room.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    reads: Vec<Read>,
    /// What is ready to be sent.
    servings: Vec<Serving>,
    readers: Vec<Reader>,
    /// What members were sent since `base`, while reads are under way.
    buffer: VecDeque<(Position, Bytes)>,
    bytes: usize,
    base: Position,
}

#[derive(Debug)]
struct Read {
    id: ReadId,
    wanted: Wanted,
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The state of the room at the moment.
    State,
    /// So many of its messages.
    Messages(Query, usize),
}

/// Somebody who catches up.
#[derive(Debug)]
struct Reader {
    conn: ConnId,
    /// How to answer; more than once where a client asks again while it catches up.
    replies: Vec<Reply>,
    wish: Wish,
    /// Whether the hub itself wants the connection to be a member, whatever becomes of the answers.
    stays: bool,
    /// Whether what was to be recovered has been, once that is known.
    recovered: Option<bool>,
    /// The state of the room, to be sent before its messages.
    state: Option<Bytes>,
    /// How far it has been sent, once it has.
    at: Option<Position>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading(ReadId),
    /// What it is sent next is ready.
    Served(u64),
    /// Waits until its outbox is empty.
    Paused,
    /// Waits until it is tried again.
    Failed,
}

impl CatchUp {
    pub(super) fn is_over(&self) -> bool {
        self.readers.is_empty()
    }

    /// Whether a connection catches up that knows so: it has been sent something, or was told that it goes on here.
    pub(super) fn has_begun(&self, conn: ConnId) -> bool {
        let reader = self.readers.iter().find(|reader| reader.conn == conn);
        reader.is_some_and(|reader| reader.at.is_some() || reader.replies.iter().any(|reply| reply.quiet))
    }

    /// Takes what was being read, and those it was read for.
    fn take(&mut self, read: ReadId) -> Option<(Wanted, Vec<Reader>)> {
        let at = self.reads.iter().position(|one| one.id == read)?;
        let readers = self.readers.extract_if(.., |reader| reader.stage == Stage::Reading(read)).collect();
        Some((self.reads.swap_remove(at).wanted, readers))
    }

    /// Keeps what members are sent, as much as fits into `most` messages and bytes.
    pub(super) fn keep(&mut self, payloads: &[Bytes], positions: &[Position], most: (usize, usize)) {
        if self.reads.is_empty() && self.servings.is_empty() {
            return;
        }
        for (payload, position) in payloads.iter().zip(positions) {
            self.bytes += payload.len();
            self.buffer.push_back((*position, payload.clone()));
        }
        while (self.buffer.len() > most.0 || self.bytes > most.1)
            && let Some((position, payload)) = self.buffer.pop_front()
        {
            self.bytes -= payload.len();
            self.base = position;
        }
    }

    fn empty_buffer(&mut self, base: Position) {
        self.buffer.clear();
        (self.bytes, self.base) = (0, base);
    }
}

impl Hub {
    /// A connection that is allowed to gets into a room whose messages this hub is sent: at once, or after what it wants to be
    /// sent first.
    pub(super) fn let_in(&mut self, now: Time, id: ConnId, index: usize, reply: Option<Reply>, wish: Wish) {
        let Hub { conns, rooms, .. } = self;
        let Some(conn) = find(conns, id).filter(|conn| conn.phase == Phase::Open) else { return };
        let Some(room) = rooms.get_mut(index) else { return };
        let mut readers = room.catch_up.iter_mut().flat_map(|catch_up| &mut catch_up.readers);
        if let Some(reader) = readers.find(|reader| reader.conn == id) {
            reader.stays |= reply.as_ref().is_none_or(|reply| reply.quiet);
            return reader.replies.extend(reply);
        }
        if conn.rooms.iter().any(|membership| membership.room as usize == index) {
            let position = room.told_position();
            return self.tell_subscribed(now, id, index, reply, position, None);
        }
        let query = match (room.memory, wish.recover) {
            (Memory::Inbox, _) => Some(Query::Oldest),
            // Even where this node knows of nothing that was missed, it is the store that proves it.
            (Memory::Log | Memory::Stream, Some(position)) => Some(Query::After(position)),
            (Memory::Log, None) if wish.newest > 0 => Some(Query::Newest),
            // Whoever publishes there may keep the state of the room, which is sent first.
            (Memory::Stream, None) => None,
            (_, recover) => {
                // Where nothing is remembered, nothing can be said of what was missed.
                let recovered = recover.map(|_| false);
                let (position, at) = (room.told_position(), room.position);
                self.tell_subscribed(now, id, index, reply, position, recovered);
                self.remember_place(id, index, at);
                return self.add_member(id, index);
            }
        };
        let (stays, goes_on) = (reply.as_ref().is_none_or(|reply| reply.quiet), reply.as_ref().is_some_and(|reply| reply.quiet));
        let replies = reply.into_iter().collect();
        // Of an inbox a client that recovers has some already.
        let at = wish.recover.filter(|_| goes_on && room.memory == Memory::Inbox);
        let reader = Reader { conn: id, replies, wish, stays, recovered: None, state: None, at, stage: Stage::Failed };
        rooms.begin_wait(id, index);
        match query {
            Some(query) => self.read_for(index, reader, query),
            None => self.have_read(index, reader, Wanted::State),
        }
    }

    /// Part of what a room remembers is here, or cannot be had.
    pub(super) fn paged(&mut self, now: Time, read: ReadId, result: Result<Page, Unavailable>) {
        if self.proven(now, read, &result) {
            return;
        }
        let Some(index) = self.reads.remove(&read) else { return self.history_read(now, read, result) };
        let Some(catch_up) = self.rooms.get_mut(index).and_then(|room| room.catch_up.as_mut()) else { return };
        let Some((Wanted::Messages(query, count), mut readers)) = catch_up.take(read) else { return };
        readers.retain(|reader| self.is_open(reader.conn));
        match result {
            Ok(page) => {
                // Those who have been sent the same so far are sent the same now.
                while let Some(first) = readers.first() {
                    let (at, wire) = (first.at, self.wire(first.conn));
                    let group = readers.extract_if(.., |reader| reader.at == at && self.wire(reader.conn) == wire).collect();
                    self.prepare(now, index, query, count, &page, (group, wire));
                }
            }
            Err(Unavailable) => readers.into_iter().for_each(|reader| self.fail_reader(now, index, reader)),
        }
        self.serve(now);
        self.end_catch_up(index);
    }

    /// The state of a room at the moment is here, where there is one: the messages follow.
    pub(super) fn state_read(&mut self, now: Time, read: ReadId, data: Option<Bytes>) {
        let Some(index) = self.reads.remove(&read) else { return };
        let Some(catch_up) = self.rooms.get_mut(index).and_then(|room| room.catch_up.as_mut()) else { return };
        let Some((_, readers)) = catch_up.take(read) else { return };
        for mut reader in readers {
            if !self.is_open(reader.conn) {
                continue;
            }
            reader.state = data.clone();
            if reader.wish.newest > 0 {
                self.read_for(index, reader, Query::Newest);
            } else {
                self.enter(now, index, reader);
            }
        }
        self.end_catch_up(index);
    }

    /// A connection has nothing more to write: it can be sent the next page.
    pub(super) fn resume(&mut self, id: ConnId) {
        for index in self.paused.remove(&id).into_iter().flatten() {
            self.go_on(index, |reader| reader.conn == id && reader.stage == Stage::Paused);
        }
    }

    /// What could not be read is tried again.
    pub(super) fn read_again(&mut self, index: usize) {
        self.go_on(index, |reader| reader.stage == Stage::Failed);
        self.end_catch_up(index);
    }

    /// Messages of a room were lost: members cannot go on from where they are, and are told so.
    pub(super) fn lost(&mut self, now: Time, name: &RoomName, position: Position) {
        let Some(index) = self.rooms.find(name) else { return };
        let Some(room) = self.rooms.get_mut(index).filter(|room| room.joining.is_none()) else { return };
        room.position = position;
        if let Some(catch_up) = &mut room.catch_up {
            // What is being read may be of the log as it was: it is read again.
            catch_up.empty_buffer(position);
            catch_up.servings.clear();
            let reads = core::mem::take(&mut catch_up.reads);
            self.go_on(index, |reader| matches!(reader.stage, Stage::Served(_)));
            for read in reads {
                self.reads.remove(&read.id);
                let Some(catch_up) = self.rooms.get_mut(index).and_then(|room| room.catch_up.as_mut()) else { return };
                let readers: Vec<Reader> =
                    catch_up.readers.extract_if(.., |reader| reader.stage == Stage::Reading(read.id)).collect();
                readers.into_iter().for_each(|reader| self.have_read(index, reader, read.wanted));
            }
        }
        let Some(room) = self.rooms.get(index).filter(|room| room.told_position().is_some()) else { return };
        let members: Vec<ConnId> =
            room.members.iter().filter_map(|slot| self.conns.get(*slot as usize)).map(|conn| conn.id).collect();
        members.into_iter().for_each(|id| self.tell_lost(now, id, index));
    }

    /// A connection no longer wants to catch up in a room: how it was to be answered, and what it wished, as often as it has asked.
    pub(super) fn stop_reading(&mut self, id: ConnId, index: usize) -> Vec<(Option<Reply>, Wish)> {
        let Some(Room { catch_up: Some(catch_up), .. }) = self.rooms.get_mut(index) else { return Vec::new() };
        let Some(at) = catch_up.readers.iter().position(|reader| reader.conn == id) else { return Vec::new() };
        let Reader { replies, wish, stays, .. } = catch_up.readers.remove(at);
        self.rooms.end_wait(id, index);
        self.end_catch_up(index);
        let by_hub = (stays && !replies.iter().any(|reply| reply.quiet)).then_some((None, wish));
        replies.into_iter().map(|reply| (Some(reply), wish)).chain(by_hub).collect()
    }

    /// A connection no longer catches up anywhere. What is being read for it is dropped when it comes.
    pub(super) fn stop_all_reading(&mut self, id: ConnId) {
        for index in self.paused.remove(&id).into_iter().flatten() {
            self.stop_reading(id, index);
        }
    }

    /// Has the next page read for readers in some stage, as far as they are still there.
    fn go_on(&mut self, index: usize, is_next: impl Fn(&Reader) -> bool) {
        let Some(Room { memory, catch_up: Some(catch_up), .. }) = self.rooms.get_mut(index) else { return };
        let memory = *memory;
        let readers: Vec<Reader> = catch_up.readers.extract_if(.., |reader| is_next(reader)).collect();
        for reader in readers {
            if self.is_open(reader.conn) {
                let query = next_query(memory, &reader);
                self.read_for(index, reader, query);
            }
        }
    }

    /// Has a page read for somebody, together with those who want the same one.
    fn read_for(&mut self, index: usize, reader: Reader, query: Query) {
        let page = LOG_PAGE.min(self.config.limits.outbox_messages / 2).max(1);
        let count = match query {
            // One more tells the position before the first.
            Query::Newest => reader.wish.newest as usize + 1,
            Query::Oldest => INBOX_PAGE,
            Query::After(_) | Query::Before(_) => page,
        };
        self.have_read(index, reader, Wanted::Messages(query, count));
    }

    fn have_read(&mut self, index: usize, mut reader: Reader, wanted: Wanted) {
        let Some(room) = self.rooms.get_mut(index) else { return };
        let position = room.position;
        let catch_up = room.catch_up.get_or_insert_default();
        if catch_up.reads.is_empty() && catch_up.servings.is_empty() {
            catch_up.empty_buffer(position);
        }
        let same = catch_up.reads.iter().find(|read| read.wanted == wanted);
        let id = same.map(|read| read.id).unwrap_or_else(|| {
            self.reads_made += 1;
            let read = ReadId(self.reads_made);
            catch_up.reads.push(Read { id: read, wanted });
            self.reads.insert(read, index);
            let room = room.name.clone();
            let ask = match wanted {
                Wanted::State => Ask::Snapshot { read, room },
                Wanted::Messages(query, count) => Ask::Read { read, room, query, count },
            };
            self.actions.push_back(HubAction::Ask(ask));
            read
        });
        reader.stage = Stage::Reading(id);
        catch_up.readers.push(reader);
    }

    /// What a reader wants cannot be proven to be whole: it is told so, and goes on without.
    fn give_up(&mut self, now: Time, index: usize, mut reader: Reader) {
        let id = reader.conn;
        if reader.at.is_some() {
            let position = self.rooms.get(index).and_then(Room::told_position);
            self.answer_all(now, index, &mut reader, position, Some(false));
            self.rooms.end_wait(id, index);
            self.add_member(id, index);
            return self.tell_lost(now, id, index);
        }
        let first = reader.recovered.is_none();
        reader.recovered = reader.wish.recover.map(|_| false);
        if first && reader.recovered.is_some() {
            if self.rooms.get(index).is_some_and(|room| room.memory == Memory::Stream) {
                return self.have_read(index, reader, Wanted::State);
            }
            if reader.wish.newest > 0 {
                return self.read_for(index, reader, Query::Newest);
            }
        }
        self.enter(now, index, reader);
    }

    /// A reader is a member from here on, and is sent nothing of what was before.
    fn enter(&mut self, now: Time, index: usize, mut reader: Reader) {
        let Some(room) = self.rooms.get(index) else { return };
        let (id, name, position, recovered) = (reader.conn, room.name.clone(), room.told_position(), reader.recovered);
        self.answer_all(now, index, &mut reader, position, recovered);
        self.send_state(now, &name, &mut reader);
        self.remember_place(id, index, position.unwrap_or_default());
        self.rooms.end_wait(id, index);
        self.add_member(id, index);
    }

    /// Sends a reader the state of the room, where there is one.
    fn send_state(&mut self, now: Time, room: &RoomName, reader: &mut Reader) {
        let Some(state) = reader.state.take() else { return };
        let Some(data) = str::from_utf8(&state).ok().map(Json::trusted) else { return };
        let message = Outgoing { kind: "current_state", data, timestamp: None, message_id: None };
        let envelope = self.composer.envelope(room, &message, self.wall.unix(now));
        let messages = core::iter::once((&envelope.payload, Position::default()));
        let content = self.wire(reader.conn).content(&self.config, Memory::Nothing, messages);
        self.push_content(now, reader.conn, room, &content);
    }

    /// Queues messages of a room for a connection.
    fn push_content(&mut self, now: Time, id: ConnId, room: &str, content: &Content) {
        let session = self.get(id).and_then(|conn| conn.session.as_deref_mut());
        let frame = content.frame(room, session);
        self.push(now, id, frame);
    }

    /// How a connection is sent messages.
    fn wire(&self, id: ConnId) -> Wire {
        self.peek(id).map_or(Wire::Json, Connection::wire)
    }

    /// What a reader wants cannot be read. A client that waits for an answer gets one; others are sent it later.
    fn fail_reader(&mut self, now: Time, index: usize, mut reader: Reader) {
        let id = reader.conn;
        // Who is only to be told of a loss need not be told of this.
        let replies: Vec<Reply> = reader.replies.extract_if(.., |reply| !reply.quiet).collect();
        let answered = !replies.is_empty();
        for reply in replies {
            let text = "What the room remembers cannot be read at the moment";
            self.error(now, id, ErrorCode::Unavailable, text, reply.to.as_deref());
        }
        if answered && !reader.stays {
            return self.rooms.end_wait(id, index);
        }
        reader.stage = Stage::Failed;
        self.keep_reader(index, reader);
        self.timers.arm(now + AGAIN, Wake::Read(index));
    }

    fn keep_reader(&mut self, index: usize, reader: Reader) {
        if let Some(room) = self.rooms.get_mut(index) {
            room.catch_up.get_or_insert_default().readers.push(reader);
        }
    }

    fn end_catch_up(&mut self, index: usize) {
        let Some(room) = self.rooms.get_mut(index) else { return };
        if room
            .catch_up
            .as_ref()
            .is_some_and(|catch_up| catch_up.is_over() && catch_up.reads.is_empty() && catch_up.servings.is_empty())
        {
            room.catch_up = None;
        }
        self.leave_if_deserted(index);
    }

    /// A connection is a member from now on.
    fn add_member(&mut self, id: ConnId, index: usize) {
        let Hub { conns, rooms, stats, .. } = self;
        let Some(conn) = find(conns, id).filter(|conn| conn.phase == Phase::Open) else { return };
        let Some(room) = rooms.get_mut(index) else { return };
        if !conn.rooms.iter().any(|membership| membership.room as usize == index) {
            conn.rooms.push(Membership { room: index as u32, at: room.members.len() as u32 });
            room.members.push(id.slot() as u32);
            stats.memberships += 1;
            let name = room.name.clone();
            self.arrived(id.slot() as u32, &name);
        }
    }

    /// Notes that what waits for a connection ends with a message of an inbox.
    pub(super) fn mark(&mut self, now: Time, id: ConnId, room: &RoomName, upto: Position) {
        let Some(conn) = self.peek(id).filter(|conn| conn.phase == Phase::Open) else { return };
        if conn.recovers() {
            return self.prove_soon(now, id);
        }
        let id = conn.carrier().unwrap_or(id);
        if let Some(queue) = self.get(id).and_then(|conn| conn.queue.as_mut()) {
            queue.mark(room.clone(), upto);
        }
    }

    /// Answers all that a reader has asked for so far.
    fn answer_all(&mut self, now: Time, index: usize, reader: &mut Reader, position: Option<Position>, recovered: Option<bool>) {
        for reply in core::mem::take(&mut reader.replies) {
            self.tell_subscribed(now, reader.conn, index, Some(reply), position, recovered);
        }
    }

    /// Answers a subscription, where somebody waits for that.
    fn tell_subscribed(
        &mut self,
        now: Time,
        id: ConnId,
        index: usize,
        reply: Option<Reply>,
        position: Option<Position>,
        recovered: Option<bool>,
    ) {
        let (Some(Reply { to, echo, quiet, .. }), Some(room)) = (reply, self.rooms.get(index)) else { return };
        if quiet && recovered != Some(false) {
            return;
        }
        let mut data = Object::new().string("room", &room.name).position(position);
        if let Some(recovered) = recovered {
            data = data.boolean("recovered", recovered);
        }
        self.confirm(now, id, "subscribed", data.finish(), to.as_deref(), echo);
    }

    /// Tells a member that it has missed messages, and from where it is sent what follows.
    fn tell_lost(&mut self, now: Time, id: ConnId, index: usize) {
        let position = self.rooms.get(index).and_then(Room::told_position);
        let room = self.rooms.get(index).map(|room| room.name.clone());
        if let (Some(room), Some(position), Some(recovery)) = (room, position, self.recovery(id)) {
            recovery.enter(&room, position);
        }
        self.tell_subscribed(now, id, index, Some(Reply::default()), position, Some(false));
    }
}

/// What somebody is to be sent next who has been sent part of it, or nothing yet.
fn next_query(memory: Memory, reader: &Reader) -> Query {
    match (memory, reader.at, reader.wish.recover) {
        (Memory::Inbox, ..) => Query::Oldest,
        (_, Some(at), _) => Query::After(at),
        (_, None, Some(position)) if reader.recovered.is_none() => Query::After(position),
        (_, None, _) => Query::Newest,
    }
}
