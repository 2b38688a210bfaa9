//! Requests of plain HTTP, in any pieces: see [`roomcast_fuzz::http_wire`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| roomcast_fuzz::http_wire::run(data));

#[cfg(not(fuzzing))]
fn main() {
    roomcast_fuzz::replay_arguments(roomcast_fuzz::http_wire::run);
}
