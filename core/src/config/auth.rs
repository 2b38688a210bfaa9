//! How tokens are checked: the keys, and what a token must say.

use core::str::FromStr;
use core::time::Duration;

use serde::de::{self, IntoDeserializer as _};
use serde::{Deserialize, Deserializer};

use super::{ConfigError, Secret, check};
use crate::token::Keys;

/// How tokens (JWT) are checked.
///
/// Without a key no token is good: everybody may do then what anyone may.
///
/// ```
/// use roomcast_core::config::{Algorithm, Auth};
///
/// let auth: Auth = serde_json::from_str(r#"{
///     "keys": [{"algorithm": "HS512", "kid": "2026-11", "secret": "of at least 64 bytes ........................................."}],
///     "audience": "rooms", "issuer": ["https://a.example", "https://b.example"]
/// }"#).unwrap();
/// assert_eq!((auth.keys[0].algorithm, &*auth.audience), (Algorithm::HS512, &["rooms".to_owned()][..]));
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A secret that is shared with whoever signs tokens: one more key, without a name. At least one byte; RFC 7518 (section 3.2)
    /// wants as many as the hash has: 32, 48 or 64.
    pub secret: Option<Secret>,
    /// The algorithm of `secret`: HS256, HS384 or HS512.
    pub algorithm: Algorithm,
    /// Further keys. While keys are changed, the old one and the new one stand here.
    pub keys: Vec<Key>,
    /// Keys that stand elsewhere and are read again and again.
    pub jwks: Option<Jwks>,
    /// The claims that may name the user; the first present wins. A number is taken as its digits.
    pub user_claims: Vec<String>,
    /// Tolerance for clocks that differ, applied to `exp` and `nbf`.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// Where any are named, the token's `aud` must have one of them.
    #[serde(deserialize_with = "one_or_several")]
    pub audience: Vec<String>,
    /// Where any are named, the token's `iss` must be one of them.
    #[serde(deserialize_with = "one_or_several")]
    pub issuer: Vec<String>,
    /// How long a revocation is remembered: as long as any token is valid. A token without `exp` is good again after it.
    #[serde(with = "humantime_serde")]
    pub revoked_for: Duration,
}

/// How a token is signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA (PKCS #1 1.5) with SHA-256, by keys of at least 2048 bits.
    RS256,
    /// ECDSA on the curve P-256 with SHA-256.
    ES256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A key that tokens are signed with. It is used for its algorithm alone, whatever a token says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its name. A token that names a key (`kid`) is checked by the keys of that name, or where there are none by those without a
    /// name; one that names none is checked by each key of its algorithm.
    #[serde(default)]
    pub kid: Option<String>,
    /// The shared secret, of HS256, HS384 and HS512.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// The public key as PEM, of the other algorithms: `-----BEGIN PUBLIC KEY-----`.
    #[serde(default)]
    pub public_key: Option<String>,
}

/// A set of keys (JWKS, RFC 7517) in a file or behind a URL. It is read at the start, then every `refresh`, and soon when a token
/// names a key that is not known. What cannot be read leaves the keys as they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// Path of the file.
    #[serde(default)]
    pub file: Option<String>,
    /// The URL, `https://…` or `http://…`.
    #[serde(default)]
    pub url: Option<String>,
    /// The algorithms that its keys may be used for. A key that says none is used for that of its type. Keys of other algorithms
    /// are passed over, as are shared secrets unless an HS algorithm is named here.
    #[serde(default = "asymmetric")]
    pub algorithms: Vec<Algorithm>,
    /// How often it is read again.
    #[serde(default = "five_minutes", with = "humantime_serde")]
    pub refresh: Duration,
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Algorithm, String> {
        let named: Result<Algorithm, de::value::Error> = Algorithm::deserialize(name.into_deserializer());
        named.map_err(|_| format!("{name:?} is none of HS256, HS384, HS512, RS256, ES256 and EdDSA"))
    }
}

impl Algorithm {
    /// Whether whoever can check a token can make one as well.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }
}

impl Auth {
    /// The usual rules with one shared secret (HS256).
    pub fn secret(secret: &str) -> Auth {
        Auth { secret: Some(Secret::new(secret)), ..Auth::default() }
    }

    /// Whether any token can be good.
    pub fn has_keys(&self) -> bool {
        self.secret.is_some() || !self.keys.is_empty() || self.jwks.is_some()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        Keys::of(self)?;
        check(!self.user_claims.is_empty(), "auth.user_claims", "must name at least one claim")?;
        check(self.revoked_for >= Duration::from_secs(60), "auth.revoked_for", "must be at least a minute")?;
        let Some(jwks) = &self.jwks else { return Ok(()) };
        check(jwks.file.is_some() != jwks.url.is_some(), "auth.jwks", "must have either a file or a url")?;
        let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        check(jwks.url.as_ref().is_none_or(is_web), "auth.jwks.url", "must begin with https:// or http://")?;
        check(!jwks.algorithms.is_empty(), "auth.jwks.algorithms", "must name at least one algorithm")?;
        check(jwks.refresh >= Duration::from_secs(1), "auth.jwks.refresh", "must be at least a second")
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            secret: None,
            algorithm: Algorithm::HS256,
            keys: Vec::new(),
            jwks: None,
            user_claims: ["sub", "user_id", "id"].map(String::from).into(),
            leeway: Duration::from_secs(30),
            audience: Vec::new(),
            issuer: Vec::new(),
            revoked_for: Duration::from_secs(24 * 3600),
        }
    }
}

fn asymmetric() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDsa]
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    })
}
