//! Serving: pages on their way to those who catch up, shared by all who are sent the same, a little at a time.

use core::time::Duration;

use bytes::Bytes;

use super::{AROUND, OFFSET, Reader, Stage};
use crate::config::Config;
use crate::hub::connection::Connection;
use crate::hub::room::{Memory, Room};
use crate::hub::wire::{Content, Wire};
use crate::hub::{Hub, Wake};
use crate::id::ConnId;
use crate::position::Position;
use crate::store::{Page, Query};
use crate::time::Time;

/// Pages are sent in turns of so many bytes: about what is written in this time.
const TURN_BYTES: usize = 1 << 20;
const TURN: Duration = Duration::from_millis(1);

/// Part of a page, for all who have been sent the same so far.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) id: u64,
    /// What comes before it, and its end.
    start: Position,
    content: Option<Content>,
    end: Position,
    /// How far a reader comes with it. The end, unless it is known that nothing else follows for a while.
    reach: Position,
    /// Whether some of the page did not fit.
    cut: bool,
    /// Whether it is proven that nothing is missing before it.
    recovered: Option<bool>,
}

/// What has been sent of pages within a short time.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Turn {
    since: Time,
    bytes: usize,
    /// Whether a wake-up stands for the next one.
    is_armed: bool,
}

impl Turn {
    /// The next one may begin.
    pub(in super::super) fn end(&mut self) {
        self.is_armed = false;
    }
}

impl Hub {
    /// Makes ready what readers who have been sent the same so far are sent of a page.
    pub(super) fn prepare(
        &mut self,
        now: Time,
        index: usize,
        query: Query,
        count: usize,
        page: &Page,
        (readers, wire): (Vec<Reader>, Wire),
    ) {
        let Some(Room { memory, position: live, catch_up: Some(catch_up), .. }) = self.rooms.get(index) else { return };
        let (memory, live) = (*memory, *live);
        // The room has begun anew. This hub will be told; until then it goes on with what it knows.
        let is_other = memory == Memory::Log && page.head.epoch != live.epoch;
        if is_other || (matches!(query, Query::After(_)) && !page.whole) {
            return readers.into_iter().for_each(|reader| self.give_up(now, index, reader));
        }
        let sent = readers.first().and_then(|reader| reader.at);
        let is_full = page.messages.len() >= count;
        let mut messages = &page.messages[..];
        let start = match query {
            Query::After(position) => position,
            Query::Newest if is_full => {
                let (first, rest) = messages.split_first().map_or((live, messages), |((first, _), rest)| (*first, rest));
                messages = rest;
                first
            }
            // What members were sent while an empty room was read is kept beside, and is new to the reader.
            Query::Newest => before(messages.first().map(|(first, _)| *first), memory, catch_up.base),
            Query::Oldest | Query::Before(_) => sent.unwrap_or(Position::start(live.epoch)),
        };
        let is_new = |position: Position| sent.is_none_or(|sent| position.epoch != sent.epoch || position.is_after(sent));
        let new: Vec<&(Position, Bytes)> =
            messages.iter().filter(|(position, _)| is_new(*position) && !position.is_after(live)).collect();
        let part = self.fitting(&new, wire);
        // What is gone from an inbox was taken by another connection of its user.
        let hole = match (sent, new.first()) {
            (Some(sent), Some((first, _))) if memory == Memory::Inbox && wire.recovers() => {
                sent.epoch != first.epoch || sent.offset.checked_add(1) != Some(first.offset)
            }
            _ => false,
        };
        let misled: Vec<ConnId> = readers.iter().filter(|_| hole).map(|reader| reader.conn).collect();
        let (end, cut) = (part.last().map_or(start, |(position, _)| *position), part.len() < new.len());
        // How far the reader comes with this page: all of an inbox may be less than what the room has had.
        let reach = match query {
            Query::Oldest if !cut && !is_full => {
                if live.is_after(page.head) {
                    page.head
                } else {
                    live
                }
            }
            Query::Newest if new.is_empty() && !page.messages.is_empty() => live,
            _ => end,
        };
        let content = (!part.is_empty()).then(|| content_of(&self.config, wire, memory, part));
        let recovered = matches!(query, Query::After(_)).then_some(true);
        self.reads_made += 1;
        let id = self.reads_made;
        let Some(catch_up) = self.rooms.get_mut(index).and_then(|room| room.catch_up.as_mut()) else { return };
        catch_up.servings.push(Serving { id, start, content, end, reach, cut, recovered });
        catch_up.readers.extend(readers.into_iter().map(|reader| Reader { stage: Stage::Served(id), ..reader }));
        self.servings.push_back((index, id));
        misled.into_iter().for_each(|conn| self.tell_lost(now, conn, index));
    }

    /// Sends what is ready, but no more at a time than is soon written: what is said meanwhile need not wait for all of it.
    pub(in super::super) fn serve(&mut self, now: Time) {
        if now >= self.turn.since + TURN {
            self.turn = Turn { since: now, ..Turn::default() };
        }
        while self.turn.bytes < TURN_BYTES
            && let Some((index, serving)) = self.servings.front().copied()
        {
            if !self.serve_one(now, index, serving) {
                self.servings.pop_front();
            }
        }
        if !self.servings.is_empty() && !self.turn.is_armed {
            self.turn.is_armed = true;
            self.timers.arm(self.turn.since + TURN, Wake::Serve);
        }
    }

    /// Sends a reader what is ready for it and those who are sent the same. Whether there was one.
    fn serve_one(&mut self, now: Time, index: usize, serving: u64) -> bool {
        let Some(Room { name, memory, position: live, catch_up: Some(catch_up), .. }) = self.rooms.get_mut(index) else {
            return false;
        };
        let Some(at) = catch_up.readers.iter().position(|reader| reader.stage == Stage::Served(serving)) else {
            catch_up.servings.retain(|other| other.id != serving);
            self.end_catch_up(index);
            return false;
        };
        let (name, memory, live) = (name.clone(), *memory, *live);
        let mut reader = catch_up.readers.remove(at);
        let Some(Serving { start, content, end, reach, cut, recovered, .. }) =
            catch_up.servings.iter().find(|other| other.id == serving).cloned()
        else {
            return false;
        };
        let is_last = !live.is_after(reach) || (!cut && !catch_up.base.is_after(reach));
        let missed: Vec<_> = catch_up.buffer.iter().filter(|(position, _)| is_last && position.is_after(reach)).collect();
        let wire = self.conns.get(reader.conn.slot()).map_or(Wire::Json, Connection::wire);
        let missed = missed.last().map(|(last, _)| (content_of(&self.config, wire, memory, &missed), *last));
        let contents: Vec<(Content, Position)> = content.map(|content| (content, end)).into_iter().chain(missed).collect();

        let id = reader.conn;
        if !self.is_open(id) {
            return true;
        }
        if !self.has_room_for(id, &contents) {
            // It is sent so much of other rooms that this has to wait.
            self.pause(index, reader);
            return true;
        }
        if reader.at.is_none() {
            let position = memory.has_positions().then_some(start);
            let recovered = reader.recovered.or(recovered);
            self.answer_all(now, index, &mut reader, position, recovered);
            self.send_state(now, &name, &mut reader);
            self.remember_place(id, index, start);
        }
        let is_stuck = contents.is_empty() && memory == Memory::Inbox;
        let is_empty = contents.is_empty();
        for (content, end) in contents {
            let frame = content.frame(&name, self.get(id).and_then(|conn| conn.session.as_deref_mut()));
            self.stats.deliveries += frame.messages() as u64;
            self.turn.bytes += frame.len();
            self.push(now, id, frame);
            if memory == Memory::Inbox {
                self.mark(now, id, &name, end);
            }
        }
        if !self.is_open(id) {
            return true;
        }
        if is_last {
            self.answer_all(now, index, &mut reader, None, None);
            self.rooms.end_wait(id, index);
            self.add_member(id, index);
            return true;
        }
        reader.at = Some(end);
        if is_stuck {
            self.fail_reader(now, index, reader);
        } else if is_empty {
            self.read_for(index, reader, Query::After(end));
        } else {
            self.pause(index, reader);
        }
        true
    }

    /// A reader goes on when its outbox is empty.
    fn pause(&mut self, index: usize, mut reader: Reader) {
        let id = reader.conn;
        reader.stage = Stage::Paused;
        self.keep_reader(index, reader);
        match self.paused.get_mut(&id) {
            Some(rooms) => rooms.push(index),
            None => drop(self.paused.insert(id, vec![index])),
        }
    }

    /// Whether a connection can be sent these without coming near the bounds of its outbox. One that has nothing to write can.
    fn has_room_for(&self, id: ConnId, contents: &[(Content, Position)]) -> bool {
        let carrier = self.peek(id).and_then(Connection::carrier).unwrap_or(id);
        let Some(queue) = self.peek(carrier).and_then(|conn| conn.queue.as_ref()) else { return true };
        let (waiting, limits) = (queue.outbox(), &self.config.limits);
        let (messages, bytes) =
            contents.iter().map(|(content, _)| content.size(OFFSET)).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        waiting.messages() + messages <= limits.outbox_messages / 4 * 3 && waiting.bytes() + bytes <= limits.outbox_bytes / 4 * 3
    }

    /// As many of the messages as half an outbox takes, and at least one.
    fn fitting<'a>(&self, messages: &'a [&'a (Position, Bytes)], wire: Wire) -> &'a [&'a (Position, Bytes)] {
        let limits = &self.config.limits;
        let mut bytes = 0;
        let fits = |(_, payload): &&&(Position, Bytes)| {
            bytes += payload.len() + AROUND + if wire.recovers() { OFFSET } else { 0 };
            bytes <= limits.outbox_bytes / 2
        };
        let count = messages.iter().take((limits.outbox_messages / 2).max(1)).take_while(fits).count();
        &messages[..count.max(1).min(messages.len())]
    }
}

/// The position before a log's first message. Where another one stood there, its tag is no longer known, and the position proves
/// nothing.
fn before(first: Option<Position>, memory: Memory, live: Position) -> Position {
    match first {
        Some(first) if memory == Memory::Log => Position { offset: first.offset.saturating_sub(1), tag: 0, ..first },
        Some(_) => Position::default(),
        None => live,
    }
}

fn content_of(config: &Config, wire: Wire, memory: Memory, messages: &[&(Position, Bytes)]) -> Content {
    wire.content(config, memory, messages.iter().map(|(position, payload)| (payload, *position)))
}
