//! Routes: which path speaks which dialect, and whether it demands a token.

use core::time::Duration;

use serde::Deserialize;

/// A path on which connections are accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The path, exactly; the query is not part of it.
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
}

impl Route {
    /// A route of the JSON dialect.
    pub fn json(path: &str, auth: AuthMode) -> Route {
        Route { path: path.into(), dialect: DialectName::Json, auth, restore: None }
    }

    /// A route that echoes.
    pub fn echo(path: &str) -> Route {
        Route { path: path.into(), dialect: DialectName::Echo, auth: AuthMode::Optional, restore: None }
    }
}
