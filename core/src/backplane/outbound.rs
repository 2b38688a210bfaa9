//! Publishing: messages of hubs, of the API and of channels on their way into the relay logs.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::pause::Pause;
use super::questions::{Purpose, Wake};
use super::{Core, partition};
use crate::config;
use crate::door::{Publish, PublishError, PublishId, Published, Tell};
use crate::id::ShardId;
use crate::message::EVERYBODY;
use crate::store::{Answer, Lane, Posting, Postings, StoreError, StoreOp, TailOp};
use crate::time::Time;

/// Bytes of messages that leave as one entry at the most.
const BATCH_BYTES: usize = 256 * 1024;

/// Collects what is published and appends it, one entry for each partition.
///
/// Where it is not known whether a message was stored, it is given to the store again as long as its publisher can wait, if it
/// has an identifier: a second copy is known by that. One without is not tried again, for a second copy would break the promise
/// that each message is seen at most once (contract C1): its publisher is told and decides. While some wait, those that come after
/// them wait behind them, and those that cannot be tried again are refused at once.
#[derive(Debug)]
pub(super) struct Outbound {
    partitions: u16,
    /// Messages and bytes at the most, of all that the store has not confirmed.
    most: (usize, usize),
    unconfirmed: (usize, usize),
    collected: BTreeMap<Target, Items>,
    /// What is to be given to the store again, when the pause is over.
    waiting: BTreeMap<Target, Items>,
    taken: u64,
    pause: Pause,
}

/// Messages in the order in which they were taken.
type Items = BTreeMap<u64, Item>;

/// Where a message is appended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// To the relay log of a partition.
    Log(u16),
    /// To a publisher's stream: every node that has members reads that.
    Stream(Box<str>),
    /// To the relay log of everybody, as the word that this user is to be disconnected.
    User(Box<str>),
}

#[derive(Clone, Debug)]
struct Item {
    /// Who waits for it; nobody, where it was heard on a channel.
    who: Option<(ShardId, PublishId)>,
    posting: Posting,
    /// Until when it may be tried.
    until: Time,
}

/// What was given to the store in one go.
#[derive(Debug)]
pub(super) struct Batch {
    target: Target,
    items: Items,
}

impl Outbound {
    pub(super) fn new(config: &config::Relay) -> Outbound {
        Outbound {
            partitions: config.partitions,
            most: (config.publishes_in_flight, config.publish_bytes),
            unconfirmed: (0, 0),
            collected: BTreeMap::new(),
            waiting: BTreeMap::new(),
            taken: 0,
            pause: Pause::default(),
        }
    }

    /// A hub publishes, or a caller inside the process.
    pub(super) fn publish(&mut self, core: &mut Core, now: Time, shard: ShardId, publish: Publish) {
        let Publish { id, room, payload, once } = publish;
        let posting = core.posting(now, room, payload, once);
        self.take(core, now, Some((shard, id)), posting);
    }

    /// A message was heard on a channel, whose room remembers it.
    pub(super) fn pass_on(&mut self, core: &mut Core, now: Time, posting: Posting) {
        self.take(core, now, None, posting);
    }

    fn take(&mut self, core: &mut Core, now: Time, who: Option<(ShardId, PublishId)>, posting: Posting) {
        let target = match core.config.stream(&posting.room) {
            Some((stream, id)) => Target::Stream(stream.key_of(id).into()),
            None => Target::Log(partition(&posting.room, self.partitions)),
        };
        self.put(core, now, who, target, posting);
    }

    fn put(&mut self, core: &mut Core, now: Time, who: Option<(ShardId, PublishId)>, target: Target, posting: Posting) {
        let (messages, bytes) = self.unconfirmed;
        if messages >= self.most.0 || bytes + posting.payload.len() > self.most.1 {
            return end(core, who, Err(PublishError::Full));
        }
        let others_wait = self.waiting.get(&target).is_some_and(|waiting| !waiting.is_empty());
        if others_wait && !may_repeat(&target, &posting) {
            return end(core, who, Err(PublishError::Unavailable));
        }
        self.unconfirmed = (messages + 1, bytes + posting.payload.len());
        let queue = if others_wait { &mut self.waiting } else { &mut self.collected };
        self.taken += 1;
        let item = Item { who, posting, until: now + core.config.relay.patience };
        queue.entry(target).or_default().insert(self.taken, item);
    }

    /// Has every hub of every node close the connections of a user: they all hear what is sent to everybody.
    pub(super) fn disconnect(&mut self, core: &mut Core, now: Time, who: (ShardId, PublishId), user: Box<str>) {
        let posting = Posting::plain(EVERYBODY.into(), Bytes::new());
        self.put(core, now, Some(who), Target::User(user), posting);
    }

    /// Sends what was collected on its way.
    pub(super) fn flush(&mut self, core: &mut Core, now: Time) {
        while let Some((target, items)) = self.collected.pop_first() {
            let (mut batch, mut bytes) = (Items::new(), 0);
            for (number, item) in items {
                let is_full = bytes + item.posting.payload.len() > BATCH_BYTES || !matches!(target, Target::Log(_));
                if is_full && !batch.is_empty() {
                    append(core, now, target.clone(), core::mem::take(&mut batch));
                    bytes = 0;
                }
                bytes += item.posting.payload.len();
                batch.insert(number, item);
            }
            append(core, now, target, batch);
        }
    }

    /// The store has answered.
    pub(super) fn stored(&mut self, core: &mut Core, now: Time, batch: Batch, answer: Result<Answer, StoreError>) {
        let Batch { target, items } = batch;
        match answer {
            Ok(Answer::Appended(positions)) if positions.len() == items.len() => {
                self.pause.reset();
                for (item, position) in items.into_values().zip(positions) {
                    self.end(core, item, Ok(position));
                }
            }
            Ok(_) | Err(StoreError::Refused(_) | StoreError::NoGroup | StoreError::Unexpected(_)) => {
                items.into_values().for_each(|item| self.end(core, item, Err(PublishError::Unavailable)));
            }
            Err(StoreError::Disconnected(_) | StoreError::Timeout | StoreError::Busy(_)) => {
                let may_wait = |item: &Item| may_repeat(&target, &item.posting) && now < item.until;
                let (again, over): (Items, Items) = items.into_iter().partition(|(_, item)| may_wait(item));
                over.into_values().for_each(|item| self.end(core, item, Err(PublishError::Unavailable)));
                if !again.is_empty() {
                    self.waiting.entry(target).or_default().extend(again);
                    self.pause.begin(core, now, Wake::Outbound);
                }
            }
        }
    }

    /// The store is back: nothing waits any longer to be tried again.
    pub(super) fn hurry(&mut self, core: &mut Core, now: Time) {
        self.pause.end();
        self.try_again(core, now);
    }

    /// A pause is over: what has waited is given to the store again, in its order.
    pub(super) fn try_again(&mut self, core: &mut Core, now: Time) {
        if !self.pause.is_over(now) {
            return;
        }
        while let Some((target, items)) = self.waiting.pop_first() {
            for (number, item) in items {
                if now < item.until {
                    self.collected.entry(target.clone()).or_default().insert(number, item);
                } else {
                    self.end(core, item, Err(PublishError::Unavailable));
                }
            }
        }
    }

    /// Whether nothing waits for the store any more.
    pub(super) fn is_empty(&self) -> bool {
        self.unconfirmed.0 == 0
    }

    fn end(&mut self, core: &mut Core, item: Item, result: Published) {
        let (messages, bytes) = self.unconfirmed;
        self.unconfirmed = (messages.saturating_sub(1), bytes.saturating_sub(item.posting.payload.len()));
        end(core, item.who, result);
    }
}

/// Whether a second copy does no harm.
fn may_repeat(target: &Target, posting: &Posting) -> bool {
    posting.once.is_some() || matches!(target, Target::User(_))
}

fn end(core: &mut Core, who: Option<(ShardId, PublishId)>, result: Published) {
    let counter = if result.is_ok() { &mut core.stats.published } else { &mut core.stats.publish_failed };
    *counter += 1;
    if let Some((shard, id)) = who {
        core.tell(shard, Tell::Published { id, result });
    }
}

fn append(core: &mut Core, now: Time, target: Target, items: Items) {
    let op = match &target {
        Target::Log(partition) => {
            let messages: Postings = items.values().map(|item| item.posting.clone()).collect();
            StoreOp::Append { partition: *partition, messages }
        }
        Target::User(user) => {
            StoreOp::Disconnect { partition: partition(EVERYBODY, core.config.relay.partitions), user: user.clone() }
        }
        Target::Stream(key) => {
            let Some(Posting { room, payload, once, .. }) = items.values().next().map(|item| item.posting.clone()) else {
                return;
            };
            let field = core.config.stream(&room).map_or_else(Bytes::new, |(stream, _)| stream.field.clone().into());
            StoreOp::Tail(TailOp::Append { key: (**key).into(), fields: vec![(field, payload)], once })
        }
    };
    core.ask(now, Lane::Command, Purpose::Append(Batch { target, items }), op);
}
