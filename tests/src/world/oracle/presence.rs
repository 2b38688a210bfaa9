//! Presence: in a room's log a user joins and leaves in turn. When all is healed, the users in the store are those who are
//! connected, and what the log and each client was told comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::World;

/// What the relay logs said of users, by room and user.
#[derive(Debug, Default)]
pub(in super::super) struct Presence {
    here: BTreeMap<(String, String), bool>,
    /// Who was not told, by the number of the event.
    not_told: BTreeMap<u64, String>,
}

/// Who joined or left a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Event {
    pub(in super::super) user: String,
    pub(in super::super) joined: bool,
    /// Far beyond those of other messages.
    pub(in super::super) number: u64,
}

impl Event {
    /// Whether this is the number of an event, and not of another message.
    pub(super) fn is_number(number: u64) -> bool {
        number >> 63 == 1
    }

    /// The event that an envelope is, if it is one.
    pub(in super::super) fn read(envelope: &Value) -> Option<Event> {
        let joined = match envelope["type"].as_str()? {
            "user_joined" => true,
            "user_left" => false,
            _ => return None,
        };
        let data = &envelope["data"];
        assert_eq!(data["action"], if joined { "joined" } else { "left" });
        assert_eq!(data["room"], envelope["room"]);
        let project = envelope["room"].as_str().and_then(|room| room.strip_prefix("project:"));
        assert_eq!(data["project_id"].as_str(), project);
        let digits = envelope["message_id"].as_str().expect("every message has an identifier").replace('-', "");
        let number = u64::from_str_radix(&digits[..16], 16).expect("it is a UUID") | 1 << 63;
        Some(Event { user: data["user_id"].as_str().expect("it is somebody").to_owned(), joined, number })
    }
}

impl Presence {
    /// An event stands in a relay log, for all but one user.
    pub(super) fn observe(&mut self, room: &str, event: &Event, not_told: &str) {
        let Event { user, joined, number } = event;
        assert_eq!(user, not_told, "presence: {room}: everybody is told of {user} but {not_told}");
        let before = self.here.insert((room.to_owned(), user.clone()), *joined).unwrap_or(false);
        assert_ne!(before, *joined, "presence: {room}: {user} comes or goes twice");
        self.not_told.insert(*number, user.clone());
    }

    /// Everything in the store was deleted.
    pub(super) fn forget(&mut self) {
        self.here.clear();
    }

    /// Whether a user is told of what has this number.
    pub(super) fn is_told(&self, user: Option<&str>, number: u64) -> bool {
        self.not_told.get(&number).is_none_or(|other| Some(other.as_str()) != user)
    }
}

pub(super) fn converged(world: &World) {
    let mut connected: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut rooms: BTreeSet<&str> = world.oracles.presence.here.keys().map(|(room, _)| room.as_str()).collect();
    for client in &world.clients {
        let Some(user) = client.user.as_ref().filter(|_| client.is_there() && client.close_code.is_none()) else {
            continue;
        };
        for (room, view) in client.rooms() {
            if view.member_since.is_some() && world.config.has_presence(room) {
                *connected.entry((room.to_owned(), user.clone())).or_default() += 1;
                rooms.insert(room);
            }
        }
    }
    let here = |room: &str| world.memory.here(room).map(|(user, count)| ((room.into(), user.into()), count)).collect::<Vec<_>>();
    let stored: BTreeMap<(String, String), u64> = rooms.into_iter().flat_map(here).collect();
    assert_eq!(stored, connected, "presence: what the store knows, beside who is connected");

    let told = world.oracles.presence.here.iter().filter(|(_, joined)| **joined).map(|(member, _)| member);
    assert!(told.eq(connected.keys()), "presence: what the log tells, beside who is connected");
    for client in &world.clients {
        for (room, view) in client.rooms().filter(|(_, view)| view.member_since.is_some()) {
            for (user, joined) in view.here() {
                let is_here = connected.contains_key(&(room.to_owned(), user.to_owned()));
                assert_eq!(joined, is_here, "presence: {room}: what {:?} was told last of {user}", client.user);
            }
        }
    }
}
