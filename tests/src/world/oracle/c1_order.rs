//! C1: within a room every connection sees messages in one order, each at most once. And more than that holds: a member sees
//! every message from its confirmation on, without a gap, as long as its connection lives.

use roomcast_core::config::Slow;

use super::super::World;

pub(super) fn check(world: &World) {
    for client in &world.clients {
        for (name, room) in client.rooms().filter(|(name, _)| !world.config.is_local(name)) {
            let Some((length_then, seen_then)) = room.member_since else { continue };
            let (truth, length_then) = world.oracles.truth(&world.config, name, client.user.as_deref(), length_then);
            let seen = world.comparable(name, &room.seen[seen_then..]);
            let Some(first) = seen.first() else { continue };
            let start = truth.iter().position(|number| number == first);
            let start = start.unwrap_or_else(|| panic!("C1: {name}: message {first} is in no relay log"));
            let drops = world.config.rule(name).is_some_and(|rule| rule.slow != Slow::Disconnect);
            if drops || name.starts_with("user:") {
                // Slow readers are not sent all; and of what was sent before, only what nobody else has had is left.
                let places: Vec<_> = seen.iter().map(|number| truth.iter().position(|other| other == number)).collect();
                assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "C1: {name}: {:?} saw {seen:?}", client.user);
                continue;
            }
            assert!(
                start <= length_then,
                "C1: {name}: {:?} was a member when the log had {length_then} messages, and first saw number {start}",
                client.user
            );
            assert_eq!(
                Some(&seen[..]),
                truth.get(start..start + seen.len()),
                "C1: {name}: {:?} saw another order, a repetition or a gap",
                client.user
            );
        }
    }
}
