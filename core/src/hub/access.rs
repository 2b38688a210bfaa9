//! Who may do what in which rooms.

use crate::config::{AccessRule, Who};
use crate::token::Identity;

/// What somebody wants to do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Receive its messages.
    Subscribe,
    /// Send a message to it.
    Publish,
}

/// Whether the rules allow it. The first rule whose pattern fits decides; what no rule covers is refused.
pub fn allows(rules: &[AccessRule], identity: Option<&Identity>, intent: Intent, room: &str) -> bool {
    let Some(rule) = rules.iter().find(|rule| rule.rooms.matches(room)) else { return false };
    let who = match intent {
        Intent::Subscribe => rule.subscribe,
        Intent::Publish => rule.publish,
    };
    match identity {
        Some(identity) => identity.is(who, room),
        None => who == Who::Anyone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pattern::Pattern;

    fn user(name: &str) -> Identity {
        Identity { user: name.into(), role: None, rooms: None, expires: None }
    }

    #[test]
    fn the_default_rules_keep_users_apart() {
        let rules = Config::default().access;
        let seven = user("7");
        for (identity, room, subscribes) in [
            (Some(&seven), "user:7", true),
            (Some(&seven), "user:8", false),
            (Some(&seven), "project:1", true),
            (None, "project:1", false),
            (None, "task:1", true),
            (None, "user:7", false),
        ] {
            assert_eq!(allows(&rules, identity, Intent::Subscribe, room), subscribes, "{identity:?} {room}");
            assert!(!allows(&rules, identity, Intent::Publish, room), "only an administrator publishes by default");
        }
    }

    #[test]
    fn what_no_rule_covers_is_refused_and_the_first_fitting_rule_decides() {
        let rule = |rooms: &str, subscribe| AccessRule { rooms: Pattern::new(rooms), subscribe, publish: Who::Anyone };
        let rules = [rule("a:secret", Who::Admin), rule("a:*", Who::Anyone)];
        assert!(allows(&rules, None, Intent::Subscribe, "a:1"));
        assert!(!allows(&rules, Some(&user("7")), Intent::Subscribe, "a:secret"));
        assert!(!allows(&rules, Some(&user("7")), Intent::Subscribe, "b:1"));
        assert!(allows(&rules, None, Intent::Publish, "a:1"));
    }
}
