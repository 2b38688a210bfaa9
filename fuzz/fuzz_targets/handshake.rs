//! Request heads, in any pieces: see [`roomcast_fuzz::handshake`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| roomcast_fuzz::handshake::run(data));

#[cfg(not(fuzzing))]
fn main() {
    roomcast_fuzz::replay_arguments(roomcast_fuzz::handshake::run);
}
