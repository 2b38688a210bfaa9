//! Decoding the batches of stream entries: see [`roomcast_fuzz::batch`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| roomcast_fuzz::batch::run(data));

#[cfg(not(fuzzing))]
fn main() {
    roomcast_fuzz::replay_arguments(roomcast_fuzz::batch::run);
}
