//! Reading the frames of JSON clients: see [`roomcast_fuzz::json_frame`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| roomcast_fuzz::json_frame::run(data));

#[cfg(not(fuzzing))]
fn main() {
    roomcast_fuzz::replay_arguments(roomcast_fuzz::json_frame::run);
}
