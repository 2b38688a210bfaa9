//! Joining and leaving rooms.
//!
//! A room that is new to this hub has to be asked for at the backplane first; those who want to get in wait until it is sure
//! that they will miss nothing from then on.

use std::borrow::Cow;

use super::connection::Connection;
use super::petition::Wanted;
use super::room::{Applicant, Membership, Reply, Wish};
use super::{EVERYBODY, Hub, HubAction, Wake};
use crate::dialect::json::{ErrorCode, Topic};
use crate::door::Ask;
use crate::id::ConnId;
use crate::message::{Json, RoomName};
use crate::position::Position;
use crate::time::Time;

impl Hub {
    /// A connection that is allowed to wants to get into a room. `reply` says how to answer, if at all.
    pub(super) fn subscribe(&mut self, now: Time, id: ConnId, name: &str, reply: Option<Reply>, wish: Wish) {
        let until = now + self.config.limits.join_timeout;
        let (index, join) = match self.rooms.find(name) {
            Some(index) => match self.rooms.joining(index) {
                Some(joining) => {
                    joining.waiting.push(Applicant { conn: id, until, reply, wish });
                    (index, joining.number)
                }
                None => return self.let_in(now, id, index, reply, wish),
            },
            None => {
                let room = RoomName::from(name);
                let (index, join) = self.rooms.add(&self.config, room.clone(), Applicant { conn: id, until, reply, wish });
                self.actions.push_back(HubAction::Ask(Ask::Join { room, join }));
                (index, join)
            }
        };
        self.timers.arm(until, Wake::Join(index, join));
        if self.peek(id).is_some() {
            self.rooms.begin_wait(id, index);
        }
    }

    /// A connection that is open enters the room that its path is bound to, or is closed where it is not allowed to.
    pub(super) fn enter_bound(&mut self, now: Time, id: ConnId) {
        let Some(room) = self.get(id).and_then(|conn| conn.bound.take()) else { return };
        let wish = self.wish(&Topic { room: Cow::Borrowed(&room), echo: None, recover: None, history: None });
        self.want(now, id, Wanted::Bound { room, wish });
    }

    /// Those who asked for a room and have waited for too long are told that it cannot be joined. Where the hub itself asked
    /// for a connection, it goes on to wait as long as the connection lives.
    pub(super) fn join_overdue(&mut self, now: Time, index: usize, number: u64) {
        let Some(joining) = self.rooms.joining(index).filter(|joining| joining.number == number) else { return };
        let overdue: Vec<Applicant> = joining.waiting.extract_if(.., |one| one.until <= now).collect();
        let until = now + self.config.limits.join_timeout;
        for Applicant { conn, reply, wish, .. } in overdue {
            if self.peek(conn).is_none_or(Connection::is_closing) {
                continue;
            }
            if reply.as_ref().is_none_or(|reply| reply.quiet) {
                if let Some(joining) = self.rooms.joining(index) {
                    joining.waiting.push(Applicant { conn, until, reply, wish });
                    self.timers.arm(until, Wake::Join(index, number));
                }
                continue;
            }
            self.rooms.end_wait(conn, index);
            let to = reply.and_then(|reply| reply.to);
            self.error(now, conn, ErrorCode::Unavailable, "The room cannot be joined at the moment", to.as_deref());
        }
        self.leave_if_deserted(index);
    }

    /// A connection leaves a room, or stops waiting for it, or for the host to let it in. Whether it was in it makes no difference.
    /// Whoever waits for an answer to a subscription is told that there will be none.
    pub(super) fn unsubscribe(&mut self, now: Time, id: ConnId, name: &str) {
        self.forget_place(id, name);
        let petitions = self.withdraw_petitions(id, name).into_iter().filter_map(Wanted::into_reply);
        let index = self.rooms.find(name);
        let waiting = index.map(|index| self.stop_waiting(id, index)).into_iter().flatten().filter_map(|(reply, _)| reply);
        for to in petitions.chain(waiting).filter_map(|reply| reply.to) {
            self.error(now, id, ErrorCode::Unavailable, "The subscription was withdrawn", Some(&to));
        }
        let Some(index) = index else { return };
        let Some(conn) = self.get(id) else { return };
        let Some(at) = conn.rooms.iter().position(|membership| membership.room as usize == index) else { return };
        let membership = conn.rooms.swap_remove(at);
        self.remove_member(membership);
    }

    /// A connection leaves everything.
    pub(super) fn leave_all(&mut self, id: ConnId) {
        self.end_session(id);
        self.stop_all_reading(id);
        self.end_petitions(id);
        self.rooms.end_waits(id);
        let Some(conn) = self.get(id) else { return };
        // What it waits for forgets it when the answer comes or its time is up: its identifier is dead by then.
        let memberships = core::mem::take(&mut conn.rooms);
        memberships.into_iter().for_each(|membership| self.remove_member(membership));
    }

    /// The backplane sends the messages of a room from now on.
    pub(super) fn joined(&mut self, now: Time, name: &str, number: u64, position: Option<Position>) {
        let Some(index) = self.rooms.find(name) else { return };
        // The answer to an earlier joining says nothing about this one.
        let Some(joining) = self.rooms.joining(index).filter(|joining| joining.number == number) else { return };
        let waiting = core::mem::take(&mut joining.waiting);
        if let Some(room) = self.rooms.get_mut(index) {
            room.joining = None;
            room.position = position.unwrap_or_default();
        }
        for Applicant { conn, reply, wish, .. } in waiting {
            self.rooms.end_wait(conn, index);
            self.let_in(now, conn, index, reply, wish);
        }
        self.leave_if_deserted(index);
    }

    /// Whether a connection is in a room or waits to get into it.
    pub(super) fn is_in(&self, conn: &Connection, index: usize) -> bool {
        self.rooms.waited_for(conn.id).contains(&index) || conn.rooms.iter().any(|membership| membership.room as usize == index)
    }

    /// Rooms a connection is in or waits for.
    pub(super) fn room_count(&self, conn: &Connection) -> usize {
        conn.rooms.len() + self.rooms.waited_for(conn.id).len()
    }

    /// From the first connection on, this hub wants what is sent to everybody.
    pub(super) fn hear_everybody(&mut self) {
        if !self.hears_everybody {
            self.hears_everybody = true;
            let room = RoomName::from(EVERYBODY);
            self.actions.push_back(HubAction::Ask(Ask::Join { room, join: 0 }));
        }
    }

    /// Answers a subscription, or its end. System C's clients want their own field back beside the data.
    pub(super) fn confirm(
        &mut self,
        now: Time,
        id: ConnId,
        kind: &str,
        data: String,
        to: Option<&str>,
        echo: Option<(&'static str, Box<str>)>,
    ) {
        if self.namespace(id).is_some() {
            return self.tell_socket(now, id, kind, Some(&data), to);
        }
        let fields = echo.as_ref().map(|(name, value)| (*name, Json::trusted(value)));
        let unix = self.wall.unix(now);
        let text = self.composer.notice_with(kind, Some(Json::trusted(&data)), to, fields.as_slice(), unix);
        self.push(now, id, crate::frame::Frame::text(&text));
    }

    /// Whether a connection that waits for a room has not been told anything of it yet.
    pub(super) fn knows_nothing_of(&self, id: ConnId, index: usize) -> bool {
        let Some(room) = self.rooms.get(index) else { return true };
        let mut waiting = room.joining.iter().flat_map(|joining| &joining.waiting).filter(|one| one.conn == id);
        let is_quiet = |reply: &Option<Reply>| reply.as_ref().is_some_and(|reply| reply.quiet);
        !waiting.any(|one| is_quiet(&one.reply)) && room.catch_up.as_ref().is_none_or(|catch_up| !catch_up.has_begun(id))
    }

    /// Ends a connection's waiting for a room: how it was to be answered, and what it wished, as often as it has asked.
    pub(super) fn stop_waiting(&mut self, id: ConnId, index: usize) -> Vec<(Option<Reply>, Wish)> {
        let joining = self.rooms.joining(index).into_iter();
        let waiting = joining.flat_map(|joining| joining.waiting.extract_if(.., |one| one.conn == id));
        let mut waiting: Vec<_> = waiting.map(|one| (one.reply, one.wish)).collect();
        waiting.iter().for_each(|_| self.rooms.end_wait(id, index));
        waiting.extend(self.stop_reading(id, index));
        self.leave_if_deserted(index);
        waiting
    }

    /// Takes a member out; the last member takes its place.
    fn remove_member(&mut self, Membership { room: index, at }: Membership) {
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let slot = room.members.swap_remove(at as usize);
        let name = room.name.clone();
        let moved = room.members.get(at as usize).copied();
        self.stats.memberships -= 1;
        if let Some(conn) = moved.and_then(|slot| self.conns.get_mut(slot as usize))
            && let Some(membership) = conn.rooms.iter_mut().find(|membership| membership.room == index)
        {
            membership.at = at;
        }
        self.departed(slot, &name);
        self.leave_if_deserted(index as usize);
    }

    pub(super) fn leave_if_deserted(&mut self, index: usize) {
        if self.rooms.get(index).is_some_and(super::room::Room::is_deserted)
            && let Some(room) = self.rooms.remove(index)
        {
            self.actions.push_back(HubAction::Ask(Ask::Leave { room: room.name }));
        }
    }
}
