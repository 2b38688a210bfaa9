//! The table: medians over the rounds and their ratios to the raw limit.

use std::time::Duration;

use crate::room::Sample;

/// One line: a server with one window.
pub(crate) struct Row {
    cells: Vec<String>,
}

const HEAD: [&str; 12] = [
    "server",
    "window",
    "deliveries/s",
    "spread",
    "x single",
    "x joined",
    "CPU s/M",
    "x single",
    "x joined",
    "p50 / p99 ms",
    "frames/read",
    "server / load busy",
];

impl Row {
    /// Ratios are given as pairs of this server's and the limit's sample of the same round; no pairs leave
    /// the column empty.
    pub(crate) fn new(
        name: &str,
        window: usize,
        samples: &[&Sample],
        against_single: &[(&Sample, &Sample)],
        against_joined: &[(&Sample, &Sample)],
    ) -> Self {
        let of = |value: fn(&Sample) -> f64| samples.iter().map(|sample| value(sample)).collect();
        let ratio = |pairs: &[(&Sample, &Sample)], value: fn(&Sample) -> f64| {
            if pairs.is_empty() {
                return "-".to_owned();
            }
            let ratios = pairs.iter().map(|(own, limit)| value(own) / value(limit)).collect();
            format!("{:.2}", median(ratios))
        };
        let rates: Vec<f64> = of(rate);
        let cells = vec![
            name.to_owned(),
            window.to_string(),
            grouped(median(rates.clone()) as u64),
            format!("{:.0} %", spread(&rates) * 100.0),
            ratio(against_single, rate),
            ratio(against_joined, rate),
            format!("{:.3}", median(of(cpu_per_million))),
            ratio(against_single, cpu_per_million),
            ratio(against_joined, cpu_per_million),
            format!("{:.2} / {:.2}", median(of(p50)), median(of(p99))),
            format!("{:.1}", median(of(frames_per_read))),
            format!("{:.0} / {:.0} %", median(of(server_busy)) * 100.0, median(of(load_busy)) * 100.0),
        ];
        Self { cells }
    }
}

/// Prints the rows with aligned columns.
pub(crate) fn print(rows: &[Row]) {
    let head = HEAD.map(str::to_owned).to_vec();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(rows.iter().map(|row| &row.cells)).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for cells in lines {
        let line: Vec<String> = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("{}", line.join("  "));
    }
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// How far the extremes lie apart, relative to the median.
fn spread(values: &[f64]) -> f64 {
    let highest = values.iter().copied().fold(f64::MIN, f64::max);
    let lowest = values.iter().copied().fold(f64::MAX, f64::min);
    (highest - lowest) / median(values.to_vec())
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
