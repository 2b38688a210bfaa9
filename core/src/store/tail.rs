//! What is asked of publishers' streams that are the history of rooms, and how their entries are positions.

use core::hash::Hasher as _;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use super::{Entry, Fields, Once, Query, StoreError};
use crate::id::StreamId;
use crate::position::Position;

/// About how many entries a stream keeps that is appended to: as many as its publishers keep.
pub const STREAM_LENGTH: usize = 1_000;
/// How long a stream is kept after the last append: as long as its publishers keep it.
pub const STREAM_TTL: Duration = Duration::from_secs(24 * 3600);

/// One operation on publishers' streams. A stream that does not exist is an empty one, and reading never creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailOp {
    /// Read the last entries of streams. Answer: [`TailAnswer::Tips`].
    Tips {
        /// Keys of the streams.
        keys: Vec<Arc<str>>,
        /// Entries of each at the most.
        count: usize,
    },
    /// Read streams beyond their cursors; wait for an entry when there is none. Answer: [`TailAnswer::Entries`].
    Read {
        /// Key and cursor.
        cursors: Vec<(Arc<str>, StreamId)>,
        /// Entries of each stream at the most.
        count: usize,
        /// How long to wait.
        block: Duration,
    },
    /// Read a stream, and its last entry, at one moment. Answer: [`TailAnswer::Row`].
    Row {
        /// Key of the stream.
        key: Arc<str>,
        /// Which entries. [`Query::After`] begins with the entry at that position itself.
        query: Query,
        /// Entries at the most.
        count: usize,
    },
    /// Read a value. Answer: [`TailAnswer::Value`].
    Value {
        /// Its key.
        key: Arc<str>,
    },
    /// Append a message to a stream, which keeps about [`STREAM_LENGTH`] entries for [`STREAM_TTL`].
    /// Answer: [`super::Answer::Appended`].
    Append {
        /// Key of the stream.
        key: Arc<str>,
        /// The fields.
        fields: Fields,
        /// Where this is given, it is appended only if nothing was appended under the same identifier before.
        once: Option<Once>,
    },
}

/// The answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailAnswer {
    /// The last entries of each stream, in the order of the question, oldest first; or why it cannot be read.
    Tips(Vec<Result<Vec<Entry>, StoreError>>),
    /// New entries by their streams' keys, none when the wait was in vain.
    Entries(Vec<(Arc<str>, Vec<Entry>)>),
    /// Entries in a row, oldest first.
    Row {
        /// The entries.
        entries: Vec<Entry>,
        /// The last entry of the stream.
        last: Option<Entry>,
    },
    /// A value, if there is one.
    Value(Option<Bytes>),
}

impl TailOp {
    pub(super) fn name(&self) -> &'static str {
        match self {
            TailOp::Tips { .. } => "look for the ends of streams",
            TailOp::Read { .. } => "read streams",
            TailOp::Row { .. } => "read a stream",
            TailOp::Value { .. } => "read a snapshot",
            TailOp::Append { .. } => "append to a stream",
        }
    }

    pub(super) fn blocks_for(&self) -> Duration {
        match self {
            TailOp::Read { block, .. } => *block,
            TailOp::Tips { .. } | TailOp::Row { .. } | TailOp::Value { .. } | TailOp::Append { .. } => Duration::ZERO,
        }
    }
}

impl Entry {
    /// Where it stands in a room whose history is its stream.
    pub fn position(&self) -> Position {
        stream_position(self.id, tag(&self.fields))
    }
}

impl Position {
    /// The entry of a stream that this names.
    pub fn entry(self) -> StreamId {
        StreamId { millis: self.epoch, sequence: self.offset }
    }
}

pub(super) fn stream_position(id: StreamId, tag: u32) -> Position {
    Position { epoch: id.millis, offset: id.sequence, tag }
}

/// The proof of an entry with these fields: the same on every node and in every version, and never 0.
pub(super) fn tag(fields: &Fields) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    for word in fields.iter().flat_map(|(name, value)| [name, value]) {
        hasher.write(&(word.len() as u64).to_le_bytes());
        hasher.write(word);
    }
    (hasher.finish() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&'static str, &'static str)]) -> Entry {
        let fields = fields.iter().map(|(name, value)| (Bytes::from(*name), Bytes::from(*value))).collect();
        Entry { id: StreamId { millis: 5, sequence: 7 }, fields }
    }

    #[test]
    fn a_position_names_an_entry_and_proves_all_of_it() {
        let one = entry(&[("message", "{}")]);
        let position = one.position();
        assert_eq!((position.epoch, position.offset, position.entry()), (5, 7, one.id));
        assert_eq!(position.tag, 0x431b_24c8, "a tag that clients keep is the same in every version");
        for other in [&[("message", "{ }")][..], &[("messages", "{}")], &[("message{", "}")], &[("message", "{}"), ("", "")], &[]]
        {
            assert_ne!(entry(other).position().tag, position.tag, "{other:?}");
        }
    }
}
