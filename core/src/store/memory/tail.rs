//! Operations on publishers' streams, carried out in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::super::tail::{STREAM_LENGTH, STREAM_TTL, stream_position, tag};
use super::super::{Answer, Entry, Fields, Once, Query, StoreError, TailAnswer, TailOp};
use super::{Memory, full};
use crate::id::StreamId;
use crate::position::Position;
use crate::time::Time;

/// What is kept beside the streams themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Tails {
    values: BTreeMap<Arc<str>, Bytes>,
    /// Where the message stands that was appended under an identifier.
    once: BTreeMap<(Arc<str>, Box<str>), Position>,
    /// Until when each stream that was appended to lives.
    lives: BTreeMap<Arc<str>, Time>,
    /// What ends, and when.
    ends: BTreeSet<(Time, Mortal)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mortal {
    Stream(Arc<str>),
    Once(Arc<str>, Box<str>),
}

impl Memory {
    /// Sets a value, as any publisher would.
    pub fn set_value(&mut self, key: &str, value: &str) {
        self.tails.values.insert(key.into(), Bytes::copy_from_slice(value.as_bytes()));
    }

    /// Adds an entry under an identifier that the publisher has chosen. One that is not behind the last one's is not taken.
    pub fn add_as(&mut self, now: Time, key: &str, id: StreamId, fields: Fields) {
        let stream = self.streams.entry(key.into()).or_default();
        if id > stream.last {
            stream.last = id;
            stream.entries.insert(id, fields);
            self.wake(now, key);
        }
    }

    /// Whether there is a stream of this key.
    pub fn exists(&self, key: &str) -> bool {
        self.streams.contains_key(key)
    }

    /// Deletes a stream. Those who wait for an entry of it go on to wait.
    pub fn delete(&mut self, key: &str) {
        self.streams.remove(key);
        self.end_group_reads(|group| *group.stream == *key);
    }

    /// The answer, or nothing where the operation has to wait.
    pub(super) fn tail(&mut self, now: Time, op: &TailOp) -> Option<Result<Answer, StoreError>> {
        self.end_lives(now);
        let answer = match op {
            TailOp::Tips { keys, count } => {
                TailAnswer::Tips(keys.iter().map(|key| self.row(key, Query::Newest, *count)).collect())
            }
            TailOp::Read { cursors, count, .. } => match self.beyond(cursors, *count) {
                Ok(TailAnswer::Entries(streams)) if streams.is_empty() => return None,
                Ok(streams) => streams,
                Err(error) => return Some(Err(error)),
            },
            TailOp::Row { key, query, count } => match (self.row(key, *query, *count), self.row(key, Query::Newest, 1)) {
                (Ok(entries), Ok(mut last)) => TailAnswer::Row { entries, last: last.pop() },
                (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
            },
            TailOp::Value { key } => TailAnswer::Value(self.tails.values.get(key).cloned()),
            TailOp::Append { key, fields, once } => return Some(self.append_to_tail(now, key, fields, once.as_ref())),
        };
        Some(Ok(Answer::Tail(answer)))
    }

    fn beyond(&self, cursors: &[(Arc<str>, StreamId)], count: usize) -> Result<TailAnswer, StoreError> {
        let mut streams = Vec::new();
        for (key, cursor) in cursors {
            self.check_readable(key)?;
            let new: Vec<Entry> = self.entries_after(key, *cursor).take(count).map(entry).collect();
            if !new.is_empty() {
                streams.push((key.clone(), new));
            }
        }
        Ok(TailAnswer::Entries(streams))
    }

    fn row(&self, key: &str, query: Query, count: usize) -> Result<Vec<Entry>, StoreError> {
        self.check_readable(key)?;
        let Some(stream) = self.streams.get(key) else { return Ok(Vec::new()) };
        let all = &stream.entries;
        let newest = |to: StreamId| {
            let mut newest: Vec<Entry> = all.range(..=to).rev().take(count).map(|(id, fields)| entry((*id, fields))).collect();
            newest.reverse();
            newest
        };
        let oldest = |from: StreamId| all.range(from..).take(count).map(|(id, fields)| entry((*id, fields))).collect();
        Ok(match query {
            Query::After(position) => oldest(position.entry()),
            Query::Before(position) => newest(position.entry().previous()),
            Query::Newest => newest(StreamId::LAST),
            Query::Oldest => oldest(StreamId::ZERO),
        })
    }

    fn append_to_tail(&mut self, now: Time, key: &Arc<str>, fields: &Fields, once: Option<&Once>) -> Result<Answer, StoreError> {
        if self.is_full {
            return Err(full());
        }
        self.check_readable(key)?;
        let name = once.map(|once| (key.clone(), once.id.clone()));
        if let Some(known) = name.as_ref().and_then(|name| self.tails.once.get(name)) {
            return Ok(Answer::Appended(vec![Some(*known)]));
        }
        let position = stream_position(self.append(now, key, fields.clone(), Some(STREAM_LENGTH)), tag(fields));
        let Tails { once: known, lives, ends, .. } = &mut self.tails;
        if let Some(before) = lives.insert(key.clone(), now + STREAM_TTL) {
            ends.remove(&(before, Mortal::Stream(key.clone())));
        }
        ends.insert((now + STREAM_TTL, Mortal::Stream(key.clone())));
        if let Some((name, once)) = name.zip(once) {
            ends.insert((now + once.window, Mortal::Once(name.0.clone(), name.1.clone())));
            known.insert(name, position);
        }
        self.wake(now, key);
        Ok(Answer::Appended(vec![Some(position)]))
    }

    /// Something else than a stream may stand in its place.
    fn check_readable(&self, key: &str) -> Result<(), StoreError> {
        if self.refused.contains(key) { Err(StoreError::Refused("WRONGTYPE".into())) } else { Ok(()) }
    }

    fn end_lives(&mut self, now: Time) {
        let Memory { tails: Tails { once, lives, ends, .. }, streams, .. } = self;
        while ends.first().is_some_and(|(at, _)| *at <= now) {
            match ends.pop_first() {
                Some((_, Mortal::Stream(key))) => {
                    lives.remove(&key);
                    streams.remove(&key);
                }
                Some((_, Mortal::Once(key, id))) => drop(once.remove(&(key, id))),
                None => {}
            }
        }
    }
}

fn entry((id, fields): (StreamId, &Fields)) -> Entry {
    Entry { id, fields: fields.clone() }
}
