//! How tokens are checked.

use core::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Secret, check};

/// How tokens (JWT, HS256) are checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The shared secret. At least one byte.
    pub secret: Secret,
    /// The claims that may name the user; the first present wins. A number is taken as its digits.
    pub user_claims: Vec<String>,
    /// Tolerance for clocks that differ, applied to `exp` and `nbf`.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// Where set, the token's `aud` must contain it.
    pub audience: Option<String>,
    /// Where set, the token's `iss` must equal it.
    pub issuer: Option<String>,
}

impl Auth {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check(!self.secret.expose().is_empty(), "auth.secret", "must not be empty")?;
        check(!self.user_claims.is_empty(), "auth.user_claims", "must name at least one claim")
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            secret: Secret::new("insecure-default-secret-for-tests"),
            user_claims: ["sub", "user_id", "id"].map(String::from).into(),
            leeway: Duration::from_secs(30),
            audience: None,
            issuer: None,
        }
    }
}
