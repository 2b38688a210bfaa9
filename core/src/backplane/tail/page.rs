//! What publishers' streams hold, read for hubs.

use bytes::Bytes;

use super::super::Core;
use super::super::questions::Purpose;
use super::streams::message;
use super::{Errand, Tail};
use crate::door::{ReadId, Tell, Unavailable};
use crate::id::ShardId;
use crate::message::RoomName;
use crate::position::Position;
use crate::store::{Entry, Lane, Page, Query, StoreError, StoreOp, TailAnswer, TailOp};
use crate::time::Time;

/// A hub that reads what a stream holds.
#[derive(Debug)]
pub(in super::super) struct Reading {
    shard: ShardId,
    read: ReadId,
    room: RoomName,
    /// What the hub asked for.
    query: Query,
    count: usize,
    /// Where the reading goes on: what was asked for begins with many entries that are no messages.
    from: Option<Position>,
    /// How far the stream had been read then.
    cursor: Option<Position>,
}

impl Tail {
    /// A hub wants to read what a stream holds.
    pub(in super::super) fn page(
        &self,
        core: &mut Core,
        now: Time,
        (shard, read): (ShardId, ReadId),
        room: RoomName,
        query: Query,
        count: usize,
    ) {
        let key = core.config.stream(&room).map(|(stream, id)| stream.key_of(id));
        let cursor = key.and_then(|key| self.streams.get(&key)?.cursor()).map(|(_, cursor)| cursor);
        ask(core, now, Reading { shard, read, room, query, count: count.max(1), from: None, cursor });
    }

    pub(super) fn page_read(&mut self, core: &mut Core, now: Time, reading: Reading, answer: Result<TailAnswer, StoreError>) {
        let (shard, read) = (reading.shard, reading.read);
        let key = core.config.stream(&reading.room).map(|(stream, id)| stream.key_of(id));
        let (Some(key), Ok(TailAnswer::Row { entries, last })) = (key, answer) else {
            return core.tell(shard, Tell::Page { read, result: Err(Unavailable) });
        };
        self.doubt(core, now, &key, reading.cursor, last.as_ref());
        let mut reported = self.streams.get_mut(&key).map(|stream| &mut stream.reported);
        let decode = |entry: &Entry| message(core, &reading.room, &key, entry, reported.as_deref_mut());
        match reading.page(entries, last, decode) {
            Ok(page) => core.tell(shard, Tell::Page { read, result: Ok(page) }),
            Err(from) => ask(core, now, Reading { from: Some(from), ..reading }),
        }
    }

    /// A stream that ends before what hubs were told of is another one by now. Those who catch up would wait for its old end.
    /// Where entries have come since it was asked for, the page is older than what is known.
    fn doubt(&mut self, core: &mut Core, now: Time, key: &str, before: Option<Position>, last: Option<&Entry>) {
        let Some(stream) = self.streams.get(key).filter(|stream| stream.is_readable()) else { return };
        let cursor = stream.cursor().map(|(_, cursor)| cursor).filter(|cursor| Some(*cursor) == before);
        if let (Some(cursor), Some(last)) = (cursor, last)
            && last.position() != cursor
            && last.id <= cursor.entry()
        {
            self.prove(core, now, key);
        }
    }
}

fn ask(core: &mut Core, now: Time, reading: Reading) {
    let Some((stream, id)) = core.config.stream(&reading.room) else {
        return core.tell(reading.shard, Tell::Page { read: reading.read, result: Err(Unavailable) });
    };
    let query = reading.from.map_or(reading.query, Query::After);
    let op = TailOp::Row { key: stream.key_of(id).into(), query, count: reading.entries() };
    core.ask(now, Lane::Command, Purpose::Tail(Errand::Page(Box::new(reading))), StoreOp::Tail(op));
}

impl Reading {
    /// How many entries are asked for: one more where the one at the position itself comes with them.
    fn entries(&self) -> usize {
        let with_proof = self.from.is_some() || matches!(self.query, Query::After(_));
        self.count.saturating_add(usize::from(with_proof))
    }

    /// The page, or where the reading goes on, because none of many entries is a message.
    ///
    /// A stream loses entries at its old end only. So all that follows an entry is still there as long as the entry is; and where
    /// it is not, a stream may have been deleted and begun anew. Of a room without a message nobody can tell: the page after its
    /// position, zero, is never proven to be whole.
    fn page(
        &self,
        mut entries: Vec<Entry>,
        last: Option<Entry>,
        mut decode: impl FnMut(&Entry) -> Option<Bytes>,
    ) -> Result<Page, Position> {
        let is_more = entries.last().is_some_and(|end| last.as_ref().is_some_and(|last| last.id != end.id));
        let after = match (self.from, self.query) {
            (Some(position), _) | (None, Query::After(position)) => Some(position),
            (None, Query::Before(_) | Query::Newest | Query::Oldest) => None,
        };
        let whole = after.is_none_or(|after| entries.first().map(Entry::position) == Some(after));
        if let (Some(after), Some(first)) = (after, entries.first())
            && first.id == after.entry()
        {
            entries.remove(0);
        }
        let messages: Vec<(Position, Bytes)> =
            entries.iter().filter_map(|entry| Some((entry.position(), decode(entry)?))).collect();
        let is_backwards = matches!(self.query, Query::Before(_) | Query::Newest);
        if let (true, true, false, Some(end)) = (messages.is_empty(), is_more, is_backwards, entries.last())
            && whole
        {
            return Err(end.position());
        }
        let end = messages.last().map(|(position, _)| *position);
        let is_end = self.query == Query::Newest || (!is_backwards && !is_more);
        let head = match (end, self.query) {
            (Some(end), _) if is_end => end,
            (None, Query::After(position)) if is_end && whole => position,
            _ => last.filter(|last| !is_end || decode(last).is_some()).map(|last| last.position()).unwrap_or_default(),
        };
        Ok(Page { messages, head, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StreamId;

    /// An entry that is a message, unless its number is negative.
    fn entry(number: i64) -> Entry {
        let id = StreamId { millis: number.unsigned_abs(), sequence: 0 };
        Entry { id, fields: vec![("n".into(), Bytes::from(number.to_string()))] }
    }

    fn at(number: i64) -> Position {
        entry(number).position()
    }

    fn reading(query: Query) -> Reading {
        Reading { shard: ShardId(0), read: ReadId(1), room: "job:1".into(), query, count: 3, from: None, cursor: None }
    }

    /// The page of three messages at the most that a stream gives: its messages, its head and whether it is whole.
    fn page(reading: &Reading, stream: &[i64]) -> Result<(Vec<Position>, Position, bool), Position> {
        let row = stream.iter().map(|number| entry(*number));
        let count = reading.entries();
        let entries: Vec<Entry> = match reading.from.map_or(reading.query, Query::After) {
            Query::After(position) => row.filter(|entry| entry.id >= position.entry()).take(count).collect(),
            Query::Oldest => row.take(count).collect(),
            Query::Newest => row.skip(stream.len().saturating_sub(count)).collect(),
            Query::Before(position) => {
                let before: Vec<Entry> = row.filter(|entry| entry.id < position.entry()).collect();
                before[before.len().saturating_sub(count)..].to_vec()
            }
        };
        let last = stream.last().map(|number| entry(*number));
        let decode = |entry: &Entry| (!entry.fields[0].1.starts_with(b"-")).then(|| entry.fields[0].1.clone());
        let Page { messages, head, whole } = reading.page(entries, last, decode)?;
        Ok((messages.into_iter().map(|(position, _)| position).collect(), head, whole))
    }

    #[test]
    fn what_follows_an_entry_is_whole_as_long_as_the_entry_is_there() {
        let zero = Position::default();
        let forked = Position { tag: 1, ..at(3) };
        for (after, stream, messages, head, whole) in [
            (at(3), &[3, 4, 5][..], &[4, 5][..], at(5), true),
            (at(1), &[1, 2, 3, 4, 5], &[2, 3, 4], at(5), true),
            (at(5), &[3, 4, 5], &[], at(5), true),
            // It was trimmed, or is another one.
            (at(3), &[4, 5], &[4, 5], at(5), false),
            (forked, &[3, 4], &[4], at(4), false),
            // The stream was deleted, and begun anew with lower identifiers.
            (at(9), &[], &[], zero, false),
            (at(9), &[1, 2], &[], at(2), false),
            // Nobody can tell whether there was a stream before.
            (zero, &[1, 2], &[1, 2], at(2), false),
            (zero, &[], &[], zero, false),
        ] {
            let messages = messages.iter().map(|number| at(*number)).collect();
            assert_eq!(page(&reading(Query::After(after)), stream), Ok((messages, head, whole)), "{after} in {stream:?}");
        }
    }

    #[test]
    fn what_is_no_message_does_not_exist() {
        for (query, stream, messages, head) in [
            (Query::After(at(1)), &[1, -2, 3, -4][..], &[3][..], at(3)),
            (Query::After(at(1)), &[1, -2], &[], at(1)),
            (Query::Newest, &[1, 2, -3], &[1, 2], at(2)),
            (Query::Newest, &[1, -2, -3, -4], &[], Position::default()),
            (Query::Oldest, &[-1, 2, -3], &[2], at(2)),
            (Query::Before(at(4)), &[1, -2, 3, 4], &[1, 3], at(4)),
        ] {
            let messages = messages.iter().map(|number| at(*number)).collect();
            assert_eq!(page(&reading(query), stream), Ok((messages, head, true)), "{query:?} of {stream:?}");
        }
    }

    #[test]
    fn a_row_of_what_is_no_message_is_read_on() {
        let stream = [1, -2, -3, -4, 5, 6];
        let first = reading(Query::After(at(1)));
        assert_eq!(page(&first, &stream), Err(at(-4)));
        let next = Reading { from: Some(at(-4)), ..first };
        assert_eq!(page(&next, &stream), Ok((vec![at(5), at(6)], at(6), true)));
        assert_eq!(page(&next, &[1, -2, -3, -4]), Ok((vec![], at(1), true)), "it stands where it stood");
        assert_eq!(page(&next, &stream[4..]), Ok((vec![at(5), at(6)], at(6), false)), "meanwhile it was trimmed");
        assert_eq!(page(&reading(Query::Oldest), &stream[1..]), Err(at(-4)));
    }
}
