//! Rate limiters.

use core::time::Duration;

use crate::time::Time;

/// A rate limiter (GCRA): one moment is all its state.
///
/// In any span of length t it lets at most `burst + rate × t` through.
///
/// ```
/// use roomcast_core::limiter::Limiter;
/// use roomcast_core::time::Time;
///
/// let mut limiter = Limiter::default();
/// let now = Time::from_micros(1_000_000);
/// assert!(limiter.take(now, 10, 2).is_ok());
/// assert!(limiter.take(now, 10, 2).is_ok());
/// assert_eq!(limiter.take(now, 10, 2).unwrap_err().as_millis(), 100);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Limiter {
    /// When the bucket will be full again, if nothing more is taken.
    full_at: Time,
}

impl Limiter {
    /// Takes one of `burst`, which come back at `rate` each second.
    ///
    /// # Errors
    /// How long to wait until there is one again. Nothing is taken then.
    pub fn take(&mut self, now: Time, rate: u32, burst: u32) -> Result<(), Duration> {
        self.take_n(now, 1, rate, burst)
    }

    /// The same for several at once. More than `burst` are let through when the bucket is full, and paid for afterwards: so what
    /// is longer than the bucket is not refused for ever, and the rate holds all the same.
    ///
    /// # Errors
    /// How long to wait until there are enough. Nothing is taken then.
    pub fn take_n(&mut self, now: Time, count: u32, rate: u32, burst: u32) -> Result<(), Duration> {
        let (rate, burst) = (rate.max(1), burst.max(1));
        let full_at = self.full_at.max(now);
        let needed = full_at + cost(count.min(burst), rate);
        let most = now + cost(burst, rate);
        if needed > most {
            return Err(needed - most);
        }
        self.full_at = full_at + cost(count, rate);
        Ok(())
    }

    /// Whether nothing is missing in the bucket: it is like a new one.
    pub fn is_full(&self, now: Time) -> bool {
        self.full_at <= now
    }
}

/// How long it takes until so many are there again.
fn cost(count: u32, rate: u32) -> Duration {
    Duration::from_secs(1) * count / rate
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_span_lets_more_through_than_burst_and_rate(
            gaps in proptest::collection::vec(0_u64..400_000, 1..200),
            rate in 1_u32..50,
            burst in 1_u32..20,
        ) {
            let mut limiter = Limiter::default();
            let (mut now, mut passed) = (1_000_000_u64, Vec::new());
            for gap in gaps {
                now += gap;
                if limiter.take(Time::from_micros(now), rate, burst).is_ok() {
                    passed.push(now);
                }
            }
            for (at, start) in passed.iter().enumerate() {
                for (count, end) in passed[at..].iter().enumerate() {
                    let span = (end - start) as f64 / 1e6;
                    let most = f64::from(burst) + f64::from(rate) * span + 1e-6;
                    prop_assert!((count + 1) as f64 <= most + 1.0, "{} in {span} s", count + 1);
                }
            }
        }

        #[test]
        fn waiting_as_told_is_enough(rate in 1_u32..1000, burst in 1_u32..20) {
            let mut limiter = Limiter::default();
            let mut now = Time::from_micros(5);
            for _ in 0..100 {
                if let Err(wait) = limiter.take(now, rate, burst) {
                    now = now + wait;
                    prop_assert!(limiter.take(now, rate, burst).is_ok());
                }
            }
        }
    }

    #[test]
    fn what_is_longer_than_the_bucket_waits_until_it_is_full_and_is_paid_for() {
        let (mut limiter, now) = (Limiter::default(), Time::from_micros(7));
        assert!(limiter.take_n(now, 50, 10, 20).is_ok());
        // 50 were taken at 10 a second.
        let wait = limiter.take_n(now, 50, 10, 20).unwrap_err();
        assert_eq!(wait, Duration::from_secs(5));
        assert!(!limiter.is_full(now) && limiter.is_full(now + wait));
        assert!(limiter.take_n(now + wait, 50, 10, 20).is_ok());
    }

    #[test]
    fn nothing_overflows() {
        let mut limiter = Limiter::default();
        for (rate, burst) in [(0, 0), (u32::MAX, u32::MAX), (1, u32::MAX), (u32::MAX, 1)] {
            for now in [Time::ZERO, Time::from_micros(1 << 40), Time::NEVER] {
                let _ = limiter.take_n(now, u32::MAX, rate, burst);
            }
        }
    }
}
