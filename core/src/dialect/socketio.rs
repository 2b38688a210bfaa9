//! The dialect of Socket.IO clients: protocol 5 of Socket.IO over protocol 4 of Engine.IO (PROTOCOL section 4).
//!
//! [`engine`] is what every transport carries: packets of one character and text, or of bytes. A message packet of text is a packet
//! of [`packet`]; the messages of bytes that follow it are its attachments.

pub mod engine;
pub mod packet;

mod assembly;
mod placeholder;

pub use assembly::Assembly;
