//! What publishers add to the source: system A's batches, good and broken in every way.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use roomcast_core::store::Fields;

/// How a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    Plain,
    /// base64(gzip(JSON)).
    Compressed,
    /// Not a batch at all.
    Nonsense,
    /// A compressed batch that was cut off.
    Truncated,
    /// An event lacks its workspace.
    Incomplete,
    /// There is no `data` field.
    Empty,
}

impl Form {
    /// All forms, good ones more often.
    pub const MIX: [Form; 10] = [
        Form::Plain,
        Form::Plain,
        Form::Plain,
        Form::Compressed,
        Form::Compressed,
        Form::Compressed,
        Form::Nonsense,
        Form::Truncated,
        Form::Incomplete,
        Form::Empty,
    ];
}

/// What should become of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Each event reaches its room: room and number.
    Routed(Vec<(String, u64)>),
    /// It is kept among the dead letters.
    DeadLettered,
}

/// The fields of an entry with one event for each workspace, and what should become of it.
pub fn batch(workspaces: &[&str], numbers: &[u64], form: Form) -> (Fields, Expected) {
    let events: Vec<String> = workspaces.iter().zip(numbers).map(|(workspace, number)| event(workspace, *number)).collect();
    let json = format!(
        r#"{{"batch_id":"b-{}","timestamp":"2025-10-06T01:00:00Z","batch_count":{},"events":[{}]}}"#,
        numbers.first().unwrap_or(&0),
        events.len(),
        events.join(", ")
    );
    let data = match form {
        Form::Plain => json,
        Form::Compressed => STANDARD.encode(gzip(&json)),
        Form::Truncated => {
            let whole = gzip(&json);
            STANDARD.encode(&whole[..whole.len() / 2])
        }
        Form::Nonsense => "{nonsense".into(),
        Form::Incomplete => json.replace("\"workspace\"", "\"workshop\""),
        Form::Empty => return (vec![field("other", "field")], Expected::DeadLettered),
    };
    let expected = match form {
        Form::Plain | Form::Compressed => {
            let rooms = workspaces.iter().map(|workspace| format!("workspace:{workspace}"));
            Expected::Routed(rooms.zip(numbers.iter().copied()).collect())
        }
        Form::Nonsense | Form::Truncated | Form::Incomplete | Form::Empty => Expected::DeadLettered,
    };
    (vec![field("data", &data), field("compressed", "false"), field("batch_id", "b")], expected)
}

/// An event with its number. Its spelling is unusual on purpose: it must arrive as it is.
fn event(workspace: &str, number: u64) -> String {
    format!(
        r#"{{"n":{number},  "event_id":"e-{number}","timestamp":"2025-10-06T01:00:00Z","workspace":{{"id":"{workspace}","name":null}},"file":{{"path":"a\u002fb.py","event_type":"create"}},"change":{{"type":"full_content","size":1.50e2}}}}"#
    )
}

fn gzip(json: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(json.as_bytes()).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

fn field(name: &str, value: &str) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
}
