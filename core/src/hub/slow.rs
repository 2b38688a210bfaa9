//! Which messages may be dropped for those who read too slowly, by the rule of their room.

use core::hash::Hasher as _;
use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use siphasher::sip::SipHasher13;

use super::Hub;
use crate::config::{Config, Slow};
use crate::frame::Expendable;

/// The rule by which the messages of a room may be dropped, by its index.
pub(super) fn rule_of(config: &Config, room: &str) -> Option<u16> {
    let at = config.rooms.iter().position(|rule| rule.rooms.matches(room))?;
    let drops = config.rooms.get(at).is_some_and(|rule| rule.slow != Slow::Disconnect);
    u16::try_from(at).ok().filter(|_| drops)
}

impl Hub {
    /// Whether and why a message of a room with such a rule may be dropped. Nothing of this is asked again for each recipient.
    pub(super) fn expendable(&self, rule: u16, room: &str, payload: &[u8]) -> Option<Expendable> {
        match &self.config.rooms.get(usize::from(rule))?.slow {
            Slow::Disconnect => None,
            Slow::DropOldest => Some(Expendable::Oldest),
            Slow::Latest(field) => number(self.key, room, field, payload).map(Expendable::Latest),
        }
    }
}

/// A number that the messages of a room share which replace each other, and hardly any others: nobody can choose it, for the key is
/// secret. None where the message has no such field.
fn number(key: u64, room: &str, field: &str, payload: &[u8]) -> Option<u64> {
    type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;
    let mut fields: Fields<'_> = serde_json::from_slice(payload).ok()?;
    let data = || serde_json::from_str::<Fields<'_>>(fields.get("data")?.get()).ok()?.remove(field);
    let value = fields.get(field).copied().or_else(data)?;
    let kind = fields.remove("type").map_or("", RawValue::get);
    let mut hasher = SipHasher13::new_with_keys(key, 0);
    for part in [room, kind, value.get()] {
        hasher.write_usize(part.len());
        hasher.write(part.as_bytes());
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(room: &str, payload: &str) -> Option<u64> {
        number(7, room, "id", payload.as_bytes())
    }

    #[test]
    fn room_type_and_value_decide_and_nothing_else_does() {
        let first = numbered("r", r#"{"type":"t","data":{"id":1,"x":1}}"#);
        assert!(first.is_some());
        for same in [r#"{"type":"t","data":{"x":[2],"id":1},"timestamp":"now"}"#, r#"{"id":1,"type":"t","data":{"id":2}}"#] {
            assert_eq!(numbered("r", same), first, "{same}");
        }
        for other in [r#"{"type":"u","data":{"id":1}}"#, r#"{"type":"t","data":{"id":2}}"#, r#"{"type":"t","data":{"id":"1"}}"#] {
            assert!(numbered("r", other).is_some_and(|other| Some(other) != first), "{other}");
        }
        assert_ne!(numbered("s", r#"{"type":"t","data":{"id":1}}"#), first);
        for none in ["", "[]", r#"{"type":"t"}"#, r#"{"type":"t","data":[{"id":1}]}"#, r#"{"type":"t","data":{"ID":1}}"#] {
            assert_eq!(numbered("r", none), None, "{none}");
        }
    }
}
