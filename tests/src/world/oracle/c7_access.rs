//! C7: nothing of a room reaches a connection while the rules of its node forbid that, nor where they leave it to the host, unless
//! that has said yes.

use roomcast_core::hub::{Decision, Intent, decide};

use super::super::World;
use super::super::tokens::Session;

pub(super) fn check(world: &World) {
    for client in &world.clients {
        let Some(Session { identity, place: (node, boot), since, is_first }) = &client.shown else { continue };
        let host = &world.hosts[*node];
        if host.boot != *boot {
            continue;
        }
        let (user, identity) = (client.user.as_deref(), identity.as_ref());
        for (name, room) in client.rooms().filter(|(_, room)| !room.seen_now().is_empty()) {
            // The room of a user's own is granted by the token itself, and everybody's is no room.
            if name == "*" || user.is_some_and(|user| name.strip_prefix("user:") == Some(user)) {
                continue;
            }
            let mut said = host.rules.iter().rev().map(|(at, rules)| (*at, decide(rules, identity, Intent::Subscribe, name)));
            let Some((last, decision)) = said.next() else { continue };
            let from = said.take_while(|(_, other)| *other == decision).last().map_or(last, |(at, _)| at);
            let is_older = *is_first && from < *since;
            match decision {
                Decision::Allow => {}
                Decision::Ask => {
                    let is_granted = !is_older || world.policy.has_granted(*node, user, name);
                    assert!(is_granted, "C7: {user:?} is sent messages of {name}, and the host has never let it in");
                }
                Decision::Deny => {
                    assert!(!is_older, "C7: {user:?} is sent messages of {name}, which the rules have forbidden before it came");
                    let latest = room.seen_now().iter().rev().take(64);
                    for (number, at) in latest.filter_map(|number| Some((number, world.made_at.get(number)?))) {
                        let end = from.max(*since);
                        assert!(
                            *at <= end,
                            "C7: {user:?} was sent message {number} of {name} of {at:?}, forbidden since {end:?}"
                        );
                    }
                }
            }
        }
    }
}
