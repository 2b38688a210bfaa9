//! What every runtime has to do for the shell's tasks, as cases that anybody who writes one can run.
//!
//! A runtime describes itself in a [`Subject`], which takes some twenty lines, and calls [`run`] from one test. The runtimes
//! of this repository do so in their `tests/conformance.rs`; the feature `conformance` belongs into the development
//! dependencies alone.
//!
//! The cases look at timers and sockets through [`transport`](crate::transport), at the wakers through a
//! [`Mailbox`](crate::mailbox::Mailbox), at a whole gateway through its clients, and at [`RedisLanes`](crate::lanes::RedisLanes)
//! on a real server. None of them measures: they wait for what has to happen, and only give up when it has not happened for
//! so long that it never will.

use std::any::Any;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use redis::ConnectionInfo;

use crate::gateway::Gateway;
use crate::lanes::Connect;
use crate::options::{Options, StartError};
use crate::tls::{Stream, TlsAcceptor, TlsConnector};
use crate::transport::{Timer, Transport};

/// Names the cases of a theme after their functions.
macro_rules! cases {
    ($theme:literal: $($case:ident),+ $(,)?) => {
        /// The cases of this theme.
        pub(super) fn cases<S: $crate::conformance::Subject>() -> Vec<$crate::conformance::Case<S>> {
            vec![$($crate::conformance::Case { name: concat!($theme, ": ", stringify!($case)), run: $case }),+]
        }
    };
}

mod bytes;
mod client;
mod crowd;
mod desk;
mod impostor;
mod lanes;
mod mailbox;
mod patience;
mod phantom;
mod rooms;
mod server;
mod sessions;
mod silence;
mod timer;
mod tls;
mod transport;

/// A runtime that is to be looked at.
pub trait Subject {
    /// Its socket.
    type Socket: Transport;
    /// Its timer.
    type Timer: Timer;

    /// Runs a future on the calling thread, as the runtime runs the shell's tasks: a budget that it gives other tasks and not
    /// these has no place here either.
    fn block_on<F: Future>(&self, future: F) -> F::Output;

    /// A timer. Called inside [`Subject::block_on`].
    fn timer(&self) -> Self::Timer;

    /// Makes a connected socket, which does not block, one of the runtime's. Called inside [`Subject::block_on`].
    ///
    /// # Errors
    /// The runtime cannot take it.
    fn socket(&self, stream: TcpStream) -> io::Result<Self::Socket>;

    /// How the runtime opens connections to Redis.
    fn connect(&self) -> Connect;

    /// Starts a gateway, which runs without anybody in [`Subject::block_on`].
    ///
    /// # Errors
    /// See [`StartError`].
    fn start(&self, options: Options) -> Result<Started<Stream<Self::Socket>>, StartError>;
}

/// A gateway that runs.
pub struct Started<T> {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its handle.
    pub gateway: Arc<Gateway<T>>,
    /// Stops it, and returns when all of its tasks have ended. Called on a thread that the runtime does not know.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// What the cases need besides the runtime.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// A Redis server that nobody else uses meanwhile: the cases look at the list of its clients, and disconnect them. What
    /// they write has a prefix of its own and is deleted again.
    pub redis: ConnectionInfo,
    /// How many members of one room are sent a message. Each takes two file descriptors of the process, so the usual 10,000
    /// need a limit above 20,000; a machine that does not allow it has to be content with fewer.
    pub recipients: usize,
    /// Both ends of TLS, with a certificate for `localhost`.
    pub tls: (TlsAcceptor, TlsConnector),
}

/// One case.
struct Case<S> {
    name: &'static str,
    run: fn(&S, &Surroundings),
}

/// Runs every case and prints its name and how long it took.
///
/// # Panics
/// After the last case, when any has failed, with the names of all that have and the reasons.
pub fn run<S: Subject>(subject: &S, surroundings: &Surroundings) {
    let themes = [
        timer::cases(),
        transport::cases(),
        tls::cases(),
        mailbox::cases(),
        bytes::cases(),
        rooms::cases(),
        sessions::cases(),
        crowd::cases(),
        lanes::cases(),
        phantom::cases(),
        silence::cases(),
    ];
    let mut failures = Vec::new();
    for Case { name, run } in themes.into_iter().flatten() {
        let name = name.replace('_', " ");
        // Before it runs: a subject that never returns from a poll would otherwise not be found out.
        print!("{name} … ");
        let _ = io::stdout().flush();
        let began = Instant::now();
        // What a failed case leaves behind is its own: each begins with a socket, a gateway or lanes that nobody else has.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(subject, surroundings)));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("{verdict} ({:?})", began.elapsed());
        if let Err(panic) = outcome {
            failures.push(format!("{name}: {}", reason(&*panic)));
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// What a panic said.
fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
