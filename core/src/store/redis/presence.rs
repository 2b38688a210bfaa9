//! Who is in which room, in the words of Redis.

use std::sync::Arc;

use bytes::Bytes;

use super::{Redis, Reply, Words, array, bytes, millis, number, pack, scripts, text, unexpected, words};
use crate::message::RoomName;
use crate::store::presence::{CONDEMNED, MOST_DEAD};
use crate::store::{Change, Here, PresenceAnswer, PresenceOp, StoreError};

impl Redis {
    pub(super) fn work_on_presence(&self, op: &PresenceOp) -> Words {
        match op {
            PresenceOp::Beat { node, new, lasts } => {
                let known = if *new { "new" } else { "known" };
                words(["EVAL", scripts::BEAT, "1", &self.nodes_key(), node, &millis(*lasts), known, &MOST_DEAD.to_string()])
            }
            PresenceOp::Set { partition, node, number, changes } => {
                let (keys, length) = (changes.len() + 2, self.relay_length.to_string());
                let (relay, node) = (self.relay_key(*partition), self.node_key(*partition, node));
                let mut words = words(["EVAL", scripts::PRESENT, &keys.to_string(), &relay, &node]);
                words.extend(changes.iter().map(|change| Bytes::from(self.who_key(*partition, &change.room))));
                words.extend([text(length), number.map_or_else(Bytes::new, text)]);
                for Change { room, user, connections, event } in changes {
                    let user_field = Bytes::copy_from_slice(user.as_bytes());
                    words.extend([field(room, user), user_field, text(connections), packed(room, user, event)]);
                }
                words
            }
            PresenceOp::Condemn { partition, node, count } => {
                let (node, remembered) = (self.node_key(*partition, node), millis(CONDEMNED));
                words(["EVAL", scripts::CONDEMN, "1", &node, &count.to_string(), &remembered])
            }
            PresenceOp::Forget { node } => words(["ZREM", &self.nodes_key(), node]),
            PresenceOp::Who { partition, room, most } => {
                words(["EVAL", scripts::WHO, "1", &self.who_key(*partition, room), &most.to_string()])
            }
        }
    }

    pub(super) fn nodes_key(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// What a node has in the rooms of a partition. In a cluster it stands beside the partition's relay log.
    fn node_key(&self, partition: u16, node: &str) -> String {
        format!("{}here:{{{partition}}}:{node}", self.prefix)
    }

    /// Who is in a room. What follows the partition is the room's name and nothing else, so that no other key can have this name.
    fn who_key(&self, partition: u16, room: &str) -> String {
        format!("{}who:{{{partition}}}:{room}", self.prefix)
    }
}

pub(super) fn answer(op: &PresenceOp, reply: Reply) -> Result<PresenceAnswer, StoreError> {
    match op {
        PresenceOp::Beat { .. } => {
            let mut parts = array(reply)?.into_iter();
            let mut next = || parts.next().unwrap_or(Reply::Nil);
            let alive = number(next())? == 1;
            let dead = array(next())?.into_iter().map(|node| Ok(string(node)?.into())).collect::<Result<_, _>>()?;
            Ok(PresenceAnswer::Beat { alive, dead })
        }
        PresenceOp::Set { .. } => Ok(PresenceAnswer::Taken(number(reply)? == 1)),
        PresenceOp::Condemn { .. } => {
            let left = array(reply)?.into_iter().map(|field| read_field(bytes(field)?));
            left.collect::<Result<_, _>>().map(PresenceAnswer::Left)
        }
        PresenceOp::Forget { .. } => number(reply).map(|_| PresenceAnswer::Done),
        PresenceOp::Who { most, .. } => {
            let mut parts = array(reply)?.into_iter();
            let mut next = || parts.next().unwrap_or(Reply::Nil);
            let (all, connections) = (number(next())?, number(next())?);
            let named = array(next())?.into_iter().map(|user| Ok(string(user)?.into()));
            let mut users: Vec<Box<str>> = named.collect::<Result<_, StoreError>>()?;
            users.sort_unstable();
            users.dedup();
            users.truncate(*most);
            Ok(PresenceAnswer::Here(Here { truncated: all > users.len() as u64, users, connections }))
        }
    }
}

/// A room and a user as one word.
fn field(room: &str, user: &str) -> Bytes {
    [&pack::netstring(room.as_bytes())[..], user.as_bytes()].concat().into()
}

fn read_field(mut field: Bytes) -> Result<(RoomName, Arc<str>), StoreError> {
    let room = pack::take(&mut field).ok_or_else(|| unexpected("not a room and a user"))?;
    let name = |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|_| unexpected("not a name"));
    Ok((name(room)?.into(), name(field)?.into()))
}

/// An event as it stands in a relay log.
fn packed(room: &str, user: &str, event: &[u8]) -> Bytes {
    let stamp = format!("-{user}");
    [room.as_bytes(), stamp.as_bytes(), event].map(pack::netstring).concat().into()
}

fn string(reply: Reply) -> Result<String, StoreError> {
    String::from_utf8(bytes(reply)?.into()).map_err(|_| unexpected("not a name"))
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::store::{Relayed, Stamp};

    const LASTS: Duration = Duration::from_secs(15);

    fn spoken(op: &PresenceOp) -> String {
        let words = Redis::new(&Config::default()).work_on_presence(op);
        let spoken: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let scripts = [scripts::BEAT, scripts::PRESENT, scripts::CONDEMN, scripts::WHO];
        scripts.iter().fold(spoken.join(" "), |spoken, script| spoken.replace(script, "script"))
    }

    fn change(room: &str, connections: u32) -> Change {
        Change { room: room.into(), user: "u".into(), connections, event: "{}".into() }
    }

    #[test]
    fn operations_become_the_documented_commands() {
        let node = || "n~1".into();
        let set = |number, changes| PresenceOp::Set { partition: 3, node: node(), number, changes };
        for (op, expected) in [
            (PresenceOp::Beat { node: node(), new: true, lasts: LASTS }, "EVAL script 1 rc:nodes n~1 15000 new 16"),
            (PresenceOp::Beat { node: node(), new: false, lasts: LASTS }, "EVAL script 1 rc:nodes n~1 15000 known 16"),
            (
                set(Some(7), vec![change("a:1", 2), change("b", 0)]),
                "EVAL script 4 rc:relay:{3} rc:here:{3}:n~1 rc:who:{3}:a:1 rc:who:{3}:b 100000 7 \
                 3:a:1,u u 2 3:a:1,2:-u,2:{}, 1:b,u u 0 1:b,2:-u,2:{},",
            ),
            (
                set(None, vec![change("b", 0)]),
                "EVAL script 3 rc:relay:{3} rc:here:{3}:n~1 rc:who:{3}:b 100000  1:b,u u 0 1:b,2:-u,2:{},",
            ),
            (PresenceOp::Condemn { partition: 3, node: node(), count: 9 }, "EVAL script 1 rc:here:{3}:n~1 9 3600000"),
            (PresenceOp::Forget { node: node() }, "ZREM rc:nodes n~1"),
            (PresenceOp::Who { partition: 3, room: "b".into(), most: 5 }, "EVAL script 1 rc:who:{3}:b 5"),
        ] {
            assert_eq!(spoken(&op), expected);
        }
    }

    #[test]
    fn an_event_is_for_all_but_its_user() {
        let expected = Relayed { room: "r".into(), stamp: Stamp::Others("7".into()), payload: "{}".into() };
        assert_eq!(pack::unpack(packed("r", "7", b"{}")), [expected]);
    }

    #[test]
    fn rooms_and_users_are_told_apart_whatever_their_names_are() {
        for (room, user) in [("a", "b,1:c"), ("a,1:b", "c"), ("1:a", "\u{1f980}")] {
            assert_eq!(read_field(field(room, user)), Ok((room.into(), user.into())));
        }
    }

    #[test]
    fn users_are_named_in_order_and_once() {
        let user = |name: &'static str| Reply::Bytes(Bytes::from(name));
        let reply = |all| Reply::Array(vec![Reply::Int(all), Reply::Int(9), Reply::Array(vec![user("b"), user("a"), user("b")])]);
        for (most, all, users, truncated) in
            [(5, 2, vec!["a", "b"], false), (5, 3, vec!["a", "b"], true), (1, 2, vec!["a"], true)]
        {
            let op = PresenceOp::Who { partition: 0, room: "r".into(), most };
            let users = users.into_iter().map(Box::from).collect();
            assert_eq!(answer(&op, reply(all)), Ok(PresenceAnswer::Here(Here { users, truncated, connections: 9 })));
        }
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        let node = || "n".into();
        let ops = [
            PresenceOp::Beat { node: node(), new: true, lasts: LASTS },
            PresenceOp::Set { partition: 0, node: node(), number: None, changes: Vec::new() },
            PresenceOp::Condemn { partition: 0, node: node(), count: 1 },
            PresenceOp::Forget { node: node() },
            PresenceOp::Who { partition: 0, room: "r".into(), most: 1 },
        ];
        let bad = || Reply::Bytes(Bytes::from_static(b"\xff"));
        for op in &ops {
            for reply in [Reply::Nil, Reply::Int(-1), bad(), Reply::Array(vec![bad()]), Reply::Array(vec![Reply::Int(1), bad()])]
            {
                assert!(answer(op, reply.clone()).is_err(), "{op:?} {reply:?}");
            }
        }
    }
}
