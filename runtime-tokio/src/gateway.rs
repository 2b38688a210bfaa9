//! A whole gateway on tokio.

use std::net::SocketAddr;
use std::sync::Arc;

use roomcast_shell::gateway::{self as shell, Parts};
use roomcast_shell::options::{Options, StartError};
use roomcast_shell::tls::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet, coop};

use crate::transport::{Socket, Timer};
use crate::{listener, redis};

/// The handle of a gateway on tokio.
pub type Gateway = shell::Gateway<Stream<Socket<TcpStream>>>;

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
/// Whoever is to be served beside clients that flood the gateway wants a runtime that looks for events after every task
/// ([`event_interval(1)`](tokio::runtime::Builder::event_interval)), as the binary's does; by default it does after 61.
///
/// # Errors
/// See [`StartError`].
pub async fn start(options: Options) -> Result<Running, StartError> {
    let (wanted, tls) = (options.listen, options.tls.clone());
    let (parts, listener) = options.build(Timer::default, redis::connect)?;
    let Parts { gateway, shards, backplane } = parts;
    let listen = |error| StartError::Listen(wanted, error);
    let listener = TcpListener::from_std(listener).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;

    let mut running = JoinSet::new();
    for shard in shards {
        // The budget that tokio gives a task would end a shard's turn after 128 socket operations.
        running.spawn(coop::unconstrained(shard));
    }
    Ok(Running {
        address,
        accepting: tokio::spawn(listener::accept(listener, gateway.clone(), tls)),
        shards: running,
        backplane: tokio::spawn(coop::unconstrained(backplane)),
        gateway,
    })
}

impl Running {
    /// Lets everybody go ([`Gateway::drain`](shell::Gateway::drain)), and returns when all tasks have ended.
    pub async fn stop(self) {
        self.gateway.drain().await;
        self.stop_now().await;
    }

    /// Accepts nothing more, closes every connection at once, and returns when all tasks have ended.
    pub async fn stop_now(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.gateway.stop_shards();
        while self.shards.join_next().await.is_some() {}
        self.gateway.stop_backplane();
        // It ends by itself and cannot be cancelled; a panic in it has been printed.
        let _ = self.backplane.await;
    }
}
