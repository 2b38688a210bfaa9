//! Exponential back-off with jitter.

use core::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// The pause after each of several failures in a row: 100 ms, doubled up to 10 s, each between half and the whole of that,
/// so that many nodes that failed together do not come back together.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait.
    pub(super) fn pause(&mut self, rng: &mut ChaCha8Rng) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + Duration::from_micros(rng.next_u64() % (half.as_micros() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn pauses_grow_to_the_longest_and_start_again() {
        let mut rng = ChaCha8Rng::from_seed([3; 32]);
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.pause(&mut rng)).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[19] >= LONGEST / 2 && pauses[19] <= LONGEST);
        backoff.reset();
        assert!(backoff.pause(&mut rng) <= FIRST);
    }
}
