//! What publishers add to the command stream: system A's commands, good and broken in every way.

use bytes::Bytes;
use roomcast_core::id::StreamId;
use roomcast_core::store::Fields;

use super::World;

/// The stream of commands and its group.
pub const SOURCE: (&str, &str) = ("stream:ai-commands", "websocket-router");
/// Its dead letters.
pub const DEAD_LETTERS: &str = "stream:ai-commands-dlq";
/// The services there are.
pub const SERVICES: [&str; 3] = ["claude", "cursor", "mcp"];

/// How a command is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One field with JSON.
    Payload,
    /// A field for each key.
    Flat,
    /// The service is not one of those configured.
    Unknown,
    /// The payload is not JSON.
    Nonsense,
    /// There is no message.
    Incomplete,
    /// There is nothing of a command.
    Empty,
}

impl Form {
    /// All forms, good ones more often.
    pub const MIX: [Form; 8] =
        [Form::Payload, Form::Payload, Form::Flat, Form::Flat, Form::Unknown, Form::Nonsense, Form::Incomplete, Form::Empty];
}

/// What should become of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It stands in the stream of its service as it was.
    Routed(Passed),
    /// It is kept among the dead letters.
    DeadLettered,
}

/// A command as it stands in the stream of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) target: String,
    pub(super) fields: Fields,
}

impl Passed {
    /// The number that every command of the World carries, in a field that is nothing to the router.
    pub(super) fn number(&self) -> u64 {
        let (_, number) = self.fields.iter().find(|(name, _)| name.as_ref() == b"n").expect("every command has a number");
        str::from_utf8(number).ok().and_then(|number| number.parse().ok()).expect("it is a number")
    }
}

impl World {
    /// A publisher adds a command for a service.
    pub fn command(&mut self, service: &str) -> StreamId {
        self.add_command(service, Form::Payload)
    }

    /// The same, in any form.
    pub fn add_command(&mut self, service: &str, form: Form) -> StreamId {
        let number = self.next_number();
        let mut fields = vec![field("n", &number.to_string())];
        fields.extend(command(service, form));
        let id = self.memory.add(self.now, SOURCE.0, fields.clone());
        let expected = match form {
            Form::Payload | Form::Flat => Expected::Routed(Passed { target: target(service), fields }),
            Form::Unknown | Form::Nonsense | Form::Incomplete | Form::Empty => Expected::DeadLettered,
        };
        self.commands.insert(id, expected);
        self.after_store();
        id
    }

    /// The numbers of the commands in the stream of a service, in their order.
    pub fn commands_for(&self, service: &str) -> Vec<u64> {
        let target = target(service);
        let entries = self.memory.entries(&target);
        entries.map(|(_, fields)| Passed { target: target.clone(), fields: fields.clone() }.number()).collect()
    }
}

/// The stream of a service.
pub(super) fn target(service: &str) -> String {
    format!("stream:{service}-commands")
}

/// The spelling is unusual on purpose: it must arrive as it is.
fn command(service: &str, form: Form) -> Fields {
    let service = if form == Form::Unknown { "../claude" } else { service };
    match form {
        Form::Payload | Form::Unknown => vec![field(
            "payload",
            &format!(
                r#"{{ "message":"h\u0065lp", "service":"{service}","session_id":"s", "workspace_path":"/w","context":{{"line":4.20e1}}}}"#
            ),
        )],
        Form::Flat => vec![
            field("service", service),
            field("note", "1"),
            field("session_id", "s"),
            field("workspace_path", "/w"),
            field("note", "2"),
            field("message", "{\"\u{1F980}"),
        ],
        Form::Nonsense => vec![field("payload", "{\"service\":\"mcp\"")],
        Form::Incomplete => vec![field("service", service), field("session_id", "s"), field("workspace_path", "/w")],
        Form::Empty => Vec::new(),
    }
}

fn field(name: &str, value: &str) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
}
