//! How a node is emptied before it ends.

use core::time::Duration;

use serde::Deserialize;

use super::{ConfigError, check};

/// How a node lets its clients go before it ends, so that they do not all come back to the others at once.
///
/// The deadline is shared out: after seven twelfths of it every connection has been told to go, after nine those are dropped
/// that have not gone, after ten HTTP is answered no more, and after eleven the store is asked nothing more.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Connections that the whole node closes each second, 1 to 100,000; more where the deadline demands it.
    pub rate: u32,
    /// By when the process has ended, whatever clients and the store do.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// A client is told to come back after a time between nothing and this, all equally likely.
    #[serde(with = "humantime_serde")]
    pub spread: Duration,
}

/// How connections of a route end when the node is emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainStyle {
    /// With a close frame (1001), as the protocol wants it.
    #[default]
    Close,
    /// Without one, for clients that come back only after a connection that has broken.
    Abort,
}

impl Drain {
    /// How long connections are closed one after the other, at the most.
    pub fn closing(&self) -> Duration {
        self.twelfths(7)
    }

    /// When connections are dropped that have not ended, after the beginning.
    pub fn dropping(&self) -> Duration {
        self.twelfths(9)
    }

    /// When HTTP is answered no more, after the beginning.
    pub fn serving(&self) -> Duration {
        self.twelfths(10)
    }

    /// When the store is asked nothing more, after the beginning.
    pub fn storing(&self) -> Duration {
        self.twelfths(11)
    }

    fn twelfths(&self, count: u32) -> Duration {
        (self.deadline / 12).saturating_mul(count)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check((1..=100_000).contains(&self.rate), "drain.rate", "must be from 1 to 100000")?;
        check(self.deadline >= Duration::from_millis(100), "drain.deadline", "must be at least 100 milliseconds")
    }
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { rate: 500, deadline: Duration::from_secs(30), spread: Duration::from_secs(2) }
    }
}
