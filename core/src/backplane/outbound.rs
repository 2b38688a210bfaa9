//! Publishing: messages of hubs and of the API on their way into the relay logs.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::questions::Purpose;
use super::{Core, partition};
use crate::config;
use crate::door::{Publish, PublishId, Tell, Unavailable};
use crate::id::ShardId;
use crate::message::EVERYBODY;
use crate::store::{Answer, Lane, Once, Posting, Postings, StoreError, StoreOp, TailOp};
use crate::time::Time;

/// Bytes of messages that leave as one entry at the most.
const BATCH_BYTES: usize = 256 * 1024;

/// Collects what is published and appends it, one entry for each partition.
///
/// A message whose append failed is not tried again: whether it was stored is unknown, and a second copy would break the
/// promise that each message is seen at most once (contract C1). Its publisher is told and decides.
#[derive(Debug)]
pub(super) struct Outbound {
    partitions: u16,
    most: usize,
    in_flight: usize,
    collected: BTreeMap<u16, Vec<Collected>>,
}

/// Who waits for a publish.
pub(super) type Waiting = (ShardId, PublishId);

type Collected = (Waiting, Posting);

impl Outbound {
    pub(super) fn new(config: &config::Relay) -> Outbound {
        Outbound { partitions: config.partitions, most: config.publishes_in_flight, in_flight: 0, collected: BTreeMap::new() }
    }

    pub(super) fn publish(&mut self, core: &mut Core, now: Time, shard: ShardId, publish: Publish) {
        let Publish { id: publish, room, payload, once } = publish;
        if !self.may_send(core, (shard, publish)) {
            return;
        }
        if let Some((stream, id)) = core.config.stream(&room) {
            // It stands in no relay log: every node that has members reads the stream.
            let fields = vec![(Bytes::copy_from_slice(stream.field.as_bytes()), payload)];
            let once = once.map(|id| Once { id, window: core.config.relay.once });
            let op = StoreOp::Tail(TailOp::Append { key: stream.key_of(id).into(), fields, once });
            return core.ask(now, Lane::Command, Purpose::Append(vec![(shard, publish)]), op);
        }
        let partition = partition(&room, self.partitions);
        let posting = core.posting(now, room, payload, once);
        self.collected.entry(partition).or_default().push(((shard, publish), posting));
    }

    /// Has every hub of every node close the connections of a user: they all hear what is sent to everybody.
    pub(super) fn disconnect(&mut self, core: &mut Core, now: Time, who: Waiting, user: Box<str>) {
        if self.may_send(core, who) {
            let op = StoreOp::Disconnect { partition: partition(EVERYBODY, self.partitions), user };
            core.ask(now, Lane::Command, Purpose::Append(vec![who]), op);
        }
    }

    /// Whether there is room for one more; whoever wants it is told where there is not.
    fn may_send(&mut self, core: &mut Core, (shard, id): Waiting) -> bool {
        if self.in_flight >= self.most {
            core.stats.publish_failed += 1;
            core.tell(shard, Tell::Published { id, result: Err(Unavailable) });
            return false;
        }
        self.in_flight += 1;
        true
    }

    /// Sends what was collected on its way.
    pub(super) fn flush(&mut self, core: &mut Core, now: Time) {
        while let Some((partition, collected)) = self.collected.pop_first() {
            let (mut waiting, mut messages, mut bytes) = (Vec::new(), Vec::new(), 0);
            for (who, posting) in collected {
                if bytes > 0 && bytes + posting.payload.len() > BATCH_BYTES {
                    append(core, now, partition, &mut waiting, &mut messages);
                    bytes = 0;
                }
                bytes += posting.payload.len();
                waiting.push(who);
                messages.push(posting);
            }
            append(core, now, partition, &mut waiting, &mut messages);
        }
    }

    pub(super) fn stored(&mut self, core: &mut Core, waiting: Vec<Waiting>, answer: Result<Answer, StoreError>) {
        self.in_flight = self.in_flight.saturating_sub(waiting.len());
        let positions = match answer {
            Ok(Answer::Appended(positions)) => positions.into_iter().map(Ok).collect(),
            _ => Vec::new(),
        };
        let results = positions.into_iter().chain(core::iter::repeat(Err(Unavailable)));
        for ((shard, id), result) in waiting.into_iter().zip(results) {
            let counter = if result.is_ok() { &mut core.stats.published } else { &mut core.stats.publish_failed };
            *counter += 1;
            core.tell(shard, Tell::Published { id, result });
        }
    }
}

fn append(core: &mut Core, now: Time, partition: u16, waiting: &mut Vec<Waiting>, messages: &mut Postings) {
    let purpose = Purpose::Append(core::mem::take(waiting));
    let op = StoreOp::Append { partition, messages: core::mem::take(messages) };
    core.ask(now, Lane::Command, purpose, op);
}
