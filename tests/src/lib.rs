//! The testing house of Roomcast.

pub mod real;
pub mod world;
