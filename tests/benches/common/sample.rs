//! What one run measures.

use std::process;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::machine::cpu_time;

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Messages that have come, each counted for everyone it came to.
    pub(crate) deliveries: u64,
    /// From the first message until all had come.
    pub(crate) elapsed: Duration,
    /// Processor time of the server.
    pub(crate) server_cpu: Duration,
    /// Processor time of the load generator: near `elapsed`, it is the bottleneck itself.
    pub(crate) load_cpu: Duration,
    /// Reads that it took.
    pub(crate) reads: u64,
    /// Half of the deliveries took less.
    pub(crate) p50: Duration,
    /// One in a hundred took longer.
    pub(crate) p99: Duration,
}

/// A run that goes on.
pub(crate) struct Meter {
    server: u32,
    started: Instant,
    server_before: Duration,
    load_before: Duration,
    latencies: Histogram,
    reads: u64,
}

impl Meter {
    /// Begins a run against the process `server`.
    pub(crate) fn start(server: u32) -> Self {
        Self {
            server,
            server_before: cpu_time(server),
            load_before: cpu_time(process::id()),
            latencies: Histogram::new(),
            reads: 0,
            started: Instant::now(),
        }
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Counts a read.
    #[inline]
    pub(crate) fn count_read(&mut self) {
        self.reads += 1;
    }

    /// Counts a delivery that took this long.
    #[inline]
    pub(crate) fn count_delivery(&mut self, latency: Duration) {
        self.latencies.record(latency.as_nanos() as u64);
    }

    /// Ends the run.
    pub(crate) fn finish(self) -> Sample {
        Sample {
            deliveries: self.latencies.total(),
            elapsed: self.started.elapsed(),
            server_cpu: cpu_time(self.server) - self.server_before,
            load_cpu: cpu_time(process::id()) - self.load_before,
            reads: self.reads,
            p50: self.latencies.quantile(0.50),
            p99: self.latencies.quantile(0.99),
        }
    }
}
