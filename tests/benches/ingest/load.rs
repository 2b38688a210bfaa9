//! The entries that are in the stream before a consumer starts.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use flate2::Compression;
use flate2::write::GzEncoder;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use roomcast_core::config::Source;
use roomcast_tests::real::redis::RedisServer;

use crate::Options;
use crate::consumer::Consumer;

/// Entries that differ; a stream repeats them.
const DISTINCT: usize = 1_000;
/// Workspaces, hence rooms, that the events are about. All events of an entry are about one.
const WORKSPACES: usize = 100;
/// Commands that are sent to Redis in one go.
const TOGETHER: usize = 1_000;
/// Bytes of the JSON text of an entry with one event.
const ONE_EVENT: usize = 306;
/// Bytes of the JSON text of an entry with ten events.
const TEN_EVENTS: usize = 2_900;

/// What the entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// One file event, as JSON.
    One,
    /// One file event, as base64 of compressed JSON.
    OneGzip,
    /// Ten file events, as JSON.
    Ten,
    /// Ten file events, as base64 of compressed JSON.
    TenGzip,
    /// One command, as JSON.
    Commands,
}

impl Form {
    /// How many entries are put into the stream.
    pub(crate) fn entries(self, options: &Options) -> usize {
        match self {
            Self::One | Self::OneGzip | Self::Commands => options.entries,
            Self::Ten | Self::TenGzip => options.batches,
        }
    }

    /// Events in an entry; a command counts as one.
    pub(crate) fn events(self) -> usize {
        match self {
            Self::One | Self::OneGzip | Self::Commands => 1,
            Self::Ten | Self::TenGzip => 10,
        }
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().expect("no form is skipped").get_name().to_owned()
    }

    /// Where a gateway finds the entries.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::Commands => Source::ai_commands(),
            Self::One | Self::OneGzip | Self::Ten | Self::TenGzip => Source::file_events(),
        }
    }

    fn is_compressed(self) -> bool {
        matches!(self, Self::OneGzip | Self::TenGzip)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one file event in an entry",
            Self::OneGzip => "one file event in an entry, compressed",
            Self::Ten => "ten file events in an entry",
            Self::TenGzip => "ten file events in an entry, compressed",
            Self::Commands => "commands",
        })
    }
}

/// A stream full of entries.
pub(crate) struct Load {
    pub(crate) form: Form,
    pub(crate) source: Source,
    pub(crate) entries: u64,
    /// Bytes of the field that holds the events or the command, on average.
    pub(crate) data_bytes: usize,
    /// Bytes of its JSON text.
    pub(crate) json_bytes: usize,
}

impl Load {
    /// Makes a new group that has been given nothing, and forgets what consumers have written.
    pub(crate) fn rewind(&self, redis: &RedisServer) {
        let Source { stream, group, .. } = &self.source;
        for key in redis.query::<Vec<String>>(&["KEYS", "*"]) {
            if key != *stream {
                redis.command(&["DEL", &key]);
            }
        }
        // Absent in the first round.
        redis.command(&["XGROUP", "DESTROY", stream, group]);
        redis.command(&["XGROUP", "CREATE", stream, group, "0", "ENTRIESREAD", "0"]);
    }

    /// # Panics
    ///
    /// When a consumer has found entries broken that are not, or has written less than it acknowledged.
    pub(crate) fn check_output(&self, redis: &RedisServer, consumer: &Consumer, acked: u64) {
        let name = consumer.name();
        let dead_letters: u64 = redis.query(&["XLEN", &self.source.dead_letter]);
        assert_eq!(dead_letters, 0, "{name} has written dead letters");
        let (due, written) = if self.form == Form::Commands {
            let added = SERVICES.map(|service| entries_added(redis, &format!("stream:{service}-commands")));
            (acked, Some(added.iter().sum()))
        } else {
            (acked * self.form.events() as u64, consumer.events())
        };
        assert!(written.is_none_or(|written| written >= due), "{name} has passed on {written:?} and acknowledged {due}");
    }
}

/// Empties a server and fills the stream.
pub(crate) fn fill(redis: &RedisServer, form: Form, entries: usize) -> Load {
    let source = form.source();
    redis.command(&["FLUSHALL", "SYNC"]);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let texts: Vec<String> = (0..DISTINCT).map(|number| text(form, number, &mut rng)).collect();
    let distinct: Vec<Fields> = texts.iter().map(|text| fields(form, text)).collect();
    let mut connection = redis.connect(0).expect("the server is there");
    for first in (0..entries).step_by(TOGETHER) {
        let mut pipeline = redis::pipe();
        for fields in distinct.iter().cycle().skip(first % DISTINCT).take(TOGETHER.min(entries - first)) {
            pipeline.cmd("XADD").arg(&source.stream).arg("*").arg(&fields[..]).ignore();
        }
        pipeline.query::<()>(&mut connection).expect("the server takes entries");
    }
    Load {
        form,
        source,
        entries: entries as u64,
        data_bytes: distinct.iter().map(|fields| fields[0].1.len()).sum::<usize>() / DISTINCT,
        json_bytes: texts.iter().map(String::len).sum::<usize>() / DISTINCT,
    }
}

/// What kind of server it is, and its version.
pub(crate) fn server_version(redis: &RedisServer) -> String {
    let info: String = redis.query(&["INFO", "server"]);
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    match field("valkey_version:") {
        "" => format!("version {}", field("redis_version:")),
        version => format!("Valkey {version}"),
    }
}

/// The services of the commands.
const SERVICES: [&str; 3] = ["claude", "cursor", "mcp"];

/// The first field is the one that holds the text.
type Fields = Vec<(&'static str, String)>;

fn fields(form: Form, text: &str) -> Fields {
    if form == Form::Commands {
        return vec![("payload", text.to_owned())];
    }
    let data = if form.is_compressed() { STANDARD.encode(compressed(text)) } else { text.to_owned() };
    let hint = form.is_compressed().to_string();
    vec![("data", data), ("compressed", hint), ("batch_id", "batch-1".into()), ("batch_count", form.events().to_string())]
}

fn compressed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn text(form: Form, number: usize, rng: &mut ChaCha8Rng) -> String {
    match form {
        Form::Commands => command(number, rng),
        Form::One | Form::OneGzip => batch(number, 1, ONE_EVENT, rng),
        Form::Ten | Form::TenGzip => batch(number, 10, TEN_EVENTS, rng),
    }
}

fn command(number: usize, rng: &mut ChaCha8Rng) -> String {
    let service = SERVICES[number % SERVICES.len()];
    let message = words(120, rng);
    format!(
        r#"{{"service":"{service}","session_id":"session-{number:04}","workspace_path":"/workspaces/my-project","message":"{message}","context":{{"file":"main.py","line":{}}},"timestamp":"2025-10-06T01:00:00Z"}}"#,
        100 + rng.next_u32() % 900
    )
}

/// A batch of so many bytes: what the events have changed fills it up.
fn batch(number: usize, events: usize, bytes: usize, rng: &mut ChaCha8Rng) -> String {
    let mut of = |changed: usize| {
        let events: Vec<String> = (0..events).map(|_| event(number % WORKSPACES, changed, rng)).collect();
        let count = events.len();
        let events = events.join(",");
        format!(
            r#"{{"batch_id":"batch-{number:04}","timestamp":"2025-10-06T01:00:01Z","batch_count":{count},"events":[{events}]}}"#
        )
    };
    let left = bytes.checked_sub(of(0).len()).expect("a batch needs fewer bytes than it gets");
    of(left / events)
}

fn event(workspace: usize, changed: usize, rng: &mut ChaCha8Rng) -> String {
    let id = rng.next_u64();
    let file = 100 + rng.next_u32() % 900;
    let diff = words(changed, rng);
    format!(
        r#"{{"event_id":"{id:016x}","timestamp":"2025-10-06T01:00:00Z","workspace":{{"id":"ws-{workspace:02}"}},"file":{{"path":"src/{file}.py","event_type":"modify"}},"change":{{"type":"diff","diff":"{diff}"}}}}"#
    )
}

/// Text of this length that compresses about as source code does.
fn words(length: usize, rng: &mut ChaCha8Rng) -> String {
    const WORDS: [&str; 16] = [
        "def ", "return ", "self.", "import ", "if ", "else: ", "value", "result", " = ", "()", "[index]", "None", "print(",
        "for ", " in ", "data",
    ];
    let mut text = String::new();
    while text.len() < length {
        text.push_str(WORDS[rng.next_u32() as usize % WORDS.len()]);
    }
    text.truncate(length);
    text
}

fn entries_added(redis: &RedisServer, stream: &str) -> u64 {
    // A service that got nothing has no stream.
    let info: Option<HashMap<String, redis::Value>> = redis.try_query(&["XINFO", "STREAM", stream]).ok();
    let added = info.and_then(|mut info| info.remove("entries-added"));
    added.map_or(0, |added| redis::from_redis_value(added).expect("a number"))
}
