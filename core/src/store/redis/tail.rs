//! Operations on publishers' streams, in the words of Redis.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::super::tail::{STREAM_LENGTH, STREAM_TTL, stream_position, tag};
use super::super::{Answer, Query, StoreError, TailAnswer, TailOp};
use super::{Reply, Words, array, bytes, entries, lifetime, per_stream, text, unexpected, word, words};
use crate::id::StreamId;

/// Appends to a stream, and remembers it under an identifier.
///
/// `KEYS`: the stream, and the key of the identifier where there is one. `ARGV`: about how many entries to keep, for how many
/// seconds, the tag, for how many milliseconds the identifier is remembered, then the fields.
/// Returns the entry's identifier, `-` and the tag: of this entry, or of the one that was appended under the identifier before.
const APPEND: &str = r"
local known = KEYS[2] and redis.call('GET', KEYS[2])
if known then return known end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[1], ARGV[2])
local position = id .. '-' .. ARGV[3]
if KEYS[2] then redis.call('SET', KEYS[2], position, 'PX', ARGV[4]) end
return position
";

/// The commands of an operation. `beside` makes the key of an identifier of a stream.
pub(super) fn commands(beside: impl Fn(&str, &str) -> String, op: &TailOp) -> Vec<Words> {
    match op {
        TailOp::Tips { keys, count } => {
            let count = count.to_string();
            at_one_moment(keys.iter().map(|key| words(["XREVRANGE", key, "+", "-", "COUNT", &count])))
        }
        TailOp::Read { cursors, count, block } => {
            let mut words = words(["XREAD", "COUNT", &count.to_string()]);
            words.reserve(3 + cursors.len() * 2);
            // Redis would wait for ever where it is asked to wait for no time.
            if !block.is_zero() {
                words.extend([word("BLOCK"), text(block.as_millis().max(1))]);
            }
            words.push(word("STREAMS"));
            words.extend(cursors.iter().map(|(key, _)| Bytes::copy_from_slice(key.as_bytes())));
            // There may be thousands of them: one piece of memory for all.
            let mut memory = BytesMut::with_capacity(cursors.len() * 24);
            words.extend(cursors.iter().map(|(_, StreamId { millis, sequence })| {
                memory.put_slice(itoa::Buffer::new().format(*millis).as_bytes());
                memory.put_u8(b'-');
                memory.put_slice(itoa::Buffer::new().format(*sequence).as_bytes());
                memory.split().freeze()
            }));
            vec![words]
        }
        TailOp::Row { key, query, count } => {
            let (count, last) = (count.to_string(), words(["XREVRANGE", key, "+", "-", "COUNT", "1"]));
            let row = match query {
                Query::After(position) => words(["XRANGE", key, &position.entry().to_string(), "+", "COUNT", &count]),
                Query::Before(position) => {
                    words(["XREVRANGE", key, &position.entry().previous().to_string(), "-", "COUNT", &count])
                }
                Query::Newest => words(["XREVRANGE", key, "+", "-", "COUNT", &count]),
                Query::Oldest => words(["XRANGE", key, "-", "+", "COUNT", &count]),
            };
            at_one_moment([row, last].into_iter())
        }
        TailOp::Value { key } => vec![words(["GET", key])],
        TailOp::Append { key, fields, once } => {
            let mut words = words(["EVAL", APPEND, if once.is_some() { "2" } else { "1" }, key]);
            // In a cluster it stands beside the stream.
            words.extend(once.as_ref().map(|once| text(beside(key, &once.id))));
            let window = once.as_ref().map(|once| once.window).unwrap_or_default();
            words.extend([text(STREAM_LENGTH), text(STREAM_TTL.as_secs()), text(tag(fields)), text(lifetime(window))]);
            words.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
            vec![words]
        }
    }
}

pub(super) fn answer(op: &TailOp, reply: Reply) -> Result<Answer, StoreError> {
    let answer = match op {
        TailOp::Tips { keys, .. } => {
            let tips: Vec<_> = array(reply)?.into_iter().map(|tips| entries(tips).map(reversed)).collect();
            if tips.len() != keys.len() {
                return Err(unexpected("a different number of streams"));
            }
            TailAnswer::Tips(tips)
        }
        TailOp::Read { .. } => {
            let key = |key: Bytes| str::from_utf8(&key).map(Into::into).map_err(|_| unexpected("the key of another stream"));
            let streams = per_stream(reply)?.into_iter().map(|(name, entries)| Ok((key(name)?, entries)));
            TailAnswer::Entries(streams.collect::<Result<_, _>>()?)
        }
        TailOp::Row { query, .. } => {
            let mut parts = array(reply)?.into_iter();
            let mut next = || entries(parts.next().unwrap_or(Reply::Nil));
            let (row, last) = (next()?, next()?.pop());
            let entries = match query {
                Query::Before(_) | Query::Newest => reversed(row),
                Query::After(_) | Query::Oldest => row,
            };
            TailAnswer::Row { entries, last }
        }
        TailOp::Value { .. } => TailAnswer::Value(match reply {
            Reply::Nil => None,
            value => Some(bytes(value)?),
        }),
        TailOp::Append { .. } => {
            let position = bytes(reply)?;
            let parts = str::from_utf8(&position).ok().and_then(|text| text.rsplit_once('-'));
            let position = parts.and_then(|(id, tag)| Some(stream_position(id.parse().ok()?, tag.parse().ok()?)));
            return position.map(|position| Answer::Appended(vec![Some(position)])).ok_or_else(|| unexpected("not a position"));
        }
    };
    Ok(Answer::Tail(answer))
}

/// One reply with the replies of all.
fn at_one_moment(commands: impl Iterator<Item = Words>) -> Vec<Words> {
    [vec![word("MULTI")]].into_iter().chain(commands).chain([vec![word("EXEC")]]).collect()
}

fn reversed<T>(mut items: Vec<T>) -> Vec<T> {
    items.reverse();
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;
    use crate::store::Once;
    use core::time::Duration;

    const AT: Position = Position { epoch: 5, offset: 6, tag: 7 };

    fn row(query: Query) -> TailOp {
        TailOp::Row { key: "k".into(), query, count: 3 }
    }

    fn append(once: Option<Once>) -> TailOp {
        TailOp::Append { key: "k".into(), fields: vec![("message".into(), "{}".into())], once }
    }

    fn spoken(op: &TailOp) -> String {
        let line =
            |words: Words| words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ");
        commands(|key, id| format!("rc:once:{{{key}}}:{id}"), op).into_iter().map(line).collect::<Vec<_>>().join("; ")
    }

    fn string(text: &'static str) -> Reply {
        Reply::Bytes(text.into())
    }

    fn entry(id: &'static str) -> Reply {
        Reply::Array(vec![string(id), Reply::Array(vec![string("message"), string("{}")])])
    }

    #[test]
    fn operations_become_the_documented_commands() {
        let read = TailOp::Read {
            cursors: vec![("a".into(), StreamId::ZERO), ("b".into(), AT.entry())],
            count: 7,
            block: Duration::from_secs(5),
        };
        let look = TailOp::Read { cursors: vec![("a".into(), StreamId::ZERO)], count: 7, block: Duration::ZERO };
        let tips = TailOp::Tips { keys: vec!["a".into(), "b".into()], count: 2 };
        for (op, expected) in [
            (read, "XREAD COUNT 7 BLOCK 5000 STREAMS a b 0-0 5-6"),
            (look, "XREAD COUNT 7 STREAMS a 0-0"),
            (tips, "MULTI; XREVRANGE a + - COUNT 2; XREVRANGE b + - COUNT 2; EXEC"),
            (row(Query::After(AT)), "MULTI; XRANGE k 5-6 + COUNT 3; XREVRANGE k + - COUNT 1; EXEC"),
            (row(Query::Before(AT)), "MULTI; XREVRANGE k 5-5 - COUNT 3; XREVRANGE k + - COUNT 1; EXEC"),
            (row(Query::Newest), "MULTI; XREVRANGE k + - COUNT 3; XREVRANGE k + - COUNT 1; EXEC"),
            (row(Query::Oldest), "MULTI; XRANGE k - + COUNT 3; XREVRANGE k + - COUNT 1; EXEC"),
            (TailOp::Value { key: "k".into() }, "GET k"),
        ] {
            assert_eq!(spoken(&op), expected);
        }
    }

    #[test]
    fn an_append_is_given_its_keys_and_arguments() {
        let tag = tag(&vec![("message".into(), "{}".into())]);
        let once = Once { id: "m-1".into(), window: Duration::from_secs(3) };
        for (op, expected) in [
            (append(None), format!("return position\n 1 k 1000 86400 {tag} 1 message {{}}")),
            (append(Some(once)), format!("return position\n 2 k rc:once:{{k}}:m-1 1000 86400 {tag} 3000 message {{}}")),
        ] {
            assert!(spoken(&op).ends_with(&expected), "{}", spoken(&op));
        }
        assert_eq!(answer(&append(None), string("5-6-7")), Ok(Answer::Appended(vec![Some(AT)])));
    }

    #[test]
    fn rows_come_oldest_first() {
        let reply =
            |ids: [&'static str; 2]| Reply::Array(vec![Reply::Array(ids.map(entry).into()), Reply::Array(vec![entry("9-0")])]);
        for (query, ids) in [(Query::Newest, ["6-0", "5-0"]), (Query::Oldest, ["5-0", "6-0"])] {
            let Ok(Answer::Tail(TailAnswer::Row { entries, last })) = answer(&row(query), reply(ids)) else { panic!("no row") };
            let ids: Vec<_> = entries.iter().chain(&last).map(|entry| entry.id.to_string()).collect();
            assert_eq!(ids, ["5-0", "6-0", "9-0"]);
        }
    }

    #[test]
    fn a_stream_that_cannot_be_read_stands_alone() {
        let op = TailOp::Tips { keys: vec!["a".into(), "b".into()], count: 1 };
        let refused = || Reply::Error(StoreError::Refused("WRONGTYPE".into()));
        let reply = Reply::Array(vec![refused(), Reply::Array(vec![entry("5-6")])]);
        let Ok(Answer::Tail(TailAnswer::Tips(tips))) = answer(&op, reply) else { panic!("no tips") };
        assert!(tips[0].is_err());
        assert_eq!(tips[1].as_ref().unwrap()[0].id, AT.entry());
        assert!(answer(&op, Reply::Array(vec![refused()])).is_err(), "a stream is missing");
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        let ops = [
            TailOp::Tips { keys: vec!["a".into()], count: 1 },
            TailOp::Read { cursors: vec![], count: 1, block: Duration::ZERO },
            row(Query::Newest),
            append(None),
        ];
        let nested = Reply::Array(vec![Reply::Array(vec![Reply::Int(1)]), Reply::Nil]);
        for op in &ops {
            for reply in [Reply::Int(1), string("x"), nested.clone()] {
                assert!(answer(op, reply).is_err(), "{op:?}");
            }
        }
        assert!(answer(&TailOp::Value { key: "k".into() }, Reply::Int(1)).is_err());
    }
}
