//! Configuration: every limit, route and rule, with the defaults of the systems Roomcast replaces, checked before anything starts.
//!
//! The types deserialise from TOML or JSON; unknown keys are errors, so that a misspelt limit is never silently without effect.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

mod access;
mod api;
mod auth;
mod channel;
mod destination;
mod drain;
mod limits;
mod origin;
mod relay;
mod room;
mod route;
mod secret;
mod share;
mod socketio;
mod source;
mod template;

pub use access::{AccessRule, Allowed, Who};
pub use api::{Api, ApiKey, Metrics, Scope};
pub use auth::{Algorithm, Auth, Jwks, Key};
pub use channel::{Channel, Form};
pub use destination::{BatchLimits, Commands, Destination, Events, Host};
pub use drain::{Drain, DrainStyle};
pub use limits::{Heartbeat, Limits};
pub use origin::{NoOrigin, Origin};
pub use relay::Relay;
pub use room::{Away, History, Inbox, Keep, RoomRule, Slow, Stream};
pub(crate) use route::percent_decoded;
pub use route::{AuthMode, DialectName, Route};
pub use secret::Secret;
pub use share::{PerAddress, PerUser, Proxy, ProxyError, ProxyHeader};
pub use socketio::SocketIo;
pub use source::Source;
pub(crate) use template::{Piece, Template};

/// Everything a node is told before it starts.
///
/// ```
/// use roomcast_core::config::Config;
///
/// let config = Config::default();
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this process among its peers, unique for each start: it is the consumer name in every consumer group.
    pub node: String,
    /// How tokens are checked.
    pub auth: Auth,
    /// Who may use the HTTP API.
    pub api: Api,
    /// The paths served; see [`Route::find`].
    pub routes: Vec<Route>,
    /// Who may do what in which rooms. The first rule whose pattern fits wins; without one, everything is refused.
    pub access: Vec<AccessRule>,
    /// What rooms remember, and whose members learn of each other. The first rule whose pattern fits wins.
    pub rooms: Vec<RoomRule>,
    /// Pages that may connect, by their origins; any by default, because credentials are never ambient (there are no cookies).
    /// Requests without an origin come from no page, and are not asked for one.
    pub origins: Vec<Origin>,
    /// Limits for each connection and message.
    pub limits: Limits,
    /// Liveness of connections.
    pub heartbeat: Heartbeat,
    /// How Socket.IO is spoken.
    pub socketio: SocketIo,
    /// How the node is emptied before it ends.
    pub drain: Drain,
    /// How messages travel between nodes.
    pub relay: Relay,
    /// Streams that are read in a consumer group.
    pub sources: Vec<Source>,
    /// Pub/Sub channels that every node subscribes to.
    pub channels: Vec<Channel>,
}

impl Config {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first value that cannot work, with its path and the reason.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(!self.node.is_empty(), "node", "must not be empty: it is the consumer name in every group")?;
        self.auth.validate()?;
        self.api.validate()?;
        check(!self.routes.is_empty(), "routes", "must have at least one route")?;
        for (at, route) in self.routes.iter().enumerate() {
            route.validate(&format!("routes[{at}]"))?;
        }
        self.relay.validate()?;
        for (at, rule) in self.rooms.iter().enumerate() {
            rule.validate(&format!("rooms[{at}]"))?;
        }
        self.limits.validate()?;
        self.heartbeat.validate()?;
        self.socketio.validate()?;
        self.drain.validate()?;
        for (at, source) in self.sources.iter().enumerate() {
            source.validate(&format!("sources[{at}]"))?;
            if let Destination::Events(events) = &source.to {
                let reason = "is the room of a publisher's own stream, to which nothing can be routed";
                check(self.stream(&events.room).is_none(), &format!("sources[{at}].to.events.room"), reason)?;
            }
            let same =
                |other: &Source| (&other.stream, &other.group, &other.redis) == (&source.stream, &source.group, &source.redis);
            check(
                !self.sources[..at].iter().any(same),
                &format!("sources[{at}]"),
                "repeats the stream and group of an earlier source",
            )?;
        }
        for (at, channel) in self.channels.iter().enumerate() {
            let path = format!("channels[{at}]");
            channel.validate(&path)?;
            let repeated = self.channels.iter().take(at).any(|earlier| earlier.repeats(channel));
            check(!repeated, &path, "repeats an earlier channel")?;
        }
        Ok(())
    }

    /// The claims that rules of access name.
    pub(crate) fn claims(&self) -> Arc<[Box<str>]> {
        let classes = self.access.iter().flat_map(AccessRule::classes);
        let claims = classes.filter_map(|who| if let Who::Claim(name, _) = who { Some(name.clone()) } else { None });
        claims.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether the members of a room learn of each other.
    pub fn has_presence(&self, room: &str) -> bool {
        self.rule(room).is_some_and(|rule| rule.presence)
    }

    /// Whether a room goes on among the members on each node while the store is away.
    pub fn is_local(&self, room: &str) -> bool {
        self.rule(room).is_some_and(|rule| rule.away == Away::Local)
    }

    /// The rule of a room.
    pub fn rule(&self, room: &str) -> Option<&RoomRule> {
        self.rooms.iter().find(|rule| rule.rooms.matches(room))
    }

    /// The publisher's stream that is the history of a room, and what `{id}` stands for in its keys.
    pub fn stream<'r>(&self, room: &'r str) -> Option<(&Stream, &'r str)> {
        match &self.rule(room)?.keep {
            Some(Keep::Stream(stream)) => Some((stream, room.split_once(':').map_or(room, |(_, id)| id))),
            Some(Keep::History(_) | Keep::Inbox(_)) | None => None,
        }
    }

    /// The index of the source that reads a stream, in a group where several do; nothing where there is no such source.
    ///
    /// # Errors
    /// The groups of the sources that read this stream, where it is not said which is meant.
    pub fn source_of(&self, stream: &str, group: Option<&str>) -> Result<Option<usize>, Vec<&str>> {
        let fits = |source: &Source| source.stream == stream && group.is_none_or(|group| group == source.group);
        let found: Vec<usize> = (0..).zip(&self.sources).filter(|(_, source)| fits(source)).map(|(at, _)| at).collect();
        match found[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(self.sources.iter().filter(|source| fits(source)).map(|source| source.group.as_str()).collect()),
        }
    }
}

impl Default for Config {
    /// The defaults of the systems Roomcast replaces. The secret is a placeholder that every embedder replaces.
    fn default() -> Config {
        Config {
            node: "roomcast-1".into(),
            auth: Auth::default(),
            api: Api::default(),
            routes: vec![
                Route::json("/ws", AuthMode::Required),
                Route::json("/ws/connect", AuthMode::Required),
                Route::bound("/ws/tasks", "global", AuthMode::Optional),
                Route::bound("/ws/jobs/{id}", "job:{id}", AuthMode::Required),
                Route::bound("/ws/{uuid}", "job:{uuid}", AuthMode::Required),
                Route::socketio("/socket.io/", "global"),
                Route::socketio("/ws/socket.io/", "global"),
            ],
            access: vec![
                AccessRule::new("user:*", Who::Owner, Who::Admin),
                AccessRule::new("global", Who::Anyone, Who::Admin),
                AccessRule::new("task:*", Who::Anyone, Who::Admin),
                AccessRule::new("job:*", Who::Authenticated, Who::Admin),
                AccessRule::new("project:*", Who::Authenticated, Who::Admin),
                AccessRule::new("agent:*", Who::Authenticated, Who::Admin),
                AccessRule::new("workspace:*", Who::Authenticated, Who::Admin),
            ],
            rooms: vec![
                RoomRule::keep("user:*", Keep::Inbox(Inbox::default())),
                RoomRule::keep("job:*", Keep::Stream(Stream::default())),
                RoomRule { presence: true, ..RoomRule::keep("project:*", Keep::History(History::default())) },
            ],
            origins: vec![Origin::ANY],
            limits: Limits::default(),
            heartbeat: Heartbeat::default(),
            socketio: SocketIo::default(),
            drain: Drain::default(),
            relay: Relay::default(),
            sources: vec![Source::file_events(), Source::ai_commands()],
            channels: vec![Channel::broadcast(), Channel::task_updates(), Channel::general_updates(), Channel::socketio()],
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, for example `sources[0].block`.
    pub path: String,
    /// What must hold there.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl core::error::Error for ConfigError {}

fn check(holds: bool, path: &str, reason: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { path: path.into(), reason: reason.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn errors_name_the_place_and_the_reason() {
        let config = Config { relay: Relay { partitions: 0, ..Relay::default() }, ..Config::default() };
        assert_eq!(config.validate().unwrap_err().to_string(), "relay.partitions: must be from 1 to 1024");

        let relay = Relay { beat: Duration::from_secs(8), ..Relay::default() };
        let error = Config { relay, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "relay.dead_after: must be at least twice relay.beat");

        let config = Config { sources: vec![Source::file_events(), Source::file_events()], ..Config::default() };
        assert_eq!(config.validate().unwrap_err().path, "sources[1]");
    }

    #[test]
    fn a_source_says_what_it_routes_to() {
        let source = |to: &str| {
            let source = format!(r#"{{"stream": "s", "group": "g", "dead_letter": "d", "to": {to}}}"#);
            let source = serde_json::from_str::<Source>(&source).map_err(|error| error.to_string())?;
            source.validate("sources[0]").map_err(|error| error.to_string())
        };
        for good in [
            r#"{"events": {}}"#,
            r#"{"events": {"room": "r", "type": "t", "limits": {"depth": 8}}}"#,
            r#"{"commands": {}}"#,
            r#"{"commands": {"services": ["a"], "target": "{service}:in", "length": 5}}"#,
            r#"{"host": {"processor": "p", "deadline": "1m", "at_once": 3}}"#,
            r#"{"commands": {"services": [], "streams": {"a": "a:in"}}}"#,
        ] {
            assert_eq!(source(good), Ok(()), "{good}");
        }
        for (bad, expected) in [
            ("{}", "expected"),
            (r#"{"events": {}, "commands": {}}"#, "expected"),
            (r#"{"rooms": {}}"#, "unknown variant `rooms`"),
            (r#"{"events": {"target": "t"}}"#, "unknown field `target`"),
            (r#"{"commands": {"room": "r"}}"#, "unknown field `room`"),
            (r#"{"events": {"type": ""}}"#, "sources[0].to.events.type: must not be empty"),
            (r#"{"host": {}}"#, "missing field `processor`"),
            (r#"{"host": {"processor": ""}}"#, "sources[0].to.host.processor: must not be empty"),
            (r#"{"host": {"processor": "p", "at_once": 0}}"#, "sources[0].to.host.at_once: must be greater than 0"),
            (r#"{"host": {"processor": "p", "deadline": "0s"}}"#, "sources[0].to.host.deadline: must not be zero"),
            (r#"{"commands": {"services": []}}"#, "sources[0].to.commands.services: must name at least one service"),
            (r#"{"commands": {"services": [""]}}"#, "sources[0].to.commands.services: must not have empty names"),
            (r#"{"commands": {"target": "t"}}"#, "sources[0].to.commands.target: must contain {service}"),
            (r#"{"commands": {"length": 0}}"#, "sources[0].to.commands.length: must be greater than 0"),
            (r#"{"commands": {"streams": {"a": ""}}}"#, "sources[0].to.commands.streams: must not have empty streams"),
            (r#"{"commands": {"streams": {"a": "s"}}}"#, "sources[0].to.commands: would route a back to the source"),
            (r#"{"commands": {"services": ["s"], "target": "{service}"}}"#, "sources[0].to.commands: would route s back to the"),
            (r#"{"commands": {"streams": {"a": "d"}}}"#, "sources[0].to.commands: would route a to the dead letters"),
        ] {
            let error = source(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn the_default_sources_are_file_events_and_commands() {
        let streams: Vec<_> = Config::default().sources.into_iter().map(|source| (source.stream, source.block)).collect();
        let expected = [("stream:file-events", 5), ("stream:ai-commands", 1)];
        assert_eq!(streams, expected.map(|(stream, block)| (stream.to_owned(), Duration::from_secs(block))));
    }

    #[test]
    fn the_stream_of_a_service_is_its_own_or_follows_from_the_target() {
        let streams = [("mcp", "mcp:in"), ("extra", "extra:in")].map(|(service, stream)| (service.into(), stream.into()));
        let commands = Commands { streams: streams.into(), ..Commands::default() };
        let expected = [
            ("claude", "stream:claude-commands"),
            ("cursor", "stream:cursor-commands"),
            ("extra", "extra:in"),
            ("mcp", "mcp:in"),
        ];
        let mut targets: Vec<_> = commands.targets().collect();
        targets.sort();
        assert!(targets.iter().map(|(service, stream)| (*service, stream.as_str())).eq(expected), "{targets:?}");
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let misspelt = serde_json::from_str::<Config>(r#"{"limits": {"mesages_per_second": 5}}"#);
        assert!(misspelt.unwrap_err().to_string().contains("mesages_per_second"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let config = Config { auth: Auth::secret("hunter2"), ..Config::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        let config: Config = serde_json::from_str(r#"{"relay": {"block": "250ms"}}"#).unwrap();
        assert_eq!(config.relay.block, Duration::from_millis(250));
    }
}
