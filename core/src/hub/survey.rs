//! What a hub answers to those who ask all of them.

use std::collections::BTreeSet;

use super::connection::Connection;
use super::{Hub, HubAction};
use crate::door::Ask;
use crate::message::RoomName;
use crate::survey::{ConnectionEntry, MOST, Question, RoomEntry, Survey};
use crate::time::Time;

impl Hub {
    /// Somebody asks. All connections or rooms are looked at, which takes its time, and is seldom.
    pub(super) fn survey(&mut self, now: Time, number: u64, question: &Question) {
        let survey = match question {
            Question::Connections { user, after, limit } => {
                let node: Box<str> = self.config.node.as_str().into();
                let of_user = |conn: &&Connection| {
                    let identity = conn.identity.as_ref();
                    user.is_none() || identity.is_some_and(|identity| Some(&*identity.user) == user.as_deref())
                };
                let clients = self.conns.iter().map(|(_, conn)| conn).filter(|conn| conn.is_client());
                let open = clients.filter(|conn| !conn.is_closing()).filter(of_user);
                let is_behind = |id: u64| after.as_ref().is_none_or(|(other, number)| (&*node, id) > (&**other, *number));
                let (mut total, mut first) = (0, BTreeSet::new());
                for conn in open {
                    total += 1;
                    let id = conn.id.as_u64();
                    if is_behind(id) {
                        keep(&mut first, *limit, (id, conn.id.slot()));
                    }
                }
                let entry = |(id, slot): (u64, usize)| {
                    let conn = self.conns.get(slot)?;
                    let path = self.config.routes.get(usize::from(conn.route)).map_or("", |route| &route.path);
                    let user_id = conn.identity.as_ref().map(|identity| identity.user.clone());
                    Some(ConnectionEntry { node: node.clone(), id, user_id, path: path.into(), rooms: conn.rooms.len() })
                };
                Survey::Connections { total, connections: first.into_iter().filter_map(entry).collect() }
            }
            Question::Rooms { prefix, exact, after, limit } => {
                let fits = |name: &str| if *exact { *name == **prefix } else { name.starts_with(&**prefix) };
                let mut first = BTreeSet::new();
                for room in self.rooms.iter().filter(|room| !room.members.is_empty() && fits(&room.name)) {
                    if after.as_ref().is_none_or(|after| *room.name > **after) {
                        keep(&mut first, *limit, (room.name.clone(), room.members.len()));
                    }
                }
                let entry = |(room, members): (RoomName, usize)| RoomEntry { room: Box::from(&*room), members: members as u64 };
                Survey::Rooms { rooms: first.into_iter().map(entry).collect() }
            }
            Question::Revoke(revocation) => return self.revoke(now, number, revocation),
            Question::Acks { room, event, args, .. } => {
                return self.gather_acks(now, number, room, (event, args), question.takes());
            }
        };
        self.actions.push_back(HubAction::Ask(Ask::Surveyed { number, survey }));
    }
}

/// Keeps the first ones, so many at the most.
fn keep<T: Ord>(first: &mut BTreeSet<T>, limit: usize, one: T) {
    first.insert(one);
    if first.len() > limit.min(MOST) {
        first.pop_last();
    }
}
