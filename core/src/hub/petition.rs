//! What a connection wants in a room, and how the host's code is asked where the rules leave it to that.

use super::access::{Decision, Intent};
use super::connection::Connection;
use super::history::Part;
use super::room::{Reply, Wish};
use super::{Hub, HubAction, Wake};
use crate::dialect::json::ErrorCode;
use crate::id::ConnId;
use crate::message::RoomName;
use crate::table::Table;
use crate::time::Time;

/// A question to the host, of one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PetitionId(pub u64);

/// May this client do that? Answered with [`Hub::decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Petition {
    /// The hub's number for it.
    pub id: PetitionId,
    /// The connection.
    pub conn: ConnId,
    /// Whose it is, where that is known.
    pub user: Option<Box<str>>,
    /// What it wants.
    pub intent: Intent,
    /// The room.
    pub room: RoomName,
    /// By when it must be answered: a later answer is ignored, and none is no.
    pub deadline: Time,
}

/// What a connection wants in a room.
#[derive(Debug)]
pub(super) enum Wanted {
    /// To get in, as a client asks.
    Subscribe { room: Box<str>, reply: Reply, wish: Wish },
    /// To get in again, as is remembered of it.
    Restored { room: Box<str>, wish: Wish },
    /// To get into the room that its path is bound to.
    Bound { room: Box<str>, wish: Wish },
    /// To stay, though its token or the rules have changed.
    Stay { room: RoomName },
    /// To say something.
    Publish { room: Box<str>, kind: Box<str>, data: Box<str>, reply_to: Option<Box<str>> },
    /// To read what was said.
    History { room: Box<str>, part: Part, reply_to: Option<Box<str>> },
    /// To learn who is there.
    Presence { room: Box<str>, reply_to: Option<Box<str>> },
}

/// What the host is asked to decide.
#[derive(Debug)]
pub(super) struct Petitions {
    open: Table<PetitionId, Petitioner>,
    /// Those of each connection that has any.
    of: Table<ConnId, Vec<PetitionId>>,
    made: u64,
}

/// Something that waits for the host.
#[derive(Debug)]
struct Petitioner {
    conn: ConnId,
    wanted: Wanted,
}

impl Petitions {
    pub(super) fn new(key: u64) -> Petitions {
        Petitions { open: Table::new(key), of: Table::new(key), made: 0 }
    }

    fn add(&mut self, conn: ConnId, wanted: Wanted) -> PetitionId {
        self.made += 1;
        let id = PetitionId(self.made);
        self.open.insert(id, Petitioner { conn, wanted });
        match self.of.get_mut(&conn) {
            Some(petitions) => petitions.push(id),
            None => drop(self.of.insert(conn, vec![id])),
        }
        id
    }

    fn take(&mut self, id: PetitionId) -> Option<Petitioner> {
        let petitioner = self.open.remove(&id)?;
        if let Some(petitions) = self.of.get_mut(&petitioner.conn) {
            petitions.retain(|other| *other != id);
            if petitions.is_empty() {
                self.of.remove(&petitioner.conn);
            }
        }
        Some(petitioner)
    }

    fn of(&self, conn: ConnId) -> &[PetitionId] {
        self.of.get(&conn).map_or(&[], Vec::as_slice)
    }

    /// Those of a connection that are of a kind.
    fn find(&self, conn: ConnId, is_it: impl Fn(&Wanted) -> bool) -> Vec<PetitionId> {
        let is_it = |id: &PetitionId| self.open.get(id).is_some_and(|petitioner| is_it(&petitioner.wanted));
        self.of(conn).iter().copied().filter(is_it).collect()
    }
}

impl Wanted {
    /// To get into a room, in the way in which that was granted: `reply` says how to answer, nothing that the path is bound to it.
    pub(super) fn entry(room: Box<str>, reply: Option<Reply>, wish: Wish) -> Wanted {
        match reply {
            None => Wanted::Bound { room, wish },
            Some(reply) if reply.restored => Wanted::Restored { room, wish },
            Some(reply) => Wanted::Subscribe { room, reply, wish },
        }
    }

    /// How a subscription is to be answered.
    pub(super) fn into_reply(self) -> Option<Reply> {
        match self {
            Wanted::Subscribe { reply, .. } => Some(reply),
            _ => None,
        }
    }

    pub(super) fn intent(&self) -> Intent {
        match self {
            Wanted::Subscribe { .. } | Wanted::Restored { .. } => Intent::Subscribe,
            Wanted::Bound { .. } | Wanted::Stay { .. } => Intent::Subscribe,
            Wanted::Publish { .. } => Intent::Publish,
            Wanted::History { .. } => Intent::History,
            Wanted::Presence { .. } => Intent::Presence,
        }
    }

    pub(super) fn room(&self) -> &str {
        match self {
            Wanted::Subscribe { room, .. } | Wanted::Restored { room, .. } | Wanted::Bound { room, .. } => room,
            Wanted::Publish { room, .. } | Wanted::History { room, .. } | Wanted::Presence { room, .. } => room,
            Wanted::Stay { room } => room,
        }
    }
}

impl Hub {
    /// The host has decided. What it has not been asked, or comes too late, is ignored.
    ///
    /// Whoever is let into a room is not asked about again until its token or the rules change.
    pub fn decide(&mut self, now: Time, petition: PetitionId, allowed: bool) {
        self.expire(now);
        let Some(petitioner) = self.petitions.take(petition) else { return };
        self.settle(now, petitioner, if allowed { Ok(()) } else { Err((ErrorCode::Forbidden, "Access denied")) });
    }

    /// The host has had its time.
    pub(super) fn petition_overdue(&mut self, now: Time, petition: PetitionId) {
        let Some(petitioner) = self.petitions.take(petition) else { return };
        self.settle(now, petitioner, Err((ErrorCode::Unavailable, "It cannot be decided at the moment whether this is allowed")));
    }

    /// Asks the host, unless the connection waits for it too often already.
    pub(super) fn petition(&mut self, now: Time, id: ConnId, wanted: Wanted) {
        if self.petitions.of(id).len() >= self.config.limits.decisions_in_flight {
            return self.refuse(now, id, wanted, (ErrorCode::LimitExceeded, "Too many requests wait for a decision"));
        }
        self.ask_host(now, id, wanted);
    }

    /// Asks the host, however often the connection waits for it.
    pub(super) fn ask_host(&mut self, now: Time, id: ConnId, wanted: Wanted) {
        let deadline = now + self.config.limits.decision_timeout;
        let Some(conn) = self.peek(id).filter(|conn| !conn.is_closing()) else { return };
        let user = conn.identity.as_ref().map(|identity| identity.user.clone());
        let (intent, room) = (wanted.intent(), wanted.room().into());
        let petition = self.petitions.add(id, wanted);
        self.timers.arm(deadline, Wake::Petition(petition));
        self.actions.push_back(HubAction::Authorize(Petition { id: petition, conn: id, user, intent, room, deadline }));
    }

    /// Whether the host is being asked if a connection may stay in a room.
    pub(super) fn is_asked_to_stay(&self, id: ConnId, name: &str) -> bool {
        !self.petitions.find(id, |wanted| matches!(wanted, Wanted::Stay { room } if **room == *name)).is_empty()
    }

    /// A connection does not want to be in a room any more: what the host is asked of that is decided by nobody, and takes up no
    /// place among what waits for it.
    pub(super) fn withdraw_petitions(&mut self, id: ConnId, room: &str) -> Vec<Wanted> {
        let found = self.petitions.find(id, |wanted| wanted.intent() == Intent::Subscribe && wanted.room() == room);
        found.into_iter().filter_map(|petition| self.petitions.take(petition)).map(|petitioner| petitioner.wanted).collect()
    }

    /// A connection wants nothing any more.
    pub(super) fn end_petitions(&mut self, id: ConnId) {
        for petition in self.petitions.of.remove(&id).into_iter().flatten() {
            self.petitions.open.remove(&petition);
        }
    }

    fn settle(
        &mut self,
        now: Time,
        Petitioner { conn: id, wanted }: Petitioner,
        decision: Result<(), (ErrorCode, &'static str)>,
    ) {
        if self.peek(id).is_none_or(Connection::is_closing) {
            return;
        }
        // The token may have been renewed meanwhile, or the rules have changed, and leave nothing to decide.
        let decision = match self.may(id, wanted.intent(), wanted.room()) {
            Ok(Decision::Ask) => decision,
            settled => settled.map(drop),
        };
        match decision {
            Ok(()) => self.grant(now, id, wanted),
            Err(error) => self.refuse(now, id, wanted, error),
        }
    }

    /// Does what a connection wants and may.
    pub(super) fn grant(&mut self, now: Time, id: ConnId, wanted: Wanted) {
        match wanted {
            Wanted::Subscribe { room, reply, wish } => match self.place_for_one(id) {
                Ok(()) => self.subscribe(now, id, &room, Some(reply), wish),
                Err((code, message)) => self.error(now, id, code, message, reply.to.as_deref()),
            },
            Wanted::Restored { room, wish } => {
                let reply = Reply { restored: true, ..Reply::default() };
                self.subscribe(now, id, &room, Some(reply), wish);
            }
            Wanted::Bound { room, wish } => self.subscribe(now, id, &room, None, wish),
            Wanted::Stay { .. } => {}
            Wanted::Publish { room, kind, data, reply_to } => self.publish(now, id, &room, (&kind, &data), reply_to),
            Wanted::History { room, part, reply_to } => self.read_history(now, id, &room, part, reply_to),
            Wanted::Presence { room, reply_to } => self.ask_who(now, id, &room, reply_to),
        }
    }

    /// Whether a connection may be in one more room, and wait for it.
    fn place_for_one(&mut self, id: ConnId) -> Result<(), (ErrorCode, &'static str)> {
        let limits = &self.config.limits;
        let Some(conn) = self.peek(id) else { return Ok(()) };
        if self.room_count(conn) >= limits.rooms_per_connection {
            self.stats.limit_rooms += 1;
            return Err((ErrorCode::LimitExceeded, "Too many rooms on this connection"));
        }
        if self.rooms.waited_for(id).len() >= limits.subscriptions_in_flight {
            self.stats.limit_subscriptions += 1;
            return Err((ErrorCode::LimitExceeded, "Too many subscriptions wait for the store"));
        }
        Ok(())
    }

    /// Tells a connection that it may not have what it wants.
    pub(super) fn refuse(&mut self, now: Time, id: ConnId, wanted: Wanted, why: (ErrorCode, &'static str)) {
        let (intent, room) = (wanted.intent(), Box::<str>::from(wanted.room()));
        let reply_to = match wanted {
            Wanted::Subscribe { reply, .. } => reply.to,
            // What the client has not asked for by itself is not refused to it either.
            Wanted::Restored { .. } => return,
            Wanted::Bound { .. } => {
                self.deny(now, id, (intent, &room), why, None);
                return self.close(now, id, 4003, "forbidden");
            }
            Wanted::Stay { room } => {
                self.note_denial(id, intent, &room);
                return self.expel(now, id, &room);
            }
            Wanted::Publish { reply_to, .. } | Wanted::History { reply_to, .. } | Wanted::Presence { reply_to, .. } => reply_to,
        };
        self.deny(now, id, (intent, &room), why, reply_to.as_deref());
        // Who is in already and asks once more may be told by the host that it may not be there.
        if intent == Intent::Subscribe && why.0 == ErrorCode::Forbidden && self.is_member(id, &room) {
            self.expel(now, id, &room);
        }
    }

    /// Whether a connection is in a room, and not by what it is, as in its user's own.
    fn is_member(&self, id: ConnId, room: &str) -> bool {
        let Some((conn, index)) = self.peek(id).zip(self.rooms.find(room)) else { return false };
        conn.rooms.iter().any(|membership| membership.room as usize == index) && self.own_room(id).as_deref() != Some(room)
    }
}
