//! What every Roomcast runtime needs and none provides: the tasks that drive the core, and the bytes between them and a socket.
//!
//! A runtime supplies a socket ([`transport::Transport`]), a timer ([`transport::Timer`]) and a way to connect to Redis
//! ([`lanes::Connect`]); [`options::Options::build`] returns the futures it has to run.
//!
//! ```text
//!  listener ──accept──▶ mailbox ─▶ ┌─ shard (a future) ─┐ ──asks──▶ mailbox ─▶ ┌─ backplane task ─┐
//!  sockets  ◀─────one write each── │ http · peer · hub  │                      │ backplane        │ ◀──▶ Redis, a connection
//!                                  │ flush              │ ◀─tells── mailbox ◀─ │ lanes            │      for each lane
//!                                  └────────────────────┘                      └──────────────────┘
//! ```
//!
//! There is no task for a connection, neither to a client nor to Redis. A task owns its sockets; their wakers put a number
//! into its mailbox.
#![forbid(unsafe_code)]

pub mod authorizer;
pub mod backplane;
pub mod clients;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod entrance;
mod flush;
pub mod gateway;
pub mod handshake;
pub mod http;
pub mod https;
mod keyring;
pub mod lanes;
pub mod listen;
pub mod listeners;
pub mod log;
pub mod mailbox;
pub mod options;
pub mod peer;
#[cfg(test)]
mod pipe;
pub mod processor;
pub mod shard;
pub mod snapshot;
pub mod subscription;
pub mod tls;
pub mod transport;
pub mod watch;
pub mod wire;
