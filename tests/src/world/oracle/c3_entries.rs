//! C3: each entry ends in exactly one of: routed and acknowledged, dead-lettered and acknowledged. Never acknowledged before
//! its effect is stored, never pending for ever.

use std::collections::BTreeSet;

use roomcast_core::id::StreamId;

use super::super::batches::Expected;
use super::{SOURCE, World};

pub(super) fn check(world: &World) {
    let pending: BTreeSet<StreamId> = world.memory.pending(SOURCE.0, SOURCE.1).map(|(id, _)| id).collect();
    let delivered = world.memory.last_delivered(SOURCE.0, SOURCE.1);
    for (id, expected) in &world.added {
        let (routed, dead) = outcome(world, *id, expected);
        assert!(!(routed && dead), "C3: entry {id} was both routed and dead-lettered");
        let acked = *id <= delivered && !pending.contains(id);
        assert!(!acked || routed || dead, "C3: entry {id} was acknowledged before its effect was stored");
        assert!(acked || !(routed || dead), "C3: the effect of entry {id} is stored, but it is not acknowledged");
        match expected {
            Expected::Routed(_) => assert!(!dead, "C3: the good entry {id} was dead-lettered"),
            Expected::DeadLettered => assert!(!routed, "C3: the broken entry {id} was routed"),
        }
    }
}

pub(super) fn converged(world: &World) {
    let pending: Vec<_> = world.memory.pending(SOURCE.0, SOURCE.1).collect();
    assert!(pending.is_empty(), "C3: still pending: {pending:?}");
    for (id, expected) in &world.added {
        let (routed, dead) = outcome(world, *id, expected);
        assert!(routed || dead, "C3: nothing has become of entry {id}, {expected:?}");
    }
}

/// Whether an entry's events are all relayed, and whether it is dead-lettered.
fn outcome(world: &World, id: StreamId, expected: &Expected) -> (bool, bool) {
    let routed = match expected {
        Expected::DeadLettered => false,
        Expected::Routed(events) => {
            let relayed = events.iter().filter(|(_, number)| world.oracles.has(*number)).count();
            assert!(relayed == 0 || relayed == events.len(), "C3: entry {id} is routed in part");
            relayed > 0
        }
    };
    (routed, world.oracles.dead.contains(&id))
}
