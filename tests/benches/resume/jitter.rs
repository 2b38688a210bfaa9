//! Jitter: clients whose connections are cut at random, and who come back to any of two nodes.

use std::thread;
use std::time::Duration;

use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::redis::RedisServer;
use serde_json::json;

use crate::Options;
use crate::crowd::{Crowd, Habits};
use crate::publisher::Progress;
use crate::server::{Place, ROOM, Stable};
use crate::statistics::{grouped, print_aligned};
use crate::text::KIND;

/// Messages published each second.
const RATE: f64 = 2.0;
/// How long a connection lasts, in seconds.
const CUT_AFTER: std::ops::Range<f64> = 7.5..22.5;
/// How long a client is away, in seconds.
const AWAY: f64 = 2.0;

/// Prints a row for each run of each gateway.
pub(crate) fn measure(stable: &Stable, redis: &RedisServer, options: &Options) {
    println!(
        "\njitter: {} clients over two nodes, {} messages at {RATE}/s, each connection cut after {CUT_AFTER:?} s and back after \
         {AWAY} s\n",
        options.clients,
        messages(options)
    );
    let head = [
        "gateway",
        "delivered",
        "expected",
        "lost",
        "duplicates",
        "disordered",
        "cuts",
        "recovered true / false",
        "with replay",
        "replay p50 / p99 / max ms",
        "lost otherwise",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for _ in 0..options.rounds {
        stable.for_each(redis, |name, places| lines.push(run(name, &places, options)));
    }
    print_aligned(&lines);
}

fn messages(options: &Options) -> usize {
    (options.seconds * RATE) as usize
}

fn run(name: &str, places: &[Place<'_>; 2], options: &Options) -> Vec<String> {
    let gateways = places.each_ref().map(Place::start);
    let published = Progress::default();
    let habits =
        Habits { nodes: gateways.iter().map(|gateway| gateway.addr()).collect(), cut_after: Some(CUT_AFTER), away: AWAY..AWAY };
    let mut crowd = Crowd::gather(options.clients, habits, &published);
    thread::scope(|scope| {
        scope.spawn(|| {
            published.run(RATE, messages(options), |number| {
                gateways[number % 2].publish(ROOM, KIND, &json!({"n": number}));
            });
        });
        crowd.begin_to_cut();
        let within = Duration::from_secs_f64(options.seconds) + PATIENCE;
        assert!(crowd.run(within, |_| published.accepted() == messages(options)), "publishing does not end");
    });
    crowd.end_cutting();
    // Whoever never comes so far has lost something, and is told of below.
    crowd.run(PATIENCE, Crowd::is_up_to_date);

    let (outcome, tally) = (crowd.outcome(), &crowd.tally);
    vec![
        name.to_owned(),
        format!("{:.3} %", outcome.delivered as f64 * 100.0 / outcome.expected as f64),
        grouped(outcome.expected as u64),
        (outcome.expected - outcome.delivered).to_string(),
        outcome.duplicates.to_string(),
        outcome.disordered.to_string(),
        grouped(tally.cuts as u64),
        format!("{} / {}", tally.recovered, tally.refused),
        tally.replays.len().to_string(),
        tally.replays.to_string(),
        format!("{:?}", tally.lost),
    ]
}
