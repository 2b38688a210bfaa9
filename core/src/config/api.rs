//! Who may use the HTTP API, and what of it is open to everybody.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{ConfigError, Secret, check};

/// Who may use the HTTP API, beside holders of tokens with the role `admin` or with the scopes, and what of it is open.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// The keys that open it.
    pub keys: Vec<ApiKey>,
    /// Who may read `/metrics`: everybody by default.
    pub metrics: Metrics,
    /// Whether the console is served; it is by default. The page shows nothing by itself: it has what its user's token opens.
    pub console: bool,
}

/// A key of the HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What it is called in the audit log: at most 64 letters, digits and `-_.`, and its own among the keys.
    pub name: String,
    /// The key itself, of at least 32 bytes. Either this or `sha256`.
    #[serde(default)]
    pub key: Option<Secret>,
    /// The SHA-256 digest of the key, in 64 hexadecimal digits, so that the configuration opens nothing.
    #[serde(default)]
    pub sha256: Option<Secret>,
    /// What it opens. At least one.
    pub scopes: Vec<Scope>,
}

/// A part of the HTTP API. A token names it with `roomcast:` in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Publish to any room.
    Publish,
    /// See connections, rooms, sources and, where they are protected, metrics.
    Inspect,
    /// Read what was said in any room.
    History,
    /// Read, replay and delete dead letters.
    DeadLetters,
    /// Disconnect users.
    Users,
}

/// Who may read `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metrics {
    /// Everybody.
    #[default]
    Open,
    /// Whoever has the scope [`Scope::Inspect`].
    Protected,
}

/// The least length of a key, in bytes: of random letters it can be guessed by nobody.
const LEAST_KEY: usize = 32;

impl Api {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (at, key) in self.keys.iter().enumerate() {
            let path = format!("api.keys[{at}]");
            key.validate(&path)?;
            let earlier = self.keys.iter().take(at);
            let repeats = |other: &ApiKey| other.name == key.name || other.digest() == key.digest();
            check(!earlier.into_iter().any(repeats), &path, "repeats the name or the key of an earlier one")?;
        }
        Ok(())
    }
}

impl Default for Api {
    fn default() -> Api {
        Api { keys: Vec::new(), metrics: Metrics::Open, console: true }
    }
}

impl ApiKey {
    /// The SHA-256 digest of the key; nothing where the configuration gives none, or both ways.
    pub fn digest(&self) -> Option<[u8; 32]> {
        match (&self.key, &self.sha256) {
            (Some(key), None) => Some(Sha256::digest(key.expose()).into()),
            (None, Some(digits)) => from_hex(digits.expose()),
            _ => None,
        }
    }

    fn validate(&self, path: &str) -> Result<(), ConfigError> {
        let is_plain = self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let name = "must have from 1 to 64 letters, digits, - _ and .";
        check((1..=64).contains(&self.name.len()) && is_plain, &format!("{path}.name"), name)?;
        check(self.key.is_some() != self.sha256.is_some(), path, "must have either key or sha256")?;
        let is_long = self.key.as_ref().is_none_or(|key| key.expose().len() >= LEAST_KEY);
        check(is_long, &format!("{path}.key"), "must have at least 32 bytes")?;
        check(self.digest().is_some(), &format!("{path}.sha256"), "must have 64 hexadecimal digits")?;
        check(!self.scopes.is_empty(), &format!("{path}.scopes"), "must name at least one")
    }
}

impl Scope {
    /// All there are.
    pub const ALL: [Scope; 5] = [Scope::Publish, Scope::Inspect, Scope::History, Scope::DeadLetters, Scope::Users];

    /// As it is written in the configuration, and behind `roomcast:` in a token.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Publish => "publish",
            Scope::Inspect => "inspect",
            Scope::History => "history",
            Scope::DeadLetters => "dead_letters",
            Scope::Users => "users",
        }
    }
}

fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn api(keys: &str) -> Result<Api, String> {
        let api: Api = serde_json::from_str(&format!("{{\"keys\": [{keys}]}}")).map_err(|error| error.to_string())?;
        api.validate().map(|()| api).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_given_itself_or_by_its_digest() {
        let digest: [u8; 32] = Sha256::digest(KEY).into();
        let digits: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        for given in [format!("\"key\": \"{KEY}\""), format!("\"sha256\": \"{digits}\"")] {
            let api = api(&format!("{{\"name\": \"a\", {given}, \"scopes\": [\"publish\", \"dead_letters\"]}}")).unwrap();
            assert_eq!(api.keys[0].digest(), Some(digest));
            assert_eq!(api.keys[0].scopes, [Scope::Publish, Scope::DeadLetters]);
            let shown = format!("{api:?}");
            assert!(!shown.contains(KEY) && !shown.contains(&digits), "{shown}");
        }
        for scope in Scope::ALL {
            assert_eq!(serde_json::from_value::<Scope>(scope.name().into()).unwrap(), scope);
        }
    }

    #[test]
    fn what_protects_nothing_is_an_error() {
        let key = |name: &str, rest: &str| format!("{{\"name\": \"{name}\", {rest}}}");
        let whole = |name: &str| key(name, &format!("\"key\": \"{KEY}\", \"scopes\": [\"users\"]"));
        for (keys, expected) in [
            (whole(""), "api.keys[0].name: must have from 1"),
            (whole(&"n".repeat(65)), "api.keys[0].name: must have from 1"),
            (whole("a\\nb"), "api.keys[0].name: must have from 1"),
            (key("a", "\"scopes\": [\"users\"]"), "api.keys[0]: must have either key or sha256"),
            (
                key("a", &format!("\"key\": \"{KEY}\", \"sha256\": \"00\", \"scopes\": [\"users\"]")),
                "must have either key or sha256",
            ),
            (key("a", "\"key\": \"short\", \"scopes\": [\"users\"]"), "api.keys[0].key: must have at least 32 bytes"),
            (key("a", "\"sha256\": \"00\", \"scopes\": [\"users\"]"), "api.keys[0].sha256: must have 64"),
            (
                key("a", &format!("\"sha256\": \"{}\", \"scopes\": [\"users\"]", "+0".repeat(32))),
                "api.keys[0].sha256: must have 64",
            ),
            (key("a", &format!("\"key\": \"{KEY}\", \"scopes\": []")), "api.keys[0].scopes: must name at least one"),
            (key("a", &format!("\"key\": \"{KEY}\", \"scopes\": [\"all\"]")), "unknown variant `all`"),
            (key("a", &format!("\"key\": \"{KEY}\"")), "missing field `scopes`"),
            ([whole("a"), whole("b")].join(","), "api.keys[1]: repeats the name or the key"),
        ] {
            let error = api(&keys).unwrap_err();
            assert!(error.contains(expected), "{keys}: {error}");
        }
    }
}
