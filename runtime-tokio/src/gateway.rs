//! A whole gateway on tokio.

use std::net::SocketAddr;
use std::sync::Arc;

use redis::Client;
use roomcast_core::store::redis::Redis;
use roomcast_shell::gateway::{self as shell, Host, Parts};
use roomcast_shell::lanes::{Lanes, MemoryLanes};
use roomcast_shell::options::{Options, StartError, Store};
use tokio::task::{JoinHandle, JoinSet, coop};

use crate::redis::RedisLanes;
use crate::transport::{Socket, Timer};
use crate::{http, listener};

/// The handle of a gateway on tokio.
pub type Gateway = shell::Gateway<Socket>;

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its handle.
    pub gateway: Arc<Gateway>,
    accepting: JoinHandle<()>,
    shards: JoinSet<()>,
    backplane: JoinHandle<()>,
}

/// Starts a gateway on the current runtime. It serves at once; whether the store answers is what its readiness says.
///
/// # Errors
/// See [`StartError`].
pub async fn start(options: Options) -> Result<Running, StartError> {
    let config = Arc::new(options.config);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Random)?;
    let client = match options.store {
        Store::Memory => None,
        Store::Redis(info) => Some(Client::open(*info).map_err(StartError::Redis)?),
    };
    let for_lanes = config.clone();
    let host = Host {
        shards: options.shards,
        seed,
        timer: Timer::default,
        lanes: Box::new(move |post| -> Box<dyn Lanes> {
            match client {
                Some(client) => Box::new(RedisLanes::new(client, Redis::new(&for_lanes), post)),
                None => Box::new(MemoryLanes::new(&for_lanes, post)),
            }
        }),
    };
    let Parts { gateway, shards, backplane } = Gateway::build(config, host, http::serve).map_err(StartError::Config)?;
    let listen = |error| StartError::Listen(options.listen, error);
    let listener = listener::bind(options.listen).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;

    let mut running = JoinSet::new();
    for shard in shards {
        // The budget that tokio gives a task would end a shard's turn after 128 socket operations.
        running.spawn(coop::unconstrained(shard));
    }
    Ok(Running {
        address,
        accepting: tokio::spawn(listener::accept(listener, gateway.clone())),
        shards: running,
        backplane: tokio::spawn(coop::unconstrained(backplane)),
        gateway,
    })
}

impl Running {
    /// Accepts nothing more, closes every connection with 1001, and returns when all tasks have ended.
    pub async fn stop(mut self) {
        self.accepting.abort();
        self.gateway.stop_shards();
        while self.shards.join_next().await.is_some() {}
        self.gateway.stop_backplane();
        // It ends by itself and cannot be cancelled; a panic in it has been printed.
        let _ = self.backplane.await;
    }
}
