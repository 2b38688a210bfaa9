//! What commands do without a gateway: a worker that speaks to Redis itself.

use std::path::{Path, PathBuf};

use clap::Args;
use roomcast_shell::gateway::Gateway;
use roomcast_shell::lanes::{Address, AddressError};
use roomcast_shell::options::{Options, Store};
use roomcast_shell::transport::Transport;

use crate::Outcome;
use crate::file::File;
use crate::listen::Listening;
use crate::ping::Pinging;
use crate::publish::Publishing;
use crate::redis::TrustOptions;

/// What a runtime needs to run a worker.
#[derive(Debug)]
pub struct Work {
    /// What the worker is started with.
    pub options: Options,
    /// What to do with it.
    pub job: Job,
}

/// What a command has done by a worker.
#[derive(Debug)]
pub struct Job(pub(crate) Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Publish(Publishing),
    Ping(Pinging),
    Listen(Listening),
}

/// Redis, for a command that can do without a gateway.
#[derive(Debug, Args)]
pub(crate) struct Direct {
    /// Redis as a URL: nothing goes through a gateway then.
    #[arg(long = "redis", value_name = "URL")]
    redis: Option<String>,
    #[command(flatten)]
    trust: TrustOptions,
    /// With --redis, the configuration file of the gateways (TOML): the prefix, the partitions and the rules of rooms are theirs.
    #[arg(long, env = "ROOMCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Job {
    /// Does it, and prints what comes of it.
    ///
    /// # Errors
    /// It could not be done.
    pub async fn run<T: Transport>(self, gateway: &Gateway<T>) -> Outcome {
        match self.0 {
            Kind::Publish(publishing) => publishing.run(gateway).await,
            Kind::Ping(pinging) => pinging.run(gateway).await,
            Kind::Listen(listening) => listening.run(gateway).await,
        }
    }
}

impl Direct {
    /// Where Redis is and what a worker is started with, if Redis is named.
    pub(crate) fn options(&self) -> Result<Option<(Address, Options)>, Box<dyn std::error::Error>> {
        let Some(url) = &self.redis else { return Ok(None) };
        let address: Address = url.parse().map_err(|error: AddressError| format!("--redis: {error}"))?;
        let file = read(self.config.as_deref())?;
        Ok(Some((address.clone(), options(file, address, &self.trust))))
    }
}

/// The configuration file, if one is named.
pub(crate) fn read(path: Option<&Path>) -> Result<File, String> {
    Ok(path.map(File::read).transpose()?.unwrap_or_default())
}

/// What a worker is started with.
pub(crate) fn options(file: File, address: Address, trust: &TrustOptions) -> Options {
    let redis_trust = trust.trust(&file.server);
    Options { config: file.config, redis_trust, store: Store::Redis(Box::new(address)), ..Options::default() }
}
