//! A worker on tokio: a process without clients that publishes, and may listen.

use std::sync::Arc;

use roomcast_shell::gateway::Parts;
use roomcast_shell::options::{Options, StartError};
use tokio::task::{JoinHandle, coop};

use crate::gateway::Gateway;
use crate::redis;
use crate::transport::Timer;

/// A worker that runs.
#[derive(Debug)]
pub struct Worker {
    /// Its handle: everything that a gateway's does but to serve.
    pub gateway: Arc<Gateway>,
    backplane: JoinHandle<()>,
}

/// Starts a worker on the current runtime ([`Options::build_worker`]). What is published is stored as soon as the store answers.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roomcast_tokio::{Item, Options, Store, worker};
///
/// let options = Options { store: Store::Redis(Box::new("redis://127.0.0.1:6379/2".parse()?)), ..Options::default() };
/// let worker = worker(options).await?;
/// let took = worker.gateway.ping().await?;
/// let (message_id, stored) = worker.gateway.send_project_message("7", "build_finished", &"in time")?;
/// stored.await?;
///
/// let mut messages = worker.gateway.subscribe("project:7");
/// messages.ready().await;
/// while let Some(item) = messages.next().await {
///     match item {
///         Item::Message(message) => println!("{}: {} bytes", message.name, message.payload.len()),
///         Item::Missed(count) => println!("{count} were left out"),
///         Item::Lost => println!("some may have been lost on the way"),
///     }
/// }
/// worker.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// See [`StartError`].
pub async fn worker(options: Options) -> Result<Worker, StartError> {
    let Parts { gateway, backplane, .. } = options.build_worker(Timer::default, redis::connect)?;
    Ok(Worker { gateway, backplane: tokio::spawn(coop::unconstrained(backplane)) })
}

impl Worker {
    /// Returns when everything that was published is stored, or eleven twelfths of the time of `drain.deadline` are over.
    pub async fn stop(self) {
        self.gateway.drain().await;
        self.gateway.stop_backplane();
        // It ends by itself and cannot be cancelled; a panic in it has been printed.
        let _ = self.backplane.await;
    }
}
