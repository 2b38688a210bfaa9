//! The configuration file: TOML, with a `[server]` table for the binary and everything else for the core.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use roomcast_core::config::Config;
use roomcast_core::id::ShardId;
use serde::Deserialize;
use serde::de::Error as _;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) server: Server,
    pub(crate) config: Config,
}

/// How many shards there can be.
pub(crate) const SHARDS: RangeInclusive<i64> = 1..=ShardId::MOST as i64;

/// The `[server]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) redis: Option<String>,
    pub(crate) redis_ca: Option<PathBuf>,
    pub(crate) redis_cert: Option<PathBuf>,
    pub(crate) redis_key: Option<PathBuf>,
    pub(crate) shards: Option<u8>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_min: Option<String>,
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<File, String> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let folder = path.parent().unwrap_or(Path::new(""));
        File::parse(&std::fs::read_to_string(path).map_err(|error| at(&error))?, folder).map_err(|error| at(&error))
    }

    fn parse(text: &str, folder: &Path) -> Result<File, toml::de::Error> {
        let mut table: toml::Table = toml::from_str(text).map_err(|error| without_text(&error, text))?;
        let server: Server = match table.remove("server") {
            Some(server) => server.try_into()?,
            None => Server::default(),
        };
        if server.shards.is_some_and(|shards| !SHARDS.contains(&i64::from(shards))) {
            let (least, most) = SHARDS.into_inner();
            return Err(toml::de::Error::custom(format!("server.shards: must be from {least} to {most}")));
        }
        for name in ["auth", "api"] {
            table.get_mut(name).map_or(Ok(()), |value| include(value, folder)).map_err(toml::de::Error::custom)?;
        }
        Ok(File { server, config: table.try_into()? })
    }
}

/// What may stand in a file of its own, for which `secret_file` stands in place of `secret`: so that the configuration is no secret.
const INCLUDED: [&str; 3] = ["secret", "public_key", "key"];

/// Puts the contents of files in the place of their paths, which are relative to the folder of the configuration.
fn include(value: &mut toml::Value, folder: &Path) -> Result<(), String> {
    match value {
        toml::Value::Array(values) => values.iter_mut().try_for_each(|value| include(value, folder)),
        toml::Value::Table(table) => {
            for name in INCLUDED {
                let Some(path) = table.remove(&format!("{name}_file")) else { continue };
                let path = folder.join(path.as_str().ok_or(format!("{name}_file: must be a path"))?);
                let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                if table.insert(name.into(), text.trim_end_matches(['\r', '\n']).into()).is_some() {
                    return Err(format!("{name} and {name}_file: only one of them may be there"));
                }
            }
            table.iter_mut().try_for_each(|(_, value)| include(value, folder))
        }
        _ => Ok(()),
    }
}

/// The same error without the line that it stands in, which may be that of a secret.
fn without_text(error: &toml::de::Error, text: &str) -> toml::de::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    toml::de::Error::custom(format!("line {line}: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roomcast_core::config::Secret;

    #[test]
    fn the_server_table_is_the_binarys_and_the_rest_the_cores() {
        let file = parse("[server]\nlisten = \"127.0.0.1:1\"\n[limits]\nburst = 7\n[auth]\nsecret = \"s\"").unwrap();
        assert_eq!(file.server.listen, Some(([127, 0, 0, 1], 1).into()));
        assert_eq!(file.config.limits.burst, 7);
        assert_eq!(file.config.auth.secret, Some(Secret::new("s")));
    }

    fn parse(text: &str) -> Result<File, toml::de::Error> {
        File::parse(text, Path::new(env!("CARGO_MANIFEST_DIR")))
    }

    #[test]
    fn secrets_may_stand_in_files_of_their_own() {
        let file = parse("[auth]\nsecret_file = \"Cargo.toml\"").unwrap();
        let secret = file.config.auth.secret.unwrap();
        let text = str::from_utf8(secret.expose()).unwrap();
        assert!(text.starts_with("[package]") && !text.ends_with('\n'));
        let keys = parse("[[auth.keys]]\nalgorithm = \"HS256\"\nsecret_file = \"Cargo.toml\"").unwrap().config.auth.keys;
        assert_eq!(keys[0].secret, Some(secret));
        for (wrong, told) in [
            ("[auth]\nsecret_file = \"none\"", "none"),
            ("[auth]\nsecret_file = 1", "path"),
            ("[auth]\nsecret_file = \"Cargo.toml\"\nsecret = \"s\"", "only one"),
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_where_its_line_is_wrong() {
        for wrong in
            ["secret = \"hunter2", "secrt = \"hunter2\"", "secret = hunter2", "secret = [\"hunter2\"]", "secret \"hunter2\""]
        {
            let error = parse(&format!("[auth]\n{wrong}\n[limits]\n")).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("line 2: ") || error.contains("secr"), "{error}");
        }
    }

    #[test]
    fn misspelt_keys_and_impossible_values_are_errors_everywhere() {
        for text in ["[sever]", "[server]\nport = 1", "[limits]\nbrust = 7", "[server]\nshards = 0"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
