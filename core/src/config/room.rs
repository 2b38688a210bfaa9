//! Rules of rooms: what a room remembers, and whether its members learn of each other.

use core::time::Duration;

use serde::Deserialize;

use super::{ConfigError, check};
use crate::pattern::Pattern;

/// What holds for the rooms of a pattern. The first rule whose pattern fits a room wins; without one, a room remembers nothing.
///
/// ```
/// use roomcast_core::config::{History, Keep, RoomRule};
///
/// let json = r#"{"rooms": "news:*", "keep": {"history": {"size": 50, "ttl": "2h", "newest": 1}}}"#;
/// let rule: RoomRule = serde_json::from_str(json).unwrap();
/// let Some(Keep::History(History { size: 50, newest: 1, .. })) = rule.keep else { panic!() };
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRule {
    /// The rooms it is about.
    pub rooms: Pattern,
    /// What is remembered; nothing where this is missing.
    #[serde(default)]
    pub keep: Option<Keep>,
    /// Whether members learn who comes and who goes, and may ask who is there.
    #[serde(default)]
    pub presence: bool,
    /// What becomes of the room while the store is away.
    #[serde(default)]
    pub away: Away,
    /// What becomes of its messages that wait for a member who reads too slowly.
    #[serde(default)]
    pub slow: Slow,
}

/// What is done once more waits for a connection than its outbox takes. Messages of other rooms, answers, and who comes and goes are
/// never dropped; and where too much is left after that, the connection is closed with 4008 after all.
///
/// ```
/// use roomcast_core::config::{RoomRule, Slow};
///
/// let rule: RoomRule = serde_json::from_str(r#"{"rooms": "ticker:*", "slow": {"latest": "symbol"}}"#).unwrap();
/// assert_eq!(rule.slow, Slow::Latest("symbol".into()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slow {
    /// It is closed with 4008, and misses nothing without knowing.
    #[default]
    Disconnect,
    /// The oldest messages of the room that wait are dropped, as many as need be. Only for rooms that remember nothing.
    DropOldest,
    /// Of the messages that have the same type and the same value of this field, at the top or in their data, only the newest is kept;
    /// one without the field is not dropped. Only for rooms that remember nothing.
    Latest(String),
}

/// What becomes of a room while the store is away (contract C9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Away {
    /// Its messages are refused, or wait.
    #[default]
    Refuse,
    /// It goes on among the members on each node: what is published on the node reaches them, and nobody else, ever. Only for rooms
    /// that remember nothing.
    Local,
}

/// How a room remembers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The room has a log: clients resume where they stopped, and may read what was before (contract C2).
    History(History),
    /// What no connection has been sent is kept until one has (contract C6).
    Inbox(Inbox),
    /// The room is a publisher's own stream, which is its history.
    Stream(Stream),
}

/// The log of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// About how many messages are kept.
    pub size: u32,
    /// How long they are kept after the last one.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// How many of the newest a client is sent that subscribes without asking for any: with 1, the last value.
    pub newest: u32,
}

/// The inbox of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inbox {
    /// How many messages are kept; beyond them, the oldest are dropped.
    pub size: u32,
    /// How long a message is kept.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
}

/// A publisher's stream that is a room's history (PROTOCOL section 3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Key of the stream; `{id}` stands for what follows the first colon of the room's name, or for all of it.
    pub key: String,
    /// The field that holds a message.
    pub field: String,
    /// Key of a string that holds the state at the moment as JSON, sent first as `current_state`; `{id}` as above. Where the
    /// host gives snapshots itself, or the key does not exist, it is not read.
    pub snapshot: Option<String>,
    /// How many of the newest messages a client is sent that subscribes without asking for any.
    pub newest: u32,
}

impl RoomRule {
    /// A rule that keeps.
    pub fn keep(rooms: &str, keep: Keep) -> RoomRule {
        RoomRule { rooms: Pattern::new(rooms), keep: Some(keep), presence: false, away: Away::Refuse, slow: Slow::Disconnect }
    }

    pub(super) fn validate(&self, path: &str) -> Result<(), ConfigError> {
        let sizes = |size: u32, ttl: Duration| {
            check((1..=100_000).contains(&size), &format!("{path}.keep.size"), "must be from 1 to 100,000")?;
            check(ttl >= Duration::from_secs(1), &format!("{path}.keep.ttl"), "must be at least a second")
        };
        match &self.keep {
            Some(Keep::History(history)) => sizes(history.size, history.ttl),
            Some(Keep::Inbox(inbox)) => sizes(inbox.size, inbox.ttl),
            Some(Keep::Stream(stream)) => {
                check(stream.key.contains("{id}"), &format!("{path}.keep.stream.key"), "must contain {id}")?;
                check(!stream.field.is_empty(), &format!("{path}.keep.stream.field"), "must not be empty")
            }
            None => Ok(()),
        }?;
        let is_local = self.away == Away::Local;
        check(!is_local || self.keep.is_none(), &format!("{path}.away"), "can be local only where nothing is kept")?;
        let drops = self.slow != Slow::Disconnect;
        check(!drops || self.keep.is_none(), &format!("{path}.slow"), "can drop messages only where nothing is kept")?;
        let has_field = self.slow != Slow::Latest(String::new());
        check(has_field, &format!("{path}.slow.latest"), "must name a field")
    }
}

impl Default for History {
    fn default() -> History {
        History { size: 1_000, ttl: Duration::from_secs(24 * 3600), newest: 0 }
    }
}

impl Default for Inbox {
    /// Those of system B.
    fn default() -> Inbox {
        Inbox { size: 1_000, ttl: Duration::from_secs(24 * 3600) }
    }
}

impl Stream {
    /// Key of the stream of a room whose name has this after its first colon.
    pub fn key_of(&self, id: &str) -> String {
        self.key.replace("{id}", id)
    }

    /// Key of its snapshot, where there may be one.
    pub fn snapshot_of(&self, id: &str) -> Option<String> {
        self.snapshot.as_ref().map(|key| key.replace("{id}", id))
    }
}

impl Default for Stream {
    /// Those of system D.
    fn default() -> Stream {
        Stream { key: "job:updates:{id}".into(), field: "message".into(), snapshot: Some("job:state:{id}".into()), newest: 1_000 }
    }
}
