//! C7: nothing that is published after a token has ended, or was revoked, reaches a connection that has shown it.

use super::super::World;

pub(super) fn check(world: &World) {
    for client in &world.clients {
        let Some(end) = client.good_until else { continue };
        for (name, room) in client.rooms() {
            // Numbers rise, so the last ones are the latest.
            let latest = room.seen.iter().rev().take(64).filter_map(|number| Some((number, world.made_at.get(number)?)));
            for (number, at) in latest {
                let user = &client.user;
                assert!(*at < end, "C7: {user:?} was sent message {number} of {name}, published at {at:?}, after {end:?}");
            }
        }
    }
}
