//! Operations on dead-letter streams, carried out in memory.

use std::sync::Arc;

use super::super::{Answer, Entry, Fields, LetterOp, MOST_FIELDS, Replayed};
use super::{Memory, Stream};
use crate::id::StreamId;
use crate::time::Time;

impl Memory {
    pub(super) fn work_on_letters(&mut self, now: Time, stream: &str, op: &LetterOp) -> Answer {
        match op {
            LetterOp::Read { from, to, count, newest_first } => {
                Answer::Entries(self.read_letters(stream, *from, *to, *count, *newest_first))
            }
            LetterOp::Count => Answer::Count(self.streams.get(stream).map_or(0, |stream| stream.entries.len() as u64)),
            LetterOp::Replay { source, letters } => {
                let replayed = letters.iter().map(|(id, fields)| self.replay(now, stream, source, *id, fields)).collect();
                self.wake(now, source);
                Answer::Replayed(replayed)
            }
            LetterOp::Delete(ids) => {
                let stream = self.streams.get_mut(stream);
                let count = stream.map_or(0, |stream| ids.iter().filter_map(|id| stream.entries.remove(id)).count());
                Answer::Count(count as u64)
            }
            LetterOp::DeleteAll => {
                let entries = self.streams.get_mut(stream).map(|stream| core::mem::take(&mut stream.entries));
                Answer::Count(entries.map_or(0, |entries| entries.len() as u64))
            }
        }
    }

    fn read_letters(&self, stream: &str, from: StreamId, to: StreamId, count: usize, newest_first: bool) -> Vec<Entry> {
        let Some(Stream { entries, .. }) = self.streams.get(stream).filter(|_| from <= to) else { return Vec::new() };
        let entry = |(id, fields): (&StreamId, &Fields)| Entry { id: *id, fields: fields.clone() };
        let range = entries.range(from..=to);
        match newest_first {
            false => range.take(count).map(entry).collect(),
            true => range.rev().take(count).map(entry).collect(),
        }
    }

    fn replay(&mut self, now: Time, stream: &str, source: &Arc<str>, id: StreamId, fields: &Fields) -> Replayed {
        match self.streams.get_mut(stream).and_then(|stream| stream.entries.remove(&id)) {
            Some(_) => Replayed::Added(self.append(now, source, fields.iter().take(MOST_FIELDS).cloned().collect(), None)),
            None => Replayed::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ticket;
    use crate::store::{Lane, StoreOp};
    use bytes::Bytes;

    fn work(memory: &mut Memory, op: LetterOp) -> Answer {
        let client = memory.connect("n");
        memory.submit(Time::ZERO, client, Lane::Command, Ticket(1), StoreOp::Letters { stream: "d".into(), op });
        memory.poll_answer().expect("it is answered at once").2.expect("it works")
    }

    fn fields(value: &'static str) -> Fields {
        vec![(Bytes::from("n"), Bytes::from(value))]
    }

    fn with_letters() -> (Memory, Vec<StreamId>) {
        let mut memory = Memory::new(10);
        let ids = ["1", "2", "3", "4"].map(|value| memory.add(Time::ZERO, "d", fields(value)));
        (memory, ids.into())
    }

    #[test]
    fn letters_are_read_from_either_end() {
        let (mut memory, ids) = with_letters();
        let mut read = |from, to, count, newest_first| match work(&mut memory, LetterOp::Read { from, to, count, newest_first }) {
            Answer::Entries(entries) => entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(ids[1], ids[3], 2, false), ids[1..3]);
        assert_eq!(read(ids[0], ids[2], 2, true), [ids[2], ids[1]]);
        assert_eq!(read(ids[2], ids[1], 9, true), [], "nothing lies between");
    }

    #[test]
    fn a_letter_is_replayed_once() {
        let (mut memory, ids) = with_letters();
        let replay = || LetterOp::Replay { source: "s".into(), letters: vec![(ids[0], fields("1")), (ids[2], fields("3"))] };
        let Answer::Replayed(first) = work(&mut memory, replay()) else { panic!("not outcomes") };
        assert!(matches!(first[..], [Replayed::Added(_), Replayed::Added(_)]), "{first:?}");
        assert_eq!(work(&mut memory, replay()), Answer::Replayed(vec![Replayed::Gone, Replayed::Gone]));
        let values: Vec<_> = memory.entries("s").map(|(_, fields)| fields.clone()).collect();
        assert_eq!(values, [fields("1"), fields("3")]);
        assert_eq!(work(&mut memory, LetterOp::Count), Answer::Count(2));
    }

    #[test]
    fn deleting_counts_what_was_there() {
        let (mut memory, ids) = with_letters();
        let op = || LetterOp::Delete(vec![ids[0], ids[1], StreamId::ZERO]);
        assert_eq!(work(&mut memory, op()), Answer::Count(2));
        assert_eq!(work(&mut memory, op()), Answer::Count(0));
        assert_eq!(work(&mut memory, LetterOp::DeleteAll), Answer::Count(2));
        assert_eq!(work(&mut memory, LetterOp::Count), Answer::Count(0));
    }
}
