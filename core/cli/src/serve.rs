//! The command `serve`: a gateway until SIGINT or SIGTERM.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use roomcast_core::config::{Algorithm, Config, Origin, Secret};
use roomcast_core::id::ShardId;
use roomcast_shell::options::{Options, Store};
use roomcast_shell::tls::TlsAcceptor;
use tracing_subscriber::EnvFilter;

use crate::api_key::random_hex;
use crate::file::{File, SHARDS};
use crate::redis::{RedisOptions, TrustOptions};
use crate::tls::TlsOptions;
use crate::{Outcome, Reload, Stop, Welcome};

/// What a runtime needs to run a gateway.
pub struct Service {
    /// What the gateway is started with.
    pub options: Options,
    /// What to say once the gateway listens.
    pub welcome: Welcome,
    /// What to read anew while it runs.
    pub reload: Reload,
    /// What to wait for then, before the gateway is stopped.
    pub stop: Stop,
}

/// Runs a gateway. Options win over the environment, the environment over the file.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A configuration file (TOML).
    #[arg(long, env = "ROOMCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8098].
    #[arg(long, env = "ROOMCAST_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The secret tokens are signed with; a random one for this run where the configuration file has no key either.
    #[arg(long, env = "JWT_SECRET_KEY", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// The algorithm of that secret: HS256, HS384 or HS512. Public keys stand in the configuration file [default: HS256].
    #[arg(long, env = "JWT_ALGORITHM", value_name = "NAME")]
    jwt_algorithm: Option<Algorithm>,
    /// Origins of pages that may connect, separated by commas, as in `https://*.example.com`; `*` for any [default: *].
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Threads that serve connections [default: one for each core].
    #[arg(long, env = "ROOMCAST_SHARDS", value_name = "N", value_parser = clap::value_parser!(u8).range(SHARDS))]
    shards: Option<u8>,
    /// This process's name among its peers, different for each start [default: host, process and a random part].
    #[arg(long, env = "ROOMCAST_NODE", value_name = "NAME")]
    node: Option<String>,
    /// What to log: a level, or a filter as in `info,roomcast_core=debug`.
    #[arg(long, env = "ROOMCAST_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How log lines are written.
    #[arg(long, env = "ROOMCAST_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(flatten)]
    tls: TlsOptions,
    #[command(flatten)]
    redis: RedisOptions,
    #[command(flatten)]
    redis_trust: TrustOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Serve {
    pub(crate) fn run(self, binary: &'static str, serve: fn(Service) -> Outcome) -> Outcome {
        self.start_log()?;
        let file = self.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        let redis = self.redis.address(file.server.redis.as_deref())?;
        let redis_trust = self.redis_trust.trust(&file.server);
        let tls = self.tls.acceptor(&file.server)?;
        let certificates = tls.as_ref().map(TlsAcceptor::watch).transpose()?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(usize::from(ShardId::MOST)) as u8);
        let shards = self.shards.or(file.server.shards).unwrap_or(cores);
        let usual = Options::default();
        let listen = self.listen.or(file.server.listen).unwrap_or(usual.listen);

        let mut config = file.config;
        let chosen = self.jwt_secret.filter(|secret| !secret.is_empty());
        let random = if chosen.is_none() && !config.auth.has_keys() { Some(random_hex(32)?) } else { None };
        let (secret, algorithm) = (chosen.or(random.clone()), self.jwt_algorithm);
        let overrides = move |config: &mut Config| {
            if let Some(secret) = &secret {
                config.auth.secret = Some(Secret::new(secret));
            }
            config.auth.algorithm = algorithm.unwrap_or(config.auth.algorithm);
        };
        overrides(&mut config);
        let origins = self.origins.iter().map(|origin| origin.trim()).filter(|origin| !origin.is_empty());
        let parse = |text: &str| text.parse::<Origin>().map_err(|why| format!("{text:?} {why}"));
        let origins: Vec<Origin> = origins.map(parse).collect::<Result<_, _>>()?;
        if !origins.is_empty() {
            config.origins = origins;
        }
        config.node = match self.node {
            Some(node) => node,
            None if config.node != Config::default().node => config.node,
            None => format!("{}-{}-{}", host_name(), std::process::id(), random_hex(4)?),
        };

        let place = redis.as_ref().map_or("embedded, for this process alone".to_owned(), ToString::to_string);
        let store = redis.map_or(Store::Memory, |address| Store::Redis(Box::new(address)));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let welcome = Welcome { binary, scheme, store: place, random_secret: random };
        // Before anything is served, so that a signal that comes early is not lost.
        let stop = Stop::at_signals()?;
        let reload = Reload { file: self.config, overrides: Box::new(overrides), certificates };
        let options = Options { config, listen, tls, redis_trust, store, shards, ..usual };
        serve(Service { options, welcome, reload, stop })?;
        tracing::info!("stopped");
        Ok(())
    }

    fn start_log(&self) -> Outcome {
        let filter = EnvFilter::try_new(&self.log)?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
            LogFormat::Json => log.json().init(),
        }
        Ok(())
    }
}

fn host_name() -> String {
    let name = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "roomcast".to_owned() } else { name.to_owned() }
}
