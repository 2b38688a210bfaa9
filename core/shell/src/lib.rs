//! What every Roomcast runtime needs and none provides: the tasks that drive the core, and the bytes between them and a socket.
//!
//! A runtime supplies a socket ([`transport::Transport`]), a timer ([`transport::Timer`]) and, for Redis, the
//! [`lanes::Lanes`]; [`gateway::Gateway::build`] returns the futures it has to run.
//!
//! ```text
//!  listener ──accept──▶ mailbox ─▶ ┌─ shard (a future) ─┐ ──asks──▶ mailbox ─▶ ┌─ backplane task ─┐ ──▶ lanes ─▶ the store
//!  sockets  ◀─────one write each── │ wire · hub · flush │ ◀─tells── mailbox ◀─ │ backplane        │ ◀── answers
//!                                  └────────────────────┘                      └──────────────────┘
//! ```
//!
//! There is no task for a connection. A shard owns its sockets; their wakers put a number into its mailbox.
#![forbid(unsafe_code)]

pub mod backplane;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod flush;
pub mod gateway;
pub mod handshake;
pub mod http;
pub mod lanes;
pub mod listen;
pub mod log;
pub mod mailbox;
pub mod options;
pub mod peer;
pub mod shard;
pub mod transport;
pub mod wire;
