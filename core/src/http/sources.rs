//! How the sources are doing, for people and for Prometheus.

use core::fmt::Write as _;
use core::time::Duration;

use serde::Serialize;

use crate::health::SourceHealth;
use crate::store::GroupHealth;

/// The body of `GET /api/sources`. Times are in milliseconds; what is not known is null.
pub(super) fn json(sources: &[SourceHealth]) -> String {
    let sources = sources.iter().map(Row::from).collect();
    // Nothing in it can fail to be written: no map has other keys than strings.
    serde_json::to_string(&Body { sources }).unwrap_or_default()
}

/// The gauges of each source, in the Prometheus text format.
pub(super) fn metrics(sources: &[SourceHealth], text: &mut String) {
    for (name, help, value) in GAUGES {
        let mut lines = sources.iter().filter_map(|source| {
            let value = value(source.measured.as_ref().map(|(_, health)| health)?);
            Some(format!("{name}{{stream=\"{}\",group=\"{}\"}} {value}\n", label(&source.stream), label(&source.group)))
        });
        if let Some(first) = lines.next() {
            // Writing to a String cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{first}");
            text.extend(lines);
        }
    }
}

type Gauge = (&'static str, &'static str, fn(&GroupHealth) -> f64);

const GAUGES: [Gauge; 9] = [
    ("roomcast_source_length", "Entries in the stream.", |health| health.length as f64),
    ("roomcast_source_lag", "Entries that nobody has been given yet; a bound where there are many.", |health| health.lag as f64),
    ("roomcast_source_oldest_unread_seconds", "Age of the oldest of them, 0 without one.", |health| {
        seconds(health.oldest_unread)
    }),
    ("roomcast_source_pending", "Entries delivered and not acknowledged.", |health| health.pending as f64),
    ("roomcast_source_oldest_pending_seconds", "Age of the oldest of them, 0 without one.", |health| {
        seconds(health.oldest_pending)
    }),
    ("roomcast_source_most_deliveries", "Deliveries of the pending entry that was delivered most often.", |health| {
        f64::from(health.most_deliveries)
    }),
    ("roomcast_source_trimmed_unread", "Entries trimmed before anybody had read them, since the last read.", |health| {
        health.trimmed_unread as f64
    }),
    ("roomcast_source_consumers", "Consumers in the group.", |health| health.consumers as f64),
    ("roomcast_source_dead_letter_depth", "Entries in the dead-letter stream.", |health| health.dead_letters as f64),
];

#[derive(Serialize)]
struct Body<'a> {
    sources: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    stream: &'a str,
    group: &'a str,
    dead_letter: &'a str,
    ready: bool,
    reason: Option<&'a str>,
    in_hand: usize,
    last_error: Option<LastError<'a>>,
    as_of: Option<String>,
    #[serde(flatten)]
    measured: Option<Measured>,
}

#[derive(Serialize)]
struct LastError<'a> {
    error: &'a str,
    timestamp: String,
}

#[derive(Serialize)]
struct Measured {
    length: u64,
    lag: u64,
    lag_exact: bool,
    oldest_unread_ms: Option<u64>,
    pending: u64,
    oldest_pending_ms: Option<u64>,
    most_deliveries: u32,
    trimmed_unread: u64,
    consumers: u64,
    dead_letters: u64,
}

impl<'a> From<&'a SourceHealth> for Row<'a> {
    fn from(source: &'a SourceHealth) -> Row<'a> {
        let millis = |age: Option<Duration>| age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let last_error = source.last_error.as_ref();
        Row {
            stream: &source.stream,
            group: &source.group,
            dead_letter: &source.dead_letter,
            ready: source.unready.is_none(),
            reason: source.unready.as_deref(),
            in_hand: source.in_hand,
            last_error: last_error.map(|(at, error)| LastError { error, timestamp: at.to_string() }),
            as_of: source.measured.as_ref().map(|(at, _)| at.to_string()),
            measured: source.measured.as_ref().map(|(_, health)| Measured {
                length: health.length,
                lag: health.lag,
                lag_exact: health.lag_exact,
                oldest_unread_ms: millis(health.oldest_unread),
                pending: health.pending,
                oldest_pending_ms: millis(health.oldest_pending),
                most_deliveries: health.most_deliveries,
                trimmed_unread: health.trimmed_unread,
                consumers: health.consumers,
                dead_letters: health.dead_letters,
            }),
        }
    }
}

fn seconds(age: Option<Duration>) -> f64 {
    age.unwrap_or_default().as_secs_f64()
}

/// As a label's value: these three are escaped there.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
