//! Which node of a cluster serves which slot.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use redis::{ConnectionAddr, Value};
use roomcast_core::store::redis::SLOTS;

use super::super::line::text;

/// Stands for no node.
const NOBODY: u16 = u16::MAX;
/// What a node says in place of a host that it does not know.
const UNKNOWN: &str = "?";

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host {
    name: Arc<str>,
    port: u16,
}

/// The primaries of slots, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    primaries: Vec<Host>,
    replicas: BTreeSet<Host>,
    /// For each slot the index of its primary.
    owners: Vec<u16>,
}

impl Host {
    /// Reads what a redirection names; nothing where it names no node. A host that is left out is that of the node that says so.
    pub(super) fn read(address: &str, said_by: &Host) -> Option<Host> {
        let (name, port) = address.rsplit_once(':')?;
        let port = port.parse().ok()?;
        match name {
            "" => Some(Host { name: said_by.name.clone(), port }),
            UNKNOWN => None,
            name => Some(Host { name: name.into(), port }),
        }
    }

    pub(super) fn address(&self) -> ConnectionAddr {
        ConnectionAddr::Tcp(self.name.as_ref().into(), self.port)
    }
}

impl From<&ConnectionAddr> for Host {
    fn from(address: &ConnectionAddr) -> Host {
        match address {
            ConnectionAddr::Tcp(name, port) => Host { name: name.as_str().into(), port: *port },
            // The addresses of clusters are read as host and port.
            other => Host { name: other.to_string().into(), port: 0 },
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

impl SlotMap {
    /// Nothing is known.
    pub(super) fn unknown() -> SlotMap {
        SlotMap { primaries: Vec::new(), replicas: BTreeSet::new(), owners: vec![NOBODY; usize::from(SLOTS)] }
    }

    /// Reads what a node answers to `CLUSTER SLOTS`; nothing if it is not of that form.
    pub(super) fn read(answer: Value, asked: &Host) -> Option<SlotMap> {
        let mut map = SlotMap::unknown();
        let Value::Array(ranges) = answer else { return None };
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let mut parts = parts.into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last))) = (parts.next(), parts.next()) else { return None };
            let (first, last) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
            let primary = read_node(parts.next()?, asked);
            map.replicas.extend(parts.filter_map(|replica| read_node(replica, asked)));
            if let Some(primary) = primary {
                let index = map.index(primary);
                map.owners.get_mut(first..=last)?.fill(index);
            }
        }
        Some(map)
    }

    pub(super) fn primary(&self, slot: u16) -> Option<&Host> {
        self.primaries.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    pub(super) fn primaries(&self) -> &[Host] {
        &self.primaries
    }

    /// Every node that it names.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.primaries.iter().chain(&self.replicas)
    }

    /// Whether every slot has a primary.
    pub(super) fn is_complete(&self) -> bool {
        self.owners.iter().all(|owner| *owner != NOBODY)
    }

    /// A slot is served by this node now.
    pub(super) fn set(&mut self, slot: u16, primary: &Host) {
        let index = self.index(primary.clone());
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = index;
        }
    }

    fn index(&mut self, primary: Host) -> u16 {
        let index = self.primaries.iter().position(|known| *known == primary).unwrap_or_else(|| {
            self.primaries.push(primary);
            self.primaries.len() - 1
        });
        // There are not more primaries than slots.
        u16::try_from(index).unwrap_or(NOBODY)
    }
}

/// Host, port, identifier, and more that is known of the host.
fn read_node(node: Value, asked: &Host) -> Option<Host> {
    let Value::Array(parts) = node else { return None };
    let mut parts = parts.into_iter();
    let (name, port) = (parts.next()?, parts.next()?);
    let Value::Int(port) = port else { return None };
    let port = u16::try_from(port).ok()?;
    let name = match text(name) {
        Some(name) if name == UNKNOWN => known_as(parts.nth(1)?)?.into(),
        Some(name) if !name.is_empty() => name.into(),
        Some(_) | None => asked.name.clone(),
    };
    Some(Host { name, port })
}

/// The address of a node that is to be called by a name, but has none.
fn known_as(more: Value) -> Option<String> {
    let Value::Array(words) = more else { return None };
    let mut words = words.into_iter().filter_map(text);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if name == "ip" && !value.is_empty() {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::read(text, &Host { name: "asked".into(), port: 1 }).unwrap()
    }

    fn string(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn node(name: Value, port: i64, more: &[&str]) -> Value {
        let more = more.iter().map(|word| string(word)).collect();
        Value::Array(vec![name, Value::Int(port), string("id"), Value::Array(more)])
    }

    fn range(first: i64, last: i64, nodes: impl IntoIterator<Item = Value>) -> Value {
        Value::Array([Value::Int(first), Value::Int(last)].into_iter().chain(nodes).collect())
    }

    #[test]
    fn hosts_are_named_or_those_who_were_asked() {
        let answer = Value::Array(vec![
            range(0, 99, [node(string("a"), 1, &[]), node(string("b"), 2, &[])]),
            range(100, 199, [node(string(""), 3, &[])]),
            range(200, 299, [node(Value::Nil, 4, &[])]),
            range(300, 399, [node(string("?"), 5, &["hostname", "", "ip", "10.0.0.5"])]),
            range(400, 16_383, [node(string("a"), 1, &[])]),
        ]);
        let mut map = SlotMap::read(answer, &host("asked:9")).unwrap();
        for (slot, owner) in [(0, "a:1"), (199, "asked:3"), (200, "asked:4"), (399, "10.0.0.5:5"), (16_383, "a:1")] {
            assert_eq!(map.primary(slot), Some(&host(owner)));
        }
        assert!(map.is_complete() && map.hosts().any(|known| *known == host("b:2")));
        assert_eq!((map.primary(16_384), map.primaries().len()), (None, 4));
        map.set(7, &host("c:3"));
        assert_eq!((map.primary(7), map.primary(8)), (Some(&host("c:3")), Some(&host("a:1"))));
    }

    #[test]
    fn what_nobody_serves_has_no_primary() {
        let map = SlotMap::read(Value::Array(vec![range(5, 5, [node(string("?"), 5, &[])])]), &host("a:1")).unwrap();
        assert_eq!((map.primary(5), map.is_complete()), (None, false));
    }

    #[test]
    fn nonsense_is_no_map_and_never_a_panic() {
        let node = || node(string("a"), 1, &[]);
        for answer in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(-1, 5, [node()])]),
            Value::Array(vec![range(7, 5, [node()])]),
            Value::Array(vec![range(0, 16_384, [node()])]),
            Value::Array(vec![range(0, 1, [])]),
        ] {
            assert_eq!(SlotMap::read(answer, &host("a:1")), None);
        }
    }

    #[test]
    fn redirections_name_hosts_of_every_kind() {
        let asked = host("asked:9");
        for (text, shown) in [("10.0.0.1:2", Some("10.0.0.1:2")), (":2", Some("asked:2")), ("::1:2", Some("::1:2"))] {
            assert_eq!(Host::read(text, &asked).map(|host| host.to_string()).as_deref(), shown);
        }
        for text in ["?:2", "a", "a:b", ""] {
            assert_eq!(Host::read(text, &asked), None);
        }
    }
}
