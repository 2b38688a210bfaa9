//! How messages travel between nodes.

use core::time::Duration;

use serde::Deserialize;

use super::{ConfigError, check};

/// How messages travel between nodes: through relay logs in the store, which every node reads with its own cursor.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// Prefix of every key that is ours.
    pub prefix: String,
    /// Rooms are hashed over this many logs, 1 to 1024. All nodes of one store must agree.
    pub partitions: u16,
    /// About how many entries a log keeps.
    pub length: u32,
    /// How long one blocking read of the logs may wait.
    #[serde(with = "humantime_serde")]
    pub block: Duration,
    /// How long any other command may take before it counts as lost.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Publishes that may wait for the store at once, in this node; more are refused as `unavailable`.
    pub publishes_in_flight: usize,
    /// Bytes that they may have.
    pub publish_bytes: usize,
    /// How long a message that has an identifier waits for a store that is away, before its publisher is told `unavailable`. One
    /// without is not tried again: it might be stored twice. Shorter than `once`.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How often the node proves that it hears what it says.
    #[serde(with = "humantime_serde")]
    pub probe: Duration,
    /// Whether the store is a Redis Cluster, where nothing is atomic over the keys of several slots. Whoever connects to one sets
    /// it.
    pub cluster: bool,
    /// How long a message's identifier is remembered, so that it is not published twice.
    #[serde(with = "humantime_serde")]
    pub once: Duration,
    /// How often a room that hears nothing is checked against the store.
    #[serde(with = "humantime_serde")]
    pub check: Duration,
    /// How often a node says that it lives, for the rooms whose members learn of each other.
    #[serde(with = "humantime_serde")]
    pub beat: Duration,
    /// A node that has not said so for this long is dead, and its users are gone: at least twice `beat`.
    #[serde(with = "humantime_serde")]
    pub dead_after: Duration,
}

impl Relay {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check((1..=1024).contains(&self.partitions), "relay.partitions", "must be from 1 to 1024")?;
        check(self.length >= 100, "relay.length", "must be at least 100")?;
        check(!self.block.is_zero(), "relay.block", "must not be zero: zero would block for ever")?;
        for (value, name) in [(self.timeout, "timeout"), (self.once, "once"), (self.check, "check"), (self.probe, "probe")] {
            check(!value.is_zero(), &format!("relay.{name}"), "must not be zero")?;
        }
        check(self.patience < self.once, "relay.patience", "must be shorter than relay.once")?;
        check(self.beat >= Duration::from_millis(1), "relay.beat", "must be at least a millisecond")?;
        check(self.dead_after >= self.beat * 2, "relay.dead_after", "must be at least twice relay.beat")
    }
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            prefix: "rc:".into(),
            partitions: 16,
            length: 100_000,
            block: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            publishes_in_flight: 10_000,
            publish_bytes: 64 * 1024 * 1024,
            patience: Duration::from_secs(10),
            probe: Duration::from_secs(2),
            cluster: false,
            once: Duration::from_secs(300),
            check: Duration::from_secs(20),
            beat: Duration::from_secs(5),
            dead_after: Duration::from_secs(15),
        }
    }
}
