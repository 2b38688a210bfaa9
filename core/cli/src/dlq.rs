//! The command `dlq`: the dead letters of a source, through a gateway that runs.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use crate::Outcome;
use crate::client::{Client, PATIENCE, Request, encode};

/// Works on the dead letters of a source.
#[derive(Debug, Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List letters, the newest first.
    List(List),
    /// Show one letter with the fields of its entry.
    Show(Show),
    /// Put letters back into their source, the oldest first.
    Replay(Replay),
    /// Delete letters.
    Purge(Purge),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    place: Place,
    /// Letters at the most, from 1 to 1000.
    #[arg(long, default_value = "20", value_name = "N")]
    count: u16,
    /// Only letters older than this one.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    place: Place,
    /// The letter.
    #[arg(long)]
    id: String,
}

#[derive(Debug, Args)]
struct Replay {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Debug, Args)]
struct Purge {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
}

/// Where the letters are.
#[derive(Debug, Args)]
struct Place {
    /// The source, by its stream.
    source: String,
    /// The source's group, where several sources read the stream.
    #[arg(long)]
    group: Option<String>,
    /// Print what the gateway answers, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: Client,
}

/// Which letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Selection {
    /// These letters; can be repeated, or have commas.
    #[arg(long = "id", value_delimiter = ',', value_name = "ID")]
    ids: Vec<String>,
    /// All letters that there are.
    #[arg(long)]
    all: bool,
}

#[derive(Deserialize)]
struct Listed {
    letters: Vec<Letter>,
    next: Option<String>,
    depth: u64,
}

#[derive(Deserialize)]
struct Letter {
    id: String,
    msg_id: Option<String>,
    error: Option<String>,
    code: Option<String>,
    timestamp: Option<String>,
    source: Option<String>,
    added: Option<String>,
    deliveries: Option<u32>,
    trail: Vec<Life>,
    complete: bool,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    fields: Vec<(Text, Text)>,
}

#[derive(Deserialize)]
struct Life {
    msg_id: String,
    code: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Binary { base64: String },
}

#[derive(Deserialize)]
struct Replayed {
    replayed: u64,
    failures: u64,
    entries: Vec<Entry>,
    gone: Vec<String>,
    failed: Vec<Failed>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    entry: String,
}

#[derive(Deserialize)]
struct Failed {
    id: String,
    error: String,
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

/// How long all letters of a source may take.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Characters of a reason that a list shows.
const REASON: usize = 80;

impl Dlq {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::List(command) => command.run(),
            Command::Show(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Purge(command) => command.run(),
        }
    }
}

impl List {
    fn run(self) -> Outcome {
        let mut query = vec![("count", self.count.to_string())];
        query.extend(self.before.map(|before| ("before", before)));
        let answer = self.place.call(Request::Get, "", &query, PATIENCE)?;
        if self.place.json {
            println!("{answer}");
            return Ok(());
        }
        let Listed { letters, next, depth } = serde_json::from_str(&answer)?;
        let heading = ["ID", "SINCE", "DELIVERIES", "LIVES", "BYTES", "CODE", "REASON"].map(String::from);
        let rows = letters.iter().map(Letter::row);
        print_table(&[heading].into_iter().chain(rows).collect::<Vec<_>>());
        println!("{} of {depth} letters", letters.len());
        if let Some(next) = next {
            println!("for more, --before {next}");
        }
        Ok(())
    }
}

impl Show {
    fn run(self) -> Outcome {
        let answer = self.place.call(Request::Get, &format!("/{}", encode(&self.id)), &[], PATIENCE)?;
        if self.place.json {
            println!("{answer}");
            return Ok(());
        }
        let letter: Letter = serde_json::from_str(&answer)?;
        let trail = letter.trail.iter().map(|life| format!("{} ({})", life.msg_id, life.code)).collect::<Vec<_>>().join(", ");
        let complete = if letter.complete { "yes" } else { "no: it cannot be replayed" };
        for (name, value) in [
            ("letter", &letter.id),
            ("entry", &or_dash(&letter.msg_id)),
            ("source", &or_dash(&letter.source)),
            ("added", &or_dash(&letter.added)),
            ("dead since", &or_dash(&letter.timestamp)),
            ("deliveries", &letter.deliveries.map_or("-".to_owned(), |number| number.to_string())),
            ("code", &or_dash(&letter.code)),
            ("reason", &or_dash(&letter.error)),
            ("before", &if trail.is_empty() { "-".to_owned() } else { trail }),
            ("complete", &complete.to_owned()),
            ("fields", &letter.fields.len().to_string()),
        ] {
            println!("{name:<12}{}", printable(value));
        }
        for (name, value) in &letter.fields {
            println!("  {} = {}", name.printable(), value.printable());
        }
        Ok(())
    }
}

impl Replay {
    fn run(self) -> Outcome {
        let patience = if self.selection.all { LONG_PATIENCE } else { PATIENCE };
        let answer = self.place.call(Request::Post(self.selection.body()), "/replay", &[], patience)?;
        let Replayed { replayed, failures, entries, gone, failed } = serde_json::from_str(&answer)?;
        if self.place.json {
            println!("{answer}");
        } else {
            entries.iter().for_each(|Entry { id, entry }| println!("{id} is entry {entry} again"));
            gone.iter().for_each(|id| println!("{id} is not there: replayed or purged before"));
            failed.iter().for_each(|Failed { id, error }| println!("{id} is left: {}", printable(error)));
            println!("{replayed} replayed, {} not there, {failures} failed", gone.len());
        }
        match failures {
            0 => Ok(()),
            _ => Err(format!("{failures} letters could not be replayed").into()),
        }
    }
}

impl Purge {
    fn run(self) -> Outcome {
        let answer = self.place.call(Request::Delete(self.selection.body()), "", &[], PATIENCE)?;
        let Purged { purged } = serde_json::from_str(&answer)?;
        if self.place.json {
            println!("{answer}");
        } else {
            println!("{purged} purged");
        }
        Ok(())
    }
}

impl Place {
    fn call(
        &self,
        request: Request,
        path: &str,
        query: &[(&str, String)],
        patience: Duration,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let group = self.group.as_ref().map(|group| ("group", group));
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| (*name, value))
            .chain(group)
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        self.client.call(request, &format!("/api/dlq/{}{path}{query}", encode(&self.source)), patience)
    }
}

impl Selection {
    fn body(&self) -> String {
        if self.all { json!({"all": true}) } else { json!({"ids": self.ids}) }.to_string()
    }
}

impl Letter {
    fn row(&self) -> [String; 7] {
        let reason = or_dash(&self.error);
        let mut short: String = reason.chars().take(REASON).collect();
        if short.len() < reason.len() {
            short.push('\u{2026}');
        }
        [
            self.id.clone(),
            or_dash(&self.timestamp),
            self.deliveries.map_or("-".to_owned(), |number| number.to_string()),
            (self.trail.len() + 1).to_string(),
            self.bytes.to_string(),
            or_dash(&self.code),
            short,
        ]
    }
}

impl Text {
    fn printable(&self) -> String {
        match self {
            Text::Plain(text) => printable(text),
            Text::Binary { base64 } => format!("(base64) {base64}"),
        }
    }
}

/// Columns as wide as what stands in them; the last is left as it is.
fn print_table<const N: usize>(rows: &[[String; N]]) {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

fn or_dash(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".to_owned())
}

/// Text of others may hold anything: nothing of it may speak to the terminal.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
