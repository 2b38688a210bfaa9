//! C7: nothing that is published after a token has ended, or was revoked, reaches a connection that has shown it.

use super::super::World;

pub(super) fn check(world: &World) {
    for client in &world.clients {
        let Some(end) = client.shown.as_ref().and_then(|session| world.end_of(session)) else { continue };
        for (name, room) in client.rooms() {
            // Numbers rise, so the last ones are the latest.
            let latest = room.seen_now().iter().rev().take(64).filter_map(|number| Some((number, world.made_at.get(number)?)));
            for (number, at) in latest {
                let user = &client.user;
                assert!(*at < end, "C7: {user:?} was sent message {number} of {name}, published at {at:?}, after {end:?}");
            }
        }
    }
}

/// What the store knows to be revoked is connected nowhere.
pub(super) fn converged(world: &World) {
    for client in world.clients.iter().filter(|client| client.is_there() && client.close_code.is_none()) {
        let identity = client.shown.as_ref().and_then(|session| session.identity.as_ref());
        let is_revoked = identity.is_some_and(|identity| world.memory.revoked().has(identity));
        assert!(!is_revoked, "C7: {identity:?} is connected, and is revoked");
    }
}
