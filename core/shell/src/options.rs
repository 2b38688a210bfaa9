//! What a gateway is started with, on any runtime.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use roomcast_core::config::{Away, Config, ConfigError, Secret};
use roomcast_core::store::redis::Redis;

use crate::authorizer::Authorizer;
use crate::clients::Clients;
use crate::gateway::{Gateway, Host, Parts};
use crate::keyring;
use crate::lanes::{Address, AddressError, ClusterLanes, Connect, Connector, Lanes, MemoryLanes, RedisLanes, Servers};
use crate::listen;
use crate::processor::Processors;
use crate::snapshot::Snapshots;
use crate::tls::{TlsAcceptor, TlsConnector, TlsError, Trust};
use crate::transport::{Timer, Transport};

/// What a gateway is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the core is told.
    pub config: Config,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// How TLS is served to clients; without it they are served in the clear. Its [`watch`](TlsAcceptor::watch) is the host's to keep.
    pub tls: Option<TlsAcceptor>,
    /// Which servers are believed where Redis is spoken to by TLS.
    pub redis_trust: Trust,
    /// Where messages go.
    pub store: Store,
    /// How many shards to run, at least one.
    pub shards: u8,
    /// What everything random follows from, for tests that want one run to be like another; chance without it. Whoever knows
    /// it can guess message identifiers.
    pub seed: Option<[u8; 32]>,
    /// Code of the host that deals with the entries of sources which name it.
    pub processors: Processors,
    /// Code of the host that gives the states of rooms.
    pub snapshots: Snapshots,
    /// Code of the host that decides who may do what, where the rules leave it to that.
    pub authorizer: Authorizer,
    /// Code of the host that hears what Socket.IO clients do.
    pub clients: Clients,
}

/// The store of a gateway.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this process: for one node.
    Memory,
    /// Redis, shared by all nodes.
    Redis(Box<Address>),
}

impl Default for Options {
    /// One shard on the address that the binaries take by default, with the embedded store.
    fn default() -> Options {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8098));
        Options {
            config: Config::default(),
            listen,
            tls: None,
            redis_trust: Trust::default(),
            store: Store::Memory,
            shards: 1,
            seed: None,
            processors: Processors::default(),
            snapshots: Snapshots::default(),
            authorizer: Authorizer::default(),
            clients: Clients::default(),
        }
    }
}

impl Options {
    /// Puts a gateway together and listens: what is left to a runtime is to run the parts and to accept connections.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn build<T: Transport, M: Timer>(
        self,
        timer: fn() -> M,
        connect: Connect,
    ) -> Result<(Parts<T, M>, TcpListener), StartError> {
        let wanted = self.listen;
        let parts = Options { shards: self.shards.max(1), ..self }.parts(timer, connect)?;
        let listener = listen::bind(wanted).map_err(|error| StartError::Listen(wanted, error))?;
        Ok((parts, listener))
    }

    /// Puts a worker together: a process without clients that publishes, and may listen. What is left to a runtime is to run the
    /// backplane.
    ///
    /// It reads no sources and no channels, it is not counted among the nodes that have clients, and no room goes on in it without
    /// the store. `listen` and `shards` mean nothing to it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn build_worker<T: Transport, M: Timer>(mut self, timer: fn() -> M, connect: Connect) -> Result<Parts<T, M>, StartError> {
        if matches!(self.store, Store::Memory) {
            return Err(StartError::NoRedis);
        }
        let config = &mut self.config;
        config.sources.clear();
        config.channels.clear();
        for rule in &mut config.rooms {
            (rule.presence, rule.away) = (false, Away::Refuse);
        }
        if config.node == Config::default().node {
            // Each has a channel of its own on which it speaks to itself.
            let mut number = [0; 8];
            getrandom::fill(&mut number).map_err(StartError::Random)?;
            config.node = format!("worker-{:016x}", u64::from_le_bytes(number));
        }
        Options { shards: 0, ..self }.parts(timer, connect)
    }

    fn parts<T: Transport, M: Timer>(self, timer: fn() -> M, connect: Connect) -> Result<Parts<T, M>, StartError> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(StartError::Random)?;
                seed
            }
        };
        let mut config = self.config;
        let origins = elsewhere("sources", config.sources.iter().map(|source| source.redis.as_ref()))?;
        let channels = elsewhere("channels", config.channels.iter().map(|channel| channel.redis.as_ref()))?;
        config.relay.cluster = matches!(&self.store, Store::Redis(address) if address.is_cluster());
        for (index, source) in (0..).zip(&mut config.sources) {
            source.cluster = origins.get(&index).map_or(config.relay.cluster, Address::is_cluster);
        }
        let config = Arc::new(config);
        let lanes: Box<dyn FnOnce(_) -> Box<dyn Lanes>> = match self.store {
            Store::Memory if !origins.is_empty() || !channels.is_empty() => return Err(StartError::OnlyOrigins),
            Store::Memory => {
                let config = config.clone();
                Box::new(move |post| Box::new(MemoryLanes::new(&config, post)))
            }
            Store::Redis(address) => {
                let redis = Redis::new(&config);
                let servers = Servers { node: *address, origins, channels };
                let mut connector = Connector::new(connect);
                if servers.is_any(Address::is_secure) {
                    connector = connector.with_tls(TlsConnector::new(&self.redis_trust).map_err(StartError::Tls)?);
                }
                match servers.is_any(Address::is_cluster) {
                    true => Box::new(move |post| Box::new(ClusterLanes::new(servers, &connector, redis, post))),
                    false => Box::new(move |post| Box::new(RedisLanes::new(servers, &connector, redis, post))),
                }
            }
        };
        let Options { shards, processors, snapshots, authorizer, clients, .. } = self;
        let host = Host { shards, seed, timer, lanes, processors, snapshots, authorizer, clients };
        let parts = Gateway::build(config, host).map_err(StartError::Config)?;
        keyring::watch(&parts.gateway).map_err(StartError::Keys)?;
        Ok(parts)
    }
}

/// The servers of the sources, or channels, that have one of their own.
fn elsewhere<'a>(what: &str, urls: impl Iterator<Item = Option<&'a Secret>>) -> Result<BTreeMap<u16, Address>, StartError> {
    let mut servers = BTreeMap::new();
    for (index, url) in (0..).zip(urls) {
        let Some(url) = url else { continue };
        let url = str::from_utf8(url.expose()).unwrap_or_default();
        let wrong = |reason: String| StartError::Config(ConfigError { path: format!("{what}[{index}].redis"), reason });
        let address: Address = url.parse().map_err(|error: AddressError| wrong(error.to_string()))?;
        servers.insert(index, address);
    }
    Ok(servers)
}

/// Why a gateway cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The keys of tokens cannot be read.
    Keys(String),
    /// The configuration cannot work.
    Config(ConfigError),
    /// A source or a channel is in a Redis of its own, but the node has none: what it reads could not be relayed safely.
    OnlyOrigins,
    /// A worker has no Redis, by which alone it could reach anybody.
    NoRedis,
    /// The address to listen on cannot be used.
    Listen(SocketAddr, io::Error),
    /// Redis is to be spoken to by TLS, which cannot be had.
    Tls(TlsError),
    /// The system gives no random numbers.
    Random(getrandom::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Keys(fault) => write!(f, "auth.jwks: {fault}"),
            StartError::Config(error) => write!(f, "the configuration cannot work: {error}"),
            StartError::OnlyOrigins => f.write_str("a source or a channel names a Redis of its own, so the node needs one too"),
            StartError::NoRedis => f.write_str("a worker reaches others through Redis, and has none"),
            StartError::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            StartError::Tls(error) => write!(f, "TLS to Redis: {error}"),
            StartError::Random(error) => write!(f, "the system gives no random numbers: {error}"),
        }
    }
}

impl Error for StartError {}
