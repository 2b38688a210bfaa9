//! Reading the packets of Engine.IO: see [`roomcast_fuzz::engine_io`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| roomcast_fuzz::engine_io::run(data));

#[cfg(not(fuzzing))]
fn main() {
    roomcast_fuzz::replay_arguments(roomcast_fuzz::engine_io::run);
}
