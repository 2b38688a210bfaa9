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
        self.append_packed(partition, pack::pack(messages))
    }

    pub(super) fn append_packed(&self, partition: u16, packed: Bytes) -> Words {
        let length = self.relay_length.to_string();
        let mut words = words(["XADD", &self.relay_key(partition), "MAXLEN", "~", &length, "*", pack::FIELD]);
        words.push(packed);
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
    let (head, found) = head_and(reply)?;
    // Asked for none, Redis says nothing.
    let mut entries = if found == Reply::Nil { Vec::new() } else { entries(found)? };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::store::{Once, Place, StoreOp};

    fn redis() -> Redis {
        let mut config = Config::default();
        config.relay.partitions = 1;
        Redis::new(&config)
    }

    fn spoken(op: &StoreOp) -> String {
        let commands = redis().commands(op);
        let words = commands.concat();
        let word = |word: &Bytes| if word.is_empty() { "''".to_owned() } else { String::from_utf8_lossy(word).into_owned() };
        let words: Vec<String> = words.iter().map(word).collect();
        let scripts = [
            (scripts::APPEND, "append"),
            (scripts::POSITIONS, "positions"),
            (scripts::INBOX, "inbox"),
            (scripts::DELIVERED, "delivered"),
        ];
        scripts.iter().fold(words.join(" "), |words, (script, name)| words.replace(script, name))
    }

    fn at(offset: u64) -> Position {
        Position { epoch: 0x1f, offset, tag: 0xa0 }
    }

    fn kept(room: &str, place: Place, tag: u32) -> Posting {
        let kept = Kept { place, size: 5, ttl: Duration::from_secs(90_000), epoch: 0x2e, tag, at: UnixMillis(77) };
        Posting { kept: Some(kept), ..Posting::plain(room.into(), "{}".into()) }
    }

    fn string(text: &str) -> Reply {
        Reply::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn what_is_remembered_passes_through_a_script_with_each_rule_once() {
        let once = |posting| Posting { once: Some(Once { id: "7".into(), window: Duration::from_secs(9) }), ..posting };
        let messages = vec![
            kept("r", Place::Log, 16),
            once(kept("r", Place::Log, 17)),
            kept("i", Place::Inbox, 18),
            Posting::plain("p".into(), "x".into()),
            kept("r", Place::Log, 19),
            once(Posting::plain("p".into(), "x".into())),
        ];
        assert_eq!(
            spoken(&StoreOp::Append { partition: 3, messages }),
            "EVAL append 9 rc:relay:{3} rc:{3}:r:meta rc:{3}:r:log rc:{3}:r:inbox rc:id:{3}:1:r:7 \
             rc:{3}:i:meta rc:{3}:i:log rc:{3}:i:inbox rc:id:{3}:1:p:7 100000 5 \
             1:r, 2 log 5 90000000 180000000 2e '' 1:r, 2 log 5 90000000 180000000 2e 9000 \
             1:i, 6 inbox 5 90000000 180000000 2e '' 1:p, 0 '' '' '' '' '' '' 1:p, 0 '' '' '' '' '' 9000 \
             1 2:{}, 16 '' '' 2 2:{}, 17 '' 5 3 2:{}, 18 2:77, '' 4 1:x, '' '' '' 1 2:{}, 19 '' '' 5 1:x, '' '' 9"
        );
    }

    #[test]
    fn a_page_of_a_log_is_a_transaction() {
        for (query, expected) in [
            (Query::After(at(3)), "XRANGE rc:{0}:r:log 3-0 + COUNT 11"),
            (Query::After(at(0)), "XRANGE rc:{0}:r:log 0-0 + COUNT 10"),
            (Query::Before(at(3)), "XREVRANGE rc:{0}:r:log 2 - COUNT 10"),
            (Query::Before(at(0)), "XREVRANGE rc:{0}:r:log 0 - COUNT 10"),
            (Query::Newest, "XREVRANGE rc:{0}:r:log + - COUNT 10"),
            (Query::Oldest, "XRANGE rc:{0}:r:log - + COUNT 10"),
        ] {
            let op = StoreOp::Page { room: "r".into(), place: Place::Log, query, since: UnixMillis(7), count: 10 };
            assert_eq!(spoken(&op), format!("MULTI GET rc:{{0}}:r:meta {expected} EXEC"));
        }
    }

    #[test]
    fn everything_else_is_a_script() {
        let room = || RoomName::from("r");
        let oldest = StoreOp::Page { room: room(), place: Place::Inbox, query: Query::Oldest, since: UnixMillis(7), count: 10 };
        assert_eq!(spoken(&oldest), "EVAL inbox 2 rc:{0}:r:meta rc:{0}:r:inbox 10 7");
        assert_eq!(spoken(&StoreOp::Delivered { room: room(), upto: at(3) }), "EVAL delivered 1 rc:{0}:r:inbox 7:1f.3.a0, 3");
        let rooms = vec![(room(), Duration::from_secs(1)), ("s".into(), Duration::from_secs(90_000))];
        assert_eq!(
            spoken(&StoreOp::Positions { partition: 0, rooms, epoch: 0x2e }),
            "EVAL positions 6 rc:{0}:r:meta rc:{0}:r:log rc:{0}:r:inbox rc:{0}:s:meta rc:{0}:s:log rc:{0}:s:inbox \
             2e.0.0 86400000 180000000"
        );
    }

    #[test]
    fn no_identifier_makes_up_the_key_of_anything_else() {
        let redis = redis();
        let of = |room, id| redis.identifier_key(0, room, id);
        assert_ne!(of("a", "b:c"), of("a:b", "c"));
        assert_ne!(of("a", "1:b:c"), of("a:1:b", "c"));
        assert!(!of("a", "meta").starts_with("rc:{"), "as all keys of rooms do");
    }

    #[test]
    fn what_cannot_be_read_is_missing_in_the_row() {
        let entry =
            |id: &str, field: &str, value: &str| Reply::Array(vec![string(id), Reply::Array(vec![string(field), string(value)])]);
        let read = |middle: Reply| {
            let entries = vec![entry("1-5", "m", "1:a,"), middle, entry("3-160", "m", "1:c,")];
            let reply = Reply::Array(vec![string("1f.3.a0"), Reply::Array(entries)]);
            let Ok(Answer::Page(page)) = page_of_log(Query::Oldest, 9, reply) else { panic!("no page") };
            (page.messages.len(), page.whole)
        };
        assert_eq!(read(entry("2-6", "m", "1:b,")), (3, true));
        for broken in [entry("2-6", "n", "1:b,"), entry("2-6", "m", "1:bc"), entry("2-4294967296", "m", "1:b,")] {
            assert_eq!(read(broken), (2, false));
        }
        let inbox = |element: &str| {
            let elements = vec![string("7:1f.1.a0,1:7,1:a,"), string(element)];
            let reply = Reply::Array(vec![string("1f.3.a0"), Reply::Array(elements)]);
            let Ok(Answer::Page(page)) = page_of_inbox(9, reply) else { panic!("no page") };
            page.messages.len()
        };
        assert_eq!(inbox("7:1f.2.a0,1:7,1:b,"), 2);
        for broken in ["", "x", "7:2f.2.a0,1:7,1:b,", "5:1f.2.,1:7,1:b,", "7:1f.2.a0,1:7,1:b,x"] {
            assert_eq!(inbox(broken), 1, "{broken}");
        }
    }

    #[test]
    fn a_room_without_a_position_has_no_messages() {
        for head in [Reply::Nil, string("nonsense")] {
            let entry = Reply::Array(vec![string("1-5"), Reply::Array(vec![string("m"), string("1:a,")])]);
            let reply = Reply::Array(vec![head, Reply::Array(vec![entry])]);
            let Ok(Answer::Page(page)) = page_of_log(Query::Newest, 9, reply) else { panic!("no page") };
            assert_eq!((page.messages.len(), page.head), (0, Position::default()));
        }
    }

    #[test]
    fn each_message_has_a_position_or_none() {
        let messages = [kept("r", Place::Log, 1), Posting::plain("p".into(), "x".into())];
        let reply = |texts: &[&str]| Reply::Array(texts.iter().map(|text| string(text)).collect());
        assert_eq!(appended(&messages, reply(&["1f.3.a0", ""])), Ok(Answer::Appended(vec![Some(at(3)), None])));
        assert_eq!(appended(&messages[1..], string("1-0")), Ok(Answer::Appended(vec![None])));
        for nonsense in [reply(&["1f.3.a0"]), reply(&["1f.3", ""]), string("1-0"), Reply::Nil] {
            assert!(appended(&messages, nonsense).is_err());
        }
        assert_eq!(positions(1, reply(&["1f.3.a0"])), Ok(Answer::Positions(vec![at(3)])));
        assert!(positions(1, reply(&[""])).is_err());
    }
}
