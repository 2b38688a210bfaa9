//! C6: what is sent to a user reaches a connection of that user, or waits for one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::World;

pub(super) fn converged(world: &World) {
    for (room, truth) in &world.oracles.rooms {
        let Some(user) = room.strip_prefix("user:") else { continue };
        let own = world.clients.iter().filter(|client| client.user.as_deref() == Some(user));
        let seen: BTreeSet<u64> = own.flat_map(|client| client.seen(room)).copied().collect();
        let waiting: BTreeSet<u64> = world.memory.remembered(room).map(|(_, payload)| number(payload)).collect();
        let missing: Vec<&u64> = truth
            .iter()
            .filter(|number| !(seen.contains(number) || waiting.contains(number) || world.sessions.lost.contains(number)))
            .collect();
        assert!(missing.is_empty(), "C6: {missing:?} for {user} have reached nobody, and do not wait");
        let there = world.clients.iter().any(|client| {
            // Who has left the room of its own accord waits for nothing.
            let has_left = client.room(room).is_some_and(|room| !room.is_untouched() && room.member_since.is_none());
            let is_open = client.is_there() && client.close_code.is_none();
            client.user.as_deref() == Some(user) && is_open && !has_left
        });
        // A node that dies right after it has written leaves what it could not report as delivered.
        let unseen: Vec<&u64> = waiting.difference(&seen).collect();
        assert!(!there || unseen.is_empty(), "C6: {unseen:?} wait for {user}, who is there");
    }
}

fn number(payload: &[u8]) -> u64 {
    let envelope: Value = serde_json::from_slice(payload).expect("envelopes are JSON");
    envelope["data"]["n"].as_u64().expect("every message of the World has a number")
}
