//! C5: an event consumed by one node of a consumer group reaches the clients of every node.

use super::super::World;

pub(super) fn converged(world: &World) {
    for client in &world.clients {
        if !client.is_there() || client.close_code.is_some() {
            continue;
        }
        for (name, room) in client.rooms().filter(|(name, _)| !world.config.is_local(name)) {
            let Some((length_then, seen_then)) = room.member_since else { continue };
            // What a node missed of an inbox while it was cut off may have been delivered elsewhere, and then is gone: C6 looks.
            if name.starts_with("user:") {
                continue;
            }
            let (truth, length_then) = world.oracles.truth(&world.config, name, client.user.as_deref(), length_then);
            let seen = world.comparable(name, &room.seen[seen_then..]);
            // C1 has checked order and gaps; what is left is that the end has come, too.
            let missing = truth.len() > length_then && seen.last() != truth.last();
            assert!(!missing, "C5: {:?} in {name} saw {seen:?} of {:?}", client.user, &truth[length_then..]);
        }
    }
}
