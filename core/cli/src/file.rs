//! The configuration file: TOML, with a `[server]` table for the binary and everything else for the core.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use roomcast_core::config::Config;
use roomcast_core::id::ShardId;
use serde::Deserialize;
use serde::de::Error as _;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) server: Server,
    pub(crate) config: Config,
    /// Whether the file gives a secret; the core's configuration has a placeholder otherwise.
    pub(crate) has_secret: bool,
}

/// How many shards there can be.
pub(crate) const SHARDS: RangeInclusive<i64> = 1..=ShardId::MOST as i64;

/// The `[server]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) redis: Option<String>,
    pub(crate) shards: Option<u8>,
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<File, String> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        File::parse(&std::fs::read_to_string(path).map_err(|error| at(&error))?).map_err(|error| at(&error))
    }

    fn parse(text: &str) -> Result<File, toml::de::Error> {
        let mut table: toml::Table = toml::from_str(text)?;
        let server: Server = match table.remove("server") {
            Some(server) => server.try_into()?,
            None => Server::default(),
        };
        if server.shards.is_some_and(|shards| !SHARDS.contains(&i64::from(shards))) {
            let (least, most) = SHARDS.into_inner();
            return Err(toml::de::Error::custom(format!("server.shards: must be from {least} to {most}")));
        }
        let has_secret = table.get("auth").and_then(|auth| auth.get("secret")).is_some();
        Ok(File { server, config: table.try_into()?, has_secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_table_is_the_binarys_and_the_rest_the_cores() {
        let file = File::parse("[server]\nlisten = \"127.0.0.1:1\"\n[limits]\nburst = 7\n[auth]\nsecret = \"s\"").unwrap();
        assert_eq!(file.server.listen, Some(([127, 0, 0, 1], 1).into()));
        assert_eq!(file.config.limits.burst, 7);
        assert!(file.has_secret);
    }

    #[test]
    fn misspelt_keys_and_impossible_values_are_errors_everywhere() {
        for text in ["[sever]", "[server]\nport = 1", "[limits]\nbrust = 7", "[server]\nshards = 0"] {
            assert!(File::parse(text).is_err(), "{text}");
        }
    }
}
