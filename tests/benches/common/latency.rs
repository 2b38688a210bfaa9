//! What of many durations is worth telling.

use std::fmt;
use std::time::Duration;

/// Durations, each as it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds one.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The duration that this share of all does not exceed; zero where there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// The median, the 99th percentile and the longest, in milliseconds.
impl fmt::Display for Latencies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [0.50, 0.99, 1.0].map(|share| self.quantile(share).as_secs_f64() * 1e3);
        write!(formatter, "{p50:.1} / {p99:.1} / {max:.1}")
    }
}

impl Extend<Duration> for Latencies {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, latencies: T) {
        self.0.extend(latencies);
    }
}
