//! Processors: entries of a source that the host's own code deals with, under the same contract as all others (C3, C4).

use crate::id::{StreamId, Ticket};
use crate::store::Fields;
use crate::time::Time;

/// An entry that is handed to the host's code. Its answer is [`crate::backplane::Backplane::processed`].
///
/// An entry may be delivered more than once: after a verdict that came too late or never, or when its node has died. Whoever
/// must do a thing only once tells by `entry` that it has been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Names the delivery in the answer.
    pub ticket: Ticket,
    /// The source, by its index in the configuration.
    pub source: u16,
    /// The entry.
    pub entry: StreamId,
    /// Its fields.
    pub fields: Fields,
    /// How often it has been delivered, this time included.
    pub deliveries: u32,
    /// Without an answer by then the entry counts as failed, and is delivered again later.
    pub deadline: Time,
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done: the entry is acknowledged.
    Done,
    /// It failed for this reason, and may work later: the entry is delivered again after a pause, until its source's
    /// `max_deliveries` is reached.
    Retry(Box<str>),
    /// It can never work, for this reason: the entry becomes a dead letter.
    Reject(Box<str>),
}
