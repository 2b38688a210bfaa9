//! Does fuzzing work at all? A panic behind four bytes, which blind guessing would not meet in a day and coverage leads to in
//! seconds. When `cargo fuzz run canary` finds nothing, the other targets' silence means nothing either.

/// Panics on what begins with `bird`.
///
/// # Panics
///
/// That is what it is for.
pub fn run(data: &[u8]) {
    // One comparison at a time, or libFuzzer would read the whole word out of the comparison instead of following coverage.
    if data.first() == Some(&b'b') && data.get(1) == Some(&b'i') && data.get(2) == Some(&b'r') && data.get(3) == Some(&b'd') {
        panic!("the canary is dead, as it should be");
    }
}
