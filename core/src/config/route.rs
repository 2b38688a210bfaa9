//! Routes: which path speaks which dialect, whether it demands a token, and which room it is bound to.

use core::time::Duration;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use uuid::Uuid;

use super::{ConfigError, DrainStyle, check};

/// Longest text that may stand in place of a placeholder, in bytes.
const LONGEST: usize = 200;

/// A path on which connections are accepted.
///
/// ```
/// use roomcast_core::config::{AuthMode, Route};
///
/// let routes = [Route::bound("/ws/jobs/{id}", "job:{id}", AuthMode::Required), Route::json("/ws/jobs/all", AuthMode::Required)];
/// assert_eq!(Route::find(&routes, "/ws/jobs/42"), Some((0, Some("job:42".into()))));
/// assert_eq!(Route::find(&routes, "/ws/jobs/all"), Some((1, None)));
/// assert_eq!(Route::find(&routes, "/ws/jobs/42/log"), None);
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The path; the query is not part of it. One whole segment may be a placeholder, `{name}`, which stands for 1 to 200 bytes
    /// of text, percent-encoded, without control characters; `{uuid}` stands for a UUID only.
    pub path: String,
    /// What is spoken there.
    #[serde(default)]
    pub dialect: DialectName,
    /// Whether a token is demanded.
    #[serde(default)]
    pub auth: AuthMode,
    /// How long the rooms of a token are remembered after its last connection has ended, to be restored when it comes back: for
    /// clients that do not ask for them again. Nothing is remembered where this is missing.
    #[serde(default, with = "humantime_serde")]
    pub restore: Option<Duration>,
    /// How its connections end when the node is emptied.
    #[serde(default)]
    pub drain: DrainStyle,
    /// The room that connections are in from the start, as far as its access rule lets them; the path's placeholder may occur in
    /// it. A connection that is not allowed to be in it is closed.
    #[serde(default)]
    pub room: Option<String>,
    /// Claims that a token must have here, beside those that say whose it is.
    #[serde(default)]
    pub claims: Vec<String>,
    /// How long a Socket.IO client may be away and still recover its connection: what it was sent meanwhile follows, on any node,
    /// or it is told that it could not be recovered. Off where this is missing, because each event has one more argument
    /// then, of which clients other than `socket.io-client` know nothing.
    #[serde(default, with = "humantime_serde")]
    pub recovery: Option<Duration>,
}

/// The dialects a route can speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DialectName {
    /// One JSON object per text frame (PROTOCOL section 2).
    #[default]
    Json,
    /// Every message comes back as it is: for conformance suites and for measuring the path to a client. Tokens and what is
    /// sent to everybody are treated as elsewhere.
    Echo,
    /// Socket.IO 5 over Engine.IO 4, by long-polling and WebSocket (PROTOCOL section 4).
    SocketIo,
    /// An Engine.IO session in which every message comes back as it is, for conformance suites.
    #[serde(rename = "engineio-echo")]
    EngineEcho,
}

impl DialectName {
    /// Whether it is spoken in Engine.IO sessions.
    pub fn is_engine(self) -> bool {
        matches!(self, DialectName::SocketIo | DialectName::EngineEcho)
    }
}

/// Whether a route demands a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// A connection without a token is asked for one and closed when it does not come.
    #[default]
    Required,
    /// A connection without a token stays and may do what anyone may. A bad token is refused all the same.
    Optional,
    /// Tokens are not looked at: everybody may do what anyone may.
    Ignored,
}

impl Route {
    /// A route of the JSON dialect.
    pub fn json(path: &str, auth: AuthMode) -> Route {
        let (dialect, drain) = (DialectName::default(), DrainStyle::default());
        let (restore, room, claims, recovery) = (None, None, Vec::new(), None);
        Route { path: path.into(), dialect, auth, restore, drain, room, claims, recovery }
    }

    /// The same, bound to a room.
    pub fn bound(path: &str, room: &str, auth: AuthMode) -> Route {
        Route { room: Some(room.into()), ..Route::json(path, auth) }
    }

    /// A route of Socket.IO, whose clients are all in a room, and whose tokens are those of system E.
    pub fn socketio(path: &str, room: &str) -> Route {
        let claims = ["sub", "email", "role", "token_type", "exp"].map(String::from).into();
        Route { dialect: DialectName::SocketIo, claims, ..Route::bound(path, room, AuthMode::Required) }
    }

    /// A route that echoes.
    pub fn echo(path: &str) -> Route {
        Route { dialect: DialectName::Echo, ..Route::json(path, AuthMode::Optional) }
    }

    /// The index of the route that serves a path, and the room it is bound to. A path that is there as it is wins over those
    /// with a placeholder; else the first one that fits. The last slash of a path of Socket.IO may be missing.
    pub fn find(routes: &[Route], path: &str) -> Option<(usize, Option<String>)> {
        let is_exact = |route: &Route| {
            let without = || route.path.strip_suffix('/').filter(|_| route.dialect.is_engine());
            (route.path == path || without() == Some(path)) && route.placeholder().is_none()
        };
        if let Some(exact) = routes.iter().position(is_exact) {
            return Some((exact, routes.get(exact)?.room.clone()));
        }
        (0..).zip(routes).find_map(|(index, route)| {
            let placeholder = route.placeholder()?;
            let value = placeholder.value(path)?;
            Some((index, route.room.as_ref().map(|room| room.replace(placeholder.word, &value))))
        })
    }

    pub(super) fn validate(&self, path: &str) -> Result<(), ConfigError> {
        let at = format!("{path}.path");
        check(self.path.starts_with('/'), &at, "must start with /")?;
        let recovers = self.recovery.is_none() || self.dialect == DialectName::SocketIo;
        check(recovers, &format!("{path}.recovery"), "is for routes of the dialect socketio")?;
        let has = |text: &str| text.contains(['{', '}']);
        let Some(placeholder) = self.placeholder() else {
            check(!has(&self.path), &at, "may have one placeholder, which is a whole segment, as in /ws/jobs/{id}")?;
            return check(
                !self.room.as_deref().is_some_and(has),
                &format!("{path}.room"),
                "has a placeholder that is not in the path",
            );
        };
        let is_one = !has(placeholder.before) && !has(placeholder.after) && !has(placeholder.name());
        check(is_one, &at, "may have one placeholder, which is a whole segment, as in /ws/jobs/{id}")?;
        let rest = self.room.as_ref().map(|room| room.replace(placeholder.word, ""));
        let rest = rest.filter(|rest| Some(rest) != self.room.as_ref() && !has(rest));
        check(rest.is_some(), &format!("{path}.room"), "must have the placeholder of the path, and no other")
    }

    /// The placeholder, and what stands around it.
    fn placeholder(&self) -> Option<Placeholder<'_>> {
        let from = self.path.find("/{")? + 1;
        let to = from + self.path.get(from..)?.find('}')? + 1;
        let (before, rest) = self.path.split_at_checked(from)?;
        let (word, after) = rest.split_at_checked(to - from)?;
        (after.is_empty() || after.starts_with('/')).then_some(Placeholder { before, word, after })
    }
}

/// A placeholder in a path.
struct Placeholder<'a> {
    before: &'a str,
    /// With its braces.
    word: &'a str,
    after: &'a str,
}

impl Placeholder<'_> {
    fn name(&self) -> &str {
        self.word.trim_start_matches('{').trim_end_matches('}')
    }

    /// What stands in its place in a path.
    fn value<'p>(&self, path: &'p str) -> Option<Cow<'p, str>> {
        let segment = path.strip_prefix(self.before)?.strip_suffix(self.after)?;
        let value = percent_decoded(segment).filter(|_| !segment.contains('/'))?;
        let fits = match self.name() {
            "uuid" => value.len() == 36 && Uuid::try_parse(&value).is_ok(),
            _ => (1..=LONGEST).contains(&value.len()) && !value.chars().any(char::is_control),
        };
        fits.then_some(value)
    }
}

/// Percent-decodes what must be text. What only looks as if it were encoded is refused, not guessed at.
pub(crate) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    let whole = text.split('%').skip(1).all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
    percent_decode_str(text).decode_utf8().ok().filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const UUID: &str = "0b5ac0f4-8d2c-4a53-9c0e-3f5bf0a8e7a1";

    fn room(path: &str) -> Option<String> {
        Route::find(&Config::default().routes, path).map(|(_, room)| room.unwrap_or_default())
    }

    #[test]
    fn the_usual_paths_of_jobs_are_bound_to_their_rooms() {
        for (path, expected) in [
            ("/ws/jobs/42", Some("job:42")),
            ("/ws/jobs/a%20b%2fc%C3%A9", Some("job:a b/c\u{e9}")),
            ("/ws/jobs/{id}", Some("job:{id}")),
            (&format!("/ws/{UUID}"), Some(&*format!("job:{UUID}"))),
            (&format!("/ws/jobs/{}", "x".repeat(200)), Some(&*format!("job:{}", "x".repeat(200)))),
            ("/ws", Some("")),
            ("/ws/tasks", Some("global")),
            ("/ws/jobs", None),
            ("/ws/jobs/", None),
            ("/ws/jobs/a/b", None),
            ("/ws/jobs/a%0Ab", None),
            ("/ws/jobs/%C3", None),
            ("/ws/jobs/%", None),
            ("/ws/jobs/%4", None),
            ("/ws/jobs/%zz", None),
            (&format!("/ws/jobs/{}", "x".repeat(201)), None),
            ("/ws/42", None),
            (&format!("/ws/{}", UUID.replace('-', "")), None),
            (&format!("/ws/{{{UUID}}}"), None),
        ] {
            assert_eq!(room(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn an_exact_path_wins_and_then_the_first() {
        let bound = |path: &str, room: &str| Route::bound(path, room, AuthMode::Required);
        let routes = [bound("/a/{x}/c", "x:{x}"), bound("/a/{y}/c", "y:{y}"), bound("/a/b/c", "lobby")];
        assert_eq!(Route::find(&routes, "/a/b/c"), Some((2, Some("lobby".into()))));
        assert_eq!(Route::find(&routes, "/a/z/c"), Some((0, Some("x:z".into()))));
        assert_eq!(Route::find(&routes, "/a//c"), None);
        assert_eq!(Route::find(&routes, "/a/c"), None);
    }

    #[test]
    fn a_placeholder_is_a_whole_segment_and_the_room_has_it() {
        for (path, room, expected) in [
            ("/a/{id}", Some("job:{id}"), None),
            ("/a/{id}/b", Some("{id}:{id}"), None),
            ("/a", Some("lobby"), None),
            ("a", None, Some("routes[0].path")),
            ("/a{id}", Some("job:{id}"), Some("routes[0].path")),
            ("/a/{id}b", Some("job:{id}"), Some("routes[0].path")),
            ("/a/{id", Some("job:{id}"), Some("routes[0].path")),
            ("/a/{i{d}", Some("job:{i{d}"), Some("routes[0].path")),
            ("/{a}/{b}", Some("job:{a}"), Some("routes[0].path")),
            ("/a/{id}", None, Some("routes[0].room")),
            ("/a/{id}", Some("job"), Some("routes[0].room")),
            ("/a/{id}", Some("job:{id}:{other}"), Some("routes[0].room")),
            ("/a", Some("job:{id}"), Some("routes[0].room")),
        ] {
            let route = Route { room: room.map(String::from), ..Route::json(path, AuthMode::Required) };
            let config = Config { routes: vec![route], ..Config::default() };
            let error = config.validate().err().map(|error| error.path);
            assert_eq!(error.as_deref(), expected, "{path} {room:?}");
        }
    }
}
