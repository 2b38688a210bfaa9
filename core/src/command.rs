//! Commands: an entry of the command stream, read as far as routing it needs.
//!
//! A publisher writes a command as one field `payload` that holds a JSON object, or with the object's keys as fields of the
//! entry. Either way [`service`] tells whom it is for; the entry itself is passed on as it is.
//!
//! * Required are `service`, `session_id`, `workspace_path` and `message`, all strings, as the original's validation demanded;
//!   `context` may be an object or null. As fields of the entry they may hold any bytes.
//! * A name that is read here and occurs twice refuses the command: its reader must never see another service in it than the
//!   one it was routed by. Other names may repeat.
//!
//! No nesting can exhaust the stack: `serde_json` skips in a loop what it does not read.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The field that holds a whole command as JSON.
const PAYLOAD: &str = "payload";

/// Why a command was refused. Retrying cannot help any of these: the entry belongs in the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The payload is not UTF-8.
    NotUtf8 {
        /// Valid bytes before the first invalid one.
        valid: usize,
    },
    /// The payload is not JSON.
    NotJson {
        /// What is wrong, and where.
        reason: String,
    },
    /// The payload is not an object, a value has the wrong type, or a name occurs twice.
    Shape {
        /// What is wrong, and where.
        reason: String,
    },
    /// A required field is missing.
    Missing(&'static str),
}

/// What is read of a payload. Values are only delimited: a message may be long.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    service: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    workspace_path: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

/// The service that a command is for, as its publisher wrote it: nobody has looked whether there is such a service.
///
/// ```
/// use bytes::Bytes;
/// use roomcast_core::command::service;
///
/// let field = |name: &'static str, value: &'static str| (Bytes::from(name), Bytes::from(value));
/// let json = r#"{"service":"mcp","session_id":"s-1","workspace_path":"/w","message":"help"}"#;
/// assert_eq!(service(&[field("payload", json)]).unwrap().as_ref(), b"mcp");
///
/// let flat = [field("service", "mcp"), field("session_id", "s-1"), field("workspace_path", "/w")];
/// let error = service(&flat).unwrap_err();
/// assert_eq!((error.code(), error.to_string()), ("missing", "the field `message` is missing".into()));
/// ```
///
/// # Errors
///
/// Whatever is broken.
pub fn service(fields: &[(Bytes, Bytes)]) -> Result<Cow<'_, [u8]>, CommandError> {
    if let Some(payload) = field(fields, PAYLOAD)? {
        return of_payload(payload).map(|service| match service {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        });
    }
    let service = field(fields, "service")?.ok_or(CommandError::Missing("service"))?;
    for name in ["session_id", "workspace_path", "message"] {
        field(fields, name)?.ok_or(CommandError::Missing(name))?;
    }
    Ok(Cow::Borrowed(service))
}

/// The value of a field that may occur once.
fn field<'a>(fields: &'a [(Bytes, Bytes)], name: &str) -> Result<Option<&'a [u8]>, CommandError> {
    let mut values = fields.iter().filter(|(other, _)| other.as_ref() == name.as_bytes()).map(|(_, value)| value.as_ref());
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(CommandError::Shape { reason: format!("duplicate field `{name}`") }),
    }
}

fn of_payload(payload: &[u8]) -> Result<Cow<'_, str>, CommandError> {
    let text = str::from_utf8(payload).map_err(|error| CommandError::NotUtf8 { valid: error.valid_up_to() })?;
    if !text.trim_start().starts_with('{') {
        // A list would be read as the fields in their order.
        let other = CommandError::Shape { reason: "expected an object".into() };
        return Err(serde_json::from_str::<IgnoredAny>(text).map_or_else(|error| unreadable(&error), |_| other));
    }
    let Payload { service, session_id, workspace_path, message, context } =
        serde_json::from_str(text).map_err(|error| unreadable(&error))?;
    let service = string(service, "service")?;
    for (value, name) in [(session_id, "session_id"), (workspace_path, "workspace_path"), (message, "message")] {
        string(value, name)?;
    }
    if context.is_some_and(|context| !context.get().starts_with('{')) {
        return Err(CommandError::Shape { reason: "`context` is not an object".into() });
    }
    match service.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(service).map(Cow::Owned).map_err(|error| unreadable(&error)),
    }
}

/// A required string, as it is written, quotes and escapes included.
fn string<'a>(value: Option<&'a RawValue>, name: &'static str) -> Result<&'a str, CommandError> {
    let value = value.ok_or(CommandError::Missing(name))?.get();
    match value.starts_with('"') {
        true => Ok(value),
        false => Err(CommandError::Shape { reason: format!("`{name}` is not a string") }),
    }
}

fn unreadable(error: &serde_json::Error) -> CommandError {
    let reason = error.to_string();
    if error.is_data() { CommandError::Shape { reason } } else { CommandError::NotJson { reason } }
}

impl CommandError {
    /// A short name that never changes, for dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            CommandError::NotUtf8 { .. } => "not_utf8",
            CommandError::NotJson { .. } => "not_json",
            CommandError::Shape { .. } => "shape",
            CommandError::Missing(_) => "missing",
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::NotUtf8 { valid } => write!(f, "the payload is not UTF-8 after byte {valid}"),
            CommandError::NotJson { reason } => write!(f, "the payload is not JSON: {reason}"),
            CommandError::Shape { reason } => write!(f, "the entry is not a command: {reason}"),
            CommandError::Missing(field) => write!(f, "the field `{field}` is missing"),
        }
    }
}

impl std::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(fields: &[(&str, &[u8])]) -> Vec<(Bytes, Bytes)> {
        fields.iter().map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value))).collect()
    }

    fn of_json(json: impl AsRef<[u8]>) -> Result<String, &'static str> {
        let fields = fields(&[("trace", b"1"), ("payload", json.as_ref())]);
        let service = service(&fields).map_err(|error| error.code());
        service.map(|service| String::from_utf8(service.into_owned()).expect("JSON is text"))
    }

    #[test]
    fn the_service_of_a_payload_is_found_whatever_else_it_holds() {
        for json in [
            r#"{"service":"claude","session_id":"s","workspace_path":"/w","message":"m"}"#,
            r#" {"message": "", "context": null, "workspace_path":"","timestamp":7, "session_id":"\ud800", "service":"cl\u0061ude"} "#,
            r#"{"service":"claude","session_id":"s","workspace_path":"/w","message":"m","context":{"line":42},"x":1,"x":2}"#,
        ] {
            assert_eq!(of_json(json).as_deref(), Ok("claude"), "{json}");
        }
        let deep = format!(
            r#"{{"service":"mcp","session_id":"s","workspace_path":"/w","message":"m","context":{{"a":{}{}}}}}"#,
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        assert_eq!(of_json(deep).as_deref(), Ok("mcp"));
    }

    #[test]
    fn a_broken_payload_is_refused_by_its_kind() {
        for (json, code) in [
            ("", "not_json"),
            ("{", "not_json"),
            ("service", "not_json"),
            (r#"{"service":"mcp","session_id":"s","workspace_path":"/w","message":"m"} x"#, "not_json"),
            ("[]", "shape"),
            (r#"["mcp","s","/w","m",null]"#, "shape"),
            ("null", "shape"),
            (r#""mcp""#, "shape"),
            ("{}", "missing"),
            (r#"{"service":null,"session_id":"s","workspace_path":"/w","message":"m"}"#, "missing"),
            (r#"{"session_id":"s","workspace_path":"/w","message":"m"}"#, "missing"),
            (r#"{"service":"mcp","workspace_path":"/w","message":"m"}"#, "missing"),
            (r#"{"service":"mcp","session_id":"s","message":"m"}"#, "missing"),
            (r#"{"service":"mcp","session_id":"s","workspace_path":"/w"}"#, "missing"),
            (r#"{"service":["mcp"],"session_id":"s","workspace_path":"/w","message":"m"}"#, "shape"),
            (r#"{"service":"mcp","session_id":7,"workspace_path":"/w","message":"m"}"#, "shape"),
            (r#"{"service":"mcp","session_id":"s","workspace_path":"/w","message":"m","context":"c"}"#, "shape"),
            (r#"{"service":"mcp","service":"claude","session_id":"s","workspace_path":"/w","message":"m"}"#, "shape"),
            (r#"{"service":"mcp","s\u0065rvice":"claude","session_id":"s","workspace_path":"/w","message":"m"}"#, "shape"),
        ] {
            assert_eq!(of_json(json), Err(code), "{json}");
        }
        assert_eq!(of_json(b"{\"service\":\"\xff\"}"), Err("not_utf8"));
    }

    #[test]
    fn the_service_of_flat_fields_is_found_whatever_bytes_the_others_hold() {
        let flat =
            [("service", &b"mcp"[..]), ("session_id", b"\xff\0"), ("workspace_path", b""), ("message", b"{"), ("context", b"c")];
        assert_eq!(service(&fields(&flat)).unwrap().as_ref(), b"mcp");
        for name in ["service", "session_id", "workspace_path", "message"] {
            let without: Vec<_> = flat.into_iter().filter(|(other, _)| *other != name).collect();
            assert_eq!(service(&fields(&without)), Err(CommandError::Missing(name)));
            let twice: Vec<_> = flat.into_iter().chain([(name, &b"x"[..])]).collect();
            assert_eq!(service(&fields(&twice)).unwrap_err().code(), "shape", "{name}");
        }
        let repeated: Vec<_> = flat.into_iter().chain([("note", &b"1"[..]), ("note", b"2")]).collect();
        assert!(service(&fields(&repeated)).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_panics(
            names in prop::collection::vec("payload|service|session_id|workspace_path|message|x", 0..6),
            json in r#"[\[\]{}":, \\a-z0-9]{0,40}"#,
            value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for value in [json.as_bytes(), &value] {
                let entry: Vec<_> = names.iter().map(|name| (name.as_str(), value)).collect();
                let _ = service(&fields(&entry));
            }
        }
    }
}
