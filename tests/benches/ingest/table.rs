//! The tables: medians over the rounds, and their ratios to other consumers in the same round.

use crate::consumer::{Peer, Stable};
use crate::load::Form;
use crate::progress::Sample;
use crate::rounds::Run;
use crate::statistics::{grouped, median, median_ratio, print_aligned, spread};

/// Prints a row for each consumer.
pub(crate) fn print(stable: &Stable, form: Form, rounds: &[Vec<Run>]) {
    let references = references(stable);
    let mut lines = vec![head(form, &references)];
    lines.extend((0..rounds[0].len()).map(|index| row(form, &references, rounds, index)));
    print_aligned(&lines);
}

/// The consumers with which all are compared: the raw limit, system A, and the first gateway if there are others.
fn references(stable: &Stable) -> Vec<&str> {
    let peers = stable.peers().iter().filter(|peer| matches!(peer, Peer::Bare | Peer::SystemA)).map(|peer| peer.name());
    let gateways: Vec<&str> = stable.gateways().collect();
    let first = gateways.first().filter(|_| gateways.len() > 1);
    peers.chain(first.copied()).collect()
}

fn head(form: Form, references: &[&str]) -> Vec<String> {
    let ratios = || references.iter().map(|reference| format!("x {reference}"));
    let mut cells = vec!["consumer".to_owned(), "entries/s".to_owned(), "spread".to_owned()];
    cells.extend(ratios());
    if form.events() > 1 {
        cells.push("events/s".to_owned());
    }
    cells.push("CPU s/M".to_owned());
    cells.extend(ratios());
    cells.push("Redis s/M".to_owned());
    cells.extend(ratios());
    cells.push("consumer / Redis busy".to_owned());
    cells
}

/// One consumer over all rounds.
fn row(form: Form, references: &[&str], rounds: &[Vec<Run>], index: usize) -> Vec<String> {
    let of = |value: fn(&Sample) -> f64| rounds.iter().map(|round| value(&round[index].sample)).collect();
    let ratios = |value| references.iter().map(move |reference| ratio(reference, rounds, index, value));
    let rates: Vec<f64> = of(rate);
    let entries = median(rates.clone());
    let mut cells = vec![rounds[0][index].consumer.clone(), grouped(entries as u64), format!("{:.0} %", spread(&rates) * 100.0)];
    cells.extend(ratios(rate));
    if form.events() > 1 {
        cells.push(grouped((entries * form.events() as f64) as u64));
    }
    cells.push(format!("{:.2}", median(of(consumer_per_million))));
    cells.extend(ratios(consumer_per_million));
    cells.push(format!("{:.2}", median(of(redis_per_million))));
    cells.extend(ratios(redis_per_million));
    cells.push(format!("{:.0} / {:.0} %", median(of(consumer_busy)) * 100.0, median(of(redis_busy)) * 100.0));
    cells
}

/// A run's ratio to that of another consumer.
fn ratio(reference: &str, rounds: &[Vec<Run>], index: usize, value: fn(&Sample) -> f64) -> String {
    median_ratio(rounds.iter().map(|round| {
        let other = round.iter().find(|run| run.consumer == reference)?;
        Some(value(&round[index].sample) / value(&other.sample))
    }))
}

fn rate(sample: &Sample) -> f64 {
    sample.entries as f64 / sample.elapsed.as_secs_f64()
}

fn consumer_per_million(sample: &Sample) -> f64 {
    sample.consumer_cpu.as_secs_f64() * 1e6 / sample.entries as f64
}

fn redis_per_million(sample: &Sample) -> f64 {
    sample.redis_cpu.as_secs_f64() * 1e6 / sample.entries as f64
}

fn consumer_busy(sample: &Sample) -> f64 {
    sample.consumer_cpu.as_secs_f64() / sample.elapsed.as_secs_f64()
}

/// Where neither is busy all the time, each has waited for the other.
fn redis_busy(sample: &Sample) -> f64 {
    sample.redis_cpu.as_secs_f64() / sample.elapsed.as_secs_f64()
}
