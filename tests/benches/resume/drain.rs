//! Drain: a node is told to end under its clients, who go to another one when they are told to.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_core::config::Drain;
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

/// Messages published each second, at the other node.
const RATE: f64 = 20.0;
/// How long all is well before and after.
const CALM: Duration = Duration::from_secs(3);

/// Prints a row for each run of each gateway.
pub(crate) fn measure(stable: &Stable, redis: &RedisServer, options: &Options) {
    let Drain { rate, deadline, spread } = Drain::default();
    println!(
        "\ndrain: a node with {} clients is told to end, {rate} of them each second, within {deadline:?}, back after 0 to {spread:?}; \
         {RATE} messages/s at another node\n",
        options.drain
    );
    let head = [
        "gateway",
        "status",
        "ended after s",
        "closed after s",
        "most closed in 1 s",
        "most attempts in 1 s",
        "told when",
        "all back s",
        "node CPU s for 9 of 10",
        "lost",
        "duplicates",
        "disordered",
        "recovered true / false",
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
    let (mut node, second) = (place.start(), other.start());
    let published = Progress::default();
    let habits = Habits { nodes: vec![node.addr()], cut_after: None, away: 0.0..2.0 };
    let mut crowd = Crowd::gather(options.drain, habits, &published);
    let (began, busy, status, ended) = thread::scope(|scope| {
        scope.spawn(|| {
            published.run(RATE, usize::MAX, |number| second.publish(ROOM, KIND, &json!({"n": number})));
        });
        crowd.run(CALM, |_| false);
        crowd.move_to(second.addr());
        let (pid, before) = (node.pid(), cpu_time(node.pid()));
        let began = Instant::now();
        node.signal(Signal::SIGTERM);
        let watch = scope.spawn(move || {
            let status = node.wait(2 * PATIENCE);
            (status, began.elapsed())
        });
        // While it is still there: with the last connection the process ends.
        crowd.run(4 * PATIENCE, |crowd| crowd.tally.ends.len() * 10 >= options.drain * 9);
        let busy = cpu_time(pid).saturating_sub(before);
        crowd.run(PATIENCE, |crowd| crowd.tally.ends.len() >= options.drain && crowd.is_back());
        crowd.run(CALM, |_| false);
        published.stop();
        let (status, ended) = watch.join().expect("the node ends");
        (began, busy, status, ended)
    });
    crowd.run(PATIENCE, Crowd::is_up_to_date);

    let seconds = |at: Option<Instant>| at.map_or_else(|| "never".to_owned(), |at| format!("{:.2}", (at - began).as_secs_f64()));
    let back = if crowd.is_back() { crowd.tally.last_return } else { None };
    let (outcome, tally) = (crowd.outcome(), &crowd.tally);
    vec![
        name.to_owned(),
        status.code().map_or_else(|| status.to_string(), |code| code.to_string()),
        format!("{:.2}", ended.as_secs_f64()),
        seconds(tally.ends.iter().max().copied()),
        most_in_a_second(&tally.ends).to_string(),
        most_in_a_second(&tally.attempts).to_string(),
        format!("{} of {}", grouped(tally.told as u64), grouped(options.drain as u64)),
        seconds(back),
        format!("{:.2}", busy.as_secs_f64()),
        format!("{} of {}", outcome.expected - outcome.delivered, grouped(outcome.expected as u64)),
        outcome.duplicates.to_string(),
        outcome.disordered.to_string(),
        format!("{} / {}", tally.recovered, tally.refused),
        tally.replays.to_string(),
        format!("{:?}", tally.lost),
    ]
}

/// The most of these in any second, wherever it begins.
fn most_in_a_second(times: &[Instant]) -> usize {
    let mut times = times.to_vec();
    times.sort_unstable();
    let after = |from: &Instant| times.partition_point(|at| *at < *from + Duration::from_secs(1));
    (0..).zip(&times).map(|(index, from)| after(from) - index).max().unwrap_or_default()
}
