//! Sessions: the rooms of clients that do not ask for them again when they come back (route option `restore`).
//!
//! What is remembered is where the client certainly has all messages: a pong proves that everything has arrived that was sent
//! before its ping. A client that comes back is sent what follows, so that it may get some messages twice and misses none; or it
//! is told that it has missed some.

use core::time::Duration;

use sha2::{Digest as _, Sha256};

use super::connection::{Connection, Phase};
use super::room::{Memory, Reply, Room, Wish};
use super::{Hub, HubAction, Intent};
use crate::door::Ask;
use crate::id::ConnId;
use crate::position::Position;
use crate::store::Places;
use crate::time::Time;

/// A connection whose rooms are remembered is pinged at least this often.
pub(super) const PROOF: Duration = Duration::from_secs(10);

/// The rooms of a connection, as they are remembered.
#[derive(Debug)]
pub(super) struct Session {
    /// A hash of the token.
    token: Box<str>,
    /// What the client certainly has.
    places: Places,
    /// What it has if it answers the last ping.
    pinged: Option<Places>,
}

impl Hub {
    /// A connection has shown a token. Where its route restores, the rooms of the token are restored, or remembered from now on.
    pub(super) fn begin_session(&mut self, id: ConnId, token: &str) {
        if self.restore(id).is_none() {
            return;
        }
        let hash: String = Sha256::digest(token).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let hash: Box<str> = hash.into();
        let Some(conn) = self.get(id) else { return };
        match &mut conn.session {
            Some(session) => session.token = hash,
            None => {
                conn.session = Some(Box::new(Session { token: hash.clone(), places: Vec::new(), pinged: None }));
                self.actions.push_back(HubAction::Ask(Ask::Restore { conn: id, token: hash }));
            }
        }
    }

    /// The rooms that a token was in are known.
    pub(super) fn restored(&mut self, now: Time, id: ConnId, places: Places) {
        for (name, position) in places {
            let Some(conn) = self.peek(id).filter(|conn| conn.phase == Phase::Open) else { return };
            let most = self.config.limits.rooms_per_connection;
            // A client that asks by itself knows better where it is.
            let is_known = self.rooms.find(&name).is_some_and(|index| self.is_in(conn, index));
            if is_known || Hub::room_count(conn) >= most || self.may(id, Intent::Subscribe, &name).is_err() {
                continue;
            }
            // Where nothing is remembered, or nothing is known of the client, the position of no room says that it has missed some.
            let wish = Wish { recover: Some(position.unwrap_or_default()), newest: 0 };
            self.subscribe(now, id, &name, Some(Reply::default()), wish);
        }
    }

    /// A connection has entered a room, and has all messages up to this position.
    pub(super) fn remember_place(&mut self, id: ConnId, index: usize, position: Position) {
        let Some(Room { name, memory, .. }) = self.rooms.get(index) else { return };
        let (name, memory) = (name.clone(), *memory);
        let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) else { return };
        // An inbox finds its user without being remembered.
        if memory != Memory::Inbox {
            let position = (memory != Memory::Nothing).then_some(position);
            session.places.retain(|(room, _)| *room != name);
            session.places.push((name, position));
            self.save_session(id, false);
        }
    }

    /// A connection has left a room.
    pub(super) fn forget_place(&mut self, id: ConnId, name: &str) {
        let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) else { return };
        session.places.retain(|(room, _)| **room != *name);
        self.save_session(id, false);
    }

    /// A connection is pinged: if it answers, it has all that its rooms were sent so far.
    pub(super) fn note_ping(&mut self, id: ConnId) {
        let Some(conn) = self.peek(id).filter(|conn| conn.session.is_some()) else { return };
        let rooms = conn.rooms.iter().filter_map(|membership| self.rooms.get(membership.room as usize));
        let places = rooms.map(|room| (room.name.clone(), room.told_position())).collect();
        if let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) {
            session.pinged = Some(places);
        }
    }

    /// A connection has answered its ping.
    pub(super) fn note_pong(&mut self, id: ConnId) {
        let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) else { return };
        for (room, position) in session.pinged.take().into_iter().flatten() {
            if let Some((_, place)) = session.places.iter_mut().find(|(name, _)| *name == room) {
                *place = position;
            }
        }
        self.save_session(id, false);
    }

    /// A connection has ended: its rooms are remembered for as long as its route says.
    pub(super) fn end_session(&mut self, id: ConnId) {
        self.save_session(id, true);
        if let Some(conn) = self.get(id) {
            conn.session = None;
        }
    }

    /// An administrator wants a user gone: all its connections are closed, and their rooms are not restored. A walk over all
    /// connections, but a rare one.
    pub(super) fn disconnect(&mut self, now: Time, user: &str) {
        let is_theirs = |conn: &&Connection| conn.identity.as_ref().is_some_and(|identity| *identity.user == *user);
        let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn).filter(is_theirs).map(|conn| conn.id).collect();
        for id in ids {
            if let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) {
                session.places.clear();
            }
            self.close(now, id, 4003, "disconnected by an administrator");
        }
    }

    fn save_session(&mut self, id: ConnId, over: bool) {
        let Some(restore) = self.restore(id) else { return };
        let Some(session) = self.get(id).and_then(|conn| conn.session.as_ref()) else { return };
        let (token, places) = (session.token.clone(), session.places.clone());
        // While the connection lives, what is remembered outlives the time that it takes to notice that it does not.
        let ttl = if over { restore } else { restore + self.config.heartbeat.timeout };
        self.actions.push_back(HubAction::Ask(Ask::Remember { conn: id, token, places, over, ttl }));
    }

    fn restore(&self, id: ConnId) -> Option<Duration> {
        self.config.routes.get(usize::from(self.peek(id)?.route))?.restore
    }
}
