//! Sources: streams of publishers we do not own, read in a consumer group.

use core::time::Duration;

use serde::Deserialize;

use super::{Commands, ConfigError, Destination, Events, Secret, check};
use crate::store::Lane;

/// What Redis counts in; times of sources cannot be shorter.
const MILLISECOND: Duration = Duration::from_millis(1);

/// A stream read in a consumer group: each entry is taken by one node and ends where the source says, or in the dead letters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Key of the stream.
    pub stream: String,
    /// The consumer group. It is created at the stream's beginning where it does not exist.
    pub group: String,
    /// The Redis in which the stream stands, where it is another than the node's: a URL. Its dead letters, and the streams to which
    /// commands are routed, stand there too.
    #[serde(default)]
    pub redis: Option<Secret>,
    /// Whether that Redis is a cluster, where nothing is atomic over several streams. Whoever connects to one sets it.
    #[serde(skip)]
    pub cluster: bool,
    /// What its entries are and where they go.
    pub to: Destination,
    /// Stream for entries that cannot be routed, with their reason and original fields.
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
    /// Entries in hand at the most: read, and not yet brought to their end. Beyond it nothing is read.
    #[serde(default = "Source::default_in_hand")]
    pub in_hand: usize,
    /// An entry that failed is tried again by the same node after this time; after each further failure after twice the time,
    /// an hour at the most.
    #[serde(default = "Source::default_retry_after", with = "humantime_serde")]
    pub retry_after: Duration,
    /// An entry that a consumer has not touched for this long is taken over by whichever node finds it: its consumer has died.
    /// After each further death for twice as long, an hour at the most. What a node works on it touches in time.
    #[serde(default = "Source::default_claim_after", with = "humantime_serde")]
    pub claim_after: Duration,
    /// A consumer that has nothing pending and has not read for this long is removed from the group: its process is gone.
    #[serde(default = "Source::default_forget_after", with = "humantime_serde")]
    pub forget_after: Duration,
    /// An entry that has been delivered so often without coming to its end becomes a dead letter.
    #[serde(default = "Source::default_max_deliveries")]
    pub max_deliveries: u32,
}

impl Source {
    /// A source with the usual numbers and times.
    pub fn new(stream: &str, group: &str, dead_letter: &str, to: Destination) -> Source {
        Source {
            stream: stream.into(),
            group: group.into(),
            redis: None,
            cluster: false,
            to,
            dead_letter: dead_letter.into(),
            dead_letters: Source::default_dead_letters(),
            count: Source::default_count(),
            most: Source::default_most(),
            block: Source::default_block(),
            in_hand: Source::default_in_hand(),
            retry_after: Source::default_retry_after(),
            claim_after: Source::default_claim_after(),
            forget_after: Source::default_forget_after(),
            max_deliveries: Source::default_max_deliveries(),
        }
    }

    /// System A's file events: `stream:file-events`, group `websocket-consumers` (PROTOCOL section 3).
    pub fn file_events() -> Source {
        let to = Destination::Events(Events::default());
        Source::new("stream:file-events", "websocket-consumers", "stream:file-events-dlq", to)
    }

    /// System A's commands: `stream:ai-commands`, group `websocket-router` (PROTOCOL section 3).
    pub fn ai_commands() -> Source {
        let to = Destination::Commands(Commands::default());
        let source = Source::new("stream:ai-commands", "websocket-router", "stream:ai-commands-dlq", to);
        Source { block: Duration::from_secs(1), ..source }
    }

    /// The way to the store on which commands about its stream are sent; `index` is the source's own.
    pub(crate) fn lane(&self, index: u16) -> Lane {
        if self.redis.is_some() { Lane::Origin(index) } else { Lane::Command }
    }

    pub(super) fn validate(&self, path: &str) -> Result<(), ConfigError> {
        for (value, name) in [(&self.stream, "stream"), (&self.group, "group"), (&self.dead_letter, "dead_letter")] {
            check(!value.is_empty(), &format!("{path}.{name}"), "must not be empty")?;
        }
        check(self.dead_letter != self.stream, &format!("{path}.dead_letter"), "must not be the stream itself")?;
        check(self.count > 0, &format!("{path}.count"), "must be greater than 0")?;
        check(self.most >= self.count, &format!("{path}.most"), "must be at least count")?;
        check(self.in_hand >= self.most, &format!("{path}.in_hand"), "must be at least most")?;
        check(self.retry_after >= MILLISECOND, &format!("{path}.retry_after"), "must be at least 1ms")?;
        check(self.block >= MILLISECOND, &format!("{path}.block"), "must be at least 1ms")?;
        check(self.max_deliveries > 0, &format!("{path}.max_deliveries"), "must be greater than 0")?;
        check(self.forget_after > self.block, &format!("{path}.forget_after"), "must be longer than block")?;
        check(self.claim_after > self.block, &format!("{path}.claim_after"), "must be longer than block")?;
        self.to.validate(&format!("{path}.to"), self)
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

    fn default_in_hand() -> usize {
        1_024
    }

    fn default_retry_after() -> Duration {
        Duration::from_secs(2)
    }

    fn default_forget_after() -> Duration {
        Duration::from_secs(3600)
    }

    fn default_max_deliveries() -> u32 {
        5
    }

    fn default_claim_after() -> Duration {
        Duration::from_secs(60)
    }
}
