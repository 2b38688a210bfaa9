//! A Redis server as links see it: how a connection to it is opened.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use redis::{ConnectionAddr, RedisConnectionInfo};

use super::address::{Address, Place};
use super::sentinel::Watched;
use crate::tls::TlsConnector;
use crate::transport::Transport;

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Opens a connection to a Redis server: what a runtime knows of Redis.
pub type Connect = fn(&ConnectionAddr) -> Connecting;

/// How connections to Redis are opened: as the runtime does, and by TLS where the address says so.
#[derive(Clone, Debug)]
pub struct Connector {
    connect: Connect,
    tls: Option<TlsConnector>,
    is_secure: bool,
}

impl Connector {
    /// Without TLS, where no address demands it.
    pub fn new(connect: Connect) -> Connector {
        Connector { connect, tls: None, is_secure: false }
    }

    /// With this TLS for the addresses that demand it.
    #[must_use]
    pub fn with_tls(self, tls: TlsConnector) -> Connector {
        Connector { tls: Some(tls), ..self }
    }

    /// The connector for everybody who is found at an address.
    pub(super) fn to(&self, address: &Address) -> Connector {
        Connector { is_secure: address.is_secure, ..self.clone() }
    }

    /// Opens a connection. By TLS it is open once the server has proven who it is.
    pub(super) fn open(&self, address: &ConnectionAddr) -> Connecting {
        let connecting = (self.connect)(address);
        if !self.is_secure {
            return connecting;
        }
        let (tls, host) = (self.tls.clone(), host(address));
        Box::pin(async move {
            let tls = tls.ok_or_else(|| io::Error::other("it is to be spoken to by TLS, and there is none"))?;
            let mut tls = tls.connect(connecting.await?, &host)?;
            poll_fn(|cx| tls.poll_handshake(cx)).await?;
            Ok(Box::new(tls) as Box<dyn Transport>)
        })
    }
}

/// What a certificate has to name.
fn host(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, _) => host.clone(),
        other => other.to_string(),
    }
}

/// A Redis server, wherever it is at the moment.
#[derive(Debug)]
pub(super) struct Server {
    whereabouts: Whereabouts,
    settings: RedisConnectionInfo,
    connector: Connector,
}

#[derive(Debug)]
enum Whereabouts {
    Fixed(ConnectionAddr),
    Watched(Arc<Watched>),
    /// Its lanes are those of [`super::ClusterLanes`], which asks each of its nodes by itself.
    Cluster,
}

impl Server {
    pub(super) fn new(address: Address, connector: &Connector) -> Server {
        let connector = connector.to(&address);
        let (whereabouts, settings) = match address.place {
            Place::Server(info) => (Whereabouts::Fixed(info.addr().clone()), info.redis_settings().clone()),
            Place::Sentinels(sentinels) => {
                let settings = sentinels.settings.clone();
                (Whereabouts::Watched(Arc::new(Watched::new(sentinels))), settings)
            }
            Place::Cluster(_) => (Whereabouts::Cluster, RedisConnectionInfo::default()),
        };
        Server { whereabouts, settings, connector }
    }

    /// A server that is always here.
    pub(super) fn fixed(address: ConnectionAddr, settings: RedisConnectionInfo, connector: Connector) -> Server {
        Server { whereabouts: Whereabouts::Fixed(address), settings, connector }
    }

    /// Opens a connection. It is closed by dropping what this returns: nothing gives an attempt up by itself.
    pub(super) fn open(&self) -> Connecting {
        match &self.whereabouts {
            Whereabouts::Fixed(address) => self.connector.open(address),
            Whereabouts::Watched(watched) => {
                let (watched, connector) = (watched.clone(), self.connector.clone());
                Box::pin(async move { watched.open(&connector).await })
            }
            Whereabouts::Cluster => Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
        }
    }

    /// What a connection begins with.
    pub(super) fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    /// What sentinels watch, if they do, and how they are reached.
    pub(super) fn watched(&self) -> Option<(Arc<Watched>, Connector)> {
        match &self.whereabouts {
            Whereabouts::Watched(watched) => Some((watched.clone(), self.connector.clone())),
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
