//! C3: each entry ends in exactly one of: routed and acknowledged, dead-lettered and acknowledged. Never acknowledged before
//! its effect is stored, never pending for ever.

use std::collections::BTreeSet;

use roomcast_core::id::StreamId;

use super::super::{batches, commands};
use super::{SOURCE, World};

/// What should become of an entry, and what has.
#[derive(Debug)]
struct Fate {
    entry: StreamId,
    good: bool,
    routed: bool,
    dead: bool,
}

pub(super) fn check(world: &World) {
    check_source(world, SOURCE, batches(world));
    check_source(world, commands::SOURCE, commands(world));
}

pub(super) fn converged(world: &World) {
    converged_source(world, SOURCE, batches(world));
    converged_source(world, commands::SOURCE, commands(world));
}

fn check_source(world: &World, (stream, group): (&str, &str), fates: impl Iterator<Item = Fate>) {
    let pending: BTreeSet<StreamId> = world.memory.pending(stream, group).map(|(id, _)| id).collect();
    // While there is no group, nobody can say what is acknowledged.
    let Some(delivered) = world.memory.last_delivered(stream, group) else { return };
    for fate in fates {
        let Fate { entry, good, routed, dead } = fate;
        assert!(!(routed && dead), "C3: {stream}: both routed and dead-lettered: {fate:?}");
        let acked = entry <= delivered && !pending.contains(&entry);
        assert!(!acked || routed || dead, "C3: {stream}: acknowledged before its effect was stored: {fate:?}");
        assert!(
            is_apart(world, stream) || acked || !(routed || dead),
            "C3: {stream}: its effect is stored, but it is not acknowledged: {fate:?}"
        );
        assert!(!(good && dead), "C3: {stream}: a good entry was dead-lettered: {fate:?}");
        assert!(good || !routed, "C3: {stream}: a broken entry was routed: {fate:?}");
    }
}

fn converged_source(world: &World, (stream, group): (&str, &str), mut fates: impl Iterator<Item = Fate>) {
    let pending: Vec<_> = world.memory.pending(stream, group).collect();
    assert!(pending.is_empty(), "C3: {stream}: still pending: {pending:?}");
    let left = fates.find(|fate| !fate.routed && !fate.dead);
    assert!(left.is_none(), "C3: {stream}: nothing has become of {left:?}");
}

/// Whether effects of a source stand elsewhere than its stream. Only in one Redis, and in one slot of a cluster, can they be stored
/// in one step.
fn is_apart(world: &World, stream: &str) -> bool {
    world.config.sources.iter().any(|source| source.stream == stream && (source.redis.is_some() || source.cluster))
}

/// A batch is routed when all its events are relayed.
fn batches(world: &World) -> impl Iterator<Item = Fate> {
    world.added.iter().map(|(id, expected)| match expected {
        batches::Expected::DeadLettered => fate(world, SOURCE.0, *id, false, false),
        batches::Expected::Routed(events) => {
            let relayed = events.iter().filter(|(_, number)| world.oracles.has(*number)).count();
            let is_whole = relayed == 0 || relayed == events.len();
            assert!(is_whole || is_apart(world, SOURCE.0), "C3: entry {id} is routed in part");
            fate(world, SOURCE.0, *id, true, relayed > 0 && is_whole)
        }
    })
}

/// A command is routed when it stands in the stream of its service, byte for byte.
fn commands(world: &World) -> impl Iterator<Item = Fate> {
    world.commands.iter().map(|(id, expected)| match expected {
        commands::Expected::DeadLettered => fate(world, commands::SOURCE.0, *id, false, false),
        commands::Expected::Routed(expected) => {
            let passed = world.oracles.passed.get(&expected.number());
            assert!(passed.is_none_or(|passed| passed == expected), "C3: {expected:?} was passed on as {passed:?}");
            fate(world, commands::SOURCE.0, *id, true, passed.is_some())
        }
    })
}

fn fate(world: &World, source: &'static str, entry: StreamId, good: bool, routed: bool) -> Fate {
    Fate { entry, good, routed, dead: world.oracles.dead.contains(&(source, entry)) }
}
