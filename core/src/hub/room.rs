//! Rooms and their members on this hub.

use bytes::Bytes;
use slab::Slab;

use super::catch_up::CatchUp;
use super::slow;
use crate::config::{Config, Keep};
use crate::frame::Frame;
use crate::id::ConnId;
use crate::message::RoomName;
use crate::position::Position;
use crate::table::Table;
use crate::time::Time;

/// The rooms that somebody on this hub is in, or waits to get into.
#[derive(Debug)]
pub(super) struct Rooms {
    rooms: Slab<Room>,
    by_name: Table<RoomName, usize>,
    joins: u64,
    /// The rooms that each connection waits for, as often as it does. Those that wait for none have no place here.
    waits: Table<ConnId, Vec<usize>>,
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    /// Members, by their slot in the hub.
    pub(super) members: Vec<u32>,
    /// Nothing once the backplane sends the room's messages. Most rooms are small, so they hold no more than a pointer.
    pub(super) joining: Option<Box<Joining>>,
    /// Those who are being sent what the room remembers, and are no members yet.
    pub(super) catch_up: Option<Box<CatchUp>>,
    /// The last message that members were sent, where the room remembers.
    pub(super) position: Position,
    pub(super) memory: Memory,
    /// The rule by which its messages may be dropped, by its index in the configuration, where they may.
    pub(super) slow: Option<u16>,
}

/// How a room remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Nothing,
    Log,
    Inbox,
    Stream,
}

/// A room for which the backplane has been asked.
#[derive(Debug)]
pub(super) struct Joining {
    /// The number under which it was asked.
    pub(super) number: u64,
    /// Those who want to get in.
    pub(super) waiting: Vec<Applicant>,
}

/// Somebody who waits to get into a room.
#[derive(Debug)]
pub(super) struct Applicant {
    pub(super) conn: ConnId,
    /// Until when a client that asked waits.
    pub(super) until: Time,
    /// How to answer; nothing where the hub itself asked.
    pub(super) reply: Option<Reply>,
    pub(super) wish: Wish,
}

/// How a subscription is to be answered.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) to: Option<Box<str>>,
    pub(super) echo: Option<(&'static str, Box<str>)>,
    /// Only that something was missed is worth an answer.
    pub(super) quiet: bool,
    /// The room is restored to a client that has not asked for it.
    pub(super) restored: bool,
}

/// What a client wants to be sent of what a room remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// All that follows this position.
    pub(super) recover: Option<Position>,
    /// So many of the newest messages, where nothing is to be recovered, or cannot be.
    pub(super) newest: u32,
}

/// A connection's place in a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) room: u32,
    /// Its index among the members, so that it is removed without a search.
    pub(super) at: u32,
}

impl Rooms {
    pub(super) fn new(key: u64) -> Rooms {
        Rooms { rooms: Slab::new(), by_name: Table::new(key), joins: 0, waits: Table::new(key) }
    }

    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.iter().map(|(_, room)| room)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Room> {
        self.rooms.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Room> {
        self.rooms.get_mut(index)
    }

    /// What a room waits for, while it does.
    pub(super) fn joining(&mut self, index: usize) -> Option<&mut Joining> {
        self.rooms.get_mut(index)?.joining.as_deref_mut()
    }

    /// The rooms that a connection waits for, as often as it does.
    pub(super) fn waited_for(&self, conn: ConnId) -> &[usize] {
        self.waits.get(&conn).map_or(&[], Vec::as_slice)
    }

    /// A connection waits for a room.
    pub(super) fn begin_wait(&mut self, conn: ConnId, index: usize) {
        match self.waits.get_mut(&conn) {
            Some(rooms) => rooms.push(index),
            None => drop(self.waits.insert(conn, vec![index])),
        }
    }

    /// A connection does not wait for a room any longer, where it was waiting once more than it is now.
    pub(super) fn end_wait(&mut self, conn: ConnId, index: usize) {
        let Some(rooms) = self.waits.get_mut(&conn) else { return };
        if let Some(at) = rooms.iter().position(|room| *room == index) {
            rooms.swap_remove(at);
        }
        if rooms.is_empty() {
            self.waits.remove(&conn);
        }
    }

    /// A connection waits for nothing any longer.
    pub(super) fn end_waits(&mut self, conn: ConnId) {
        self.waits.remove(&conn);
    }

    /// Adds a room that waits for the backplane; its index and the number of its joining.
    pub(super) fn add(&mut self, config: &Config, name: RoomName, first: Applicant) -> (usize, u64) {
        self.joins += 1;
        let memory = Memory::of(config, &name);
        let index = self.rooms.insert(Room {
            name: name.clone(),
            members: Vec::new(),
            joining: Some(Box::new(Joining { number: self.joins, waiting: vec![first] })),
            catch_up: None,
            position: Position::default(),
            memory,
            slow: slow::rule_of(config, &name),
        });
        self.by_name.insert(name, index);
        (index, self.joins)
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Room> {
        let room = self.rooms.try_remove(index)?;
        self.by_name.remove(&room.name);
        Some(room)
    }
}

impl Room {
    /// Whether nobody is in it or waits to get in.
    pub(super) fn is_deserted(&self) -> bool {
        self.members.is_empty()
            && self.joining.as_ref().is_none_or(|joining| joining.waiting.is_empty())
            && self.catch_up.as_ref().is_none_or(|catch_up| catch_up.is_over())
    }

    /// Where clients are told that the room stands.
    pub(super) fn told_position(&self) -> Option<Position> {
        self.memory.has_positions().then_some(self.position)
    }
}

impl Memory {
    /// Whether clients are told positions. Of an inbox they need none.
    pub(super) fn has_positions(self) -> bool {
        matches!(self, Memory::Log | Memory::Stream)
    }

    /// Messages as members are sent them.
    pub(super) fn frame<'a>(self, messages: impl Iterator<Item = (&'a Bytes, Position)> + Clone) -> Frame {
        if self.has_positions() {
            Frame::texts_at(messages.map(|(payload, position)| (&payload[..], position)))
        } else {
            Frame::texts(messages.map(|(payload, _)| payload))
        }
    }

    pub(super) fn of(config: &Config, room: &str) -> Memory {
        match config.rule(room).and_then(|rule| rule.keep.as_ref()) {
            Some(Keep::History(_)) => Memory::Log,
            Some(Keep::Inbox(_)) => Memory::Inbox,
            Some(Keep::Stream(_)) => Memory::Stream,
            None => Memory::Nothing,
        }
    }
}
