//! Sessions: the rooms of clients that do not ask for them again when they come back (route option `restore`).
//!
//! What is remembered is where the client certainly has all messages: a pong proves that everything has arrived that was sent
//! before its ping. A client that comes back is sent what follows, so that it may get some messages twice and misses none; or it
//! is told that it has missed some.

use core::time::Duration;

use sha2::{Digest as _, Sha256};

use super::connection::{Connection, Phase};
use super::petition::Wanted;
use super::room::{Memory, Room, Wish};
use super::socketio::Recovery;
use super::{Hub, HubAction, find};
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
    /// Under which its rooms are remembered: a hash of the token, or of the secret of a Socket.IO client.
    token: Box<str>,
    /// What the client certainly has.
    pub(super) places: Places,
    /// What it has if it answers the last ping.
    pinged: Option<Places>,
    /// How a Socket.IO client can be recovered.
    pub(super) recovery: Option<Recovery>,
}

impl Session {
    /// Of a connection that can be recovered.
    pub(super) fn recovering(token: Box<str>, recovery: Recovery) -> Session {
        Session { token, places: Vec::new(), pinged: None, recovery: Some(recovery) }
    }
}

impl Hub {
    /// A connection has shown a token. Where its route restores, the rooms of the token are restored, or remembered from now on.
    pub(super) fn begin_session(&mut self, id: ConnId, token: &str) {
        let recovers = self.peek(id).is_some_and(Connection::recovers);
        if recovers || self.restore(id).is_none() {
            return;
        }
        let hash = key_of(&Sha256::digest(token));
        let Some(conn) = self.get(id) else { return };
        match &mut conn.session {
            Some(session) => session.token = hash,
            None => {
                conn.session = Some(Box::new(Session { token: hash.clone(), places: Vec::new(), pinged: None, recovery: None }));
                self.actions.push_back(HubAction::Ask(Ask::Restore { conn: id, token: hash }));
            }
        }
    }

    /// The rooms that a token was in are known.
    pub(super) fn restored(&mut self, now: Time, id: ConnId, places: Places) {
        if self.peek(id).is_some_and(Connection::recovers) {
            return self.recover(now, id, places);
        }
        for (name, position) in places {
            let Some(conn) = self.peek(id).filter(|conn| conn.phase == Phase::Open) else { return };
            let most = self.config.limits.rooms_per_connection;
            // A client that asks by itself knows better where it is.
            let is_known = self.rooms.find(&name).is_some_and(|index| self.is_in(conn, index));
            if is_known || self.room_count(conn) >= most {
                continue;
            }
            // Where nothing is remembered, or nothing is known of the client, the position of no room says that it has missed some.
            let wish = Wish { recover: Some(position.unwrap_or_default()), newest: 0 };
            self.want(now, id, Wanted::Restored { room: Box::from(&*name), wish });
        }
    }

    /// A connection has entered a room, and has all messages up to this position.
    pub(super) fn remember_place(&mut self, id: ConnId, index: usize, position: Position) {
        let Some(Room { name, memory, .. }) = self.rooms.get(index) else { return };
        let (name, memory) = (name.clone(), *memory);
        let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) else { return };
        if let Some(recovery) = session.recovery.as_mut().filter(|_| memory != Memory::Nothing) {
            recovery.enter(&name, position);
        }
        // An inbox finds its user without being remembered, but not how far that user's client has come.
        if memory != Memory::Inbox || session.recovery.is_some() {
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
        if let Some(recovery) = &mut session.recovery {
            recovery.leave(name);
        }
        self.save_session(id, false);
    }

    /// A connection is pinged: if it answers, it has all that its rooms were sent so far.
    pub(super) fn note_ping(&mut self, id: ConnId) {
        let Some(conn) = self.peek(id).filter(|conn| conn.session.is_some()) else { return };
        let rooms = conn.rooms.iter().filter_map(|membership| self.rooms.get(membership.room as usize));
        let places = rooms.map(|room| (room.name.clone(), room.told_position())).collect();
        if let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) {
            session.pinged = Some(session.recovery.as_ref().map_or(places, Recovery::sent));
        }
    }

    /// A connection has answered its ping.
    pub(super) fn note_pong(&mut self, id: ConnId) {
        let Hub { conns, actions, config, .. } = self;
        let Some(session) = find(conns, id).and_then(|conn| conn.session.as_mut()) else { return };
        for (room, position) in session.pinged.take().into_iter().flatten() {
            let Some((_, place)) = session.places.iter_mut().find(|(name, _)| *name == room) else { continue };
            let is_new = core::mem::replace(place, position) != position;
            let is_inbox = session.recovery.is_some() && Memory::of(config, &room) == Memory::Inbox;
            if let Some(upto) = position.filter(|_| is_new && is_inbox) {
                actions.push_back(HubAction::Ask(Ask::Delivered { room, upto }));
            }
        }
        self.save_session(id, false);
    }

    /// A connection has ended: its rooms are remembered for as long as its route says.
    pub(super) fn end_session(&mut self, id: ConnId) {
        // Of a connection that can be recovered, what is remembered holds good: its client may be back already.
        if !self.peek(id).is_some_and(Connection::recovers) {
            self.save_session(id, true);
        }
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
            self.forget_places(id);
            self.close(now, id, 4003, "disconnected by an administrator");
        }
    }

    /// The client of a connection is not to find its rooms again.
    pub(super) fn forget_places(&mut self, id: ConnId) {
        let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) else { return };
        session.places.clear();
        self.save_session(id, false);
    }

    fn save_session(&mut self, id: ConnId, over: bool) {
        let Some(restore) = self.restore(id) else { return };
        let Some(session) = self.peek(id).and_then(|conn| conn.session.as_ref()) else { return };
        let (token, mut places) = (session.token.clone(), session.places.clone());
        let (recovery, carried) = (session.recovery.as_ref(), self.peek(id).is_some_and(|conn| conn.carrier().is_some()));
        if recovery.is_some_and(|recovery| !recovery.is_possible()) {
            places.iter_mut().for_each(|(_, position)| *position = None);
        }
        let socketio = &self.config.socketio;
        let silence = if carried { socketio.ping_interval + socketio.ping_timeout } else { self.config.heartbeat.timeout };
        // While the connection lives, what is remembered outlives the time that it takes to notice that it does not.
        let ttl = if over { restore } else { restore + silence };
        self.actions.push_back(HubAction::Ask(Ask::Remember { conn: id, token, places, over, ttl }));
    }

    fn restore(&self, id: ConnId) -> Option<Duration> {
        let route = self.route(id)?;
        if self.peek(id)?.recovers() { route.recovery } else { route.restore }
    }
}

/// Under what the store remembers the rooms of a connection: the beginning of a hash of a secret.
pub(super) fn key_of(hash: &[u8]) -> Box<str> {
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
