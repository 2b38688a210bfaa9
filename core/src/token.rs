//! Tokens: JSON Web Tokens signed with HS256, checked without a clock of their own.

use core::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use crate::config::{Auth, Who};
use crate::pattern::Pattern;
use crate::time::UnixMillis;

/// Checks tokens. The algorithm is the configuration's choice, never the token's.
///
/// ```
/// use roomcast_core::config::Auth;
/// use roomcast_core::token::Verifier;
/// use roomcast_core::time::UnixMillis;
///
/// let verifier = Verifier::new(&Auth::default());
/// assert_eq!(verifier.verify("nonsense", UnixMillis(0)).unwrap_err().code, "token_invalid");
/// ```
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
    user_claims: Vec<String>,
    leeway: Duration,
}

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: Box<str>,
    /// The `role` claim.
    pub role: Option<Box<str>>,
    /// The `rooms` claim: the rooms this token may enter, where it lists any.
    pub rooms: Option<Box<[Pattern]>>,
    /// When the token is no longer accepted, leeway included.
    pub expires: Option<UnixMillis>,
}

/// Why a token is refused. The texts say nothing of the secret or the configuration.
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

impl Verifier {
    /// A verifier for a configuration.
    pub fn new(auth: &Auth) -> Verifier {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked here, against the time given; the library would read the system's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims.clear();
        match &auth.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".into());
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &auth.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        Verifier {
            key: DecodingKey::from_secret(auth.secret.expose()),
            validation,
            user_claims: auth.user_claims.clone(),
            leeway: auth.leeway,
        }
    }

    /// Checks a token at a moment of the wall clock.
    ///
    /// # Errors
    /// A token with a wrong signature, form, type or time, or without a user.
    pub fn verify(&self, token: &str, now: UnixMillis) -> Result<Identity, AuthError> {
        self.verify_with(token, now, &[])
    }

    /// The same of a token that must have further claims.
    ///
    /// # Errors
    /// See [`Verifier::verify`]; and a token without one of the claims.
    pub fn verify_with(&self, token: &str, now: UnixMillis, required: &[String]) -> Result<Identity, AuthError> {
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|_| INVALID)?.claims;

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
        let user = self.user_claims.iter().filter_map(|name| claims.get(name)).find_map(user_id).ok_or(CLAIMS)?;
        let role = claims.get("role").and_then(Value::as_str).map(Box::from);
        let rooms = match claims.get("rooms") {
            None => None,
            Some(Value::Array(patterns)) => {
                Some(patterns.iter().map(|pattern| pattern.as_str().map(Pattern::new).ok_or(INVALID)).collect::<Result<_, _>>()?)
            }
            Some(_) => return Err(INVALID),
        };
        Ok(Identity { user, role, rooms, expires })
    }
}

impl Identity {
    /// Whether the identity belongs to a class of clients, for a room.
    pub fn is(&self, who: Who, room: &str) -> bool {
        if self.role.as_deref() == Some("admin") {
            return true;
        }
        let listed = |rooms: &[Pattern]| rooms.iter().any(|pattern| pattern.matches(room));
        match who {
            Who::Anyone => true,
            Who::Authenticated => self.rooms.as_deref().is_none_or(listed),
            Who::Listed => self.rooms.as_deref().is_some_and(listed),
            Who::Owner => room.split_once(':').is_some_and(|(_, owner)| owner == &*self.user),
            Who::Admin => false,
        }
    }
}

/// The token of `Authorization: Bearer`. The scheme's case does not matter (RFC 9110, section 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn moment(claims: &Map<String, Value>, name: &str) -> Result<Option<UnixMillis>, AuthError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(INVALID)?;
    Ok(Some(UnixMillis((seconds * 1000.0) as u64)))
}

fn user_id(claim: &Value) -> Option<Box<str>> {
    match claim {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

impl core::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    const NOW: UnixMillis = UnixMillis(1_000_000_000);

    fn sign(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn verify(claims: Value) -> Result<Identity, &'static str> {
        let auth = Auth { secret: Secret::new("s"), ..Auth::default() };
        Verifier::new(&auth).verify(&sign(Algorithm::HS256, "s", &claims), NOW).map_err(|error| error.code)
    }

    #[test]
    fn claims_become_an_identity() {
        let identity = verify(json!({"sub": "7", "role": "user", "rooms": ["project:*"], "exp": 1_000_010})).unwrap();
        assert_eq!(&*identity.user, "7");
        assert_eq!(identity.expires, Some(UnixMillis(1_000_040_000)), "the leeway of 30 s is included");
        assert!(identity.is(Who::Authenticated, "project:1"));
        assert!(!identity.is(Who::Authenticated, "task:1"));
        assert!(identity.is(Who::Owner, "user:7"));
        assert!(!identity.is(Who::Owner, "user:77"));
        assert!(!identity.is(Who::Admin, "project:1"));
        assert_eq!(&*verify(json!({"user_id": 12})).unwrap().user, "12", "the claims of system A, as a number");
    }

    #[test]
    fn times_are_judged_by_the_time_given() {
        for (claims, expected) in [
            (json!({"sub": "u", "exp": 999_970}), Err("token_expired")),
            (json!({"sub": "u", "exp": 999_971}), Ok(())),
            (json!({"sub": "u", "exp": 999_971.5}), Ok(())),
            (json!({"sub": "u", "exp": "soon"}), Err("token_invalid")),
            (json!({"sub": "u", "exp": -1}), Err("token_invalid")),
            (json!({"sub": "u", "nbf": 1_000_030}), Ok(())),
            (json!({"sub": "u", "nbf": 1_000_031}), Err("token_not_yet_valid")),
        ] {
            assert_eq!(verify(claims.clone()).map(drop), expected, "{claims}");
        }
    }

    #[test]
    fn what_is_not_an_access_token_for_a_user_is_refused() {
        assert_eq!(verify(json!({"sub": "u", "token_type": "refresh"})), Err("token_type"));
        assert_eq!(verify(json!({"sub": "u", "type": "refresh"})), Err("token_type"));
        assert_eq!(verify(json!({"exp": 2_000_000})), Err("token_claims"));
        assert_eq!(verify(json!({"sub": "u", "rooms": "project:*"})), Err("token_invalid"));
    }

    #[test]
    fn the_token_cannot_choose_its_algorithm() {
        let verifier = Verifier::new(&Auth { secret: Secret::new("s"), ..Auth::default() });
        let claims = json!({"sub": "u"});
        let refused = [sign(Algorithm::HS256, "other", &claims), sign(Algorithm::HS512, "s", &claims)];
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1In0.".to_owned();
        for token in refused.into_iter().chain([none, String::new()]) {
            assert_eq!(verifier.verify(&token, NOW), Err(INVALID), "{token}");
        }
    }
}
