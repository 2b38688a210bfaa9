//! The state of rooms at the moment: from a key of the publisher's, or from the host's own code.

use bytes::Bytes;

use super::super::questions::Purpose;
use super::super::{BackplaneAction, Core};
use super::{Errand, Tail};
use crate::door::{ReadId, Tell};
use crate::id::ShardId;
use crate::message::RoomName;
use crate::pattern::Pattern;
use crate::snapshot::Request;
use crate::store::{Lane, StoreError, StoreOp, TailAnswer, TailOp};
use crate::time::Time;
use crate::update;

impl Tail {
    /// The host gives the snapshots of the rooms that fit.
    pub(in super::super) fn provide(&mut self, rooms: Vec<Pattern>) {
        self.provided = rooms;
    }

    /// A hub wants to know the state of a room.
    pub(in super::super) fn snapshot(&self, core: &mut Core, now: Time, shard: ShardId, read: ReadId, room: RoomName) {
        if self.provided.iter().any(|pattern| pattern.matches(&room)) {
            let deadline = now + core.config.relay.timeout;
            let ticket = core.questions.ask_until(deadline, Lane::Command, Purpose::Snapshot(shard, read));
            core.actions.push_back(BackplaneAction::Snapshot(Request { ticket, room, deadline }));
            return;
        }
        let key = core.config.stream(&room).and_then(|(stream, id)| stream.snapshot_of(id));
        match key {
            Some(key) => {
                let op = StoreOp::Tail(TailOp::Value { key: key.into() });
                core.ask(now, Lane::Command, Purpose::Tail(Errand::Snapshot(shard, read)), op);
            }
            None => core.tell(shard, Tell::Snapshot { read, data: None }),
        }
    }

    pub(super) fn snapshot_read(&self, core: &mut Core, shard: ShardId, read: ReadId, answer: Result<TailAnswer, StoreError>) {
        match answer {
            Ok(TailAnswer::Value(value)) => tell(core, shard, read, Ok(value)),
            _ => tell(core, shard, read, Err(())),
        }
    }
}

/// Tells a hub of a snapshot, or that it could not be had. One that is broken is none.
pub(in super::super) fn tell(core: &mut Core, shard: ShardId, read: ReadId, snapshot: Result<Option<Bytes>, ()>) {
    let checked = snapshot.and_then(|data| data.map(|data| update::snapshot(&data).ok_or(())).transpose());
    core.stats.snapshots_failed += u64::from(checked.is_err());
    core.tell(shard, Tell::Snapshot { read, data: checked.unwrap_or_default() });
}
