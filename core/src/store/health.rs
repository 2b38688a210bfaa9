//! How a consumer group is doing.

use core::time::Duration;

/// A consumer group and its stream, as the store sees them at one moment. Ages are by the store's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupHealth {
    /// Entries in the stream, read or not.
    pub length: u64,
    /// Entries that nobody has been given yet.
    pub lag: u64,
    /// Whether `lag` is exact. Where it is not there are at least a hundred, and there may be fewer than it says: Redis counts
    /// wrongly after deletions.
    pub lag_exact: bool,
    /// How long ago the oldest of them was added.
    pub oldest_unread: Option<Duration>,
    /// Entries that are pending: delivered, and not acknowledged.
    pub pending: u64,
    /// How long ago the oldest of them was added.
    pub oldest_pending: Option<Duration>,
    /// How often the one of them was delivered that was delivered most often, among the oldest hundred.
    pub most_deliveries: u32,
    /// Entries that were trimmed from the stream before anybody had read them, as far as it can be seen: the loss of those that
    /// were trimmed since the last read. Needs Redis 7.
    pub trimmed_unread: u64,
    /// Consumers in the group.
    pub consumers: u64,
    /// Entries in the dead-letter stream.
    pub dead_letters: u64,
}
