//! Channels: Pub/Sub channels of publishers we do not own, to which every node subscribes.

use serde::Deserialize;

use super::template::{Piece, Template};
use super::{ConfigError, Secret, check};
use crate::store::Lane;

/// A Pub/Sub channel, or all that fit a pattern: every node hears each message, and it goes to a room.
///
/// ```
/// use roomcast_core::config::Channel;
///
/// let json = r#"{"pattern": "news:*", "to": ["news:{match}:{data.language}", "news:{match}"]}"#;
/// let channel: Channel = serde_json::from_str(json).unwrap();
/// assert_eq!((channel.pattern.as_deref(), channel.channel), (Some("news:*"), None));
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Name of the channel.
    #[serde(default)]
    pub channel: Option<String>,
    /// In place of a name: the channels whose names fit this pattern, as Redis writes them (`*`, `?`, `[a-z]`, `\`).
    #[serde(default)]
    pub pattern: Option<String>,
    /// What its messages are.
    #[serde(default)]
    pub form: Form,
    /// The room of a message: the first of these names all of whose placeholders it has. `{name}` is a top-level field, `{a.b}` a
    /// field of a field, `{channel}` the channel's name, `{match}` what stands for the first `*` of the pattern. A value counts
    /// if it is a string that is not empty, or a number; null is no value, and any other refuses the message. The room `*` is
    /// everybody.
    #[serde(default = "Channel::default_to")]
    pub to: Vec<String>,
    /// Top-level fields that are not passed on.
    #[serde(default = "Channel::default_drop")]
    pub drop: Vec<String>,
    /// Whether it is a sharded channel (`SPUBLISH`) of a cluster.
    #[serde(default)]
    pub sharded: bool,
    /// The Redis in which it is, where that is another than the node's: a URL.
    #[serde(default)]
    pub redis: Option<Secret>,
}

/// What the messages of a channel are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `{"type","data","timestamp","message_id"}`, as JSON.
    #[default]
    Envelope,
    /// What python-socketio's managers publish, as JSON (version 5.14 or later).
    Socketio,
}

impl Channel {
    /// A channel of envelopes that name their room.
    pub fn new(channel: &str) -> Channel {
        Channel {
            channel: Some(channel.into()),
            pattern: None,
            form: Form::Envelope,
            to: Channel::default_to(),
            drop: Channel::default_drop(),
            sharded: false,
            redis: None,
        }
    }

    /// System B's: `websocket:broadcast` (PROTOCOL section 3).
    pub fn broadcast() -> Channel {
        let to = ["{room}", "project:{project_id}", "user:{user_id}", "*"];
        Channel { to: to.map(String::from).into(), ..Channel::new("websocket:broadcast") }
    }

    /// System C's updates of tasks: `task_updates` (PROTOCOL section 3).
    pub fn task_updates() -> Channel {
        Channel { to: vec!["task:{task_id}".into()], ..Channel::new("task_updates") }
    }

    /// System C's updates for everybody on `/ws/tasks`: `general_updates` (PROTOCOL section 3).
    pub fn general_updates() -> Channel {
        Channel { to: vec!["global".into()], ..Channel::new("general_updates") }
    }

    /// System E's: `socketio` (PROTOCOL section 3). Its clients expect the `source` of an event.
    pub fn socketio() -> Channel {
        let to = ["{room}", "*"].map(String::from).into();
        Channel { form: Form::Socketio, to, drop: Vec::new(), ..Channel::new("socketio") }
    }

    /// The way to the store on which it is listened to; `index` is the channel's own.
    pub(crate) fn lane(&self, index: u16) -> Lane {
        if self.redis.is_some() { Lane::Channel(index) } else { Lane::Channels }
    }

    /// What is subscribed to: the channel's name, or the pattern. Empty where it has neither, which
    /// [`Config::validate`](super::Config::validate) refuses.
    pub fn name(&self) -> &str {
        self.channel.as_deref().or(self.pattern.as_deref()).unwrap_or_default()
    }

    /// Whether it hears the same as another one.
    pub(super) fn repeats(&self, other: &Channel) -> bool {
        let of = |channel: &Channel| (channel.channel.clone(), channel.pattern.clone(), channel.sharded, channel.redis.clone());
        of(self) == of(other)
    }

    pub(super) fn validate(&self, path: &str) -> Result<(), ConfigError> {
        check(self.channel.is_some() != self.pattern.is_some(), path, "must have either a channel or a pattern")?;
        let name = if self.channel.is_some() { "channel" } else { "pattern" };
        check(!self.name().is_empty(), &format!("{path}.{name}"), "must not be empty")?;
        check(!(self.sharded && self.pattern.is_some()), &format!("{path}.sharded"), "is not possible with a pattern")?;
        check(!self.to.is_empty(), &format!("{path}.to"), "must name at least one room")?;
        let mut fixed = false;
        for (at, text) in self.to.iter().enumerate() {
            let path = format!("{path}.to[{at}]");
            check(!fixed, &path, "is never reached: what is before it always fits")?;
            let template = Template::parse(text).map_err(|reason| ConfigError { path: path.clone(), reason: reason.into() })?;
            let matches = template.pieces().contains(&Piece::Match);
            check(
                !matches || self.pattern.as_deref().is_some_and(|pattern| pattern.contains('*')),
                &path,
                "has {match}, and there is no pattern with a `*`",
            )?;
            fixed = template.is_fixed();
        }
        Ok(())
    }

    fn default_to() -> Vec<String> {
        vec!["{room}".into()]
    }

    fn default_drop() -> Vec<String> {
        vec!["source".into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_default_channels_are_those_of_the_systems() {
        let channels = Config::default().channels;
        let named: Vec<_> = channels.iter().map(|channel| (channel.name(), channel.to.join(" "), channel.form)).collect();
        let expected = [
            ("websocket:broadcast", "{room} project:{project_id} user:{user_id} *", Form::Envelope),
            ("task_updates", "task:{task_id}", Form::Envelope),
            ("general_updates", "global", Form::Envelope),
            ("socketio", "{room} *", Form::Socketio),
        ];
        assert_eq!(named, expected.map(|(name, to, form)| (name, to.to_owned(), form)));
    }

    #[test]
    fn a_channel_that_cannot_work_is_refused() {
        let error = |json: &str| {
            let channel: Channel = serde_json::from_str(json).map_err(|error| error.to_string())?;
            let config = Config { channels: vec![Channel::broadcast(), channel], ..Config::default() };
            config.validate().map_err(|error| error.to_string())
        };
        for good in [
            r#"{"channel": "c"}"#,
            r#"{"pattern": "c:*", "to": ["{match}:{data.id}", "{channel}"], "drop": []}"#,
            r#"{"channel": "websocket:broadcast", "sharded": true, "form": "socketio"}"#,
            r#"{"channel": "websocket:broadcast", "redis": "redis://other:6379"}"#,
            r#"{"pattern": "websocket:broadcast"}"#,
        ] {
            assert_eq!(error(good), Ok(()), "{good}");
        }
        for (bad, expected) in [
            ("{}", "channels[1]: must have either"),
            (r#"{"channel": "c", "pattern": "p"}"#, "channels[1]: must have either"),
            (r#"{"channel": ""}"#, "channels[1].channel: must not be empty"),
            (r#"{"pattern": ""}"#, "channels[1].pattern: must not be empty"),
            (r#"{"pattern": "p", "sharded": true}"#, "channels[1].sharded: is not possible"),
            (r#"{"channel": "c", "to": []}"#, "channels[1].to: must name at least one room"),
            (r#"{"channel": "c", "to": [""]}"#, "channels[1].to[0]: is empty"),
            (r#"{"channel": "c", "to": ["{a}", "{b"]}"#, "channels[1].to[1]: has a brace that is not closed"),
            (r#"{"channel": "c", "to": ["{match}"]}"#, "channels[1].to[0]: has {match}"),
            (r#"{"pattern": "c", "to": ["{match}"]}"#, "channels[1].to[0]: has {match}"),
            (r#"{"channel": "c", "to": ["all", "{a}"]}"#, "channels[1].to[1]: is never reached"),
            (r#"{"channel": "c", "to": ["{channel}", "a"]}"#, "channels[1].to[1]: is never reached"),
            (r#"{"channel": "websocket:broadcast", "to": ["a"]}"#, "channels[1]: repeats an earlier channel"),
            (r#"{"channel": "c", "form": "pickle"}"#, "unknown variant `pickle`"),
            (r#"{"channel": "c", "room": "r"}"#, "unknown field `room`"),
        ] {
            let error = error(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
