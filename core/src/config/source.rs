//! Sources: streams of publishers we do not own, read in a consumer group.

use core::time::Duration;

use serde::Deserialize;

use super::{ConfigError, check};

/// A stream of event batches, read in a consumer group: each entry is taken by one node, its events reach the clients of all.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Key of the stream.
    pub stream: String,
    /// The consumer group. It is created at the stream's beginning where it does not exist.
    pub group: String,
    /// Room of an event; `{id}` stands for its `workspace.id`.
    pub room: String,
    /// Type under which clients receive an event.
    pub event: String,
    /// Stream for entries that cannot be decoded, with their reason and original fields.
    pub dead_letter: String,
    /// About how many dead letters are kept.
    #[serde(default = "Source::default_dead_letters")]
    pub dead_letters: u32,
    /// Entries read at once when there is no backlog.
    #[serde(default = "Source::default_count")]
    pub count: usize,
    /// Entries read at once at the most, under backlog.
    #[serde(default = "Source::default_most")]
    pub most: usize,
    /// How long one read waits for an entry.
    #[serde(default = "Source::default_block", with = "humantime_serde")]
    pub block: Duration,
    /// An entry that a consumer has held for this long is tried again, by whichever node finds it; after each further failure
    /// for twice as long, an hour at the most.
    #[serde(default = "Source::default_claim_after", with = "humantime_serde")]
    pub claim_after: Duration,
    /// An entry that has been delivered so often without coming to its end becomes a dead letter.
    #[serde(default = "Source::default_max_deliveries")]
    pub max_deliveries: u32,
    /// Limits of one entry.
    #[serde(default)]
    pub limits: BatchLimits,
}

/// What one entry of a source may cost. Beyond a limit it is dead-lettered, before memory beyond the limit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchLimits {
    /// Bytes of a compressed field, as it came (base64 or gzip). 4 MiB.
    pub compressed: usize,
    /// Bytes of the JSON text, whether it came plain or compressed. 16 MiB.
    pub inflated: usize,
    /// Events in one batch. 10,000.
    pub events: usize,
    /// Nested objects and arrays, the batch itself included; an event starts at 3. 64.
    pub depth: usize,
}

impl Source {
    /// System A's file events: `stream:file-events`, group `websocket-consumers` (PROTOCOL section 3).
    pub fn file_events() -> Source {
        Source {
            stream: "stream:file-events".into(),
            group: "websocket-consumers".into(),
            room: "workspace:{id}".into(),
            event: "file.changed".into(),
            dead_letter: "stream:file-events-dlq".into(),
            dead_letters: Source::default_dead_letters(),
            count: Source::default_count(),
            most: Source::default_most(),
            block: Source::default_block(),
            claim_after: Source::default_claim_after(),
            max_deliveries: Source::default_max_deliveries(),
            limits: BatchLimits::default(),
        }
    }

    pub(super) fn validate(&self, path: &str) -> Result<(), ConfigError> {
        for (value, name) in [
            (&self.stream, "stream"),
            (&self.group, "group"),
            (&self.room, "room"),
            (&self.event, "event"),
            (&self.dead_letter, "dead_letter"),
        ] {
            check(!value.is_empty(), &format!("{path}.{name}"), "must not be empty")?;
        }
        check(self.dead_letter != self.stream, &format!("{path}.dead_letter"), "must not be the stream itself")?;
        check(self.count > 0, &format!("{path}.count"), "must be greater than 0")?;
        check(self.most >= self.count, &format!("{path}.most"), "must be at least count")?;
        check(!self.block.is_zero(), &format!("{path}.block"), "must not be zero: zero would block for ever")?;
        check(self.max_deliveries > 0, &format!("{path}.max_deliveries"), "must be greater than 0")?;
        check(self.claim_after > self.block, &format!("{path}.claim_after"), "must be longer than block")
    }

    fn default_dead_letters() -> u32 {
        10_000
    }

    fn default_count() -> usize {
        10
    }

    fn default_most() -> usize {
        256
    }

    fn default_block() -> Duration {
        Duration::from_secs(5)
    }

    fn default_max_deliveries() -> u32 {
        5
    }

    fn default_claim_after() -> Duration {
        Duration::from_secs(60)
    }
}

impl Default for BatchLimits {
    fn default() -> BatchLimits {
        BatchLimits { compressed: 4 << 20, inflated: 16 << 20, events: 10_000, depth: 64 }
    }
}
