//! What every Roomcast runtime needs and none provides.
#![forbid(unsafe_code)]

pub mod backplane;
pub mod clock;
mod flush;
pub mod gateway;
pub mod handshake;
pub mod lanes;
pub mod log;
pub mod mailbox;
pub mod shard;
pub mod transport;
pub mod wire;
