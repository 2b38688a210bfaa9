//! Messages of one room on their way to the hubs.

use bytes::Bytes;

use super::Core;
use crate::config::Limits;
use crate::door::Tell;
use crate::id::ShardSet;
use crate::message::RoomName;
use crate::position::Position;

/// Bytes of messages that are told as one at the most: what a shard writes in one piece.
const MOST_BYTES: usize = 60 * 1024;

/// Messages of one room that follow each other, and are told as one.
#[derive(Debug)]
pub(super) struct Run {
    room: Option<RoomName>,
    shards: ShardSet,
    payloads: Vec<Bytes>,
    positions: Vec<Position>,
    bytes: usize,
    /// Messages and bytes at the most.
    longest: (usize, usize),
}

impl Run {
    /// No messages yet, and never more than half an outbox takes.
    pub(super) fn new(limits: &Limits) -> Run {
        Run {
            room: None,
            shards: ShardSet::default(),
            payloads: Vec::new(),
            positions: Vec::new(),
            bytes: 0,
            longest: ((limits.outbox_messages / 2).max(1), (limits.outbox_bytes / 2).min(MOST_BYTES)),
        }
    }

    /// Adds a message, after the hubs were told of those before it where it cannot stand in one row with them.
    pub(super) fn add(&mut self, core: &mut Core, room: &RoomName, shards: ShardSet, payload: Bytes, position: Option<Position>) {
        let (most_messages, most_bytes) = self.longest;
        let full = self.payloads.len() >= most_messages || self.bytes + payload.len() > most_bytes;
        if full || self.room.as_ref() != Some(room) || self.positions.is_empty() != position.is_none() {
            self.tell(core);
            (self.room, self.shards) = (Some(room.clone()), shards);
        }
        self.bytes += payload.len();
        self.payloads.push(payload);
        self.positions.extend(position);
    }

    /// Tells the hubs.
    pub(super) fn tell(&mut self, core: &mut Core) {
        let Some(room) = self.room.take() else { return };
        self.bytes = 0;
        let mut payloads = core::mem::take(&mut self.payloads);
        let mut positions = core::mem::take(&mut self.positions);
        let mut shards = self.shards.iter().peekable();
        while let Some(shard) = shards.next() {
            // The last one gets the lists themselves: mostly there is only one.
            let (payloads, positions) = match shards.peek() {
                Some(_) => (payloads.clone(), positions.clone()),
                None => (core::mem::take(&mut payloads), core::mem::take(&mut positions)),
            };
            core.tell(shard, Tell::Messages { room: room.clone(), payloads, positions });
        }
    }
}
