//! Publishing at a steady rate, in a thread of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How far publishing has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    accepted: AtomicUsize,
    stop: AtomicBool,
}

impl Progress {
    /// How many messages have been accepted; their numbers are less.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// Nothing more is wanted.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Publishes `most` messages, or until it is stopped; `publish` comes back when a message is accepted.
    pub(crate) fn run(&self, per_second: f64, most: usize, publish: impl Fn(usize)) {
        let started = Instant::now();
        for number in 0..most {
            let due = started + Duration::from_secs_f64(number as f64 / per_second);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            publish(number);
            self.accepted.store(number + 1, Ordering::Release);
        }
    }
}
