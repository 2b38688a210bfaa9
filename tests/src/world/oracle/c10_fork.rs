//! C10: after a fail-over that lost writes, no client is told it is up to date when it is not. That nobody goes on as if nothing had
//! happened is checked with every frame; what is left is that everybody is told.

use super::super::World;

pub(super) fn converged(world: &World) {
    for client in &world.clients {
        let is_there = client.is_there() && client.close_code.is_none();
        assert!(!is_there || !client.is_misled(), "C10: {:?} was never told that it has lost messages", client.user);
    }
}
