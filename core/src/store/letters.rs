//! What is asked of a dead-letter stream.

use std::sync::Arc;

use super::{Fields, StoreError};
use crate::id::StreamId;

/// One operation on a dead-letter stream. A stream that does not exist is an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterOp {
    /// Read letters. Answer: [`super::Answer::Entries`].
    Read {
        /// The first that may be read.
        from: StreamId,
        /// The last that may be read.
        to: StreamId,
        /// Letters at the most.
        count: usize,
        /// Begin with the last.
        newest_first: bool,
    },
    /// Count the letters. Answer: [`super::Answer::Count`].
    Count,
    /// Put letters back into their source and delete them, each in one atomic step that does nothing for a letter that is gone.
    /// Answer: [`super::Answer::Replayed`].
    Replay {
        /// Key of the source's stream.
        source: Arc<str>,
        /// Each letter with the fields of the entry that it becomes: [`super::MOST_FIELDS`] at the most.
        letters: Vec<(StreamId, Fields)>,
    },
    /// Delete letters. Answer: [`super::Answer::Count`], those that were there.
    Delete(Vec<StreamId>),
    /// Delete every letter. Answer: [`super::Answer::Count`].
    DeleteAll,
}

/// What came of one dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is this entry of its source now, and no letter any more.
    Added(StreamId),
    /// There is no such letter; nothing was done.
    Gone,
    /// The source does not take it, it is still a letter.
    Failed(StoreError),
}

impl LetterOp {
    pub(super) fn name(&self) -> &'static str {
        match self {
            LetterOp::Read { .. } => "read dead letters",
            LetterOp::Count => "count dead letters",
            LetterOp::Replay { .. } => "replay dead letters",
            LetterOp::Delete(_) | LetterOp::DeleteAll => "delete dead letters",
        }
    }
}
