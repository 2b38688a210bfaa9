//! Rounds: every consumer in turn.

use std::time::Duration;

use roomcast_tests::real::redis::RedisServer;

use crate::Options;
use crate::consumer::Stable;
use crate::load::Load;
use crate::progress::{self, Sample};

/// One measured run within a round.
pub(crate) struct Run {
    /// The consumer's name.
    pub(crate) consumer: String,
    /// What it measured.
    pub(crate) sample: Sample,
}

/// Lets every consumer have all entries, once in each round.
pub(crate) fn run(stable: &Stable, redis: &RedisServer, load: &Load, options: &Options) -> Vec<Vec<Run>> {
    let length = Duration::from_secs_f64(options.seconds);
    (0..options.rounds).map(|_| run_round(stable, redis, load, length)).collect()
}

fn run_round(stable: &Stable, redis: &RedisServer, load: &Load, length: Duration) -> Vec<Run> {
    let mut runs = Vec::new();
    stable.for_each(load.form, |start| {
        load.rewind(redis);
        let mut consumer = start();
        let sample = progress::measure(redis, load, &mut consumer, length);
        runs.push(Run { consumer: consumer.name().to_owned(), sample });
    });
    runs
}
