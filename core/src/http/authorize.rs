//! Who may use which part of the HTTP API.

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{dead_letters, error, rooms, users};
use crate::config::{ApiKey, Config, Metrics, Scope, Who};
use crate::time::UnixMillis;
use crate::token::{Identity, Verifier, bearer};

/// Whoever asks for something that not everybody may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The holder of the key of this name.
    Key(Arc<str>),
    /// The holder of a token of this user.
    User(Box<str>),
}

/// What a request takes, and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// What it takes.
    pub scope: Scope,
    /// Who sent it, where that is known, whether they may or not.
    pub caller: Option<Caller>,
}

/// Decides who may use which part of the API.
#[derive(Clone, Debug)]
pub(super) struct Authorizer {
    config: Arc<Config>,
    verifier: Verifier,
    keys: Vec<Key>,
}

/// A key, as far as it is kept.
#[derive(Clone)]
struct Key {
    name: Arc<str>,
    digest: [u8; 32],
    scopes: Vec<Scope>,
}

impl Authorizer {
    pub(super) fn new(config: Arc<Config>) -> Authorizer {
        let keep = |key: &ApiKey| Some(Key { name: key.name.as_str().into(), digest: key.digest()?, scopes: key.scopes.clone() });
        Authorizer { verifier: Verifier::new(&config), keys: config.api.keys.iter().filter_map(keep).collect(), config }
    }

    /// What checks tokens.
    pub(super) fn verifier(&mut self) -> &mut Verifier {
        &mut self.verifier
    }

    /// What a path needs; nothing where it is open to everybody.
    pub(super) fn scope_of(&self, path: &str) -> Option<Scope> {
        match path {
            "/api/publish" => Some(Scope::Publish),
            "/api/connections" | "/api/rooms" | "/api/sources" => Some(Scope::Inspect),
            "/metrics" if self.config.api.metrics == Metrics::Protected => Some(Scope::Inspect),
            _ if path.starts_with(users::PATH) || path.starts_with(users::TOKENS) => Some(Scope::Users),
            _ if path.starts_with(dead_letters::PATH) => Some(Scope::DeadLetters),
            // The room of this name is inspected by fewer, which does no harm.
            _ if path.starts_with(rooms::PATH) && path.ends_with("/history") => Some(Scope::History),
            _ if path.starts_with(rooms::PATH) => Some(Scope::Inspect),
            _ => None,
        }
    }

    /// Lets nobody pass but who has the scope.
    ///
    /// # Errors
    /// The answer to everybody else (RFC 6750, section 3).
    pub(super) fn authorize(&self, request: &Request<Bytes>, scope: Scope, now: UnixMillis) -> Result<Caller, Box<Refused>> {
        if request.headers().get_all(AUTHORIZATION).iter().count() > 1 {
            let answer = error(StatusCode::BAD_REQUEST, "invalid_request", "Send one Authorization header");
            return Err(Box::new(Refused { caller: None, answer }));
        }
        let Some(given) = bearer(request.headers()) else {
            let message = "Send an API key or a token as Authorization: Bearer";
            return Err(refused(StatusCode::UNAUTHORIZED, "unauthorized", message, None, ""));
        };
        let (caller, may) = match self.key(given) {
            Some(key) => (Caller::Key(key.name.clone()), key.scopes.contains(&scope)),
            None => {
                let invalid = ", error=\"invalid_token\"";
                let identity = self
                    .verifier
                    .verify(given, now)
                    .map_err(|why| refused(StatusCode::UNAUTHORIZED, why.code, why.message, None, invalid))?;
                let may = has(&identity, scope);
                (Caller::User(identity.user), may)
            }
        };
        if may {
            return Ok(caller);
        }
        let name = scope.name();
        let message =
            format!("This takes a key of the scope {name}, or a token with the role admin or the scope roomcast:{name}");
        let why = format!(", error=\"insufficient_scope\", scope=\"roomcast:{name}\"");
        Err(refused(StatusCode::FORBIDDEN, "forbidden", &message, Some(caller), &why))
    }

    /// The key of this text. All are looked at, whatever comes, and each comparison takes the same time: how long it took says
    /// nothing of them.
    fn key(&self, given: &str) -> Option<&Key> {
        let digest: [u8; 32] = Sha256::digest(given).into();
        let is_it = |key: &Key| bool::from(key.digest.ct_eq(&digest));
        self.keys.iter().fold(None, |found, key| if is_it(key) { Some(key) } else { found })
    }
}

/// Whether a token opens a part of the API.
fn has(identity: &Identity, scope: Scope) -> bool {
    identity.is(&Who::Admin, "") || identity.has_scope(&format!("roomcast:{}", scope.name()))
}

/// Somebody who may not, and what they are answered.
pub(super) struct Refused {
    pub(super) caller: Option<Caller>,
    pub(super) answer: Response<Bytes>,
}

fn refused(status: StatusCode, code: &str, message: &str, caller: Option<Caller>, why: &str) -> Box<Refused> {
    let mut answer = error(status, code, message);
    if let Ok(challenge) = HeaderValue::try_from(format!("Bearer realm=\"roomcast\"{why}")) {
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    Box::new(Refused { caller, answer })
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

#[cfg(test)]
mod tests;
