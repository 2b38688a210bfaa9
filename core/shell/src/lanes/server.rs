//! A Redis server as links see it: how a connection to it is opened.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use redis::{ConnectionAddr, RedisConnectionInfo};

use super::address::{Address, Place};
use super::sentinel::Watched;
use crate::transport::Transport;

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Opens a connection to a Redis server: what a runtime knows of Redis.
pub type Connect = fn(&ConnectionAddr) -> Connecting;

/// A Redis server, wherever it is at the moment.
#[derive(Debug)]
pub(super) struct Server {
    whereabouts: Whereabouts,
    settings: RedisConnectionInfo,
    connect: Connect,
}

#[derive(Debug)]
enum Whereabouts {
    Fixed(ConnectionAddr),
    Watched(Arc<Watched>),
    /// Its lanes are those of [`super::ClusterLanes`], which asks each of its nodes by itself.
    Cluster,
}

impl Server {
    pub(super) fn new(address: Address, connect: Connect) -> Server {
        let (whereabouts, settings) = match address.0 {
            Place::Server(info) => (Whereabouts::Fixed(info.addr().clone()), info.redis_settings().clone()),
            Place::Sentinels(sentinels) => {
                let settings = sentinels.settings.clone();
                (Whereabouts::Watched(Arc::new(Watched::new(sentinels))), settings)
            }
            Place::Cluster(_) => (Whereabouts::Cluster, RedisConnectionInfo::default()),
        };
        Server { whereabouts, settings, connect }
    }

    /// A server that is always here.
    pub(super) fn fixed(address: ConnectionAddr, settings: RedisConnectionInfo, connect: Connect) -> Server {
        Server { whereabouts: Whereabouts::Fixed(address), settings, connect }
    }

    /// Opens a connection. It is closed by dropping what this returns: nothing gives an attempt up by itself.
    pub(super) fn open(&self) -> Connecting {
        let connect = self.connect;
        match &self.whereabouts {
            Whereabouts::Fixed(address) => connect(address),
            Whereabouts::Watched(watched) => {
                let watched = watched.clone();
                Box::pin(async move { watched.open(connect).await })
            }
            Whereabouts::Cluster => Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
        }
    }

    /// What a connection begins with.
    pub(super) fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    /// What sentinels watch, if they do.
    pub(super) fn watched(&self) -> Option<Arc<Watched>> {
        match &self.whereabouts {
            Whereabouts::Watched(watched) => Some(watched.clone()),
            Whereabouts::Fixed(_) | Whereabouts::Cluster => None,
        }
    }

    /// Rises when another server becomes the master. A connection that was opened at a lower one leads to a server that is not
    /// the master any more.
    pub(super) fn epoch(&self) -> u64 {
        match &self.whereabouts {
            Whereabouts::Watched(watched) => watched.epoch(),
            Whereabouts::Fixed(_) | Whereabouts::Cluster => 0,
        }
    }
}
