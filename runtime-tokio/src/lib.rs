//! Roomcast on tokio: sockets, timers and Redis connections for the shell's tasks, and the `roomcast` binary.
#![forbid(unsafe_code)]

pub mod gateway;
pub mod listener;
pub mod redis;
pub mod transport;
pub mod worker;

pub use gateway::{Gateway, Running, start};
pub use roomcast_shell::options::{Options, StartError, Store};
pub use roomcast_shell::subscription::{Item, Message, Subscription};
pub use worker::{Worker, worker};
