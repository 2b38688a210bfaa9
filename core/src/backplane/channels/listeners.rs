//! Who wants to hear what is said on channels, beside what is passed on to rooms.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Core;
use crate::door::Tell;
use crate::id::{ShardId, ShardSet};
use crate::store::{Said, Subscription};

/// What hubs and callers listen to.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listened: BTreeMap<Subscription, Listened>,
    /// Whether something else is listened to than was asked for last.
    changed: bool,
}

#[derive(Debug, Default)]
struct Listened {
    shards: ShardSet,
    /// Whether it is known to be heard, and was told.
    holds: bool,
}

impl Listeners {
    /// Somebody wants to hear something. Whether the store has to be asked for it.
    pub(super) fn enter(&mut self, core: &mut Core, shard: ShardId, subscription: Subscription) -> bool {
        let Listened { shards, holds } = self.listened.entry(subscription.clone()).or_default();
        let is_new = shards.is_empty();
        shards.insert(shard);
        if *holds {
            core.tell(shard, Tell::Listening { subscription });
        }
        self.changed |= is_new;
        is_new
    }

    /// Somebody no longer wants to hear something. Whether the store has to be told.
    pub(super) fn leave(&mut self, shard: ShardId, subscription: &Subscription) -> bool {
        let Some(Listened { shards, .. }) = self.listened.get_mut(subscription) else { return false };
        shards.remove(shard);
        let is_last = shards.is_empty();
        if is_last {
            self.listened.remove(subscription);
            self.changed = true;
        }
        is_last
    }

    /// What is to be listened to now, beside what is `configured`; nothing where that has not changed since the last time.
    pub(super) fn renewed(&mut self, configured: &[Subscription]) -> Option<Arc<[Subscription]>> {
        let others = self.listened.keys().filter(|subscription| !configured.contains(subscription));
        core::mem::take(&mut self.changed).then(|| configured.iter().chain(others).cloned().collect())
    }

    /// There was a gap.
    pub(super) fn lose(&mut self) {
        self.listened.values_mut().for_each(|listened| listened.holds = false);
    }

    /// All these subscriptions hold.
    pub(super) fn hold(&mut self, core: &mut Core, subscriptions: &[Subscription]) {
        for (subscription, Listened { shards, holds }) in &mut self.listened {
            if !*holds && subscriptions.contains(subscription) {
                *holds = true;
                shards.iter().for_each(|shard| core.tell(shard, Tell::Listening { subscription: subscription.clone() }));
            }
        }
    }

    /// Something was said.
    pub(super) fn hear(&self, core: &mut Core, said: &Said) {
        if let Some(Listened { shards, .. }) = self.listened.get(&said.by) {
            for shard in shards.iter() {
                let Said { by, channel, payload } = said.clone();
                core.tell(shard, Tell::Said { by, channel, payload });
            }
        }
    }
}
