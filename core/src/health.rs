//! How the sources of a node are doing.

use crate::store::GroupHealth;
use crate::time::UnixMillis;

/// How one source is doing, by what its consumer on this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHealth {
    /// Key of the stream.
    pub stream: Box<str>,
    /// The consumer group.
    pub group: Box<str>,
    /// Key of the dead-letter stream.
    pub dead_letter: Box<str>,
    /// Entries that this node had in hand when it was asked.
    pub in_hand: usize,
    /// Why nothing can be read or stored at the moment.
    pub unready: Option<Box<str>>,
    /// What went wrong last.
    pub last_error: Option<LastError>,
    /// How the group was doing, and when. Nothing until it has been looked at for the first time; then every few seconds.
    pub measured: Option<(UnixMillis, GroupHealth)>,
}

/// When something went wrong, and what.
pub type LastError = (UnixMillis, Box<str>);
