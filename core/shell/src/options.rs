//! What a gateway is started with, on any runtime.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use redis::{ConnectionInfo, RedisError};
use roomcast_core::config::{Config, ConfigError};

/// What a gateway is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the core is told.
    pub config: Config,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where messages go.
    pub store: Store,
    /// How many shards to run.
    pub shards: u8,
}

/// The store of a gateway.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this process: for one node.
    Memory,
    /// A Redis server, shared by all nodes.
    Redis(Box<ConnectionInfo>),
}

/// Why a gateway cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot work.
    Config(ConfigError),
    /// The address of Redis cannot be used.
    Redis(RedisError),
    /// The address to listen on cannot be used.
    Listen(SocketAddr, io::Error),
    /// The system gives no random numbers.
    Random(getrandom::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => write!(f, "the configuration cannot work: {error}"),
            StartError::Redis(error) => write!(f, "the address of Redis cannot be used: {error}"),
            StartError::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            StartError::Random(error) => write!(f, "the system gives no random numbers: {error}"),
        }
    }
}

impl Error for StartError {}
