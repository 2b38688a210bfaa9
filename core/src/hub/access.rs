//! Who may do what in which rooms: the rules, and what becomes of it when they or a token change.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::petition::Wanted;
use super::{EVERYBODY, Hub};
use crate::config::{AccessRule, Who};
use crate::dialect::json::{ErrorCode, Object};
use crate::id::ConnId;
use crate::time::Time;
use crate::token::Identity;

/// What somebody wants to do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Receive its messages.
    Subscribe,
    /// Send a message to it.
    Publish,
    /// Read what was said in it.
    History,
    /// Learn who is in it.
    Presence,
}

impl Intent {
    /// What it is called in logs.
    pub fn name(self) -> &'static str {
        match self {
            Intent::Subscribe => "subscribe",
            Intent::Publish => "publish",
            Intent::History => "history",
            Intent::Presence => "presence",
        }
    }
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is allowed.
    Allow,
    /// It is not.
    Deny,
    /// The host's code decides.
    Ask,
}

/// What the rules say of somebody who wants something in a room. The first rule whose pattern fits decides; what no rule covers is
/// refused.
pub fn decide(rules: &[AccessRule], identity: Option<&Identity>, intent: Intent, room: &str) -> Decision {
    let Some(rule) = rules.iter().find(|rule| rule.rooms.matches(room)) else { return Decision::Deny };
    let allowed = match intent {
        Intent::Subscribe => &rule.subscribe,
        Intent::Publish => &rule.publish,
        Intent::History => rule.history.as_ref().unwrap_or(&rule.subscribe),
        Intent::Presence => rule.presence.as_ref().unwrap_or(&rule.subscribe),
    };
    let is_one = |who: &Who| identity.map_or(*who == Who::Anyone, |identity| identity.is(who, room));
    if allowed.iter().any(is_one) {
        Decision::Allow
    } else if allowed.contains(&Who::Host) && identity.is_none_or(|identity| !identity.is_for_other_rooms(room)) {
        Decision::Ask
    } else {
        Decision::Deny
    }
}

impl Hub {
    /// Decides by these rules from now on, for what is wanted and for the rooms that connections are in already: what is not
    /// allowed any more is left. A walk over all connections.
    ///
    /// Of claims that no earlier rule has named nothing is known until a token is renewed.
    pub fn set_access(&mut self, now: Time, rules: Vec<AccessRule>) {
        self.expire(now);
        if rules == self.config.access {
            return;
        }
        Arc::make_mut(&mut self.config).access = rules;
        self.verifier.set_claims(&self.config);
        let clients = self.conns.iter().map(|(_, conn)| conn).filter(|conn| conn.is_client());
        let ids: Vec<ConnId> = clients.map(|conn| conn.id).collect();
        ids.into_iter().for_each(|id| self.leave_forbidden(now, id));
    }

    /// Whether a connection may do something in a room, or the host has to say; and the error if not.
    pub(super) fn may(&self, id: ConnId, intent: Intent, room: &str) -> Result<Decision, (ErrorCode, &'static str)> {
        if !self.config.limits.allows_room_name(room) {
            return Err((ErrorCode::InvalidMessage, "The room name is empty, too long or has control characters"));
        }
        if room == EVERYBODY && intent == Intent::Subscribe {
            return Err((ErrorCode::InvalidMessage, "Everybody is in this room already"));
        }
        let identity = self.peek(id).and_then(|conn| conn.identity.as_deref());
        match decide(&self.config.access, identity, intent, room) {
            Decision::Deny => Err((ErrorCode::Forbidden, "Access denied")),
            decision => Ok(decision),
        }
    }

    /// Does what a connection wants, if it may.
    pub(super) fn want(&mut self, now: Time, id: ConnId, wanted: Wanted) {
        match self.may(id, wanted.intent(), wanted.room()) {
            Ok(Decision::Ask) => self.petition(now, id, wanted),
            Ok(_) => self.grant(now, id, wanted),
            Err(error) => self.refuse(now, id, wanted, error),
        }
    }

    /// A renewed token, or new rules, may allow less: what is not allowed any more is left, and the host is asked again where it
    /// decides. Whoever is in a room stays until the host has said no. Whoever only waits for one, and has been told nothing of it
    /// yet, is judged as if it asked now: it is sent nothing before the host has said yes.
    pub(super) fn leave_forbidden(&mut self, now: Time, id: ConnId) {
        for wanted in self.at_risk(id) {
            match self.may(id, wanted.intent(), wanted.room()) {
                // What was allowed once is not refused because there is much of it.
                Ok(Decision::Ask) => self.ask_host(now, id, wanted),
                Ok(_) => self.grant(now, id, wanted),
                Err(error) => self.refuse(now, id, wanted, error),
            }
        }
    }

    /// What a connection has of rooms, and may not have without being asked. Its user's own room is granted by the identity itself.
    fn at_risk(&mut self, id: ConnId) -> Vec<Wanted> {
        let Some(conn) = self.peek(id) else { return Vec::new() };
        let own = self.own_room(id);
        let joined = conn.rooms.iter().map(|membership| (membership.room as usize, true));
        let waited_for: BTreeSet<usize> = self.rooms.waited_for(id).iter().copied().collect();
        let rooms: Vec<(usize, bool)> = joined.chain(waited_for.into_iter().map(|index| (index, false))).collect();
        let mut wanted = Vec::new();
        for (index, is_member) in rooms {
            let Some(name) = self.rooms.get(index).map(|room| room.name.clone()) else { continue };
            if own.as_deref() == Some(&*name) || self.may(id, Intent::Subscribe, &name) == Ok(Decision::Allow) {
                continue;
            }
            if !is_member && self.knows_nothing_of(id, index) {
                let waiting = self.stop_waiting(id, index).into_iter();
                wanted.extend(waiting.map(|(reply, wish)| Wanted::entry(Box::from(&*name), reply, wish)));
            } else if !self.is_asked_to_stay(id, &name) {
                // What the host is being asked is not asked again: its answer counts for what holds when it comes.
                wanted.push(Wanted::Stay { room: name });
            }
        }
        wanted
    }

    /// The room of a connection's user, where it has one.
    pub(super) fn own_room(&self, id: ConnId) -> Option<String> {
        self.peek(id)?.identity.as_ref().map(|identity| format!("user:{}", identity.user))
    }

    /// A connection may not stay in a room.
    pub(super) fn expel(&mut self, now: Time, id: ConnId, room: &str) {
        self.unsubscribe(now, id, room);
        let data = Object::new().string("room", room).string("reason", "forbidden").finish();
        self.notice(now, id, "unsubscribed", Some(data), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pattern::Pattern;
    use crate::token::Grants;

    fn allows(rules: &[AccessRule], identity: Option<&Identity>, intent: Intent, room: &str) -> bool {
        decide(rules, identity, intent, room) == Decision::Allow
    }

    #[test]
    fn the_default_rules_keep_users_apart_and_refuse_what_they_do_not_name() {
        let rules = Config::default().access;
        let seven = Identity::of("7");
        for (identity, room, subscribes) in [
            (Some(&seven), "user:7", true),
            (Some(&seven), "user:8", false),
            (Some(&seven), "project:1", true),
            (Some(&seven), "agent:1", true),
            (Some(&seven), "workspace:1", true),
            (Some(&seven), "job:1", true),
            (Some(&seven), "lobby", false),
            (Some(&seven), "projects", false),
            (Some(&seven), "admin:1", false),
            (None, "project:1", false),
            (None, "task:1", true),
            (None, "global", true),
            (None, "user:7", false),
            (None, "lobby", false),
        ] {
            assert_eq!(allows(&rules, identity, Intent::Subscribe, room), subscribes, "{identity:?} {room}");
            for intent in [Intent::History, Intent::Presence] {
                assert_eq!(allows(&rules, identity, intent, room), subscribes, "{identity:?} {room}");
            }
            assert!(!allows(&rules, identity, Intent::Publish, room), "only an administrator publishes by default");
        }
    }

    #[test]
    fn what_no_rule_covers_is_refused_and_the_first_fitting_rule_decides() {
        let rule = |rooms: &str, subscribe| AccessRule::new(rooms, subscribe, Who::Anyone);
        let rules = [rule("a:secret", Who::Admin), rule("a:*", Who::Anyone)];
        let seven = Identity::of("7");
        assert!(allows(&rules, None, Intent::Subscribe, "a:1"));
        assert!(!allows(&rules, Some(&seven), Intent::Subscribe, "a:secret"));
        assert!(!allows(&rules, Some(&seven), Intent::Subscribe, "b:1"));
        assert!(allows(&rules, None, Intent::Publish, "a:1"));
    }

    #[test]
    fn every_class_lets_in_its_own_and_nobody_else() {
        let with = |grants: Grants| Identity { grants: Some(Arc::new(grants)), ..Identity::of("7") };
        let words = |words: &[&str]| words.iter().map(|word| Box::from(*word)).collect::<Box<[Box<str>]>>();
        let plain = Identity::of("7");
        let editor = with(Grants { roles: words(&["editor"]), ..Grants::default() });
        let admin = with(Grants { roles: words(&["admin"]), ..Grants::default() });
        let scoped = with(Grants { scopes: words(&["chat.write"]), ..Grants::default() });
        let tenant = with(Grants { claims: [("tenant".into(), "acme".into())].into(), ..Grants::default() });
        let listed = with(Grants { rooms: Some([Pattern::new("r:*")].into()), ..Grants::default() });
        let elsewhere =
            with(Grants { rooms: Some([Pattern::new("x:*")].into()), roles: words(&["editor"]), ..Grants::default() });
        let (role, scope) = (Who::Role("editor".into()), Who::Scope("chat.write".into()));
        let claim = Who::Claim("tenant".into(), "acme".into());
        use Decision::{Allow, Ask, Deny};
        // In this order: without a token, plain, editor, admin, with a scope, of a tenant, for these rooms, for others.
        for (who, room, expected) in [
            (Who::Nobody, "r:1", [Deny, Deny, Deny, Deny, Deny, Deny, Deny, Deny]),
            (Who::Anyone, "r:1", [Allow, Allow, Allow, Allow, Allow, Allow, Allow, Allow]),
            (Who::Authenticated, "r:1", [Deny, Allow, Allow, Allow, Allow, Allow, Allow, Deny]),
            (Who::Listed, "r:1", [Deny, Deny, Deny, Allow, Deny, Deny, Allow, Deny]),
            (Who::Owner, "r:7", [Deny, Allow, Allow, Allow, Allow, Allow, Allow, Allow]),
            (Who::Owner, "r:77", [Deny, Deny, Deny, Allow, Deny, Deny, Deny, Deny]),
            (role, "r:1", [Deny, Deny, Allow, Allow, Deny, Deny, Deny, Deny]),
            (scope, "r:1", [Deny, Deny, Deny, Allow, Allow, Deny, Deny, Deny]),
            (claim, "r:1", [Deny, Deny, Deny, Allow, Deny, Allow, Deny, Deny]),
            (Who::Host, "r:1", [Ask, Ask, Ask, Allow, Ask, Ask, Ask, Deny]),
            (Who::Admin, "r:1", [Deny, Deny, Deny, Allow, Deny, Deny, Deny, Deny]),
        ] {
            let rules = [AccessRule::new("*", Who::Nobody, who.clone())];
            let clients = [&plain, &editor, &admin, &scoped, &tenant, &listed, &elsewhere].map(Some);
            let decisions: Vec<_> =
                [None].into_iter().chain(clients).map(|one| decide(&rules, one, Intent::Publish, room)).collect();
            assert_eq!(decisions, expected, "{who} in {room}");
        }
    }

    #[test]
    fn each_intent_has_its_own_classes_and_several_classes_add_up() {
        let several = [Who::Owner, Who::Role("agent".into())].into_iter().collect();
        let rule = AccessRule {
            subscribe: several,
            history: Some(Who::Nobody.into()),
            presence: Some(Who::Anyone.into()),
            ..AccessRule::new("support:*", Who::Nobody, Who::Host)
        };
        let rules = [rule];
        let seven = Identity::of("7");
        let agent = Grants { roles: ["agent".into()].into(), ..Grants::default() };
        let agent = Identity { grants: Some(Arc::new(agent)), ..Identity::of("8") };
        for (identity, allowed) in [(Some(&seven), true), (Some(&agent), true), (Some(&Identity::of("9")), false), (None, false)]
        {
            assert_eq!(allows(&rules, identity, Intent::Subscribe, "support:7"), allowed, "{identity:?}");
            assert!(!allows(&rules, identity, Intent::History, "support:7"));
            assert!(allows(&rules, identity, Intent::Presence, "support:7"));
            assert_eq!(decide(&rules, identity, Intent::Publish, "support:7"), Decision::Ask);
        }
    }
}
