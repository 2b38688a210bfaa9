//! Who may do what in which rooms.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::pattern::Pattern;

/// Who may do what in the rooms of a pattern. The first rule whose pattern fits a room decides; what no rule covers is refused.
///
/// ```
/// use roomcast_core::config::{AccessRule, Who};
///
/// let json = r#"{"rooms": "support:*", "subscribe": ["owner", "role:agent"], "publish": "scope:chat.write"}"#;
/// let rule: AccessRule = serde_json::from_str(json).unwrap();
/// assert_eq!(*rule.subscribe, [Who::Owner, Who::Role("agent".into())]);
/// assert_eq!((&*rule.publish, rule.presence), (&[Who::Scope("chat.write".into())][..], None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// The rooms it is about.
    pub rooms: Pattern,
    /// Who may subscribe.
    pub subscribe: Allowed,
    /// Who may publish from a client connection.
    #[serde(default)]
    pub publish: Allowed,
    /// Who may ask for what was said; whoever may subscribe where this is missing.
    #[serde(default)]
    pub history: Option<Allowed>,
    /// Who may ask who is there; whoever may subscribe where this is missing.
    #[serde(default)]
    pub presence: Option<Allowed>,
}

/// Those who belong to one of some classes. By default, administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(Box<[Who]>);

/// A class of clients. In texts, `role:editor`, `scope:chat.write` and `claim:tenant=acme` stand for those with arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// No connection, administrators neither.
    Nobody,
    /// Every connection, also without a token.
    Anyone,
    /// Connections with a valid token; where the token lists `rooms`, one of its patterns must fit.
    Authenticated,
    /// Tokens whose `rooms` claim has a pattern that fits.
    Listed,
    /// The user whose id follows the room's first colon, as in `user:7`.
    Owner,
    /// Tokens with this role.
    Role(Box<str>),
    /// Tokens with this scope.
    Scope(Box<str>),
    /// Tokens with a claim that has this value, or has it in a list. Numbers are compared by their digits.
    Claim(Box<str>, Box<str>),
    /// Whoever the host's code lets, see [`Hub::decide`](crate::hub::Hub::decide).
    Host,
    /// Tokens with the role `admin`, who may also do everything else.
    #[default]
    Admin,
}

impl AccessRule {
    /// A rule by which whoever may subscribe may also see what was said and who is there.
    pub fn new(rooms: &str, subscribe: Who, publish: Who) -> AccessRule {
        AccessRule {
            rooms: Pattern::new(rooms),
            subscribe: subscribe.into(),
            publish: publish.into(),
            history: None,
            presence: None,
        }
    }

    /// All classes that it names.
    pub(super) fn classes(&self) -> impl Iterator<Item = &Who> {
        let all = [Some(&self.subscribe), Some(&self.publish), self.history.as_ref(), self.presence.as_ref()];
        all.into_iter().flatten().flat_map(|allowed| allowed.iter())
    }
}

impl core::ops::Deref for Allowed {
    type Target = [Who];

    fn deref(&self) -> &[Who] {
        &self.0
    }
}

impl From<Who> for Allowed {
    fn from(who: Who) -> Allowed {
        Allowed([who].into())
    }
}

impl FromIterator<Who> for Allowed {
    fn from_iter<I: IntoIterator<Item = Who>>(classes: I) -> Allowed {
        Allowed(classes.into_iter().collect())
    }
}

impl Default for Allowed {
    fn default() -> Allowed {
        Who::default().into()
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Who, String> {
        let known = [
            ("nobody", Who::Nobody),
            ("anyone", Who::Anyone),
            ("authenticated", Who::Authenticated),
            ("listed", Who::Listed),
            ("owner", Who::Owner),
            ("host", Who::Host),
            ("admin", Who::Admin),
        ];
        if let Some((_, who)) = known.into_iter().find(|(name, _)| *name == text) {
            return Ok(who);
        }
        let who = match text.split_once(':') {
            Some(("role", role)) if !role.is_empty() => Some(Who::Role(role.into())),
            Some(("scope", scope)) if !scope.is_empty() => Some(Who::Scope(scope.into())),
            Some(("claim", claim)) => claim.split_once('=').map(|(name, value)| Who::Claim(name.into(), value.into())),
            _ => None,
        };
        who.ok_or_else(|| {
            format!(
                "{text:?} is none of nobody, anyone, authenticated, listed, owner, admin, host, role:…, scope:… and claim:…=…"
            )
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Nobody => f.write_str("nobody"),
            Who::Anyone => f.write_str("anyone"),
            Who::Authenticated => f.write_str("authenticated"),
            Who::Listed => f.write_str("listed"),
            Who::Owner => f.write_str("owner"),
            Who::Role(role) => write!(f, "role:{role}"),
            Who::Scope(scope) => write!(f, "scope:{scope}"),
            Who::Claim(name, value) => write!(f, "claim:{name}={value}"),
            Who::Host => f.write_str("host"),
            Who::Admin => f.write_str("admin"),
        }
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Who, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Allowed, D::Error> {
        struct OneOrSeveral;

        impl<'de> de::Visitor<'de> for OneOrSeveral {
            type Value = Allowed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a class of clients, or a list of classes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Allowed, E> {
                text.parse::<Who>().map(Allowed::from).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Allowed, A::Error> {
                let mut classes = Vec::new();
                while let Some(who) = list.next_element::<Who>()? {
                    classes.push(who);
                }
                if classes.is_empty() {
                    return Err(de::Error::custom("an empty list: write nobody"));
                }
                Ok(classes.into_iter().collect())
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_read_as_it_is_shown() {
        for text in
            ["nobody", "anyone", "authenticated", "listed", "owner", "admin", "host", "role:a:b", "scope:x", "claim:tenant=a=b"]
        {
            let who: Who = text.parse().unwrap();
            assert_eq!(who.to_string(), text);
            assert_eq!(serde_json::from_str::<Allowed>(&format!("\"{text}\"")).unwrap(), Allowed::from(who));
        }
        for wrong in ["", "Anyone", "role:", "scope:", "claim:x", "everyone"] {
            assert!(wrong.parse::<Who>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Allowed>("[]").is_err() && serde_json::from_str::<Allowed>("[1]").is_err());
    }
}
