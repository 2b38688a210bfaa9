//! The pure core of Roomcast.
#![forbid(unsafe_code)]

pub mod frame;
