//! Whom a token speaks for, and what it grants.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::Who;
use crate::pattern::Pattern;
use crate::time::UnixMillis;

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: Box<str>,
    /// What the token grants, where it grants anything in particular. Most tokens grant the same as others.
    pub grants: Option<Arc<Grants>>,
    /// When the token is no longer accepted, leeway included.
    pub expires: Option<UnixMillis>,
    /// When it was issued (`iat`).
    pub issued: Option<UnixMillis>,
    /// Its own name (`jti`), by which it can be revoked.
    pub jti: Option<Box<str>>,
}

/// What a token grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// The `role` claim, and those of `roles`.
    pub roles: Box<[Box<str>]>,
    /// The words of `scope`, and of `scopes` or `scp`.
    pub scopes: Box<[Box<str>]>,
    /// The `rooms` claim: the rooms this token may enter, where it lists any.
    pub rooms: Option<Box<[Pattern]>>,
    /// The values of the claims that rules of access name, with the names.
    pub claims: Box<[(Box<str>, Box<str>)]>,
}

impl Identity {
    /// A user whose token says nothing else, and does not end.
    pub fn of(user: &str) -> Identity {
        Identity { user: user.into(), grants: None, expires: None, issued: None, jti: None }
    }

    /// Whether the identity belongs to a class of clients, for a room. Whether the host grants it, only the host knows.
    ///
    /// An administrator belongs to all classes but nobody. A token that lists `rooms` is one for these rooms alone, and for those
    /// of its user and of everybody.
    pub fn is(&self, who: &Who, room: &str) -> bool {
        match who {
            Who::Nobody => false,
            _ if self.has_role("admin") => true,
            Who::Anyone => true,
            Who::Owner => room.split_once(':').is_some_and(|(_, owner)| owner == &*self.user),
            Who::Listed => self.is_listed(room) == Some(true),
            _ if self.is_for_other_rooms(room) => false,
            Who::Authenticated => true,
            Who::Role(role) => self.has_role(role),
            Who::Scope(scope) => self.has_scope(scope),
            Who::Claim(name, value) => {
                self.grants.as_ref().is_some_and(|grants| grants.claims.iter().any(|(known, has)| known == name && has == value))
            }
            Who::Admin | Who::Host => false,
        }
    }

    /// Whether the token lists rooms, and this is none of them.
    pub(crate) fn is_for_other_rooms(&self, room: &str) -> bool {
        self.is_listed(room) == Some(false)
    }

    /// Whether a room is one of those that the token lists, where it lists any.
    fn is_listed(&self, room: &str) -> Option<bool> {
        let rooms = self.grants.as_ref()?.rooms.as_ref()?;
        Some(rooms.iter().any(|pattern| pattern.matches(room)))
    }

    /// Whether the token has a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.grants.as_ref().is_some_and(|grants| grants.roles.iter().any(|known| **known == *role))
    }

    /// Whether the token has a scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.grants.as_ref().is_some_and(|grants| grants.scopes.iter().any(|known| **known == *scope))
    }
}

impl Grants {
    /// What claims grant, if anything; `named` are the claims that rules name. Nothing where `rooms` cannot be understood, which
    /// would restrict the token.
    pub(super) fn of(claims: &Map<String, Value>, named: &[Box<str>]) -> Option<Option<Grants>> {
        let rooms = match claims.get("rooms") {
            None => None,
            Some(Value::Array(patterns)) => {
                Some(patterns.iter().map(|pattern| pattern.as_str().map(Pattern::new)).collect::<Option<_>>()?)
            }
            Some(_) => return None,
        };
        let listed = |name: &str| claims.get(name).map(names_in).unwrap_or_default();
        let role = claims.get("role").and_then(Value::as_str).map(Box::from);
        let roles = role.into_iter().chain(listed("roles")).collect();
        let words: Vec<Box<str>> = ["scope", "scopes", "scp"].into_iter().flat_map(listed).collect();
        let scopes = words.iter().flat_map(|words| words.split_ascii_whitespace()).map(Box::from).collect();
        let named = named.iter().flat_map(|name| listed(name).into_iter().map(|value| (name.clone(), value)));
        let grants = Grants { roles, scopes, rooms, claims: named.collect() };
        Some((grants != Grants::default()).then_some(grants))
    }
}

/// A text, or a number by its digits.
pub(super) fn name(claim: &Value) -> Option<Box<str>> {
    match claim {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// A name, or the names in a list.
fn names_in(claim: &Value) -> Vec<Box<str>> {
    match claim {
        Value::Array(values) => values.iter().filter_map(name).collect(),
        Value::Bool(is) => vec![is.to_string().into()],
        value => name(value).into_iter().collect(),
    }
}
