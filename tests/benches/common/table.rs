//! The tables: medians over the rounds, and their ratios to other servers in the same round.

use std::time::Duration;

use crate::rounds::Run;
use crate::sample::Sample;
use crate::statistics::{grouped, median, median_ratio, print_aligned, spread};

/// A server with which all are compared.
pub(crate) struct Reference {
    server: String,
    /// The head of its columns.
    label: String,
}

impl Reference {
    /// The server of this name, in columns with this head.
    pub(crate) fn new(server: &str, label: &str) -> Self {
        Self { server: server.to_owned(), label: label.to_owned() }
    }
}

/// Prints a row for each kind of run, with aligned columns; `unit` says what comes in a second.
pub(crate) fn print(unit: &str, references: &[Reference], rounds: &[Vec<Run>]) {
    let mut lines = vec![head(unit, references)];
    lines.extend((0..rounds[0].len()).map(|index| row(references, rounds, index)));
    print_aligned(&lines);
}

fn head(unit: &str, references: &[Reference]) -> Vec<String> {
    let labels = || references.iter().map(|reference| reference.label.as_str());
    let mut cells = vec!["server", "in flight", unit, "spread"];
    cells.extend(labels());
    cells.push("CPU s/M");
    cells.extend(labels());
    cells.extend(["p50 / p99 ms", "frames/read", "server / load busy"]);
    cells.into_iter().map(str::to_owned).collect()
}

/// One kind of run over all rounds.
fn row(references: &[Reference], rounds: &[Vec<Run>], index: usize) -> Vec<String> {
    let first = &rounds[0][index];
    let of = |value: fn(&Sample) -> f64| rounds.iter().map(|round| value(&round[index].sample)).collect();
    let ratios = |value| references.iter().map(move |reference| ratio(reference, rounds, index, value));
    let rates: Vec<f64> = of(rate);
    let mut cells = vec![
        first.server.clone(),
        first.in_flight.to_string(),
        grouped(median(rates.clone()) as u64),
        format!("{:.0} %", spread(&rates) * 100.0),
    ];
    cells.extend(ratios(rate));
    cells.push(format!("{:.3}", median(of(cpu_per_million))));
    cells.extend(ratios(cpu_per_million));
    cells.push(format!("{:.2} / {:.2}", median(of(p50)), median(of(p99))));
    cells.push(format!("{:.1}", median(of(frames_per_read))));
    cells.push(format!("{:.0} / {:.0} %", median(of(server_busy)) * 100.0, median(of(load_busy)) * 100.0));
    cells
}

/// A run's ratio to the same kind of run of the reference; not every server runs with any number in flight.
fn ratio(reference: &Reference, rounds: &[Vec<Run>], index: usize, value: fn(&Sample) -> f64) -> String {
    median_ratio(rounds.iter().map(|round| {
        let own = &round[index];
        let other = round.iter().find(|run| run.server == reference.server && run.in_flight == own.in_flight)?;
        Some(value(&own.sample) / value(&other.sample))
    }))
}

fn rate(sample: &Sample) -> f64 {
    sample.deliveries as f64 / sample.elapsed.as_secs_f64()
}

fn cpu_per_million(sample: &Sample) -> f64 {
    sample.server_cpu.as_secs_f64() * 1e6 / sample.deliveries as f64
}

fn p50(sample: &Sample) -> f64 {
    milliseconds(sample.p50)
}

fn p99(sample: &Sample) -> f64 {
    milliseconds(sample.p99)
}

fn frames_per_read(sample: &Sample) -> f64 {
    sample.deliveries as f64 / sample.reads as f64
}

/// Where neither the server nor the load generator is busy all the time, something else had the cores.
fn server_busy(sample: &Sample) -> f64 {
    sample.server_cpu.as_secs_f64() / sample.elapsed.as_secs_f64()
}

fn load_busy(sample: &Sample) -> f64 {
    sample.load_cpu.as_secs_f64() / sample.elapsed.as_secs_f64()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
