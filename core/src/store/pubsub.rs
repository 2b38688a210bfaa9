//! What is asked of Pub/Sub channels, and what is heard on them.

use std::sync::Arc;

use bytes::Bytes;

/// Something to listen to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscription {
    /// How its name is meant.
    pub kind: SubscriptionKind,
    /// The channel, or the pattern of channels.
    pub name: Arc<str>,
}

/// What a subscription names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubscriptionKind {
    /// One channel.
    Channel,
    /// All channels that a pattern fits, as Redis writes it: `*`, `?`, `[a-z]`, `\`.
    Pattern,
    /// One channel that belongs to a slot of a cluster, like a key. It has nothing to do with a [`SubscriptionKind::Channel`] of
    /// the same name.
    Sharded,
}

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whether the connection is a new one: what was said while there was none was not heard by this node.
    pub begins: bool,
    /// What was said, in order.
    pub messages: Vec<Said>,
}

/// A message on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// By which subscription it was heard.
    pub by: Subscription,
    /// The channel.
    pub channel: Bytes,
    /// What was said.
    pub payload: Bytes,
}

impl Subscription {
    /// To one channel.
    pub fn channel(name: &str) -> Subscription {
        Subscription { kind: SubscriptionKind::Channel, name: name.into() }
    }

    /// To all channels that a pattern fits.
    pub fn pattern(name: &str) -> Subscription {
        Subscription { kind: SubscriptionKind::Pattern, name: name.into() }
    }

    /// To one channel of a slot.
    pub fn sharded(name: &str) -> Subscription {
        Subscription { kind: SubscriptionKind::Sharded, name: name.into() }
    }
}
