//! The pure core of Roomcast.
#![forbid(unsafe_code)]

pub mod backplane;
pub mod batch;
pub mod config;
pub mod dialect;
pub mod door;
pub mod frame;
pub mod http;
pub mod hub;
pub mod id;
pub mod message;
pub mod node;
pub mod pattern;
pub mod report;
pub mod stats;
pub mod store;
pub mod table;
pub mod time;
pub mod timers;
