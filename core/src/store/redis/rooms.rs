//! What rooms remember, in the words of Redis.
//!
//! A room's log is a stream whose entries have the identifiers `offset-tag`; its inbox is a list, whose elements are a position,
//! when it was published, and the message. Both belong to the epoch that its position names.

use core::time::Duration;

use bytes::Bytes;

use super::call::Call;
use super::{Redis, Reply, Words, array, bytes, entries, lifetime, pack, text, unexpected, words};
use crate::backplane::partition;
use crate::message::RoomName;
use crate::position::Position;
use crate::store::{Answer, Entry, Kept, Page, Posting, Query, StoreError, scripts};
use crate::time::UnixMillis;

impl Redis {
    /// Messages that no room remembers do not pass through a script.
    pub(super) fn append(&self, partition: u16, messages: &[Posting]) -> Words {
        if messages.iter().all(Posting::is_plain) {
            return self.append_plain(partition, messages.iter());
        }
        let mut call = Call::new(self, [self.relay_key(partition)]);
        let words = call.messages(partition, messages.iter());
        call.words(scripts::APPEND, vec![text(self.relay_length)], words)
    }

    pub(super) fn append_plain<'a>(&self, partition: u16, messages: impl Iterator<Item = &'a Posting> + Clone) -> Words {
        let length = self.relay_length.to_string();
        let mut words = words(["XADD", &self.relay_key(partition), "MAXLEN", "~", &length, "*", pack::FIELD]);
        words.push(pack::pack(messages));
        words
    }

    pub(super) fn positions(&self, rooms: &[(RoomName, Duration)], epoch: u32) -> Words {
        let mut words = words(["EVAL", scripts::POSITIONS]);
        words.push(text(3 * rooms.len()));
        words.extend(rooms.iter().flat_map(|(room, _)| self.keys_of(room).map(Bytes::from)));
        words.push(text(Position::start(epoch.into())));
        words.extend(rooms.iter().map(|(_, ttl)| Bytes::from(lifetime(Kept::position_ttl(*ttl)))));
        words
    }

    /// A transaction, so that the messages do not pass through a script.
    pub(super) fn page_of_log(&self, room: &str, query: Query, count: usize) -> Vec<Words> {
        let [position, log, _] = self.keys_of(room);
        let reads = query.reads(count).to_string();
        let read = match query {
            Query::After(after) => words(["XRANGE", &log, &format!("{}-0", after.offset), "+", "COUNT", &reads]),
            // Without its second part an identifier at the end of a range stands for the greatest one.
            Query::Before(before) => {
                words(["XREVRANGE", &log, &before.offset.saturating_sub(1).to_string(), "-", "COUNT", &reads])
            }
            Query::Newest => words(["XREVRANGE", &log, "+", "-", "COUNT", &reads]),
            Query::Oldest => words(["XRANGE", &log, "-", "+", "COUNT", &reads]),
        };
        vec![words(["MULTI"]), words(["GET", &position]), read, words(["EXEC"])]
    }

    pub(super) fn page_of_inbox(&self, room: &str, since: UnixMillis, count: usize) -> Words {
        let [position, _, inbox] = self.keys_of(room);
        words(["EVAL", scripts::INBOX, "2", &position, &inbox, &count.to_string(), &since.0.to_string()])
    }

    pub(super) fn delivered(&self, room: &str, upto: Position) -> Words {
        let [_, _, inbox] = self.keys_of(room);
        let mut words = words(["EVAL", scripts::DELIVERED, "1", &inbox]);
        words.extend([pack::netstring(upto.to_string().as_bytes()), text(upto.offset)]);
        words
    }

    fn keys_of(&self, room: &str) -> [String; 3] {
        self.room_keys(partition(room, self.partitions), room)
    }

    /// The keys of a room's position, its log and its inbox. In a cluster they stand beside the relay log.
    pub(super) fn room_keys(&self, partition: u16, room: &str) -> [String; 3] {
        ["meta", "log", "inbox"].map(|kind| format!("{}{{{partition}}}:{room}:{kind}", self.prefix))
    }

    /// The key of a message's identifier. Anybody may choose one, so it must not be able to make up the key of anything else.
    pub(super) fn identifier_key(&self, partition: u16, room: &str, id: &str) -> String {
        format!("{}id:{{{partition}}}:{}:{room}:{id}", self.prefix, room.len())
    }
}

pub(super) fn appended(messages: &[Posting], reply: Reply) -> Result<Answer, StoreError> {
    match reply {
        Reply::Bytes(_) if messages.iter().all(Posting::is_plain) => Ok(Answer::Appended(vec![None; messages.len()])),
        reply => {
            let position = |reply| {
                let text = bytes(reply)?;
                if text.is_empty() { Ok(None) } else { position(&text).map(Some) }
            };
            each(messages.len(), reply, position).map(Answer::Appended)
        }
    }
}

pub(super) fn positions(rooms: usize, reply: Reply) -> Result<Answer, StoreError> {
    each(rooms, reply, |reply| position(&bytes(reply)?)).map(Answer::Positions)
}

pub(super) fn page_of_log(query: Query, count: usize, reply: Reply) -> Result<Answer, StoreError> {
    let (head, entries_) = head_and(reply)?;
    let mut entries = entries(entries_)?;
    if matches!(query, Query::Newest | Query::Before(_)) {
        entries.reverse();
    }
    let message = |Entry { id, fields }: Entry| {
        let position = Position { epoch: head?.epoch, offset: id.millis, tag: u32::try_from(id.sequence).ok()? };
        let (_, packed) = fields.into_iter().find(|(name, _)| name.as_ref() == pack::FIELD.as_bytes())?;
        let [payload] = pack::unpack_all(packed)?;
        Some((position, payload))
    };
    let messages = entries.into_iter().filter_map(message).collect();
    Ok(Answer::Page(Page::of_log(query, messages, head.unwrap_or_default(), count)))
}

pub(super) fn page_of_inbox(count: usize, reply: Reply) -> Result<Answer, StoreError> {
    let (head, elements) = head_and(reply)?;
    let mut messages = Vec::new();
    for element in array(elements)? {
        let message = || {
            let [at, _, payload] = pack::unpack_all(bytes(element).ok()?)?;
            let at = position(&at).ok()?;
            (at.epoch == head?.epoch).then_some((at, payload))
        };
        messages.extend(message());
    }
    Ok(Answer::Page(Page::of_log(Query::Oldest, messages, head.unwrap_or_default(), count)))
}

pub(super) fn delivered(reply: Reply) -> Result<Answer, StoreError> {
    if bytes(reply)? == "OK" { Ok(Answer::Done) } else { Err(unexpected("not a confirmation")) }
}

/// The position of a room, where it has one, and what else was read.
fn head_and(reply: Reply) -> Result<(Option<Position>, Reply), StoreError> {
    let mut parts = array(reply)?.into_iter();
    let head = match parts.next() {
        Some(Reply::Nil) => None,
        Some(text) => position(&bytes(text)?).ok(),
        None => return Err(unexpected("no position")),
    };
    Ok((head, parts.next().unwrap_or(Reply::Nil)))
}

fn each<T>(count: usize, reply: Reply, read: impl Fn(Reply) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
    let items = array(reply)?;
    if items.len() != count {
        return Err(unexpected("a different number of answers"));
    }
    items.into_iter().map(read).collect()
}

fn position(text: &[u8]) -> Result<Position, StoreError> {
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| unexpected("not a position"))
}
