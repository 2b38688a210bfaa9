//! A whole gateway on smol.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use roomcast_shell::gateway::{self as shell, Parts};
use roomcast_shell::options::{Options, StartError};
use roomcast_shell::tls::Stream;
use smol::{Async, Executor, Task};

use crate::transport::{Socket, Timer};
use crate::{listener, redis};

/// The handle of a gateway on smol.
pub type Gateway = shell::Gateway<Stream<Socket<TcpStream>>>;

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its handle.
    pub gateway: Arc<Gateway>,
    accepting: Task<()>,
    shards: Vec<Task<()>>,
    backplane: Task<()>,
}

/// Starts a gateway on an executor. It serves at once; whether the store answers is what its readiness says.
///
/// Whoever is to be served beside clients that flood the gateway wants an executor that looks for events after every task
/// ([`Executor::tick`]), as the binary's does; [`Executor::run`] does after 200.
///
/// # Errors
/// See [`StartError`].
pub async fn start(executor: &Executor<'static>, options: Options) -> Result<Running, StartError> {
    let (wanted, tls) = (options.listen, options.tls.clone());
    let (parts, listener) = options.build(Timer::default, redis::connect)?;
    let Parts { gateway, shards, backplane } = parts;
    let listen = |error| StartError::Listen(wanted, error);
    let address = listener.local_addr().map_err(listen)?;
    let listener = Async::new_nonblocking(listener).map_err(listen)?;

    Ok(Running {
        address,
        accepting: executor.spawn(listener::accept(listener, gateway.clone(), tls)),
        shards: shards.into_iter().map(|shard| executor.spawn(shard)).collect(),
        backplane: executor.spawn(backplane),
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
    pub async fn stop_now(self) {
        self.accepting.cancel().await;
        self.gateway.stop_shards();
        for shard in self.shards {
            shard.await;
        }
        self.gateway.stop_backplane();
        self.backplane.await;
    }
}
