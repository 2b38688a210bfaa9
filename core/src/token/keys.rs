//! The keys that tokens are checked by.

use core::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::traits::PublicKeyParts as _;
use serde::Deserialize;

use crate::config::{Algorithm, Auth, ConfigError, Jwks, Key as KeyConfig, Secret};

/// Keys that are looked at in one set, at the most: each may have to be tried.
pub const MOST_KEYS: usize = 64;
/// Longest set of keys that is read, in bytes.
pub const MOST_JWKS_BYTES: usize = 256 * 1024;
/// Shortest key of RSA, in bytes (RFC 7518, section 3.3).
const LEAST_RSA_BYTES: usize = 256;

/// The keys that tokens are checked by: those of the configuration, and those of the set that was read last.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    key: DecodingKey,
}

/// Why a set of keys cannot be used. It shows nothing of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksError(String);

impl Keys {
    /// The keys of a configuration, without those that stand elsewhere.
    ///
    /// # Errors
    /// A key that cannot be one of its algorithm.
    pub fn of(auth: &Auth) -> Result<Keys, ConfigError> {
        let mut keys = Vec::new();
        if let Some(secret) = &auth.secret {
            let own = KeyConfig { algorithm: auth.algorithm, kid: None, secret: Some(secret.clone()), public_key: None };
            let key = configured(&own).map_err(|reason| ConfigError { path: "auth.secret".into(), reason })?;
            keys.push(key);
        }
        for (at, key) in auth.keys.iter().enumerate() {
            keys.push(configured(key).map_err(|reason| ConfigError { path: format!("auth.keys[{at}]"), reason })?);
        }
        if keys.len() > MOST_KEYS {
            return Err(ConfigError { path: "auth.keys".into(), reason: format!("must be at most {MOST_KEYS}") });
        }
        Ok(Keys(keys))
    }

    /// These keys and those of a set: a JSON document as RFC 7517 (section 5) has it. Keys of other algorithms or uses are passed
    /// over.
    ///
    /// # Errors
    /// The document is no set, or too long, or a key of it that could be used is broken: half of a set would refuse good tokens
    /// without a word.
    pub fn with_set(&self, jwks: &Jwks, document: &str) -> Result<Keys, JwksError> {
        /// Each key by itself: one of a type that is not known is no reason to refuse the others.
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        if document.len() > MOST_JWKS_BYTES {
            return Err(JwksError(format!("the set has more than {MOST_JWKS_BYTES} bytes")));
        }
        let set: Set = serde_json::from_str(document).map_err(|error| JwksError(format!("not a set of keys: {error}")))?;
        let mut keys = self.clone();
        for (at, value) in set.keys.into_iter().enumerate() {
            let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
            let Some(algorithm) = algorithm(&jwk).filter(|algorithm| jwks.algorithms.contains(algorithm)) else { continue };
            let key = of_set(&jwk, algorithm).map_err(|reason| JwksError(format!("key {at} of the set {reason}")))?;
            keys.0.push(Key { algorithm, kid: jwk.common.key_id.map(String::into_boxed_str), key });
        }
        if keys.0.len() > MOST_KEYS {
            return Err(JwksError(format!("there are more than {MOST_KEYS} keys")));
        }
        Ok(keys)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that may have signed a token that says so of itself.
    pub(super) fn fitting<'a>(&'a self, algorithm: Algorithm, kid: Option<&'a str>) -> impl Iterator<Item = &'a DecodingKey> {
        let of_algorithm = move |key: &&Key| key.algorithm == algorithm;
        let named = kid.is_some() && self.0.iter().filter(of_algorithm).any(|key| key.kid.as_deref() == kid);
        let fits = move |key: &&Key| match kid {
            Some(_) if named => key.kid.as_deref() == kid,
            Some(_) => key.kid.is_none(),
            None => true,
        };
        self.0.iter().filter(of_algorithm).filter(fits).map(|key| &key.key)
    }
}

fn configured(config: &KeyConfig) -> Result<Key, String> {
    let key = match (config.algorithm, &config.secret, &config.public_key) {
        (algorithm, Some(secret), None) if algorithm.is_symmetric() => shared(secret)?,
        (algorithm, _, _) if algorithm.is_symmetric() => return Err("must have a secret, and no public key".into()),
        (algorithm, None, Some(pem)) => public(algorithm, pem)?,
        _ => return Err("must have a public key, and no secret".into()),
    };
    Ok(Key { algorithm: config.algorithm, kid: config.kid.as_deref().map(Box::from), key })
}

fn shared(secret: &Secret) -> Result<DecodingKey, String> {
    if secret.expose().is_empty() {
        return Err("must not be empty".into());
    }
    Ok(DecodingKey::from_secret(secret.expose()))
}

fn public(algorithm: Algorithm, pem: &str) -> Result<DecodingKey, String> {
    let pem = pem.as_bytes();
    let (key, what) = match algorithm {
        Algorithm::RS256 => (DecodingKey::from_rsa_pem(pem).ok().filter(is_public_rsa), "an RSA key of 2048 bits or more"),
        Algorithm::ES256 => (DecodingKey::from_ec_pem(pem).ok().filter(is_p256), "an EC key on the curve P-256"),
        _ => (DecodingKey::from_ed_pem(pem).ok().filter(is_ed25519), "an Ed25519 key"),
    };
    key.ok_or_else(|| format!("must be {what}, as PEM: -----BEGIN PUBLIC KEY-----"))
}

/// Whether these are the bytes of a public key that is long enough, and not too long to be tried by everybody who likes.
fn is_public_rsa(key: &DecodingKey) -> bool {
    let key = key.try_get_as_bytes().ok().and_then(|der| RsaPublicKey::from_pkcs1_der(der).ok());
    key.is_some_and(|key| key.size() >= LEAST_RSA_BYTES)
}

fn is_p256(key: &DecodingKey) -> bool {
    key.try_get_as_bytes().is_ok_and(|point| p256::PublicKey::from_sec1_bytes(point).is_ok())
}

fn is_ed25519(key: &DecodingKey) -> bool {
    let bytes = key.try_get_as_bytes().ok().and_then(|bytes| bytes.try_into().ok());
    bytes.is_some_and(|bytes| ed25519_dalek::VerifyingKey::from_bytes(bytes).is_ok())
}

/// What a key of a set is used for; nothing where that is not to check tokens, or by none of the algorithms known here.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let may_verify = jwk.common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures || !may_verify {
        return None;
    }
    let said = match jwk.common.key_algorithm {
        None => None,
        Some(KeyAlgorithm::HS256) => Some(Algorithm::HS256),
        Some(KeyAlgorithm::HS384) => Some(Algorithm::HS384),
        Some(KeyAlgorithm::HS512) => Some(Algorithm::HS512),
        Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
        Some(KeyAlgorithm::ES256) => Some(Algorithm::ES256),
        Some(KeyAlgorithm::EdDSA) => Some(Algorithm::EdDsa),
        Some(_) => return None,
    };
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Some(Algorithm::ES256),
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Some(Algorithm::EdDsa),
        // A secret has no algorithm of its own.
        AlgorithmParameters::OctetKey(_) => said.filter(|said| said.is_symmetric()),
        _ => None,
    }
    .filter(|own| said.is_none_or(|said| said == *own))
}

fn of_set(jwk: &Jwk, algorithm: Algorithm) -> Result<DecodingKey, &'static str> {
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "is broken")?;
    let is_good = match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::RSA(rsa), _) => {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(&rsa.n).unwrap_or_default();
            let length = bytes.iter().skip_while(|byte| **byte == 0).count();
            (LEAST_RSA_BYTES..=4 * LEAST_RSA_BYTES).contains(&length)
        }
        (_, Algorithm::ES256) => is_p256(&key),
        (_, Algorithm::EdDsa) => is_ed25519(&key),
        _ => key.try_get_as_bytes().is_ok_and(|secret| !secret.is_empty()),
    };
    if is_good { Ok(key) } else { Err("is broken, or too short") }
}

impl fmt::Debug for Keys {
    /// The names of the keys, and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| (key.algorithm, &key.kid))).finish()
    }
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for JwksError {}
