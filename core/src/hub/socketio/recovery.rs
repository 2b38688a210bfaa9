//! Connection state recovery: a client of Socket.IO that was away goes on where it was, on any node, or is told that it cannot.
//!
//! Three things make it exact. With each event the client is given an offset, which says where it stands in all of its rooms. The store
//! remembers the rooms of each connection under a secret of the client's, its `pid`. And a client that comes back with both is told
//! that it has recovered only when it is proven of each room that all is there which follows.
//!
//! ```text
//! CONNECT with a pid ──▶ rooms are looked up ──▶ each is proven ──▶ CONNECT with the same pid, what was missed follows
//!                              └── no such pid, a gap, no answer ──▶ CONNECT with another pid: it begins anew
//! ```

use core::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::offset::{self, MOST_ROOMS, Mark};
use crate::door::{Ask, ReadId, Unavailable};
use crate::frame::{Frame, Texts};
use crate::hub::access::Decision;
use crate::hub::access::Intent;
use crate::hub::credentials::Hidden;
use crate::hub::room::{Memory, Reply, Wish};
use crate::hub::session::{Session, key_of};
use crate::hub::wire::OpenEvent;
use crate::hub::{Hub, HubAction};
use crate::id::ConnId;
use crate::message::RoomName;
use crate::position::Position;
use crate::store::{Page, Places, Query};
use crate::time::Time;

/// What was sent of an inbox counts as delivered with the next pong, which is not waited for longer than this.
const PROMPT: Duration = Duration::from_secs(1);
/// Messages of an inbox that are looked at: as many as one holds where nothing else is configured.
const INBOX: usize = 1_000;

/// What is needed to recover a connection of Socket.IO.
#[derive(Debug)]
pub(in super::super) struct Recovery {
    pid: Hidden,
    /// How far it has been sent its rooms, as far as they remember.
    sent: Vec<(RoomName, Mark, Position)>,
    /// The client's wish to recover, until that is decided.
    wanted: Option<Box<Wanted>>,
}

#[derive(Debug)]
struct Wanted {
    /// Where the client says that it stands.
    offset: Vec<(Mark, Position)>,
    /// What it said when it connected.
    auth: Option<Hidden>,
    /// Where it goes on, once that is known.
    places: Vec<(RoomName, Position)>,
    /// Rooms that are yet to be proven.
    unproven: usize,
}

impl Recovery {
    /// The events for one client, each with its offset.
    pub(in super::super) fn frame(&mut self, room: &str, events: &[OpenEvent]) -> Frame {
        let mut texts = Texts::with_capacity(events.iter().map(|event| event.text.len() + self.sent.len() * 24 + 8));
        let mut text = Vec::new();
        for OpenEvent { text: event, position } in events {
            if let (Some(position), Some((.., sent))) = (position, self.sent.iter_mut().find(|(name, ..)| **name == *room)) {
                *sent = *position;
            }
            text.clear();
            text.extend_from_slice(event);
            text.extend_from_slice(b",\"");
            text.extend_from_slice(self.offset().as_bytes());
            text.extend_from_slice(b"\"]");
            texts.put(&text);
        }
        texts.finish()
    }

    /// It has entered a room, and has all of it up to this position.
    pub(in super::super) fn enter(&mut self, room: &RoomName, position: Position) {
        self.leave(room);
        self.sent.push((room.clone(), offset::mark(room), position));
    }

    pub(in super::super) fn leave(&mut self, room: &str) {
        self.sent.retain(|(name, ..)| **name != *room);
    }

    /// How far it has been sent its rooms.
    pub(in super::super) fn sent(&self) -> Places {
        self.sent.iter().map(|(room, _, position)| (room.clone(), Some(*position))).collect()
    }

    /// Whether offsets can name all of its rooms.
    pub(in super::super) fn is_possible(&self) -> bool {
        let is_first = |(at, (_, mark, _)): (usize, &(RoomName, Mark, Position))| {
            !self.sent.iter().take(at).any(|(_, other, _)| other == mark)
        };
        self.sent.len() <= MOST_ROOMS && self.sent.iter().enumerate().all(is_first)
    }

    /// Where its client stands, as it is told with each event.
    pub(super) fn offset(&self) -> String {
        offset::write(self.sent.iter().take(MOST_ROOMS).map(|(_, mark, position)| (*mark, *position)))
    }
}

impl Hub {
    /// A connection can be recovered: it is given a secret, or it has come with one, and is let in when that is decided.
    pub(super) fn begin_recovery(&mut self, now: Time, id: ConnId, auth: Option<&str>) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Known {
            pid: Option<String>,
            offset: Option<String>,
        }
        let Known { pid, offset } = auth.and_then(|auth| serde_json::from_str(auth).ok()).unwrap_or_default();
        let Some(pid) = pid else { return self.begin_anew(now, id, auth) };
        let offset = match offset {
            None => Vec::new(),
            Some(text) => match offset::read(&text) {
                Some(offset) if !offset.is_empty() => offset,
                _ => return self.begin_anew(now, id, auth),
            },
        };
        let auth = auth.map(|auth| Hidden(auth.into()));
        let wanted = Wanted { offset, auth, places: Vec::new(), unproven: 0 };
        let key = self.recovery_key(id, &pid);
        let deadline = now + self.config.limits.join_timeout;
        let Some(conn) = self.get(id) else { return };
        conn.deadline = deadline;
        let recovery = Recovery { pid: Hidden(pid.into()), sent: Vec::new(), wanted: Some(Box::new(wanted)) };
        conn.session = Some(Box::new(Session::recovering(key.clone(), recovery)));
        self.actions.push_back(HubAction::Ask(Ask::Restore { conn: id, token: key }));
        self.arm(now, id);
    }

    /// The rooms of a connection that is to be recovered are known: now each is proven.
    pub(in super::super) fn recover(&mut self, now: Time, id: ConnId, places: Places) {
        let Some(wanted) = self.wanted(id) else { return };
        let offset = core::mem::take(&mut wanted.offset);
        let Some(places) = self.standing(id, &offset, places) else { return self.give_up_recovery(now, id) };
        let reads: Vec<(RoomName, Query, usize)> = places
            .iter()
            .map(|(room, position)| match Memory::of(&self.config, room) {
                Memory::Inbox => (room.clone(), Query::Oldest, INBOX),
                _ => (room.clone(), Query::After(*position), 1),
            })
            .collect();
        let Some(wanted) = self.wanted(id) else { return };
        (wanted.unproven, wanted.places) = (reads.len(), places);
        for (room, query, count) in reads {
            self.reads_made += 1;
            let read = ReadId(self.reads_made);
            self.proofs.insert(read, (id, room.clone()));
            self.actions.push_back(HubAction::Ask(Ask::Read { read, room, query, count }));
        }
    }

    /// Where a client stands in its rooms, by what the store remembers and what it says itself; nothing where it cannot go on in all
    /// of them.
    fn standing(&self, id: ConnId, offset: &[(Mark, Position)], places: Places) -> Option<Vec<(RoomName, Position)>> {
        let mut standing = Vec::new();
        for (room, position) in places {
            let known = position.filter(|_| Memory::of(&self.config, &room) != Memory::Nothing)?;
            // Where the host decides, the client asks again.
            self.may(id, Intent::Subscribe, &room).ok().filter(|decision| *decision == Decision::Allow)?;
            let mark = offset::mark(&room);
            let said = offset.iter().find(|(other, _)| *other == mark).map(|(_, position)| *position);
            // What it has had before it came into the room the last time counts no more.
            let is_stream = Memory::of(&self.config, &room) == Memory::Stream;
            let is_later = |said: &Position| (is_stream || said.epoch == known.epoch) && said.is_after(known);
            let position = said.filter(is_later).unwrap_or(known);
            standing.push((room, position));
        }
        let is_known = |(mark, _): &(Mark, Position)| standing.iter().any(|(room, _)| offset::mark(room) == *mark);
        // A room that it knows and the store does not would be missed.
        (!standing.is_empty() && offset.iter().all(is_known)).then_some(standing)
    }

    /// It is known whether a room has all that follows for a connection that is to be recovered. Whether this read was about that.
    pub(in super::super) fn proven(&mut self, now: Time, read: ReadId, result: &Result<Page, Unavailable>) -> bool {
        let Some((id, room)) = self.proofs.remove(&read) else { return false };
        let is_inbox = Memory::of(&self.config, &room) == Memory::Inbox;
        let Some(wanted) = self.wanted(id) else { return true };
        let position = wanted.places.iter().find(|(name, _)| *name == room).map(|(_, position)| *position);
        let is_whole = match (result, position) {
            (Ok(page), Some(position)) if is_inbox => has_all(page, position),
            (Ok(page), Some(_)) => page.whole,
            _ => false,
        };
        if !is_whole {
            self.give_up_recovery(now, id);
            return true;
        }
        wanted.unproven -= 1;
        if wanted.unproven == 0 {
            self.end_recovery(now, id);
        }
        true
    }

    /// A connection is recovered: it goes on in its rooms.
    fn end_recovery(&mut self, now: Time, id: ConnId) {
        let places = self.wanted(id).map(|wanted| wanted.places.iter().map(|(room, _)| room.clone()).collect::<Vec<_>>());
        // The rules may have changed since it was asked for.
        let may = |room: &RoomName| self.may(id, Intent::Subscribe, room) == Ok(Decision::Allow);
        if !places.is_some_and(|places| places.iter().all(may)) {
            return self.give_up_recovery(now, id);
        }
        let Some(recovery) = self.recovery(id) else { return };
        let Some(wanted) = recovery.wanted.take() else { return };
        wanted.places.iter().for_each(|(room, position)| recovery.enter(room, *position));
        let pid = recovery.pid.clone();
        let places = recovery.sent();
        for (room, upto) in &wanted.places {
            if Memory::of(&self.config, room) == Memory::Inbox {
                // It says itself that it has these. They would stand before all that it is to be sent.
                self.actions.push_back(HubAction::Ask(Ask::Delivered { room: room.clone(), upto: *upto }));
            }
        }
        if let Some(session) = self.get(id).and_then(|conn| conn.session.as_mut()) {
            session.places = places;
        }
        self.welcome(now, id, Some(&pid.0), wanted.auth.as_ref().map(|auth| &*auth.0), true);
        for (room, position) in wanted.places {
            let reply = Reply { quiet: true, ..Reply::default() };
            self.subscribe(now, id, &room, Some(reply), Wish { recover: Some(position), newest: 0 });
        }
    }

    /// A connection is about to enter rooms that it has not asked for: until it is in all of them, it cannot be recovered.
    pub(super) fn expect_rooms(&mut self, id: ConnId, own: Option<&str>) {
        let Some(conn) = self.get(id).filter(|conn| conn.recovers()) else { return };
        let rooms: Places = own.into_iter().chain(conn.bound.as_deref()).map(|room| (room.into(), None)).collect();
        if let Some(session) = &mut conn.session {
            session.places = rooms;
        }
    }

    /// A connection cannot be recovered, or nobody can say so.
    pub(in super::super) fn give_up_recovery(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.get(id) {
            conn.deadline = Time::NEVER;
        }
        let Some(wanted) = self.recovery(id).and_then(|recovery| recovery.wanted.take()) else { return };
        self.begin_anew(now, id, wanted.auth.as_ref().map(|auth| &*auth.0));
    }

    /// A connection begins, to be recovered later.
    fn begin_anew(&mut self, now: Time, id: ConnId, auth: Option<&str>) {
        let pid: Box<str> = self.random_name().into();
        let key = self.recovery_key(id, &pid);
        let recovery = Recovery { pid: Hidden(pid.clone()), sent: Vec::new(), wanted: None };
        if let Some(conn) = self.get(id) {
            conn.session = Some(Box::new(Session::recovering(key, recovery)));
        }
        self.welcome(now, id, Some(&pid), auth, false);
    }

    /// Under what the rooms of a connection are remembered. Whoever comes back must be the same user, in the same namespace.
    fn recovery_key(&self, id: ConnId, pid: &str) -> Box<str> {
        let user = self.peek(id).and_then(|conn| conn.identity.as_ref()).map_or("", |identity| &*identity.user);
        let namespace = self.namespace(id).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in ["recovery", pid, user, &namespace] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        key_of(&hash.finalize())
    }

    /// A connection was sent something of an inbox: that it has arrived is soon to be proven.
    pub(in super::super) fn prove_soon(&mut self, now: Time, id: ConnId) {
        let Some(carrier) = self.peek(id).and_then(|conn| conn.carrier()) else { return };
        if let Some(conn) = self.get(carrier).filter(|conn| conn.ping_at != Time::NEVER) {
            conn.ping_at = conn.ping_at.min(now + PROMPT);
            self.arm(now, carrier);
        }
    }

    pub(in super::super) fn recovery(&mut self, id: ConnId) -> Option<&mut Recovery> {
        self.get(id)?.session.as_mut()?.recovery.as_mut()
    }

    fn wanted(&mut self, id: ConnId) -> Option<&mut Wanted> {
        self.recovery(id)?.wanted.as_deref_mut()
    }
}

/// Whether an inbox has all that follows a position: what was delivered to others may be gone from it.
fn has_all(page: &Page, position: Position) -> bool {
    if page.head.epoch != position.epoch {
        return false;
    }
    let same = page.messages.iter().find(|(at, _)| at.offset == position.offset).map(|(at, _)| *at);
    let next = page.messages.iter().map(|(at, _)| *at).find(|at| at.is_after(position));
    match next {
        None => page.head == position,
        Some(next) => {
            let last = page.messages.last().map(|(at, _)| *at);
            let reaches = last == Some(page.head) || page.messages.len() >= INBOX;
            page.whole
                && reaches
                && position.offset.checked_add(1) == Some(next.offset)
                && same.is_none_or(|same| same == position)
        }
    }
}
