//! Who is in the rooms whose members learn of each other: this hub's part of it, and what clients are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::petition::Wanted;
use super::{Hub, HubAction};
use crate::dialect::json::{ErrorCode, Object};
use crate::door::{Ask, ReadId, Unavailable};
use crate::id::ConnId;
use crate::message::RoomName;
use crate::store::Here;
use crate::table::Table;
use crate::time::Time;

/// The users in each room that has presence, and the clients that have asked who is there.
#[derive(Debug)]
pub(super) struct Present {
    /// Connections of each user, by room.
    rooms: Table<RoomName, BTreeMap<Arc<str>, u32>>,
    askers: Table<ReadId, Asker>,
    asked: u64,
}

/// A client that waits to be told who is in a room.
#[derive(Debug)]
struct Asker {
    conn: ConnId,
    room: RoomName,
    reply_to: Option<Box<str>>,
}

impl Present {
    pub(super) fn new(key: u64) -> Present {
        Present { rooms: Table::new(key), askers: Table::new(key), asked: 0 }
    }

    /// Counts a connection of a user that comes, or one that goes. How many there are then.
    fn count(&mut self, room: &RoomName, user: &Arc<str>, comes: bool) -> u32 {
        if self.rooms.get(room).is_none() {
            self.rooms.insert(room.clone(), BTreeMap::new());
        }
        let Some(users) = self.rooms.get_mut(room) else { return 0 };
        let before = users.get(user).copied().unwrap_or_default();
        let connections = if comes { before.saturating_add(1) } else { before.saturating_sub(1) };
        match connections {
            0 => users.remove(user),
            some => users.insert(user.clone(), some),
        };
        if users.is_empty() {
            self.rooms.remove(room);
        }
        connections
    }
}

impl Hub {
    /// A connection, by its slot, is in a room from now on.
    pub(super) fn arrived(&mut self, slot: u32, room: &RoomName) {
        self.count(slot, room, true);
    }

    /// A connection is no longer in a room.
    pub(super) fn departed(&mut self, slot: u32, room: &RoomName) {
        self.count(slot, room, false);
    }

    /// It is known from now on whose connection this is: it counts in the rooms that it is in already.
    pub(super) fn identified(&mut self, id: ConnId) {
        let Some(conn) = self.peek(id) else { return };
        let rooms = conn.rooms.iter().filter_map(|membership| self.rooms.get(membership.room as usize));
        let rooms: Vec<RoomName> = rooms.map(|room| room.name.clone()).collect();
        rooms.iter().for_each(|room| self.arrived(id.slot() as u32, room));
    }

    fn count(&mut self, slot: u32, room: &RoomName, comes: bool) {
        if !self.config.has_presence(room) {
            return;
        }
        let Some(identity) = self.conns.get(slot as usize).and_then(|conn| conn.identity.as_ref()) else { return };
        let user = Arc::from(&*identity.user);
        let connections = self.present.count(room, &user, comes);
        self.actions.push_back(HubAction::Ask(Ask::Present { room: room.clone(), user, connections }));
    }

    /// A client asks who is in a room.
    pub(super) fn request_presence(&mut self, now: Time, id: ConnId, request: Option<&str>, room: &str) {
        self.want(now, id, Wanted::Presence { room: room.into(), reply_to: request.map(Box::from) });
    }

    /// Asks for a connection that may know who is in a room.
    pub(super) fn ask_who(&mut self, now: Time, id: ConnId, room: &str, reply_to: Option<Box<str>>) {
        if !self.config.has_presence(room) {
            let text = "Nobody is told who is in this room";
            return self.error(now, id, ErrorCode::UnsupportedMessage, text, reply_to.as_deref());
        }
        self.present.asked += 1;
        let (read, room) = (ReadId(self.present.asked), RoomName::from(room));
        self.present.askers.insert(read, Asker { conn: id, room: room.clone(), reply_to });
        self.actions.push_back(HubAction::Ask(Ask::Who { read, room }));
    }

    /// The backplane knows who is in a room, or does not.
    pub(super) fn told_who(&mut self, now: Time, read: ReadId, result: Result<Here, Unavailable>) {
        let Some(Asker { conn, room, reply_to }) = self.present.askers.remove(&read) else { return };
        match result {
            Ok(Here { users, truncated, connections }) => {
                let data = Object::new().string("room", &room).strings("users", users.iter().map(|user| &**user));
                let data = data.number("connections", connections);
                let data = if truncated { data.boolean("truncated", true) } else { data };
                self.notice(now, conn, "presence", Some(data.finish()), reply_to.as_deref());
            }
            Err(Unavailable) => {
                let text = "It cannot be told at the moment who is in the room";
                self.error(now, conn, ErrorCode::Unavailable, text, reply_to.as_deref());
            }
        }
    }
}
