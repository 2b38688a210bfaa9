//! Packets of Socket.IO 5: the text of Engine.IO's messages.
//!
//! `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`. [`parse`] reads what a client sends, an [`Assembly`] waits for the
//! attachments that follow; the functions below write what it is sent. The values in a packet are the client's own bytes.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::engine::Malformed;
use super::placeholder;
use crate::batch::deeper_than;
use crate::dialect::json::Text;
use crate::message::{Json, put_string};

pub use super::assembly::Assembly;
pub(crate) use super::placeholder::all_fit;

/// Deepest nesting of a packet's JSON: that of `serde_json`, which clients of other languages cope with, too.
const DEPTH: usize = 127;

/// The events that the libraries of the clients raise themselves.
const RESERVED: [&str; 6] = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether no event may have this name: it is one of those.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// A packet of Socket.IO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its namespace, which begins with `/`; `/` where none is written.
    pub namespace: &'a str,
    /// What it says.
    pub body: Body<'a>,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The client enters the namespace.
    Connect(
        /// An object for authentication, where there is one.
        Option<Json<'a>>,
    ),
    /// The client leaves the namespace.
    Disconnect,
    /// Something has happened.
    Event {
        /// Its name, or its number as it is written.
        name: Cow<'a, str>,
        /// The arguments, without the name.
        args: Args<'a>,
        /// The number under which the client wants an answer.
        ack: Option<u64>,
        /// How many attachments follow.
        attachments: usize,
    },
    /// The answer to an event.
    Ack {
        /// The number that came with the event.
        id: u64,
        /// The arguments.
        args: Args<'a>,
        /// How many attachments follow.
        attachments: usize,
    },
    /// The server refuses a namespace; no client sends it.
    ConnectError,
}

/// The arguments of an event or of an answer, each as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a>(
    /// Valid JSON values with commas between them.
    &'a str,
);

impl PartialEq for Args<'_> {
    /// White space around the values does not count.
    fn eq(&self, other: &Args<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Args<'_> {}

impl<'a> Args<'a> {
    /// The arguments in their order. They are found as they are asked for, so that many small ones take no memory.
    pub fn iter(&self) -> impl Iterator<Item = Json<'a>> + use<'a> {
        let mut rest = *self;
        std::iter::from_fn(move || {
            let (first, behind) = rest.split_first()?;
            rest = behind;
            Some(first)
        })
    }

    /// The first one.
    pub fn first(&self) -> Option<Json<'a>> {
        self.iter().next()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, with commas between them.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// All of them as a JSON array.
    pub fn as_array(&self) -> String {
        format!("[{}]", self.0)
    }

    /// Of a JSON array.
    fn of(array: Json<'a>) -> Option<Args<'a>> {
        let values = array.as_str().strip_prefix('[')?.strip_suffix(']')?;
        Some(Args(values.trim_ascii()))
    }

    fn split_first(self) -> Option<(Json<'a>, Args<'a>)> {
        let mut values = serde_json::Deserializer::from_str(self.0).into_iter::<&RawValue>();
        let first = values.next()?.ok()?;
        let behind = self.0.get(values.byte_offset()..)?.trim_ascii_start();
        Some((first.into(), Args(behind.strip_prefix(',').unwrap_or_default().trim_ascii_start())))
    }
}

/// Reads a packet: the text of an Engine.IO message, without the `4` of Engine.IO.
///
/// ```
/// use roomcast_core::dialect::socketio::packet::{Body, parse};
///
/// let packet = parse(r#"2/ws,7["subscribe",{"room":"a"}]"#, 10).unwrap();
/// assert_eq!(packet.namespace, "/ws");
/// let Body::Event { name, args, ack: Some(7), attachments: 0 } = packet.body else { panic!() };
/// assert_eq!(name, "subscribe");
/// assert_eq!(args.first().unwrap().as_str(), r#"{"room":"a"}"#);
/// ```
///
/// # Errors
/// * What does not follow the form above; data that does not belong to the type; an answer without a number, or a number above
///   `u64::MAX`.
/// * An event without a name, or with the name of one that clients raise themselves (`connect`, `disconnecting` and the like).
/// * JSON nested deeper than 127 levels.
/// * More than `most_attachments`, or a placeholder for one that is not among the packet's.
pub fn parse(text: &str, most_attachments: usize) -> Result<Packet<'_>, Malformed> {
    let mut characters = text.chars();
    let kind = characters.next().ok_or(Malformed)?;
    let mut rest = characters.as_str();
    let binary = matches!(kind, '5' | '6');
    let mut attachments = 0;
    if binary {
        let (count, behind) = number(rest)?;
        let count = count.and_then(|count| usize::try_from(count).ok());
        attachments = count.filter(|&count| count <= most_attachments).ok_or(Malformed)?;
        rest = behind.strip_prefix('-').ok_or(Malformed)?;
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    }
    let body = match kind {
        '0' if rest.is_empty() => Body::Connect(None),
        '0' => Body::Connect(Some(json(rest).filter(|json| json.as_str().starts_with('{')).ok_or(Malformed)?)),
        '1' if rest.is_empty() => Body::Disconnect,
        '2' | '5' => {
            let (ack, rest) = number(rest)?;
            let (name, args) = arguments(rest, attachments, binary)?.split_first().ok_or(Malformed)?;
            Body::Event { name: event_name(name).ok_or(Malformed)?, args, ack, attachments }
        }
        '3' | '6' => {
            let (id, rest) = number(rest)?;
            Body::Ack { id: id.ok_or(Malformed)?, args: arguments(rest, attachments, binary)?, attachments }
        }
        '4' if rest.is_empty() || json(rest).is_some() => Body::ConnectError,
        _ => return Err(Malformed),
    };
    Ok(Packet { namespace, body })
}

/// The number at the beginning, if there is one, and what is behind it.
fn number(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).ok_or(Malformed)?;
    let number = (!digits.is_empty()).then(|| digits.parse()).transpose().map_err(|_| Malformed)?;
    Ok((number, rest))
}

/// One JSON value whose depth is in bounds.
fn json(text: &str) -> Option<Json<'_>> {
    Json::parse(text).filter(|json| !deeper_than(json.as_str(), DEPTH))
}

/// A JSON array, the placeholders of which are looked at if the packet is binary: in others they are plain objects.
fn arguments(text: &str, attachments: usize, binary: bool) -> Result<Args<'_>, Malformed> {
    let args = json(text).and_then(Args::of).ok_or(Malformed)?;
    if binary && !placeholder::all_fit(args.0, attachments) {
        return Err(Malformed);
    }
    Ok(args)
}

/// The name of an event: a string that is not reserved, or a number.
fn event_name(name: Json<'_>) -> Option<Cow<'_, str>> {
    match name.as_str() {
        string if string.starts_with('"') => {
            let Text(name) = serde_json::from_str(string).ok()?;
            (!is_reserved(&name)).then_some(name)
        }
        number => number.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(Cow::Borrowed(number)),
    }
}

/// Writes that a namespace has been entered: `40/ws,{…}` with a JSON object. As in the other functions, a namespace has no comma,
/// and the result is a message packet of Engine.IO.
pub fn connect(namespace: &str, data: &str) -> String {
    start('0', 0, namespace) + data
}

/// Writes that a namespace is refused: `44/ws,{…}` with a JSON object.
pub fn connect_error(namespace: &str, data: &str) -> String {
    start('4', 0, namespace) + data
}

/// Writes that the server closes a namespace: `41/ws,`. Clients do not come back by themselves after it.
pub fn disconnect(namespace: &str) -> String {
    start('1', 0, namespace)
}

/// Writes an event: `42/ws,7["name",…]`, or `451-/ws,7["name",…]` with so many attachments, which have to follow it.
///
/// ```
/// use roomcast_core::dialect::socketio::packet::event;
/// use roomcast_core::message::Json;
///
/// let data = Json::parse(r#"{"n":1.0}"#).unwrap();
/// assert_eq!(event("/ws", "tick", &[data], Some(7), 0), r#"42/ws,7["tick",{"n":1.0}]"#);
/// ```
pub fn event(namespace: &str, name: &str, args: &[Json<'_>], ack: Option<u64>, attachments: usize) -> String {
    let mut out = start(if attachments == 0 { '2' } else { '5' }, attachments, namespace);
    if let Some(ack) = ack {
        // Writing into memory cannot fail.
        let _ = write!(out, "{ack}");
    }
    let mut quoted = Vec::with_capacity(name.len() + 2);
    put_string(&mut quoted, name);
    let quoted = String::from_utf8(quoted).unwrap_or_default();
    put_array(&mut out, std::iter::once(quoted.as_str()).chain(args.iter().map(|arg| arg.as_str())));
    out
}

/// Writes the answer to an event: `43/ws,7[…]`, or `461-/ws,7[…]` with so many attachments, which have to follow it.
pub fn ack(namespace: &str, id: u64, args: &[Json<'_>], attachments: usize) -> String {
    let mut out = start(if attachments == 0 { '3' } else { '6' }, attachments, namespace);
    let _ = write!(out, "{id}");
    put_array(&mut out, args.iter().map(|arg| arg.as_str()));
    out
}

/// What stands before the number and the data.
fn start(kind: char, attachments: usize, namespace: &str) -> String {
    let mut out = String::from("4");
    out.push(kind);
    if attachments > 0 {
        let _ = write!(out, "{attachments}-");
    }
    if namespace != "/" {
        out.push_str(namespace);
        out.push(',');
    }
    out
}

fn put_array<'a>(out: &mut String, values: impl Iterator<Item = &'a str>) {
    out.push('[');
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(value);
    }
    out.push(']');
}

#[cfg(test)]
mod tests;
