//! Dialects: what clients say and what they are told, as text. They know nothing of rooms, limits or connections.

pub mod json;
mod nesting;
pub mod socketio;

pub use nesting::is_deeper_than;
