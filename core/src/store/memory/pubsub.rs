//! Pub/Sub in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{ClientId, Memory};
use crate::glob;
use crate::store::{Answer, Heard, Lane, Said, StoreOp, Subscription, SubscriptionKind};
use crate::time::Time;

/// The connections that have subscribed to something.
#[derive(Clone, Debug, Default)]
pub(super) struct Ears {
    ears: BTreeMap<(ClientId, Lane), Ear>,
}

#[derive(Clone, Debug)]
struct Ear {
    subscriptions: Arc<[Subscription]>,
    /// What was said since it was asked last.
    heard: Vec<Said>,
    /// Whether nobody was told yet that these are its subscriptions, and whether it is new.
    renewed: bool,
    begins: bool,
}

impl Memory {
    /// Says something on a channel, as any publisher would. How many have heard it.
    pub fn announce(&mut self, now: Time, channel: &str, sharded: bool, payload: &Bytes) -> u64 {
        let mut count = 0;
        for ear in self.ears.ears.values_mut() {
            for by in ear.subscriptions.iter().filter(|subscription| subscription.covers(channel, sharded)) {
                count += 1;
                let channel = Bytes::copy_from_slice(channel.as_bytes());
                ear.heard.push(Said { by: by.clone(), channel, payload: payload.clone() });
            }
        }
        if count > 0 {
            self.wake_if(now, |op| matches!(op, StoreOp::Listen { .. }));
        }
        count
    }

    /// The connection of a lane breaks: nothing is heard on it any more.
    pub fn deafen(&mut self, client: ClientId, lane: Lane) {
        self.ears.ears.remove(&(client, lane));
    }

    /// The answer, or nothing where it has to wait.
    pub(super) fn listen(&mut self, client: ClientId, lane: Lane, subscriptions: &Arc<[Subscription]>) -> Option<Answer> {
        let ear = self.ears.ears.entry((client, lane)).or_insert_with(|| Ear {
            subscriptions: subscriptions.clone(),
            heard: Vec::new(),
            renewed: true,
            begins: true,
        });
        if ear.subscriptions != *subscriptions {
            ear.subscriptions = subscriptions.clone();
            ear.renewed = true;
        }
        if ear.heard.is_empty() && !ear.renewed {
            return None;
        }
        ear.renewed = false;
        let (begins, messages) = (core::mem::take(&mut ear.begins), core::mem::take(&mut ear.heard));
        Some(Answer::Heard(Heard { begins, messages }))
    }

    pub(super) fn forget_ears(&mut self, client: ClientId) {
        self.ears.ears.retain(|(other, _), _| *other != client);
    }
}

impl Subscription {
    fn covers(&self, channel: &str, sharded: bool) -> bool {
        match self.kind {
            SubscriptionKind::Channel => !sharded && *self.name == *channel,
            SubscriptionKind::Pattern => !sharded && glob::fits(self.name.as_bytes(), channel.as_bytes()),
            SubscriptionKind::Sharded => sharded && *self.name == *channel,
        }
    }
}
