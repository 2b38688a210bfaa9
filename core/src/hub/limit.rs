//! Rate limits and the error budget.

use core::time::Duration;

use crate::time::Time;

/// A rate limiter (GCRA): one moment is all its state.
///
/// In any span of length t it lets at most `burst + rate × t` through.
///
/// ```
/// use roomcast_core::hub::Limiter;
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
        let interval = Duration::from_secs(1) / rate.max(1);
        let full_at = self.full_at.max(now) + interval;
        let most = now + interval * burst.max(1);
        if full_at > most {
            return Err(full_at - most);
        }
        self.full_at = full_at;
        Ok(())
    }
}

/// How many errors a connection may still cause.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ErrorBudget {
    spent: u32,
    since: Time,
}

impl ErrorBudget {
    /// Spends one; whether the budget is exceeded by it.
    pub(super) fn spend(&mut self, now: Time, budget: u32, reset: Duration) -> bool {
        if self.spent == 0 || now - self.since >= reset {
            *self = ErrorBudget { spent: 0, since: now };
        }
        self.spent = self.spent.saturating_add(1);
        self.spent > budget
    }
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
    fn the_budget_is_whole_again_after_the_reset() {
        let (mut budget, reset) = (ErrorBudget::default(), Duration::from_secs(600));
        let at = |secs: u64| Time::from_micros(secs * 1_000_000);
        assert!(!(0..5).any(|_| budget.spend(at(1), 5, reset)));
        assert!(budget.spend(at(2), 5, reset));
        assert!(!budget.spend(at(601), 5, reset));
    }
}
