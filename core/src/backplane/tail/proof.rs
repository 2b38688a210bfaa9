//! Proof that nothing is missing: of a stream that is read again after the store was away, that has come far ahead, or that looks
//! like another one, the entry at the cursor is read together with what follows it.
//!
//! A stream loses entries at its old end only. So nothing is missing as long as that entry is still there; and where it is not,
//! hubs are told that messages may be lost (contract C10), and then of what there is. Of a stream that had no entry at all nobody
//! can tell what it has had meanwhile.

use std::sync::Arc;

use super::super::Core;
use super::super::questions::{Purpose, Wake};
use super::streams::{State, Stream};
use super::{Errand, Tail};
use crate::door::Tell;
use crate::position::Position;
use crate::report::Report;
use crate::store::{Entry, Lane, Query, StoreError, StoreOp, TailAnswer, TailOp};
use crate::time::Time;

/// Entries that are read at once, the one at the cursor included.
const COUNT: usize = 257;

impl Tail {
    /// Begins to read what follows the cursor of a stream, apart from all others, with proof.
    pub(super) fn prove(&mut self, core: &mut Core, now: Time, key: &str) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let State::Live { cursor, .. } = stream.state else { return };
        stream.proving = true;
        let (key, query) = (stream.key.clone(), Query::After(cursor));
        let op = StoreOp::Tail(TailOp::Row { key: key.clone(), query, count: COUNT });
        core.ask(now, Lane::Command, Purpose::Tail(Errand::Prove(key, cursor)), op);
    }

    /// What follows the cursor of a stream is here, or cannot be read.
    pub(super) fn proven(
        &mut self,
        core: &mut Core,
        now: Time,
        key: Arc<str>,
        cursor: Position,
        answer: Result<TailAnswer, StoreError>,
    ) {
        let next_read = self.reads + 1;
        // It may have been left and joined again.
        let is_asked = |stream: &&mut Stream| stream.proving && stream.cursor().is_some_and(|(_, now)| now == cursor);
        let Some(stream) = self.streams.get_mut(&key).filter(is_asked) else { return };
        let (entries, last) = match answer {
            Ok(TailAnswer::Row { entries, last }) => (entries, last),
            Err(StoreError::Refused(_)) => {
                // Something else stands in its place. The others are read without it.
                (stream.proving, stream.refused) = (false, true);
                return self.restart(core, now);
            }
            _ => {
                self.unproven.push(key);
                return self.pause.begin(core, now, Wake::Tail);
            }
        };
        let is_full = entries.len() >= COUNT;
        let served = core::mem::take(&mut stream.served);
        if entries.first().map(Entry::position) != Some(cursor) {
            // What has greater identifiers nobody has seen yet. A stream that has none of those goes on from its end.
            let is_behind = served.is_empty() && entries.is_empty();
            stream.lose(core, last.filter(|_| is_behind));
            stream.tell(core, served);
        }
        stream.tell(core, entries);
        if is_full {
            return self.prove(core, now, &key);
        }
        (stream.proving, stream.from_read) = (false, next_read);
        self.pause.reset();
        self.restart(core, now);
    }
}

impl Stream {
    /// Tells hubs that messages may be lost, and goes on from this entry, or from the stream's beginning.
    fn lose(&mut self, core: &mut Core, last: Option<Entry>) {
        let position = last.as_ref().map(Entry::position).unwrap_or_default();
        let is_message = last.is_some_and(|last| self.rooms.iter().any(|room| room.reads(core, &self.key, &last)));
        let told = if is_message { position } else { Position::default() };
        self.state = State::Live { cursor: position, told };
        for room in &self.rooms {
            core.stats.rooms_lost += 1;
            core.report(|| Report::RoomLost { room: room.name.clone(), position: told });
            for shard in room.shards.iter() {
                core.tell(shard, Tell::Lost { room: room.name.clone(), position: told });
            }
        }
    }
}
