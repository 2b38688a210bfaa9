//! Slots: where in a cluster the keys of an operation stand.
//!
//! An operation whose keys stand in several slots is carried out in parts, each in one slot. All that must be one atomic step is in
//! one part, because keys that belong together have the same hash tag.

use crc::{CRC_16_XMODEM, Crc};

use super::Redis;
use crate::backplane::partition;
use crate::store::{Answer, GroupRef, PresenceOp, Share, StoreOp, SubscriptionKind, TailAnswer, TailOp};

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// A part of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What is to be done.
    pub op: StoreOp,
    /// The slot in which its keys stand; any node of the cluster will do where it has none.
    pub slot: Option<u16>,
}

/// The slot of a key.
pub fn slot(key: &str) -> u16 {
    CRC.checksum(tag(key).as_bytes()) % SLOTS
}

/// What decides about the slot of a key: what stands between its first brace and the next closing one, if anything does.
pub(super) fn tag(key: &str) -> &str {
    let inner = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(inner, _)| inner);
    inner.filter(|inner| !inner.is_empty()).unwrap_or(key)
}

impl Redis {
    /// The parts of an operation, in order. There is more than one only of a read of several logs or streams.
    pub fn parts(&self, op: &StoreOp) -> Vec<Part> {
        let split = |ops: Vec<StoreOp>| ops.into_iter().flat_map(|op| self.parts(&op)).collect();
        match op {
            StoreOp::RelayRead { cursors, count, block } if cursors.len() > 1 => {
                let read = |cursor: &_| StoreOp::RelayRead { cursors: vec![*cursor], count: *count, block: *block };
                split(cursors.iter().map(read).collect())
            }
            StoreOp::Tail(TailOp::Read { cursors, count, block }) if cursors.len() > 1 => {
                let read = |cursor: &(_, _)| TailOp::Read { cursors: vec![cursor.clone()], count: *count, block: *block };
                split(cursors.iter().map(read).map(StoreOp::Tail).collect())
            }
            StoreOp::Tail(TailOp::Tips { keys, count }) if keys.len() > 1 => {
                let tips = |key: &std::sync::Arc<str>| TailOp::Tips { keys: vec![key.clone()], count: *count };
                split(keys.iter().map(tips).map(StoreOp::Tail).collect())
            }
            _ => vec![Part { op: op.clone(), slot: self.slot_of(op) }],
        }
    }

    /// The answer to an operation, from those to its parts, in their order.
    pub fn join(&self, op: &StoreOp, answers: Vec<Answer>) -> Answer {
        let mut joined = op.nothing();
        if let StoreOp::Tail(TailOp::Tips { .. }) = op {
            joined = Answer::Tail(TailAnswer::Tips(Vec::new()));
        }
        for answer in answers {
            match (&mut joined, answer) {
                (Answer::Relayed(all), Answer::Relayed(more)) => all.extend(more),
                (Answer::Tail(TailAnswer::Entries(all)), Answer::Tail(TailAnswer::Entries(more))) => all.extend(more),
                (Answer::Tail(TailAnswer::Tips(all)), Answer::Tail(TailAnswer::Tips(more))) => all.extend(more),
                (joined, other) => *joined = other,
            }
        }
        joined
    }

    /// Keys of one slot are enough of an operation: all have the same.
    fn slot_of(&self, op: &StoreOp) -> Option<u16> {
        Some(match op {
            StoreOp::Append { partition, .. }
            | StoreOp::RelayTip { partition }
            | StoreOp::Mark { partition, .. }
            | StoreOp::Disconnect { partition, .. }
            | StoreOp::Positions { partition, .. }
            | StoreOp::Apply { share: Share::Relay { partition, .. }, .. } => slot(&self.relay_key(*partition)),
            StoreOp::Apply { share: Share::Stream { stream, .. }, .. } => slot(stream),
            StoreOp::Page { room, .. } | StoreOp::Delivered { room, .. } => {
                slot(&self.relay_key(partition(room, self.partitions)))
            }
            StoreOp::RelayRead { cursors, .. } => slot(&self.relay_key(cursors.first()?.0)),
            StoreOp::GroupOpen(group)
            | StoreOp::GroupRead { group, .. }
            | StoreOp::GroupStale { group, .. }
            | StoreOp::GroupClaim { group, .. }
            | StoreOp::GroupHold { group, .. }
            | StoreOp::GroupHealth { group }
            | StoreOp::GroupTidy { group, .. }
            | StoreOp::Commit { group, .. } => {
                let GroupRef { stream, .. } = group;
                slot(stream)
            }
            StoreOp::Session { token, .. } => slot(&self.session_key(token)),
            StoreOp::Revocations(_) => slot(&self.revoked_key()),
            StoreOp::Letters { stream, .. } => slot(stream),
            StoreOp::Presence(PresenceOp::Beat { .. } | PresenceOp::Forget { .. }) => slot(&self.nodes_key()),
            StoreOp::Presence(
                PresenceOp::Set { partition, .. } | PresenceOp::Condemn { partition, .. } | PresenceOp::Who { partition, .. },
            ) => slot(&self.relay_key(*partition)),
            StoreOp::Tail(op) => match op {
                TailOp::Tips { keys, .. } => slot(keys.first()?),
                TailOp::Read { cursors, .. } => slot(&cursors.first()?.0),
                TailOp::Row { key, .. } | TailOp::Value { key } | TailOp::Append { key, .. } => slot(key),
            },
            StoreOp::Announce { channel, sharded: true, .. } => slot(channel),
            // All that a connection listens to has to be of one slot where it is sharded.
            StoreOp::Listen { subscriptions, .. } => {
                let mut kinds = subscriptions.iter();
                slot(&kinds.find(|one| one.kind == SubscriptionKind::Sharded)?.name)
            }
            StoreOp::Announce { sharded: false, .. } | StoreOp::Ping => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::id::StreamId;
    use core::time::Duration;

    #[test]
    fn slots_are_those_of_redis() {
        // By CLUSTER KEYSLOT.
        for (key, expected) in [
            ("stream:file-events", 9666),
            ("{stream:file-events}:fanout", 9666),
            ("stream:ai-commands", 10532),
            ("stream:ai-commands-dlq", 10901),
            ("stream:claude-commands", 15732),
            ("", 0),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(slot("a{}b"), slot("a{}b"), "nothing between the braces decides nothing");
        assert_ne!(slot("{}a"), slot("{}b"));
        assert_eq!(slot("{a}{b}"), slot("a"));
    }

    #[test]
    fn a_read_of_many_is_carried_out_in_parts_and_its_answer_is_whole() {
        let redis = Redis::new(&Config::default());
        let read = |cursors| StoreOp::RelayRead { cursors, count: 5, block: Duration::from_secs(1) };
        let op = read(vec![(1, StreamId::ZERO), (2, StreamId::ZERO)]);
        let parts = redis.parts(&op);
        assert_eq!(
            parts.iter().map(|part| &part.op).collect::<Vec<_>>(),
            [&read(vec![(1, StreamId::ZERO)]), &read(vec![(2, StreamId::ZERO)])]
        );
        assert_eq!(parts[0].slot, Some(slot("rc:relay:{1}")));
        let entry = |partition| crate::store::RelayEntry { partition, id: StreamId::LAST, messages: Vec::new(), mark: None };
        let joined = redis.join(&op, vec![Answer::Relayed(vec![entry(1)]), Answer::Relayed(vec![entry(2)])]);
        assert_eq!(joined, Answer::Relayed(vec![entry(1), entry(2)]));
        let tips = StoreOp::Tail(TailOp::Tips { keys: vec!["a".into(), "b".into()], count: 1 });
        let tip = || Answer::Tail(TailAnswer::Tips(vec![Ok(Vec::new())]));
        assert_eq!(redis.join(&tips, vec![tip(), tip()]), Answer::Tail(TailAnswer::Tips(vec![Ok(Vec::new()); 2])));
        assert_eq!(redis.parts(&StoreOp::Ping), [Part { op: StoreOp::Ping, slot: None }]);
    }
}
