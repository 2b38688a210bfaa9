//! Avalanche: a node is killed under its clients, started again, and all of them come back.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::redis::RedisServer;
use serde_json::json;

use crate::Options;
use crate::crowd::{Crowd, Habits};
use crate::machine::cpu_time;
use crate::publisher::Progress;
use crate::server::{Place, ROOM, Stable};
use crate::statistics::{grouped, print_aligned};
use crate::text::KIND;

/// Messages published each second, at another node.
const RATE: f64 = 20.0;
/// A client comes back within this time, in seconds, unless it is refused.
const AWAY: std::ops::Range<f64> = 0.0..2.0;
/// How long all is well before and after.
const CALM: Duration = Duration::from_secs(3);

/// Prints a row for each run of each gateway.
pub(crate) fn measure(stable: &Stable, redis: &RedisServer, options: &Options) {
    println!(
        "\navalanche: a node with {} clients is killed and started again, {RATE} messages/s at another, clients back after \
         {AWAY:?} s\n",
        options.avalanche
    );
    let head = [
        "gateway",
        "listens s",
        "all back s",
        "connects/s",
        "most in 0.1 s",
        "node CPU s",
        "lost",
        "duplicates",
        "disordered",
        "recovered true / false",
        "replayed",
        "replay p50 / p99 / max ms",
        "connections lost",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for _ in 0..options.rounds {
        stable.for_each(redis, |name, places| lines.push(run(name, &places, options)));
    }
    print_aligned(&lines);
}

fn run(name: &str, [place, other]: &[Place<'_>; 2], options: &Options) -> Vec<String> {
    let (node, publisher) = (place.start(), other.start());
    let published = Progress::default();
    let habits = Habits { nodes: vec![node.addr()], cut_after: None, away: AWAY };
    let mut crowd = Crowd::gather(options.avalanche, habits, &published);
    let (node, killed, listens) = thread::scope(|scope| {
        scope.spawn(|| {
            published.run(RATE, usize::MAX, |number| publisher.publish(ROOM, KIND, &json!({"n": number})));
        });
        crowd.run(CALM, |_| false);
        let killed = Instant::now();
        let reviver = scope.spawn(move || {
            // Dropping it kills it.
            drop(node);
            (place.start(), killed.elapsed())
        });
        // Nobody is away before it is told that its connection is gone.
        crowd.run(PATIENCE, |crowd| !crowd.is_back());
        crowd.run(4 * PATIENCE, Crowd::is_back);
        crowd.run(CALM, |_| false);
        published.stop();
        let (node, listens) = reviver.join().expect("the node starts again");
        (node, killed, listens)
    });
    // Whoever never comes so far has lost something, and is told of below.
    crowd.run(PATIENCE, Crowd::is_up_to_date);

    let back = if crowd.is_back() { crowd.tally.last_return.map(|last| last - killed) } else { None };
    let (outcome, tally) = (crowd.outcome(), &crowd.tally);
    let (per_second, most) = rates(&tally.connects);
    vec![
        name.to_owned(),
        format!("{:.2}", listens.as_secs_f64()),
        back.map_or_else(|| "never".to_owned(), |back| format!("{:.2}", back.as_secs_f64())),
        grouped(per_second as u64),
        most.to_string(),
        format!("{:.2}", cpu_time(node.pid()).as_secs_f64()),
        format!("{} of {}", outcome.expected - outcome.delivered, grouped(outcome.expected as u64)),
        outcome.duplicates.to_string(),
        outcome.disordered.to_string(),
        format!("{} / {}", tally.recovered, tally.refused),
        grouped(tally.missed as u64),
        tally.replays.to_string(),
        format!("{:?}", tally.lost),
    ]
}

/// Connections made each second, and the most in any tenth of one.
fn rates(connects: &[Instant]) -> (f64, usize) {
    let (Some(first), Some(last)) = (connects.iter().min(), connects.iter().max()) else { return (0.0, 0) };
    let mut tenths: BTreeMap<u128, usize> = BTreeMap::new();
    connects.iter().for_each(|at| *tenths.entry((*at - *first).as_millis() / 100).or_default() += 1);
    let length = (*last - *first).as_secs_f64().max(0.001);
    (connects.len() as f64 / length, tenths.values().copied().max().unwrap_or_default())
}
