//! Redis: operations into command words, replies into answers. No connection here, only words.

use core::fmt::Display;
use core::time::Duration;

use bytes::Bytes;

use super::{
    Answer, Entry, Fields, GroupHealth, GroupRef, Place, RelayEntry, Share, Stale, StoreError, StoreOp, TailOp, Whose, scripts,
};
use crate::config::Config;
use crate::id::StreamId;

mod call;
mod commit;
mod dead_letters;
mod pack;
mod presence;
mod pubsub;
mod revocations;
mod rooms;
mod sessions;
mod slots;
mod tail;

pub use pubsub::{said, subscribe};
pub use slots::{Part, SLOTS, slot};

/// The words of one command.
pub type Words = Vec<Bytes>;

/// A reply of Redis, free of any client library's types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: a null string or array, or a wait in vain.
    Nil,
    /// A number.
    Int(i64),
    /// A string, simple or bulk.
    Bytes(Bytes),
    /// An array.
    Array(Vec<Reply>),
    /// An error, by [`error`].
    Error(StoreError),
}

/// Translates between operations and Redis, for one node.
///
/// ```
/// use roomcast_core::config::Config;
/// use roomcast_core::store::{Answer, StoreOp, redis::{Redis, Reply}};
///
/// let redis = Redis::new(&Config::default());
/// let op = StoreOp::RelayTip { partition: 3 };
/// assert_eq!(redis.commands(&op)[0].join(&b' '), b"XREVRANGE rc:relay:{3} + - COUNT 1");
/// assert_eq!(redis.answer(&op, Reply::Array(vec![])), Ok(Answer::Id(Default::default())));
/// ```
#[derive(Clone, Debug)]
pub struct Redis {
    prefix: String,
    consumer: String,
    relay_length: u32,
    partitions: u16,
}

impl Redis {
    /// The translator of a node: key prefix and consumer name come from its configuration.
    pub fn new(config: &Config) -> Redis {
        Redis {
            prefix: config.relay.prefix.clone(),
            consumer: config.node.clone(),
            relay_length: config.relay.length,
            partitions: config.relay.partitions,
        }
    }

    /// The words of the commands that carry an operation out. They are sent in one go; the reply to the last is the operation's,
    /// unless one before it has failed.
    pub fn commands(&self, op: &StoreOp) -> Vec<Words> {
        match op {
            StoreOp::Commit { group, effects, together: true } => self.commit_together(group, effects),
            StoreOp::Page { room, place: Place::Log, query, count, .. } => self.page_of_log(room, *query, *count),
            StoreOp::Tail(op) => self.tail(op),
            _ => vec![self.command(op)],
        }
    }

    fn command(&self, op: &StoreOp) -> Words {
        match op {
            StoreOp::Append { partition, messages } => self.append(*partition, messages),
            StoreOp::Disconnect { partition, user } => self.append_packed(*partition, pack::disconnect(user)),
            StoreOp::Positions { rooms, epoch, .. } => self.positions(rooms, *epoch),
            StoreOp::Page { room, since, count, .. } => self.page_of_inbox(room, *since, *count),
            StoreOp::Delivered { room, upto } => self.delivered(room, *upto),
            StoreOp::RelayTip { partition } => words(["XREVRANGE", &self.relay_key(*partition), "+", "-", "COUNT", "1"]),
            StoreOp::RelayRead { cursors, count, block } => {
                let (count, block) = (count.to_string(), block.as_millis().max(1).to_string());
                let mut words = words(["XREAD", "COUNT", &count, "BLOCK", &block, "STREAMS"]);
                words.extend(cursors.iter().map(|(partition, _)| Bytes::from(self.relay_key(*partition))));
                words.extend(cursors.iter().map(|(_, cursor)| text(cursor)));
                words
            }
            StoreOp::Mark { partition, mark } => {
                let (key, length) = (self.relay_key(*partition), self.relay_length.to_string());
                let mut words = words(["XADD", &key, "MAXLEN", "~", &length, "*", pack::MARK]);
                words.push(mark.clone());
                words
            }
            // Not sent as it is: a connection that listens is told what has changed.
            StoreOp::Listen { subscriptions, .. } => subscribe(&[], subscriptions).concat(),
            StoreOp::Announce { channel, sharded, payload } => {
                let mut words = words([if *sharded { "SPUBLISH" } else { "PUBLISH" }, channel]);
                words.push(payload.clone());
                words
            }
            StoreOp::GroupOpen(group) => words(["EVAL", scripts::OPEN, "2", &group.stream, &self.mark_key(group), &group.group]),
            StoreOp::GroupRead { group, count, block } => {
                let block = block.as_millis().max(1).to_string();
                let count = count.to_string();
                let GroupRef { stream, group } = group;
                words(["XREADGROUP", "GROUP", group, &self.consumer, "COUNT", &count, "BLOCK", &block, "STREAMS", stream, ">"])
            }
            StoreOp::GroupStale { group, whose, idle, after, count } => {
                let (idle, after, count) = (millis(*idle), format!("({after}"), count.to_string());
                let GroupRef { stream, group } = group;
                let mut words = words(["XPENDING", stream, group, "IDLE", &idle, &after, "+", &count]);
                if *whose == Whose::Own {
                    words.push(text(&self.consumer));
                }
                words
            }
            StoreOp::GroupClaim { group: GroupRef { stream, group }, whose, idle, ids } => {
                let (idle, whose) = (millis(*idle), if *whose == Whose::Own { "own" } else { "any" });
                let mut words = words(["EVAL", scripts::CLAIM, "1", stream, group, &self.consumer, &idle, whose]);
                words.extend(ids.iter().flat_map(|(id, deliveries)| [text(id), text(deliveries)]));
                words
            }
            StoreOp::GroupHold { group: GroupRef { stream, group }, ids } => {
                let mut words = words(["EVAL", scripts::HOLD, "1", stream, group, &self.consumer]);
                words.extend(ids.iter().map(text));
                words
            }
            StoreOp::GroupHealth { group: GroupRef { stream, group } } => words(["EVAL", scripts::HEALTH, "1", stream, group]),
            StoreOp::GroupTidy { group: GroupRef { stream, group }, idle } => {
                words(["EVAL", scripts::TIDY, "1", stream, group, &self.consumer, &millis(*idle)])
            }
            StoreOp::Apply { group, share: Share::Relay { partition, entries } } => self.apply(group, *partition, entries),
            StoreOp::Apply { group, share: Share::Stream { stream, length, entries } } => {
                self.put(group, (stream, *length), entries)
            }
            StoreOp::Commit { group, effects, .. } => self.commit_each(group, effects),
            StoreOp::Session { token, op } => self.session(token, op),
            StoreOp::Revocations(op) => self.work_on_revocations(op),
            StoreOp::Ping => words(["PING"]),
            StoreOp::Letters { stream, op } => dead_letters::command(stream, op),
            StoreOp::Presence(op) => self.work_on_presence(op),
            // Never asked for: some of these are several commands.
            StoreOp::Tail(op) => self.tail(op).concat(),
        }
    }

    /// Reads the reply to an operation's command.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] for a reply that is not of the command's form.
    pub fn answer(&self, op: &StoreOp, reply: Reply) -> Result<Answer, StoreError> {
        match op {
            StoreOp::Append { messages, .. } => rooms::appended(messages, reply),
            StoreOp::Disconnect { .. } => bytes(reply).map(|_| Answer::Appended(vec![None])),
            StoreOp::Positions { rooms, .. } => rooms::positions(rooms.len(), reply),
            StoreOp::Page { place: Place::Log, query, count, .. } => rooms::page_of_log(*query, *count, reply),
            StoreOp::Page { place: Place::Inbox, count, .. } => rooms::page_of_inbox(*count, reply),
            StoreOp::Delivered { .. } => rooms::delivered(reply),
            StoreOp::RelayTip { .. } => Ok(Answer::Id(entries(reply)?.first().map_or(StreamId::ZERO, |entry| entry.id))),
            StoreOp::RelayRead { .. } => self.relayed(reply).map(Answer::Relayed),
            StoreOp::Session { op, .. } => sessions::answer(op, reply),
            StoreOp::Revocations(op) => revocations::answer(op, reply),
            StoreOp::Ping => Ok(Answer::Done),
            StoreOp::Mark { .. } => stream_id(reply).map(Answer::Id),
            StoreOp::Listen { .. } => Err(unexpected("an answer to a subscription")),
            StoreOp::Announce { .. } => number(reply).map(Answer::Count),
            StoreOp::GroupOpen(_) => match reply {
                Reply::Nil => Ok(Answer::Opened(None)),
                from => Ok(Answer::Opened(Some(stream_id(from)?))),
            },
            StoreOp::GroupRead { .. } => {
                let streams = per_stream(reply)?;
                Ok(Answer::Entries(streams.into_iter().flat_map(|(_, entries)| entries).collect()))
            }
            StoreOp::GroupStale { .. } => array(reply)?.into_iter().map(stale).collect::<Result<_, _>>().map(Answer::Stale),
            StoreOp::GroupClaim { .. } => {
                let mut parts = array(reply)?.into_iter();
                let entries = entries(parts.next().unwrap_or(Reply::Nil))?;
                Ok(Answer::Claimed { entries, gone: stream_ids(parts.next().unwrap_or(Reply::Nil))? })
            }
            StoreOp::GroupHold { .. } => stream_ids(reply).map(Answer::Held),
            StoreOp::GroupHealth { .. } => health(reply).map(Answer::Health),
            StoreOp::GroupTidy { .. } => {
                let name = |name| Ok(String::from_utf8_lossy(&bytes(name)?).into());
                array(reply)?.into_iter().map(name).collect::<Result<_, _>>().map(Answer::Removed)
            }
            StoreOp::Apply { share: Share::Relay { entries, .. }, .. } => commit::answer(entries.len(), false, reply),
            StoreOp::Apply { share: Share::Stream { entries, .. }, .. } => dead_letters::replayed(entries.len(), reply),
            StoreOp::Commit { effects, together, .. } => commit::answer(effects.len(), *together, reply),
            StoreOp::Letters { op, .. } => dead_letters::answer(op, reply),
            StoreOp::Presence(op) => presence::answer(op, reply).map(Answer::Presence),
            StoreOp::Tail(op) => tail::answer(op, reply),
        }
    }

    fn tail(&self, op: &TailOp) -> Vec<Words> {
        tail::commands(|key, id| self.key_beside(key, "once", id), op)
    }

    fn relay_key(&self, partition: u16) -> String {
        format!("{}relay:{{{partition}}}", self.prefix)
    }

    /// The key that says up to where all entries of a group have been acknowledged. In a cluster it stands beside the stream.
    fn mark_key(&self, GroupRef { stream, group }: &GroupRef) -> String {
        self.key_beside(stream, "mark", group)
    }

    /// A key that stands in the slot of another one.
    fn key_beside(&self, key: &str, what: &str, rest: &str) -> String {
        let prefix = &self.prefix;
        match slots::tag(key) {
            tag if tag == key => format!("{prefix}{what}:{{{key}}}:{rest}"),
            tag => format!("{prefix}{what}:{{{tag}}}:{key}:{rest}"),
        }
    }

    fn relayed(&self, reply: Reply) -> Result<Vec<RelayEntry>, StoreError> {
        let mut relayed = Vec::new();
        for (key, entries) in per_stream(reply)? {
            let partition = str::from_utf8(&key)
                .ok()
                .and_then(|key| key.strip_prefix(&self.prefix)?.strip_prefix("relay:{")?.strip_suffix('}')?.parse().ok())
                .ok_or_else(|| unexpected("the key of another stream"))?;
            relayed.extend(entries.into_iter().map(|Entry { id, fields }| {
                let mark = fields.iter().find(|(name, _)| name.as_ref() == pack::MARK.as_bytes()).map(|(_, mark)| mark.clone());
                let packed = fields.into_iter().filter(|(name, _)| name.as_ref() == pack::FIELD.as_bytes());
                let messages = packed.flat_map(|(_, packed)| pack::unpack(packed)).collect();
                RelayEntry { partition, id, messages, mark }
            }));
        }
        Ok(relayed)
    }
}

/// Codes of refusals that pass.
const BUSY: [&str; 10] =
    ["LOADING", "OOM", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "MISCONF", "EXECABORT"];

/// What an error reply means for the core. `code` is its first word, `text` the rest.
pub fn error(code: &str, text: &str) -> StoreError {
    let whole = || format!("{code} {text}").trim().into();
    // Before Redis 7 the code of the command that failed inside a script stands somewhere in the text. So may a key of that name
    // in the text of an error that has a code.
    let in_script = code == "ERR" || code.starts_with('@');
    let words = || text.split(|c: char| !c.is_ascii_alphanumeric());
    let says = |word: &str| code == word || (in_script && words().any(|other| other == word));
    if says("NOGROUP") || says("UNBLOCKED") {
        return StoreError::NoGroup;
    }
    if BUSY.into_iter().any(says) { StoreError::Busy(whole()) } else { StoreError::Refused(whole()) }
}

fn words<const N: usize>(words: [&str; N]) -> Words {
    words.map(|word| Bytes::copy_from_slice(word.as_bytes())).into()
}

fn word(word: &'static str) -> Bytes {
    Bytes::from_static(word.as_bytes())
}

/// No more than Redis can count, which is longer than anything lasts.
fn millis(duration: Duration) -> String {
    duration.as_millis().min(i64::MAX as u128).to_string()
}

/// How many milliseconds a key lives: at least one, and no more than Redis can add to its clock.
fn lifetime(duration: Duration) -> String {
    duration.as_millis().clamp(1, 1 << 52).to_string()
}

fn text(value: impl Display) -> Bytes {
    Bytes::from(value.to_string())
}

fn script_error(text: &[u8]) -> StoreError {
    let text = String::from_utf8_lossy(text);
    // Redis 6 hands a script some errors as they stand in its protocol.
    let text = text.trim_start_matches('-');
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    error(code, rest)
}

fn per_stream(reply: Reply) -> Result<Vec<(Bytes, Vec<Entry>)>, StoreError> {
    let streams = match reply {
        Reply::Nil => return Ok(Vec::new()),
        other => array(other)?,
    };
    streams
        .into_iter()
        .map(|stream| {
            let mut parts = array(stream)?.into_iter();
            let key = bytes(parts.next().unwrap_or(Reply::Nil))?;
            Ok((key, entries(parts.next().unwrap_or(Reply::Nil))?))
        })
        .collect()
}

fn entries(reply: Reply) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    for entry in array(reply)? {
        let mut parts = array(entry)?.into_iter();
        let id = stream_id(parts.next().unwrap_or(Reply::Nil))?;
        entries.push(Entry { id, fields: pairs(parts.next().unwrap_or(Reply::Nil))? });
    }
    Ok(entries)
}

/// Identifier, consumer, milliseconds since the last delivery, deliveries.
fn stale(reply: Reply) -> Result<Stale, StoreError> {
    let mut parts = array(reply)?.into_iter();
    let (id, _consumer) = (stream_id(parts.next().unwrap_or(Reply::Nil))?, parts.next());
    let mut number = || number(parts.next().unwrap_or(Reply::Nil));
    let idle = Duration::from_millis(number()?);
    Ok(Stale { id, idle, deliveries: u32::try_from(number()?).unwrap_or(u32::MAX) })
}

/// The store's time, then the figures; see [`scripts::HEALTH`].
fn health(reply: Reply) -> Result<GroupHealth, StoreError> {
    let mut parts = array(reply)?.into_iter();
    let mut next = || parts.next().unwrap_or(Reply::Nil);
    let now = number(next())?;
    let age = |since: Reply| match since {
        Reply::Nil => Ok(None),
        since => Ok(Some(Duration::from_millis(now.saturating_sub(number(since)?)))),
    };
    Ok(GroupHealth {
        length: number(next())?,
        lag: number(next())?,
        lag_exact: number(next())? == 1,
        oldest_unread: age(next())?,
        pending: number(next())?,
        oldest_pending: age(next())?,
        most_deliveries: u32::try_from(number(next())?).unwrap_or(u32::MAX),
        trimmed_unread: number(next())?,
        consumers: number(next())?,
        dead_letters: 0,
    })
}

fn number(reply: Reply) -> Result<u64, StoreError> {
    match reply {
        Reply::Int(number) => u64::try_from(number).map_err(|_| unexpected("less than nothing")),
        Reply::Error(error) => Err(error),
        Reply::Nil | Reply::Bytes(_) | Reply::Array(_) => Err(unexpected("not a number")),
    }
}

fn pairs(reply: Reply) -> Result<Fields, StoreError> {
    let mut words = array(reply)?.into_iter();
    let mut fields = Vec::with_capacity(words.len() / 2);
    while let Some(name) = words.next() {
        fields.push((bytes(name)?, bytes(words.next().unwrap_or(Reply::Nil))?));
    }
    Ok(fields)
}

fn array(reply: Reply) -> Result<Vec<Reply>, StoreError> {
    match reply {
        Reply::Array(items) => Ok(items),
        Reply::Error(error) => Err(error),
        Reply::Nil | Reply::Int(_) | Reply::Bytes(_) => Err(unexpected("not an array")),
    }
}

fn bytes(reply: Reply) -> Result<Bytes, StoreError> {
    match reply {
        Reply::Bytes(bytes) => Ok(bytes),
        Reply::Error(error) => Err(error),
        Reply::Nil | Reply::Int(_) | Reply::Array(_) => Err(unexpected("not a string")),
    }
}

fn stream_id(reply: Reply) -> Result<StreamId, StoreError> {
    str::from_utf8(&bytes(reply)?).ok().and_then(|id| id.parse().ok()).ok_or_else(|| unexpected("not a stream identifier"))
}

fn stream_ids(reply: Reply) -> Result<Vec<StreamId>, StoreError> {
    array(reply)?.into_iter().map(stream_id).collect()
}

fn unexpected(what: &str) -> StoreError {
    StoreError::Unexpected(what.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::position::Position;
    use crate::store::{Once, Posting, Query};
    use crate::time::UnixMillis;

    fn redis() -> Redis {
        Redis::new(&Config { node: "n1".into(), ..Config::default() })
    }

    fn group() -> GroupRef {
        GroupRef { stream: "s".into(), group: "g".into() }
    }

    fn spoken(op: &StoreOp) -> String {
        let words = redis().commands(op).concat();
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn string(text: &str) -> Reply {
        Reply::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn operations_become_the_documented_commands() {
        let block = core::time::Duration::from_secs(5);
        for (op, expected) in [
            (
                StoreOp::Append { partition: 2, messages: vec![Posting::plain("room".into(), "payload".into())] },
                "XADD rc:relay:{2} MAXLEN ~ 100000 * m 4:room,0:,7:payload,",
            ),
            (
                StoreOp::RelayRead {
                    cursors: vec![(1, StreamId::ZERO), (9, StreamId { millis: 5, sequence: 6 })],
                    count: 7,
                    block,
                },
                "XREAD COUNT 7 BLOCK 5000 STREAMS rc:relay:{1} rc:relay:{9} 0-0 5-6",
            ),
            (StoreOp::GroupRead { group: group(), count: 10, block }, "XREADGROUP GROUP g n1 COUNT 10 BLOCK 5000 STREAMS s >"),
            (
                StoreOp::GroupStale { group: group(), whose: Whose::Any, idle: block, after: StreamId::ZERO, count: 3 },
                "XPENDING s g IDLE 5000 (0-0 + 3",
            ),
            (
                StoreOp::GroupStale { group: group(), whose: Whose::Own, idle: block, after: StreamId::ZERO, count: 3 },
                "XPENDING s g IDLE 5000 (0-0 + 3 n1",
            ),
        ] {
            assert_eq!(spoken(&op), expected);
        }
    }

    #[test]
    fn scripts_are_given_their_keys_and_arguments() {
        let id = |millis| StreamId { millis, sequence: 0 };
        let idle = core::time::Duration::from_secs(1);
        for (op, expected) in [
            (StoreOp::GroupOpen(group()), "return created\n 2 s rc:mark:{s}:g g"),
            (
                StoreOp::GroupClaim { group: group(), whose: Whose::Own, idle, ids: vec![(id(1), 2), (id(3), 4)] },
                "return {entries, gone}\n 1 s g n1 1000 own 1-0 2 3-0 4",
            ),
            (StoreOp::GroupHold { group: group(), ids: vec![id(1), id(2)] }, "return held\n 1 s g n1 1-0 2-0"),
        ] {
            assert!(spoken(&op).ends_with(expected), "{}", spoken(&op));
        }
    }

    #[test]
    fn a_claim_tells_what_is_gone() {
        let entry = Reply::Array(vec![string("2-0"), Reply::Array(vec![string("data"), string("x")])]);
        let reply = Reply::Array(vec![Reply::Array(vec![entry]), Reply::Array(vec![string("1-0")])]);
        let op = StoreOp::GroupClaim { group: group(), whose: Whose::Any, idle: Duration::ZERO, ids: Vec::new() };
        let Ok(Answer::Claimed { entries, gone }) = redis().answer(&op, reply) else { panic!("not claimed") };
        assert_eq!(entries[0].fields, [(Bytes::from("data"), Bytes::from("x"))]);
        assert_eq!(gone, [StreamId { millis: 1, sequence: 0 }]);
    }

    #[test]
    fn errors_are_told_apart_by_what_to_do() {
        assert_eq!(error("NOGROUP", "no such key"), StoreError::NoGroup);
        assert_eq!(error("UNBLOCKED", "the stream key no longer exists"), StoreError::NoGroup);
        assert_eq!(error("ERR", "Error running script: NOGROUP No such key"), StoreError::NoGroup);
        assert!(matches!(error("OOM", "command not allowed"), StoreError::Busy(_)));
        assert!(matches!(error("WRONGTYPE", "ROOMCAST:relay:1 is a string"), StoreError::Refused(_)));
        assert!(matches!(error("ERR", "-OOM command not allowed"), StoreError::Busy(_)));
        assert!(matches!(error("@user_script:", "49: -READONLY You can't write"), StoreError::Busy(_)));
        for name in ["OOM", "NOGROUP", "BUSY"] {
            let error = error("WRONGTYPE", &format!("stream:{name}-commands is a string"));
            assert!(matches!(error, StoreError::Refused(_)), "a stream of that name says nothing");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        let once = Some(Once { id: "1".into(), window: Duration::ZERO });
        let remembered = Posting { once, ..Posting::plain("r".into(), "x".into()) };
        let page = |place| {
            let (query, since) = (Query::Newest, UnixMillis(0));
            StoreOp::Page { room: "r".into(), place, query, since, count: 1 }
        };
        let ops = [
            StoreOp::RelayTip { partition: 0 },
            StoreOp::RelayRead { cursors: vec![], count: 1, block: core::time::Duration::ZERO },
            StoreOp::GroupOpen(group()),
            StoreOp::GroupStale { group: group(), whose: Whose::Any, idle: Duration::ZERO, after: StreamId::ZERO, count: 1 },
            StoreOp::GroupClaim { group: group(), whose: Whose::Any, idle: Duration::ZERO, ids: vec![] },
            StoreOp::GroupHold { group: group(), ids: vec![] },
            StoreOp::Commit { group: group(), effects: Arc::default(), together: false },
            StoreOp::Commit { group: group(), effects: Arc::default(), together: true },
            StoreOp::Append { partition: 0, messages: vec![remembered] },
            StoreOp::Positions { partition: 0, rooms: vec![("r".into(), Duration::ZERO)], epoch: 1 },
            page(Place::Log),
            page(Place::Inbox),
            StoreOp::Delivered { room: "r".into(), upto: Position::default() },
        ];
        let nested = Reply::Array(vec![Reply::Array(vec![Reply::Int(1)]), Reply::Nil]);
        for op in &ops {
            for reply in [Reply::Int(1), string("x"), nested.clone()] {
                assert!(redis().answer(op, reply).is_err(), "{op:?}");
            }
        }
    }
}
