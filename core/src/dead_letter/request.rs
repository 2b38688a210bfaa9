//! What operators want done with dead letters, and what comes of it.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use super::{DeadLetter, Summary};
use crate::id::StreamId;
use crate::store::StoreError;

/// An operation on dead letters that is under way, numbered by the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// What an operator wants done with the dead letters of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// List letters, the newest first. Outcome: [`Outcome::Listed`].
    List {
        /// Letters at the most, [`MOST_IDS`] at the most.
        count: usize,
        /// Only those older than this one.
        before: Option<StreamId>,
    },
    /// Show one letter. Outcome: [`Outcome::Shown`].
    Show(StreamId),
    /// Put letters back into their source, the oldest first. Outcome: [`Outcome::Replayed`].
    Replay(Selection),
    /// Delete letters. Outcome: [`Outcome::Purged`].
    Purge(Selection),
}

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These: [`MOST_IDS`] at the most.
    Ids(BTreeSet<StreamId>),
    /// All that there are at the beginning: what becomes a letter again meanwhile is not among them.
    All,
}

/// The most letters that are named in a request, listed at once, or told of one by one.
pub const MOST_IDS: usize = 1_000;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Letters, the newest first.
    Listed {
        /// The letters.
        letters: Vec<Summary>,
        /// Where there are more: those before this one.
        next: Option<StreamId>,
        /// How many letters there are in all.
        depth: u64,
    },
    /// The letter, if there is one of that identifier.
    Shown(Option<Box<DeadLetter>>),
    /// Letters were put back into their source.
    Replayed(Replay),
    /// So many letters were deleted.
    Purged(u64),
}

/// What came of letters that were to be replayed. Lists end after [`MOST_IDS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// How many are entries of their source again.
    pub replayed: u64,
    /// How many could not be replayed and are letters still.
    pub failures: u64,
    /// The letters that were replayed, each with the entry that it is now.
    pub entries: Vec<ReplayedLetter>,
    /// Letters that were not there, for example because they had been replayed before.
    pub gone: Vec<StreamId>,
    /// Letters that could not be replayed.
    pub failed: Vec<FailedLetter>,
}

/// A letter that was replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplayedLetter {
    /// The letter that it was.
    pub id: StreamId,
    /// The entry that it is.
    pub entry: StreamId,
}

/// A letter that could not be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedLetter {
    /// The letter.
    pub id: StreamId,
    /// Why, in words.
    #[serde(serialize_with = "as_text")]
    pub error: StoreError,
}

/// The store failed in the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// How many letters had been replayed for certain.
    pub replayed: u64,
    /// How it failed.
    pub error: StoreError,
}

impl Replay {
    pub(crate) fn added(&mut self, id: StreamId, entry: StreamId) {
        self.replayed += 1;
        note(&mut self.entries, ReplayedLetter { id, entry });
    }

    pub(crate) fn gone(&mut self, id: StreamId) {
        note(&mut self.gone, id);
    }

    pub(crate) fn failed(&mut self, id: StreamId, error: StoreError) {
        self.failures += 1;
        note(&mut self.failed, FailedLetter { id, error });
    }
}

fn note<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MOST_IDS {
        list.push(item);
    }
}

fn as_text<S: Serializer>(error: &StoreError, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(error)
}
