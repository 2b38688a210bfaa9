//! The pure core of Roomcast, a real-time gateway between Redis and browsers: events in, actions out.
//!
//! Nothing in here reads a clock, draws randomness, touches a file or a socket, or waits. Time and seed are arguments, so what
//! comes out is a function of configuration, seed and inputs (contract C12): any server, runtime, fuzzer or simulator can drive
//! it, and a recorded run replays byte for byte. The linter enforces it (`clippy.toml` beside this crate's manifest).
//!
//! ```text
//!  sockets ──messages──▶ ┌── hub ───┐ ──ask──▶ ┌─ backplane ─┐ ──operations──▶ the store: Redis,
//!  sockets ◀──frames──── └──────────┘ ◀─tell── └─────────────┘ ◀──answers───── or memory
//! ```
//!
//! * [`node::Node`] is both halves on one thread: start there.
//! * [`hub::Hub`] is the clients' side: connections, tokens, rooms, and what waits to be written to each connection.
//! * [`backplane::Backplane`] is the store's side: what is read, acknowledged, retried, dead-lettered and relayed.
//! * [`door`] is all that they say to each other; [`store`] is all that is asked of Redis, with its translation and a model.
//! * [`event`] has the events of the systems that Roomcast replaces, typed, for publishers in the process.
//! * [`dialect`], [`http`], [`history`], [`batch`], [`command`], [`foreign`], [`update`] and [`dead_letter`] know the formats, and
//!   nothing of rooms; [`channel`] knows to which rooms the messages of Pub/Sub channels go.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)]

pub mod address;
pub mod admission;
pub mod backplane;
pub mod batch;
pub mod channel;
pub mod command;
pub mod config;
pub mod dead_letter;
pub mod dialect;
pub mod door;
pub mod event;
pub mod foreign;
pub mod frame;
mod glob;
pub mod health;
pub mod history;
pub mod http;
pub mod hub;
pub mod id;
mod ledger;
pub mod limiter;
pub mod message;
pub mod node;
pub mod pattern;
pub mod position;
pub mod processor;
pub mod report;
pub mod snapshot;
pub mod stats;
pub mod store;
pub mod survey;
pub mod table;
pub mod time;
pub mod timers;
pub mod token;
pub mod update;
