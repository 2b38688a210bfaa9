//! Identifiers: small, typed, and never confused with those of something that is gone.

use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

use serde::{Serialize, Serializer};

/// A hub among the hubs of one node. Each thread that serves connections has one. A caller inside the process has a number too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The most hubs one node can have.
    pub const MOST: u8 = 63;
    /// Not a hub but a caller inside the process, for example the HTTP API. It joins rooms and listens to channels like a hub.
    pub const LOCAL: ShardId = ShardId(Self::MOST);
}

/// A set of hubs, and of callers inside the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// Adds a hub. Those beyond [`ShardId::LOCAL`] do not exist, and are not added.
    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= 1_u64.checked_shl(u32::from(shard.0)).unwrap_or(0);
    }

    /// Removes a hub.
    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !1_u64.checked_shl(u32::from(shard.0)).unwrap_or(0);
    }

    /// Whether no hub is left.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The hubs, in order.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..=ShardId::LOCAL.0).filter(move |number| self.0 >> number & 1 == 1).map(ShardId)
    }
}

/// A connection: shard (8 bits), serial number (32 bits), slot (24 bits).
///
/// The slot is small and dense, so that a runtime can index its own table by it; the serial number tells a connection
/// from an earlier one in the same slot, so that a late event for the earlier one is recognised and ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(NonZeroU64);

impl ConnId {
    /// The most connections one hub can hold.
    pub const MAX_SLOTS: usize = 1 << 24;

    pub(crate) fn new(shard: ShardId, serial: u32, slot: usize) -> ConnId {
        let slot = slot as u64 & (Self::MAX_SLOTS as u64 - 1);
        let bits = u64::from(shard.0) << 56 | u64::from(serial.max(1)) << 24 | slot;
        ConnId(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// The hub that owns the connection.
    pub fn shard(self) -> ShardId {
        ShardId((self.0.get() >> 56) as u8)
    }

    /// The index for tables beside the hub's.
    pub fn slot(self) -> usize {
        (self.0.get() & (Self::MAX_SLOTS as u64 - 1)) as usize
    }

    /// The identifier as one number, for logs and traces.
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn-{}-{}-{}", self.shard().0, (self.0.get() >> 24) as u32, self.slot())
    }
}

/// A question to the store that waits for its answer. Late and repeated answers are recognised by it and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The identifier of a stream entry, `milliseconds-sequence` as Redis writes it.
///
/// ```
/// use roomcast_core::id::StreamId;
///
/// let id: StreamId = "1728177601000-3".parse().unwrap();
/// assert_eq!(id.to_string(), "1728177601000-3");
/// assert!(StreamId::ZERO < id);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Milliseconds of the server's clock when the entry was added.
    pub millis: u64,
    /// Tells entries of the same millisecond apart.
    pub sequence: u64,
}

impl StreamId {
    /// Before every entry.
    pub const ZERO: StreamId = StreamId { millis: 0, sequence: 0 };
    /// Behind every entry.
    pub const LAST: StreamId = StreamId { millis: u64::MAX, sequence: u64::MAX };

    /// The smallest identifier after this one.
    pub fn next(self) -> StreamId {
        match self.sequence.checked_add(1) {
            Some(sequence) => StreamId { sequence, ..self },
            None => StreamId { millis: self.millis.saturating_add(1), sequence: 0 },
        }
    }

    /// The greatest identifier before this one; zero has none and stays.
    pub fn previous(self) -> StreamId {
        match (self.millis, self.sequence.checked_sub(1)) {
            (_, Some(sequence)) => StreamId { sequence, ..self },
            (0, None) => StreamId::ZERO,
            (millis, None) => StreamId { millis: millis - 1, sequence: u64::MAX },
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl Serialize for StreamId {
    /// As text, the way it is displayed.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not a stream identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStreamId;

impl fmt::Display for InvalidStreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream identifier has the form milliseconds-sequence")
    }
}

impl core::error::Error for InvalidStreamId {}

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<StreamId, InvalidStreamId> {
        let (millis, sequence) = text.split_once('-').ok_or(InvalidStreamId)?;
        Ok(StreamId {
            millis: millis.parse().map_err(|_| InvalidStreamId)?,
            sequence: sequence.parse().map_err(|_| InvalidStreamId)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_connection_id_come_back() {
        let id = ConnId::new(ShardId(3), 7, 12_345);
        assert_eq!((id.shard(), id.slot()), (ShardId(3), 12_345));
        assert_ne!(id, ConnId::new(ShardId(3), 8, 12_345), "another connection in the same slot");
        assert_eq!(size_of::<Option<ConnId>>(), 8);
    }

    #[test]
    fn a_set_of_hubs_holds_what_was_put_in() {
        let mut set = ShardSet::default();
        for number in [62, 63, 0, 64, 255] {
            set.insert(ShardId(number));
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [ShardId(0), ShardId(62), ShardId::LOCAL]);
        set.remove(ShardId(0));
        set.remove(ShardId(62));
        set.remove(ShardId(255));
        assert!(!set.is_empty());
        set.remove(ShardId::LOCAL);
        assert!(set.is_empty());
    }

    #[test]
    fn stream_ids_overflow_into_the_next_millisecond() {
        let last = StreamId { millis: 5, sequence: u64::MAX };
        assert_eq!(last.next(), StreamId { millis: 6, sequence: 0 });
        assert!("5".parse::<StreamId>().is_err());
        assert!("5-x".parse::<StreamId>().is_err());
    }
}
