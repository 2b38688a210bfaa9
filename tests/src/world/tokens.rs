//! The tokens that clients show, as the World reads them, and which of them counts.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use roomcast_core::config::Config;
use roomcast_core::time::{Time, UnixMillis};
use roomcast_core::token::{Grants, Identity};
use serde_json::Value;

use super::World;

/// The message by which a client renews its token.
pub(super) const RENEWAL: &str = "renewal";

/// As whom a client is connected.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// What its token says, where it has shown one.
    pub(super) identity: Option<Identity>,
    /// The node, and how often that had started.
    pub(super) place: (usize, u32),
    /// Since when, at the latest; and where the token is the first one, at the earliest.
    pub(super) since: Time,
    pub(super) is_first: bool,
}

/// What a token says.
pub(super) fn read(token: &str, config: &Config) -> Option<Identity> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let time = |name: &str| claims[name].as_u64().map(|seconds| UnixMillis(seconds * 1000));
    let roles =
        claims["role"].as_str().into_iter().chain(claims["roles"].as_array().into_iter().flatten().filter_map(Value::as_str));
    let grants = Grants { roles: roles.map(Box::from).collect(), ..Grants::default() };
    Some(Identity {
        user: claims["sub"].as_str()?.into(),
        grants: Some(Arc::new(grants)),
        expires: time("exp").map(|at| at + config.auth.leeway),
        issued: time("iat"),
        jti: claims["jti"].as_str().map(Box::from),
    })
}

impl World {
    /// The token that a client shows when it connects.
    pub(super) fn token_shown_by(&self, client: usize) -> Option<String> {
        let client = &self.clients[client];
        match &client.socket {
            Some(socket) => socket.token(),
            None => client.token.clone(),
        }
    }

    /// Notes what clients were told of the tokens that they have shown.
    pub(super) fn note_tokens(&mut self) {
        for client in 0..self.clients.len() {
            if let Some(token) = self.clients[client].accepted.take() {
                self.note_session(client, Some(&token), self.now, false);
            }
        }
    }

    /// A client is connected, as whom its token says that it is.
    pub(super) fn note_session(&mut self, client: usize, token: Option<&str>, since: Time, is_first: bool) {
        let Some(place) = self.process_of(client) else { return };
        let identity = token.and_then(|token| read(token, &self.config));
        if is_first {
            self.clients[client].begin();
        }
        self.clients[client].shown = Some(Session { identity, place, since, is_first });
    }
}
