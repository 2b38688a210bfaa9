//! Who is in which room, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Memory, full};
use crate::message::RoomName;
use crate::store::presence::{CONDEMNED, MOST_DEAD};
use crate::store::{Change, Here, PresenceAnswer, PresenceOp, Relayed, Stamp, StoreError};
use crate::time::Time;

/// The nodes, what each has, and what this comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    /// Until when each node lives.
    nodes: BTreeMap<Arc<str>, Time>,
    held: BTreeMap<(u16, Arc<str>), Held>,
    rooms: BTreeMap<RoomName, BTreeMap<Arc<str>, u64>>,
}

/// What a node has in the rooms of a partition.
#[derive(Clone, Debug, Default)]
struct Held {
    /// The number of its last operation.
    last: Option<u64>,
    /// Once it is condemned: until when this is remembered.
    condemned: Option<Time>,
    users: BTreeMap<(RoomName, Arc<str>), u32>,
}

impl Memory {
    /// The users in a room, with their connections on all nodes.
    pub fn here(&self, room: &str) -> impl Iterator<Item = (&str, u64)> {
        let users = self.presence.rooms.get(room).into_iter().flatten();
        users.map(|(user, connections)| (&**user, *connections))
    }

    /// The nodes that are known, alive or dead.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.presence.nodes.keys().map(|node| &**node)
    }

    pub(super) fn work_on_presence(&mut self, now: Time, op: &PresenceOp) -> Result<PresenceAnswer, StoreError> {
        let takes_memory = match op {
            PresenceOp::Beat { .. } | PresenceOp::Set { .. } | PresenceOp::Condemn { .. } => true,
            PresenceOp::Forget { .. } | PresenceOp::Who { .. } => false,
        };
        if takes_memory && self.is_full {
            return Err(full());
        }
        Ok(match op {
            PresenceOp::Beat { node, new, lasts } => {
                let Presence { nodes, .. } = &mut self.presence;
                let alive = *new || nodes.get(node).is_some_and(|until| *until > now);
                nodes.insert(node.clone(), if alive { now + *lasts } else { Time::ZERO });
                let dead = nodes.iter().filter(|(_, until)| **until <= now).map(|(node, _)| node.clone());
                PresenceAnswer::Beat { alive, dead: dead.take(MOST_DEAD).collect() }
            }
            PresenceOp::Set { partition, node, number, changes } => {
                PresenceAnswer::Taken(self.set_presence(now, *partition, node, *number, changes))
            }
            PresenceOp::Condemn { partition, node, count } => {
                let held = &mut self.presence.held;
                held.retain(|_, held| held.condemned.is_none_or(|until| until > now));
                let held = held.entry((*partition, node.clone())).or_default();
                let left: Vec<(RoomName, Arc<str>)> = held.users.keys().take(*count).cloned().collect();
                held.condemned = Some(if left.is_empty() { now + CONDEMNED } else { Time::NEVER });
                PresenceAnswer::Left(left)
            }
            PresenceOp::Forget { node } => {
                self.presence.nodes.remove(node);
                PresenceAnswer::Done
            }
            PresenceOp::Who { room, most, .. } => {
                let users = self.presence.rooms.get(room);
                PresenceAnswer::Here(Here {
                    users: users.into_iter().flat_map(|users| users.keys().take(*most)).map(|user| (**user).into()).collect(),
                    truncated: users.is_some_and(|users| users.len() > *most),
                    connections: users.map_or(0, |users| users.values().sum()),
                })
            }
        })
    }

    fn set_presence(&mut self, now: Time, partition: u16, node: &Arc<str>, number: Option<u64>, changes: &[Change]) -> bool {
        let Presence { held, rooms, .. } = &mut self.presence;
        let held = held.entry((partition, node.clone())).or_default();
        if let Some(number) = number {
            if held.condemned.is_some_and(|until| until > now) || held.last.is_some_and(|last| number <= last) {
                return false;
            }
            held.last = Some(number);
        }
        let mut events = Vec::new();
        for Change { room, user, connections, event } in changes {
            let key = (room.clone(), user.clone());
            let had = match *connections {
                0 => held.users.remove(&key),
                some => held.users.insert(key, some),
            };
            let users = rooms.entry(room.clone()).or_default();
            let before = users.get(user).copied().unwrap_or_default();
            let after = before.saturating_sub(had.unwrap_or_default().into()) + u64::from(*connections);
            match after {
                0 => users.remove(user),
                some => users.insert(user.clone(), some),
            };
            if users.is_empty() {
                rooms.remove(room);
            }
            if (before == 0) != (after == 0) {
                let stamp = Stamp::Others(Bytes::copy_from_slice(user.as_bytes()));
                events.push(Relayed { room: Bytes::copy_from_slice(room.as_bytes()), stamp, payload: event.clone() });
            }
        }
        if !events.is_empty() {
            self.append_relay(now, partition, events);
        }
        true
    }
}
