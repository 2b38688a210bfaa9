//! The streams that rooms of this node are read from, and how far each has been read.

use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use super::super::Core;
use super::super::run::Run;
use crate::id::{ShardId, ShardSet};
use crate::message::RoomName;
use crate::position::Position;
use crate::report::Report;
use crate::store::Entry;
use crate::table::Table;
use crate::update;

/// The streams.
#[derive(Debug)]
pub(super) struct Streams {
    streams: Slab<Stream>,
    by_key: Table<Arc<str>, u32>,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: Arc<str>,
    /// The rooms that are read from it; mostly one.
    pub(super) rooms: Vec<Room>,
    pub(super) state: State,
    /// The first read that goes on from its cursor. One that began before says nothing of the stream as it is now: between the
    /// cursor and what it brings there may be more.
    pub(super) from_read: u64,
    /// Whether it cannot be read, because something else than a stream stands in its place.
    pub(super) refused: bool,
    /// Whether it is being proven that nothing is missing. Meanwhile it is not read with the others.
    pub(super) proving: bool,
    /// What a read has brought that is to be proven first.
    pub(super) served: Vec<Entry>,
    /// Whether nothing has come since it was checked last.
    pub(super) quiet: bool,
    /// Whether an entry that is no message has been reported.
    pub(super) reported: bool,
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    pub(super) shards: ShardSet,
}

#[derive(Debug)]
pub(super) enum State {
    /// It is not known where it ends, for which these wait.
    Resolving(Vec<(ShardId, RoomName, u64)>),
    Live {
        /// The last entry that was read.
        cursor: Position,
        /// The last of those that are messages. What is none does not exist for hubs.
        told: Position,
    },
}

impl Streams {
    pub(super) fn new(key: u64) -> Streams {
        Streams { streams: Slab::new(), by_key: Table::new(key) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// A hub wants a room that is read from a stream.
    pub(super) fn enter(&mut self, key: &str, room: &RoomName, shard: ShardId) -> &mut Stream {
        let index = match self.by_key.get(key) {
            Some(index) => *index as usize,
            None => {
                let key: Arc<str> = key.into();
                let index = self.streams.insert(Stream::new(key.clone()));
                self.by_key.insert(key, index as u32);
                index
            }
        };
        let stream = &mut self.streams[index];
        match stream.rooms.iter_mut().find(|other| other.name == *room) {
            Some(room) => room.shards.insert(shard),
            None => {
                let mut shards = ShardSet::default();
                shards.insert(shard);
                stream.rooms.push(Room { name: room.clone(), shards });
            }
        }
        stream
    }

    /// A hub no longer wants a room. A stream that nobody wants is forgotten.
    pub(super) fn leave(&mut self, key: &str, room: &RoomName, shard: ShardId) {
        let Some(index) = self.by_key.get(key).map(|index| *index as usize) else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        if let State::Resolving(joining) = &mut stream.state {
            joining.retain(|(waiting, name, _)| *waiting != shard || name != room);
        }
        stream.rooms.retain_mut(|other| {
            if other.name == *room {
                other.shards.remove(shard);
            }
            !other.shards.is_empty()
        });
        if stream.rooms.is_empty() {
            self.streams.remove(index);
            self.by_key.remove(key);
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Stream> {
        self.streams.get(*self.by_key.get(key)? as usize)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Stream> {
        self.streams.get_mut(*self.by_key.get(key)? as usize)
    }

    pub(super) fn at_mut(&mut self, index: usize) -> Option<&mut Stream> {
        self.streams.get_mut(index)
    }

    /// The slots that streams stand in, empty ones included.
    pub(super) fn slots(&self) -> usize {
        self.streams.capacity()
    }

    /// Whether there are any that are being proven.
    pub(super) fn are_proving(&self) -> bool {
        self.streams.iter().any(|(_, stream)| stream.proving)
    }

    /// How far each has been read that can be read with the others.
    pub(super) fn readable(&self) -> impl Iterator<Item = (Arc<str>, Position)> {
        self.streams.iter().filter(|(_, stream)| stream.is_readable()).filter_map(|(_, stream)| stream.cursor())
    }
}

impl Stream {
    fn new(key: Arc<str>) -> Stream {
        let state = State::Resolving(Vec::new());
        Stream {
            key,
            rooms: Vec::new(),
            state,
            from_read: 0,
            refused: false,
            proving: false,
            served: Vec::new(),
            quiet: false,
            reported: false,
        }
    }

    /// Whether it can be read with the others, once its end is known.
    pub(super) fn is_readable(&self) -> bool {
        !self.refused && !self.proving
    }

    /// Whether no entry has been read, and there was none when its end was found out.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.state, State::Live { cursor, .. } if cursor == Position::default())
    }

    /// Tells hubs of entries behind the cursor, and moves it there.
    pub(super) fn tell(&mut self, core: &mut Core, entries: Vec<Entry>) {
        let Stream { key, state: State::Live { cursor, told }, rooms, quiet, reported, .. } = self else { return };
        let new: Vec<Entry> = entries.into_iter().filter(|entry| entry.id > cursor.entry()).collect();
        let Some(last) = new.last() else { return };
        (*cursor, *quiet) = (last.position(), false);
        let mut run = Run::new(&core.config.limits);
        for room in rooms {
            for entry in &new {
                if let Some(payload) = message(core, &room.name, key, entry, Some(&mut *reported)) {
                    *told = entry.position();
                    core.stats.tailed += 1;
                    run.add(core, &room.name, room.shards, payload, Some(*told));
                }
            }
        }
        run.tell(core);
    }

    pub(super) fn cursor(&self) -> Option<(Arc<str>, Position)> {
        match self.state {
            State::Resolving(_) => None,
            State::Live { cursor, .. } => Some((self.key.clone(), cursor)),
        }
    }
}

impl Room {
    /// Whether an entry is a message.
    pub(super) fn reads(&self, core: &mut Core, key: &str, entry: &Entry) -> bool {
        message(core, &self.name, key, entry, None).is_some()
    }
}

/// What members of a room are sent of an entry of its stream; nothing where it is no message. The first such is reported, where
/// it is known whether one was.
pub(super) fn message(core: &mut Core, room: &str, key: &str, entry: &Entry, reported: Option<&mut bool>) -> Option<Bytes> {
    let config = core.config.clone();
    let (stream, _) = config.stream(room)?;
    match update::envelope(key, &stream.field, room, entry) {
        Ok(payload) => Some(payload),
        Err(error) => {
            core.stats.skipped += 1;
            if reported.is_some_and(|reported| !core::mem::replace(reported, true)) {
                core.report(|| Report::Skipped {
                    stream: key.into(),
                    entry: entry.id,
                    reason: error.to_string().into(),
                    sample: update::sample(&stream.field, entry),
                });
            }
            None
        }
    }
}
