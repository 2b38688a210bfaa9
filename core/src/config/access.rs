//! Who may do what in which rooms.

use serde::Deserialize;

use crate::pattern::Pattern;

/// Who may subscribe to and publish in the rooms of a pattern.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// The rooms it is about.
    pub rooms: Pattern,
    /// Who may subscribe.
    pub subscribe: Who,
    /// Who may publish from a client connection.
    #[serde(default)]
    pub publish: Who,
}

/// A class of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// Every connection, also without a token.
    Anyone,
    /// Connections with a valid token; where the token lists `rooms`, one of its patterns must fit.
    Authenticated,
    /// Tokens whose `rooms` claim has a pattern that fits.
    Listed,
    /// The user whose id follows the room's first colon, as in `user:7`.
    Owner,
    /// Tokens with `role` `admin`, who may also do everything else.
    #[default]
    Admin,
}
