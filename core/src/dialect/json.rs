//! The JSON dialect: one object per text frame, both ways (PROTOCOL section 2).
//!
//! [`parse`] reads what a client says; the functions below it write the data of the server's frames.
//! The frames of systems B and C differ in form and mean the same: `{"type":"subscription","data":{"action":"subscribe",
//! "project_id":P}}` and `{"type":"subscribe","task_id":X}` are both a [`Command::Subscribe`].

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{Json, put_string, put_with_position};
use crate::position::Position;

/// What a client wants, with its own identifier for the request, which the reply repeats.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The request's `message_id`.
    pub id: Option<Cow<'a, str>>,
    /// What is wanted.
    pub command: Command<'a>,
}

/// What a client can want.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Is anybody there?
    Ping,
    /// Authenticate the connection, or renew its token.
    Auth {
        /// The token.
        token: Cow<'a, str>,
    },
    /// Join a room.
    Subscribe(Topic<'a>),
    /// Leave a room.
    Unsubscribe(Topic<'a>),
    /// Send a message to a room.
    Publish {
        /// The room.
        room: Cow<'a, str>,
        /// The message's type.
        kind: Cow<'a, str>,
        /// The message's data.
        data: Json<'a>,
    },
    /// Who is in a room?
    Presence {
        /// The room.
        room: Cow<'a, str>,
    },
    /// What was said in a room?
    History {
        /// The room.
        room: Cow<'a, str>,
        /// How many messages at the most.
        limit: Option<u32>,
        /// The position that they follow, or precede; the beginning, or the end, where there is none.
        since: Option<Cow<'a, str>>,
        /// Whether backwards, newest first.
        reverse: bool,
    },
    /// Which rooms am I in?
    Rooms,
}

/// A room as a client names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// The room.
    pub room: Cow<'a, str>,
    /// The field by which system C's clients name it, to be repeated in the reply with its JSON type.
    pub echo: Option<(&'static str, Json<'a>)>,
    /// The position from which the client wants to go on, as it wrote it.
    pub recover: Option<Cow<'a, str>>,
    /// How many of the newest messages it wants.
    pub history: Option<u32>,
}

/// Why a frame cannot be understood. Each becomes an `error` frame; none closes the connection by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct ParseError<'a> {
    /// The request's `message_id`, where that much could be read.
    pub id: Option<Cow<'a, str>>,
    /// What is wrong.
    pub code: ErrorCode,
    /// In words.
    pub message: &'static str,
}

/// Codes of `error` frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the codes; PROTOCOL section 2 lists them")]
pub enum ErrorCode {
    InvalidMessage,
    InvalidAuth,
    Unauthorized,
    Forbidden,
    UnsupportedMessage,
    RateLimited,
    LimitExceeded,
    NotFound,
    Unavailable,
}

impl ErrorCode {
    /// The code as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidMessage => "invalid_message",
            ErrorCode::InvalidAuth => "invalid_auth",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::UnsupportedMessage => "unsupported_message",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::LimitExceeded => "limit_exceeded",
            ErrorCode::NotFound => "not_found",
            ErrorCode::Unavailable => "unavailable",
        }
    }
}

#[derive(Deserialize)]
struct Inbound<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// The fields by which a room can be named.
#[derive(Default, Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    room: Option<&'a RawValue>,
    #[serde(borrow, default)]
    project_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    job_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    workspace_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    agent_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    recover: Option<Cow<'a, str>>,
    #[serde(default)]
    history: Option<u32>,
}

/// Reads a client's frame.
///
/// ```
/// use roomcast_core::dialect::json::{Command, parse};
///
/// let request = parse(r#"{"type":"subscribe","task_id":12}"#).unwrap();
/// let Command::Subscribe(topic) = request.command else { panic!() };
/// assert_eq!(topic.room, "task:12");
/// assert!(parse("nonsense").is_err());
/// ```
///
/// # Errors
/// A frame that is not a JSON object with a `type`, or whose fields do not fit the type.
pub fn parse(text: &str) -> Result<Request<'_>, ParseError<'_>> {
    let broken = ParseError { id: None, code: ErrorCode::InvalidMessage, message: "Failed to parse message" };
    let Ok(Inbound { r#type, message_id: id, data }) = serde_json::from_str(text) else { return Err(broken) };
    match command(&r#type, text, data) {
        Ok(command) => Ok(Request { id, command }),
        Err((code, message)) => Err(ParseError { id, code, message }),
    }
}

/// What is wanted by a frame of some type with its data, or by an event with its first argument, which is both.
pub(crate) fn command<'a>(
    kind: &str,
    frame: &'a str,
    data: Option<&'a RawValue>,
) -> Result<Command<'a>, (ErrorCode, &'static str)> {
    match kind {
        "ping" => Ok(Command::Ping),
        // System B's clients answer `auth_required` with a frame of the same type.
        "auth" | "auth_required" => {
            #[derive(Deserialize)]
            struct Auth<'a> {
                #[serde(borrow)]
                token: Cow<'a, str>,
            }
            let auth: Option<Auth<'_>> = read(data);
            let auth = auth.ok_or((ErrorCode::InvalidAuth, "Invalid authentication data"))?;
            Ok(Command::Auth { token: auth.token })
        }
        "subscribe" => Ok(Command::Subscribe(topic(frame)?)),
        "unsubscribe" => Ok(Command::Unsubscribe(topic(frame)?)),
        "subscription" => {
            #[derive(Deserialize)]
            struct Subscription<'a> {
                #[serde(borrow)]
                action: Cow<'a, str>,
            }
            let Subscription { action } =
                read(data).ok_or((ErrorCode::InvalidMessage, "A subscription needs data with an action and a room"))?;
            let topic = Topic { echo: None, ..topic(data.map_or("", RawValue::get))? };
            match action.as_ref() {
                "subscribe" => Ok(Command::Subscribe(topic)),
                "unsubscribe" => Ok(Command::Unsubscribe(topic)),
                _ => Err((ErrorCode::InvalidMessage, "The action must be subscribe or unsubscribe")),
            }
        }
        "publish" => {
            #[derive(Deserialize)]
            struct Publish<'a> {
                #[serde(borrow)]
                room: Cow<'a, str>,
                #[serde(borrow)]
                r#type: Cow<'a, str>,
                #[serde(borrow)]
                data: &'a RawValue,
            }
            let Publish { room, r#type: kind, data } =
                read(data).ok_or((ErrorCode::InvalidMessage, "A publish needs data with room, type and data"))?;
            Ok(Command::Publish { room, kind, data: data.into() })
        }
        "history" => {
            #[derive(Deserialize)]
            struct History<'a> {
                #[serde(borrow)]
                room: Cow<'a, str>,
                #[serde(default)]
                limit: Option<u32>,
                #[serde(borrow, default)]
                since: Option<Cow<'a, str>>,
                #[serde(default)]
                reverse: bool,
            }
            let History { room, limit, since, reverse } =
                read(data).ok_or((ErrorCode::InvalidMessage, "A history needs data with a room"))?;
            Ok(Command::History { room, limit, since, reverse })
        }
        "presence" => Ok(Command::Presence { room: topic(data.map_or("", RawValue::get))?.room }),
        "rooms" => Ok(Command::Rooms),
        _ => Err((ErrorCode::UnsupportedMessage, "Message type not supported")),
    }
}

fn read<'a, T: Deserialize<'a>>(data: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(data?.get()).ok()
}

/// The room that an object names: by `room` as it is, or by the first of the other fields as `kind:id`.
fn topic(object: &str) -> Result<Topic<'_>, (ErrorCode, &'static str)> {
    let missing = (ErrorCode::InvalidMessage, "Room not specified");
    let names: Names<'_> = serde_json::from_str(object).map_err(|_| missing)?;
    let (recover, history) = (names.recover, names.history);
    if let Some(raw) = names.room {
        let Text(room) = serde_json::from_str(raw.get()).map_err(|_| missing)?;
        return Ok(Topic { room, echo: Some(("room", raw.into())), recover, history });
    }
    for (field, kind, id) in [
        ("project_id", "project", names.project_id),
        ("task_id", "task", names.task_id),
        ("job_id", "job", names.job_id),
        ("workspace_id", "workspace", names.workspace_id),
        ("agent_id", "agent", names.agent_id),
        ("user_id", "user", names.user_id),
    ] {
        let Some(raw) = id else { continue };
        let id = identifier(raw).ok_or((ErrorCode::InvalidMessage, "An id must be a string or a number"))?;
        let room = format!("{kind}:{id}").into();
        return Ok(Topic { room, echo: Some((field, raw.into())), recover, history });
    }
    Err(missing)
}

/// A string, or a whole number as its digits: 12 and "12" are the same.
pub(crate) fn identifier<'a>(raw: &'a RawValue) -> Option<Cow<'a, str>> {
    let text = raw.get();
    if text.starts_with('"') {
        return serde_json::from_str::<Text<'a>>(text).ok().map(|text| text.0).filter(|id| !id.is_empty());
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(Cow::Borrowed(text))
}

#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Builds the data of server frames: an object, field by field.
///
/// ```
/// use roomcast_core::dialect::json::Object;
///
/// let data = Object::new().string("room", "project:7").number("members", 2).finish();
/// assert_eq!(data, r#"{"room":"project:7","members":2}"#);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<u8>);

impl Object {
    /// An empty object.
    pub fn new() -> Object {
        Object(Vec::with_capacity(64))
    }

    /// Adds a string.
    pub fn string(self, name: &str, value: &str) -> Object {
        self.field(name, |out| put_string(out, value))
    }

    /// Adds a `position`, where there is one.
    pub fn position(self, position: Option<Position>) -> Object {
        match position {
            Some(position) => self.string("position", &position.to_string()),
            None => self,
        }
    }

    /// Adds a truth value.
    pub fn boolean(self, name: &str, value: bool) -> Object {
        self.field(name, |out| out.extend_from_slice(if value { b"true" } else { b"false" }))
    }

    /// Adds a number.
    pub fn number(self, name: &str, value: u64) -> Object {
        self.field(name, |out| out.extend_from_slice(value.to_string().as_bytes()))
    }

    /// Adds a value that is JSON already.
    pub(crate) fn json(self, name: &str, value: &str) -> Object {
        self.field(name, |out| out.extend_from_slice(value.as_bytes()))
    }

    /// Adds the fields of an object that was built by another one of these.
    pub(crate) fn fields_of(mut self, object: &str) -> Object {
        let fields = object.strip_prefix('{').and_then(|fields| fields.strip_suffix('}')).filter(|fields| !fields.is_empty());
        if let Some(fields) = fields {
            self.0.push(if self.0.is_empty() { b'{' } else { b',' });
            self.0.extend_from_slice(fields.as_bytes());
        }
        self
    }

    /// Adds a list of strings.
    pub fn strings<'s>(self, name: &str, values: impl Iterator<Item = &'s str>) -> Object {
        self.field(name, |out| {
            out.push(b'[');
            for (at, value) in values.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                put_string(out, value);
            }
            out.push(b']');
        })
    }

    /// Adds a list of messages, each with its position as its last field.
    pub fn messages<'m>(self, name: &str, messages: impl Iterator<Item = (Position, &'m [u8])>) -> Object {
        self.field(name, |out| {
            out.push(b'[');
            for (at, (position, payload)) in messages.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                put_with_position(out, payload, position);
            }
            out.push(b']');
        })
    }

    /// The object as text.
    pub fn finish(mut self) -> String {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.push(b'}');
        // Everything above writes whole UTF-8 strings.
        String::from_utf8(self.0).unwrap_or_default()
    }

    fn field(mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) -> Object {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        put_string(&mut self.0, name);
        self.0.push(b':');
        value(&mut self.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Command<'_> {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).command
    }

    fn room(text: &str) -> String {
        match command(text) {
            Command::Subscribe(topic) | Command::Unsubscribe(topic) => topic.room.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_system_names_rooms_in_its_own_way() {
        for (text, expected) in [
            (r#"{"type":"subscription","data":{"action":"subscribe","project_id":"p-1"}}"#, "project:p-1"),
            (r#"{"type":"subscription","data":{"action":"unsubscribe","room":"workspace:x"}}"#, "workspace:x"),
            (r#"{"type":"subscribe","task_id":"12"}"#, "task:12"),
            (r#"{"type":"subscribe","task_id":12}"#, "task:12"),
            (r#"{"type":"unsubscribe","job_id":"a"}"#, "job:a"),
            (r#"{"type":"subscribe","room":"r"}"#, "r"),
            (r#"{"type":"subscribe","workspace_id":"w"}"#, "workspace:w"),
        ] {
            assert_eq!(room(text), expected, "{text}");
        }
    }

    #[test]
    fn system_c_gets_its_task_id_back_with_its_json_type() {
        for (text, echo) in [(r#"{"type":"subscribe","task_id":12}"#, "12"), (r#"{"type":"subscribe","task_id":"12"}"#, "\"12\"")]
        {
            let Command::Subscribe(topic) = command(text) else { panic!() };
            assert_eq!(topic.echo, Some(("task_id", Json::trusted(echo))));
        }
    }

    #[test]
    fn the_room_of_a_question_is_named_like_that_of_a_subscription() {
        for data in [r#"{"room":"project:7"}"#, r#"{"project_id":7}"#] {
            let text = format!(r#"{{"type":"presence","data":{data}}}"#);
            assert_eq!(command(&text), Command::Presence { room: "project:7".into() });
        }
        assert_eq!(parse(r#"{"type":"presence"}"#).unwrap_err().code, ErrorCode::InvalidMessage);
    }

    #[test]
    fn a_publish_keeps_its_data_as_written() {
        let text = r#"{"type":"publish","data":{"room":"r","type":"t","data":{"b": 1.0,  "a":null}}}"#;
        let Command::Publish { data, .. } = command(text) else { panic!() };
        assert_eq!(data.as_str(), r#"{"b": 1.0,  "a":null}"#);
    }

    #[test]
    fn what_cannot_be_understood_says_why_and_whose_it_is() {
        for (text, code) in [
            ("", ErrorCode::InvalidMessage),
            ("nonsense", ErrorCode::InvalidMessage),
            ("[]", ErrorCode::InvalidMessage),
            (r#"{"data":1}"#, ErrorCode::InvalidMessage),
            (r#"{"type":7}"#, ErrorCode::InvalidMessage),
            (r#"{"type":"dance"}"#, ErrorCode::UnsupportedMessage),
            (r#"{"type":"auth"}"#, ErrorCode::InvalidAuth),
            (r#"{"type":"auth","data":{"token":7}}"#, ErrorCode::InvalidAuth),
            (r#"{"type":"subscribe"}"#, ErrorCode::InvalidMessage),
            (r#"{"type":"subscribe","task_id":{}}"#, ErrorCode::InvalidMessage),
            (r#"{"type":"subscribe","task_id":-1.5}"#, ErrorCode::InvalidMessage),
            (r#"{"type":"subscription","data":{"action":"jump","room":"r"}}"#, ErrorCode::InvalidMessage),
            (r#"{"type":"publish","data":{"room":"r"}}"#, ErrorCode::InvalidMessage),
        ] {
            assert_eq!(parse(text).unwrap_err().code, code, "{text}");
        }
        assert_eq!(parse(r#"{"type":"dance","message_id":"m-1"}"#).unwrap_err().id.as_deref(), Some("m-1"));
    }

    #[test]
    fn deep_nesting_is_refused_without_harm() {
        let deep = format!(r#"{{"type":"publish","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deep).is_err());
    }
}
