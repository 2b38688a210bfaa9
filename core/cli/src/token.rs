//! The command `token`: tokens for users, operators and tests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;

use crate::Outcome;

/// Prints a token.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The user it speaks for.
    #[arg(long)]
    user: String,
    /// The role; `admin` may do everything, publishing over HTTP included.
    #[arg(long)]
    role: Option<String>,
    /// Patterns of the rooms it may enter; every room that users may enter without it.
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    rooms: Vec<String>,
    /// How long it is valid.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// The secret it is signed with.
    #[arg(long, env = "JWT_SECRET_KEY", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: String,
}

/// What a token says.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Claims<'a> {
    pub(crate) sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rooms: Option<&'a [String]>,
    pub(crate) token_type: &'static str,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
}

impl Token {
    pub(crate) fn run(self) -> Outcome {
        let claims = Claims {
            sub: &self.user,
            role: self.role.as_deref(),
            rooms: (!self.rooms.is_empty()).then_some(&self.rooms),
            ..Claims::default()
        };
        println!("{}", claims.sign(&self.jwt_secret, self.ttl)?);
        Ok(())
    }
}

impl Claims<'_> {
    /// Signs the claims as an access token that is valid from now on.
    pub(crate) fn sign(self, secret: &str, ttl: Duration) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims { token_type: "access", iat, exp: iat.saturating_add(ttl.as_secs()), ..self };
        encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))
    }
}
