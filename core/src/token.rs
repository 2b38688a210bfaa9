//! Tokens: signed JSON Web Tokens (RFC 7519), checked without a clock of their own, and whom they speak for.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};
use jsonwebtoken::{Validation, decode_header};
use serde_json::{Map, Value};

use crate::config::{Algorithm, Config};
use crate::time::UnixMillis;

mod identity;
mod keys;
mod revoked;
#[cfg(test)]
mod tests;

pub use identity::{Grants, Identity};
pub use keys::{JwksError, Keys, MOST_JWKS_BYTES, MOST_KEYS};
pub use revoked::{MOST_REVOCATIONS, Revocation, Revoked, Subject};

/// Longest name of a user, in bytes: rooms and logs have it.
pub const MOST_USER_BYTES: usize = 256;
/// Longest token that is looked at, in bytes.
pub const MOST_TOKEN_BYTES: usize = 16 * 1024;

/// Checks tokens. A key is used for its own algorithm alone: a token that says another one is good for nothing.
///
/// ```
/// use roomcast_core::config::{Auth, Config};
/// use roomcast_core::token::Verifier;
/// use roomcast_core::time::UnixMillis;
///
/// let config = Config { auth: Auth::secret("of at least 32 bytes, if it is to be safe"), ..Config::default() };
/// let verifier = Verifier::new(&config);
/// assert_eq!(verifier.verify("nonsense", UnixMillis(0)).unwrap_err().code, "token_invalid");
/// ```
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<Keys>,
    revoked: Arc<Revoked>,
    /// What the library checks besides the signature, for each algorithm.
    rules: Arc<BTreeMap<Algorithm, Validation>>,
    user_claims: Arc<[String]>,
    /// The claims that rules of access name.
    claims: Arc<[Box<str>]>,
    leeway: Duration,
}

/// Why a token is refused. The texts say nothing of keys or of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthError {
    /// A stable code.
    pub code: &'static str,
    /// The same in words.
    pub message: &'static str,
}

const INVALID: AuthError = AuthError { code: "token_invalid", message: "The token is not valid" };
const EXPIRED: AuthError = AuthError { code: "token_expired", message: "The token has expired" };
const NOT_YET: AuthError = AuthError { code: "token_not_yet_valid", message: "The token is not valid yet" };
const TYPE: AuthError = AuthError { code: "token_type", message: "The token is not an access token" };
const MISSING: AuthError = AuthError { code: "token_claims", message: "The token lacks a claim that is required here" };
const CLAIMS: AuthError = AuthError { code: "token_claims", message: "The token names no user" };
const REVOKED: AuthError = AuthError { code: "token_revoked", message: "The token has been revoked" };

impl Verifier {
    /// A verifier for a configuration, with the keys that stand in it. Keys that cannot work, which
    /// [`Config::validate`] finds, are none.
    pub fn new(config: &Config) -> Verifier {
        let auth = &config.auth;
        let rules = ALGORITHMS.map(|(ours, theirs)| {
            let mut validation = Validation::new(theirs);
            // Times are checked here, against the time given; the library would read the system's clock.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            validation.required_spec_claims.clear();
            validation.validate_aud = !auth.audience.is_empty();
            if validation.validate_aud {
                validation.set_audience(&auth.audience);
                validation.required_spec_claims.insert("aud".into());
            }
            if !auth.issuer.is_empty() {
                validation.set_issuer(&auth.issuer);
                validation.required_spec_claims.insert("iss".into());
            }
            (ours, validation)
        });
        Verifier {
            keys: Arc::new(Keys::of(auth).unwrap_or_default()),
            revoked: Arc::default(),
            rules: Arc::new(rules.into()),
            user_claims: auth.user_claims.as_slice().into(),
            claims: config.claims(),
            leeway: auth.leeway,
        }
    }

    /// Checks by these keys from now on.
    pub fn set_keys(&mut self, keys: Arc<Keys>) {
        self.keys = keys;
    }

    /// Refuses what is revoked by these from now on.
    pub fn set_revoked(&mut self, revoked: Arc<Revoked>) {
        self.revoked = revoked;
    }

    /// What is revoked.
    pub fn revoked(&self) -> &Arc<Revoked> {
        &self.revoked
    }

    /// Remembers other claims from now on: those that these rules of access name.
    pub(crate) fn set_claims(&mut self, config: &Config) {
        self.claims = config.claims();
    }

    /// Checks a token at a moment of the wall clock.
    ///
    /// # Errors
    /// A token with a wrong signature, form, type or time, without a user, or one that is revoked.
    pub fn verify(&self, token: &str, now: UnixMillis) -> Result<Identity, AuthError> {
        self.verify_with(token, now, &[])
    }

    /// The same of a token that must have further claims.
    ///
    /// # Errors
    /// See [`Verifier::verify`]; and a token without one of the claims.
    pub fn verify_with(&self, token: &str, now: UnixMillis, required: &[String]) -> Result<Identity, AuthError> {
        let claims = self.signed_claims(token).ok_or(INVALID)?;

        let expires = moment(&claims, "exp")?.map(|at| at + self.leeway);
        if expires.is_some_and(|at| at <= now) {
            return Err(EXPIRED);
        }
        if moment(&claims, "nbf")?.is_some_and(|from| from > now + self.leeway) {
            return Err(NOT_YET);
        }
        let kind = claims.get("token_type").or_else(|| claims.get("type"));
        if kind.is_some_and(|kind| kind != "access") {
            return Err(TYPE);
        }
        if required.iter().any(|name| claims.get(name).is_none_or(Value::is_null)) {
            return Err(MISSING);
        }
        let user = self.user_claims.iter().filter_map(|name| claims.get(name)).find_map(identity::name);
        let user = user.filter(|user| user.len() <= MOST_USER_BYTES).ok_or(CLAIMS)?;
        let grants = Grants::of(&claims, &self.claims).ok_or(INVALID)?;
        let jti = claims.get("jti").and_then(Value::as_str).map(Box::from);
        let identity = Identity { user, grants: grants.map(Arc::new), expires, issued: moment(&claims, "iat")?, jti };
        if self.revoked.has(&identity) { Err(REVOKED) } else { Ok(identity) }
    }

    /// Whether a token may be good by a key that is not known yet.
    pub fn lacks_key(&self, token: &str) -> bool {
        let header = Header::of(token);
        header.is_some_and(|Header { algorithm, kid }| self.keys.fitting(algorithm, kid.as_deref()).next().is_none())
    }

    /// What a token says, if one of the keys has signed it.
    fn signed_claims(&self, token: &str) -> Option<Map<String, Value>> {
        let Header { algorithm, kid } = Header::of(token)?;
        let rules = self.rules.get(&algorithm)?;
        let mut keys = self.keys.fitting(algorithm, kid.as_deref());
        keys.find_map(|key| jsonwebtoken::decode(token, key, rules).ok()).map(|decoded| decoded.claims)
    }
}

/// What a token says of its own signature. Nothing of it is believed: it only finds the keys to try.
struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    fn of(token: &str) -> Option<Header> {
        let header = decode_header(token).ok().filter(|_| token.len() <= MOST_TOKEN_BYTES)?;
        // What must be understood is not understood here (RFC 7515, section 4.1.11), and what is encrypted cannot be read.
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return None;
        }
        let algorithm = ALGORITHMS.iter().find(|(_, theirs)| *theirs == header.alg)?.0;
        Some(Header { algorithm, kid: header.kid })
    }
}

const ALGORITHMS: [(Algorithm, jsonwebtoken::Algorithm); 6] = [
    (Algorithm::HS256, jsonwebtoken::Algorithm::HS256),
    (Algorithm::HS384, jsonwebtoken::Algorithm::HS384),
    (Algorithm::HS512, jsonwebtoken::Algorithm::HS512),
    (Algorithm::RS256, jsonwebtoken::Algorithm::RS256),
    (Algorithm::ES256, jsonwebtoken::Algorithm::ES256),
    (Algorithm::EdDsa, jsonwebtoken::Algorithm::EdDSA),
];

/// Stands for credentials that cannot be understood, or of which there are several where only one may be: a proxy and this server
/// might each take another one. It is no good token.
pub(crate) const AMBIGUOUS: &str = "";

/// The token of `Authorization: Bearer`; nothing where credentials of another scheme are given, or none. The scheme's case does not
/// matter (RFC 9110, section 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let value = values.next()?;
    let Ok(value) = value.to_str() else { return Some(AMBIGUOUS) };
    if values.next().is_some() {
        return Some(AMBIGUOUS);
    }
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A moment in seconds since 1970, of which there may be a fraction.
fn moment(claims: &Map<String, Value>, name: &str) -> Result<Option<UnixMillis>, AuthError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(INVALID)?;
    Ok(Some(UnixMillis((seconds * 1000.0) as u64)))
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys).finish_non_exhaustive()
    }
}
