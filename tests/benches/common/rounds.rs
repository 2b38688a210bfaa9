//! Rounds: every server in turn, every kind of run.

use std::time::Duration;

use crate::Options;
use crate::sample::Sample;
use crate::server::Server;

/// Runs that only warm up caches and grow buffers.
const WARM_UP: Duration = Duration::from_millis(150);

/// What keeps a server busy.
pub(crate) trait Load {
    /// Keeps this many messages in flight for `length`, then waits until all have come.
    fn run(&mut self, in_flight: usize, length: Duration) -> Sample;
}

/// A server under test, with its load.
pub(crate) struct Contestant<L> {
    /// Dropped before the load, so the ends of connections that linger in TIME_WAIT are its own.
    pub(crate) server: Server,
    /// What keeps it busy.
    pub(crate) load: L,
    /// Runs with less in flight would say nothing about it.
    pub(crate) least_in_flight: usize,
}

/// One measured run within a round.
pub(crate) struct Run {
    /// The server's name.
    pub(crate) server: String,
    /// Messages sent and not yet there, at most.
    pub(crate) in_flight: usize,
    /// What it measured.
    pub(crate) sample: Sample,
}

/// Runs every contestant with every number of messages in flight, once in each round.
pub(crate) fn run<L: Load>(contestants: &mut [Contestant<L>], in_flight: &[usize], options: &Options) -> Vec<Vec<Run>> {
    let length = Duration::from_secs_f64(options.seconds);
    (0..options.rounds).map(|_| run_round(contestants, in_flight, length)).collect()
}

fn run_round<L: Load>(contestants: &mut [Contestant<L>], in_flight: &[usize], length: Duration) -> Vec<Run> {
    let mut runs = Vec::new();
    for &in_flight in in_flight {
        for Contestant { server, load, .. } in contestants.iter_mut().filter(|one| one.least_in_flight <= in_flight) {
            load.run(in_flight, WARM_UP);
            runs.push(Run { server: server.name().to_owned(), in_flight, sample: load.run(in_flight, length) });
        }
    }
    runs
}
