//! Fuzz targets: each module has a `run` that takes any bytes and panics when a property does not hold.
//!
//! The programs in `fuzz_targets` hand them to libFuzzer under `cargo fuzz`, and replay files otherwise;
//! `tests/replay.rs` runs the committed corpora and the [`seeds`] with every other test.
#![forbid(unsafe_code)]

pub mod batch;
pub mod canary;
pub mod channel;
pub mod engine_io;
pub mod handshake;
pub mod http_wire;
pub mod hub_ops;
pub mod json_frame;
pub mod seeds;
pub mod socket_io;
pub mod ws_wire;

mod input;

use std::{env, fs};

/// What a target does with one input.
pub type Target = fn(&[u8]);

/// The targets whose corpora are kept and replayed.
pub const TARGETS: [(&str, Target); 9] = [
    ("batch", batch::run),
    ("channel", channel::run),
    ("json_frame", json_frame::run),
    ("engine_io", engine_io::run),
    ("socket_io", socket_io::run),
    ("ws_wire", ws_wire::run),
    ("handshake", handshake::run),
    ("http_wire", http_wire::run),
    ("hub_ops", hub_ops::run),
];

/// Runs a target on the files named as arguments: how a finding is looked at without libFuzzer.
///
/// # Panics
///
/// When a file cannot be read, or where the target does.
pub fn replay_arguments(target: Target) {
    for path in env::args_os().skip(1) {
        let data = fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        target(&data);
        println!("{}: fine", path.display());
    }
}
