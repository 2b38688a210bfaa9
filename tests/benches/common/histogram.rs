//! Durations counted in buckets 3 % wide: cheap enough to record millions a second.

use std::time::Duration;

/// Buckets within each power of two.
const STEPS_BITS: u32 = 5;
const STEPS: usize = 1 << STEPS_BITS;

/// How often each duration was seen.
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; STEPS * 64], total: 0 }
    }

    /// Counts one duration.
    #[inline]
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket_of(nanoseconds)] += 1;
        self.total += 1;
    }

    /// How many durations were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The duration that this share of all stays under.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(end_of(index));
            }
        }
        Duration::ZERO
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS_BITS;
    // The highest bit is always set and so says nothing; the next ones choose the step.
    let step = (value >> shift) as usize - STEPS;
    (shift as usize + 1) * STEPS + step
}

fn end_of(index: usize) -> u64 {
    match (index / STEPS).checked_sub(1) {
        None => index as u64,
        Some(shift) => ((STEPS + index % STEPS + 1) as u64) << shift,
    }
}
