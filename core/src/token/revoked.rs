//! Tokens that are revoked before their time.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::time::UnixMillis;

/// Revocations that are remembered at the most. Beyond them, those that end first are forgotten.
pub const MOST_REVOCATIONS: usize = 100_000;

/// Tokens that are good no longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revocation {
    /// Which tokens.
    pub subject: Subject,
    /// When they were revoked. Of a user's tokens, those issued later are good: by their `iat`, which counts whole seconds.
    pub at: UnixMillis,
    /// Until when it is remembered.
    pub until: UnixMillis,
}

/// Which tokens are revoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The one of this name (`jti`).
    Token(Box<str>),
    /// All of a user that were issued until then, and all that do not say when.
    User(Box<str>),
}

/// What is revoked.
///
/// ```
/// use roomcast_core::time::UnixMillis;
/// use roomcast_core::token::{Identity, Revocation, Revoked, Subject};
///
/// let mut revoked = Revoked::default();
/// let (at, until) = (UnixMillis(5_000), UnixMillis(9_000));
/// assert!(revoked.add(Revocation { subject: Subject::User("7".into()), at, until }));
/// let issued = |at| Identity { issued: Some(UnixMillis(at)), ..Identity::of("7") };
/// assert!(revoked.has(&issued(5_000)) && !revoked.has(&issued(6_000)));
/// revoked.forget(until);
/// assert!(!revoked.has(&issued(5_000)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked(BTreeMap<Subject, (UnixMillis, UnixMillis)>);

impl Revocation {
    /// A revocation that is remembered for so long.
    pub fn new(subject: Subject, at: UnixMillis, ttl: Duration) -> Revocation {
        Revocation { subject, at, until: at + ttl }
    }
}

impl Revoked {
    /// Adds a revocation. Whether it says anything new.
    pub fn add(&mut self, Revocation { subject, at, until }: Revocation) -> bool {
        let known = self.0.entry(subject).or_default();
        let before = *known;
        *known = (before.0.max(at), before.1.max(until));
        let is_new = *known != before;
        if self.0.len() > MOST_REVOCATIONS
            && let Some(first) = self.0.iter().min_by_key(|(_, (_, until))| *until).map(|(subject, _)| subject.clone())
        {
            self.0.remove(&first);
        }
        is_new
    }

    /// Whether the token of an identity is revoked.
    pub fn has(&self, identity: &Identity) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let of_user = self.0.get(&Subject::User(identity.user.clone()));
        let of_token = identity.jti.as_ref().and_then(|jti| self.0.get(&Subject::Token(jti.clone())));
        of_token.is_some() || of_user.is_some_and(|(at, _)| identity.issued.is_none_or(|issued| issued <= *at))
    }

    /// Forgets those that have ended. Whether there were any.
    pub fn forget(&mut self, now: UnixMillis) -> bool {
        let before = self.0.len();
        self.0.retain(|_, (_, until)| *until > now);
        self.0.len() != before
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        self.0.iter().map(|(subject, (at, until))| Revocation { subject: subject.clone(), at: *at, until: *until })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
