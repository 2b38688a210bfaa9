//! Where Redis is: one URL, or the parts under the names that the replaced systems use.

use std::fmt::Display;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use roomcast_shell::lanes::{Address, AddressError};
use roomcast_shell::tls::Trust;

use crate::file::Server;

/// Options that say where Redis is. Without any of them there is none.
#[derive(Debug)]
pub(crate) struct RedisOptions(Given);

/// The options as they are given, each by itself.
#[derive(Debug, Args)]
struct Given {
    /// Redis as a URL, for example redis://:password@127.0.0.1:6379/2, redis-sentinel://host,host/2#master or
    /// redis-cluster://host,host, with rediss in place of redis for TLS; the embedded store without it.
    #[arg(long = "redis", env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// Redis's host, where there is no URL.
    #[arg(long, env = "REDIS_HOST", value_name = "HOST")]
    redis_host: Option<String>,
    /// Redis's port.
    #[arg(long, env = "REDIS_PORT", default_value_t = 6379, value_name = "PORT")]
    redis_port: u16,
    /// Redis's database.
    #[arg(long, env = "REDIS_DB", default_value_t = 0, value_name = "N")]
    redis_db: i64,
    /// Redis's password.
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    redis_password: Option<String>,
    /// Whether Redis is spoken to by TLS.
    #[arg(long, env = "REDIS_SSL", default_value_t = false, value_parser = clap::builder::BoolishValueParser::new(), action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    redis_ssl: bool,
}

impl RedisOptions {
    /// What the options, or else the configuration file, say of Redis. An error says where it stands.
    pub(crate) fn address(&self, file: Option<&str>) -> Result<Option<Address>, String> {
        let at = |place: &'static str| move |error: &dyn Display| format!("{place}: {error}");
        let filled = |text: &&str| !text.is_empty();
        let given = &self.0;
        if let Some(url) = given.url.as_deref().filter(filled) {
            return url.parse().map(Some).map_err(|error: AddressError| at("--redis or REDIS_URL")(&error));
        }
        let Some(host) = given.redis_host.as_deref().filter(filled) else {
            let wrong = |error: AddressError| at("the configuration file, server.redis")(&error);
            return file.map(str::parse).transpose().map_err(wrong);
        };
        let address = ConnectionAddr::Tcp(host.to_owned(), given.redis_port);
        let mut settings = RedisConnectionInfo::default().set_db(given.redis_db);
        if let Some(password) = given.redis_password.as_deref().filter(filled) {
            settings = settings.set_password(password);
        }
        let info = address.into_connection_info().map_err(|error| at("--redis-host or REDIS_HOST")(&error))?;
        let address: Result<Address, AddressError> = info.set_redis_settings(settings).try_into();
        let address = address.map_err(|error| at("--redis-host or REDIS_HOST")(&error))?;
        Ok(Some(if given.redis_ssl { address.secured() } else { address }))
    }
}

/// Options for TLS to Redis.
#[derive(Debug, Args)]
pub(crate) struct TrustOptions {
    /// The authorities by which Redis proves who it is, where it is spoken to by TLS (PEM); those of the system without it.
    #[arg(long, env = "REDIS_CA_CERT", value_name = "FILE")]
    redis_ca: Option<PathBuf>,
    /// The certificate that Redis is shown, where it asks for one (PEM).
    #[arg(long, env = "REDIS_CERT", value_name = "FILE", requires = "redis_key")]
    redis_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[arg(long, env = "REDIS_KEY", value_name = "FILE", requires = "redis_cert")]
    redis_key: Option<PathBuf>,
}

impl TrustOptions {
    /// What the options, or else the configuration file, say of it.
    pub(crate) fn trust(&self, file: &Server) -> Trust {
        let or = |option: &Option<PathBuf>, file: &Option<PathBuf>| option.as_ref().or(file.as_ref()).cloned();
        Trust {
            authorities: or(&self.redis_ca, &file.redis_ca),
            certificate: or(&self.redis_cert, &file.redis_cert).zip(or(&self.redis_key, &file.redis_key)),
        }
    }
}

impl FromArgMatches for RedisOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<RedisOptions, clap::Error> {
        let mut given = Given::from_arg_matches(matches)?;
        let is_option = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let has_host = given.redis_host.as_ref().is_some_and(|host| !host.is_empty());
        // A URL wins over a host, but an option wins over the environment.
        if has_host && is_option("redis_host") && !is_option("url") {
            given.url = None;
        }
        Ok(RedisOptions(given))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = RedisOptions::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for RedisOptions {
    fn augment_args(command: Command) -> Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args_for_update(command)
    }
}
