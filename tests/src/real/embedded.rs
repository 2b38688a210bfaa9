//! Gateways in the process of the test, as a host embeds them, on either runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use roomcast_shell::options::Options;
use smol::channel::{self, Receiver, Sender};
use smol::{Executor, block_on};

/// A gateway that runs in threads of this process.
#[derive(Debug)]
pub struct Embedded<G> {
    /// Its handle.
    pub gateway: Arc<G>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Dropped when it is to stop.
    stop: Sender<()>,
    host: JoinHandle<()>,
}

/// A gateway on tokio, with two threads.
///
/// # Panics
///
/// When it does not start.
#[must_use]
pub fn on_tokio(options: Options) -> Embedded<roomcast_tokio::Gateway> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio starts");
    let running = runtime.block_on(roomcast_tokio::start(options)).expect("the gateway starts");
    Embedded::new(running.gateway.clone(), running.address, move |stopped| {
        runtime.block_on(async {
            let _ = stopped.recv().await;
            running.stop().await;
        });
    })
}

/// A gateway on smol, with one thread.
///
/// # Panics
///
/// When it does not start.
#[must_use]
pub fn on_smol(options: Options) -> Embedded<roomcast_smol::Gateway> {
    let executor = Arc::new(Executor::new());
    let running = block_on(roomcast_smol::start(&executor, options)).expect("the gateway starts");
    Embedded::new(running.gateway.clone(), running.address, move |stopped| {
        block_on(executor.run(async {
            let _ = stopped.recv().await;
            running.stop().await;
        }));
    })
}

impl<G> Embedded<G> {
    fn new(gateway: Arc<G>, address: SocketAddr, run: impl FnOnce(Receiver<()>) + Send + 'static) -> Self {
        let (stop, stopped) = channel::bounded(1);
        Self { gateway, address, stop, host: thread::spawn(|| run(stopped)) }
    }

    /// Stops it in good order, and waits for it.
    ///
    /// # Panics
    ///
    /// When it has panicked.
    pub fn stop(self) {
        drop(self.stop);
        self.host.join().expect("the gateway stops in good order");
    }
}
