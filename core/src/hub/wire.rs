//! Messages as members are sent them, by what their connection speaks: framed once for all who speak the same.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::room::Memory;
use super::session::Session;
use crate::config::Config;
use crate::dialect::socketio::packet::is_reserved;
use crate::frame::{Frame, Texts};
use crate::message::put_with_position;
use crate::position::Position;

/// How a connection is sent messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// As they are.
    Json,
    /// As events in a namespace, which is named by its index in the configuration. Those who can recover are sent an offset with each.
    SocketIo { namespace: u8, recovers: bool },
}

/// Messages, as they are sent to all who speak the same.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Shared(Frame),
    /// Each is sent the events with an offset of its own.
    Each(Vec<OpenEvent>),
}

/// An event but for its last argument and its end, and where it stands in its room.
#[derive(Clone, Debug)]
pub(super) struct OpenEvent {
    pub(super) text: Vec<u8>,
    pub(super) position: Option<Position>,
}

impl Content {
    /// How many messages these are, and about how many bytes, with offsets of this length.
    pub(super) fn size(&self, offset: usize) -> (usize, usize) {
        match self {
            Content::Shared(frame) => (frame.messages(), frame.len()),
            Content::Each(events) => (events.len(), events.iter().map(|event| event.text.len() + offset).sum()),
        }
    }

    /// The messages of a room for one connection.
    pub(super) fn frame(&self, room: &str, session: Option<&mut Session>) -> Frame {
        match (self, session.and_then(|session| session.recovery.as_mut())) {
            (Content::Shared(frame), _) => frame.clone(),
            (Content::Each(events), Some(recovery)) => recovery.frame(room, events),
            // It is no more.
            (Content::Each(_), None) => Frame::texts(&[]),
        }
    }
}

impl Wire {
    pub(super) fn recovers(self) -> bool {
        matches!(self, Wire::SocketIo { recovers: true, .. })
    }

    /// Messages of a room, with their positions where it has them.
    pub(super) fn content<'a>(
        self,
        config: &Config,
        memory: Memory,
        messages: impl Iterator<Item = (&'a Bytes, Position)> + Clone,
    ) -> Content {
        let told = |position| memory.has_positions().then_some(position);
        match self {
            Wire::Json => Content::Shared(memory.frame(messages)),
            Wire::SocketIo { namespace, recovers: true } => {
                let prefix = event_prefix(config, namespace);
                let events = messages.map(|(payload, position)| {
                    let mut text = prefix.clone().into_bytes();
                    put_event(&mut text, payload, told(position));
                    OpenEvent { text, position: (memory != Memory::Nothing).then_some(position) }
                });
                Content::Each(events.collect())
            }
            Wire::SocketIo { namespace, recovers: false } => {
                let prefix = event_prefix(config, namespace);
                let mut texts = Texts::with_capacity(messages.clone().map(|(payload, _)| payload.len() + prefix.len() + 128));
                let mut text = Vec::new();
                for (payload, position) in messages {
                    text.clear();
                    text.extend_from_slice(prefix.as_bytes());
                    put_event(&mut text, payload, told(position));
                    text.push(b']');
                    texts.put(&text);
                }
                Content::Shared(texts.finish())
            }
        }
    }
}

/// The same messages for members who speak different things.
pub(super) struct Framed<'a> {
    pub(super) config: &'a Config,
    pub(super) memory: Memory,
    pub(super) payloads: &'a [Bytes],
    /// None where nothing is remembered.
    pub(super) positions: &'a [Position],
    pub(super) contents: Vec<(Wire, Content)>,
}

impl Framed<'_> {
    pub(super) fn by(&mut self, wire: Wire) -> &Content {
        let at = self.contents.iter().position(|(other, _)| *other == wire).unwrap_or_else(|| {
            let positions = self.positions.iter().copied().chain(core::iter::repeat(Position::default()));
            let memory = if self.positions.is_empty() { Memory::Nothing } else { self.memory };
            self.contents.push((wire, wire.content(self.config, memory, self.payloads.iter().zip(positions))));
            self.contents.len() - 1
        });
        &self.contents[at].1
    }
}

/// What every event of a namespace begins with.
fn event_prefix(config: &Config, namespace: u8) -> String {
    match config.socketio.namespaces.get(usize::from(namespace)).map(String::as_str) {
        None | Some("/") => "42[".into(),
        Some(namespace) => format!("42{namespace},["),
    }
}

/// Appends an envelope as the argument of an event that is named as its type, which is not ended. Clients of system E expect a `source`.
fn put_event(out: &mut Vec<u8>, payload: &[u8], position: Option<Position>) {
    let head = Head::of(payload);
    out.extend_from_slice(head.name.unwrap_or("\"message\"").as_bytes());
    out.push(b',');
    match position {
        Some(position) => put_with_position(out, payload, position),
        None => out.extend_from_slice(payload),
    }
    if head.wants_source && out.pop_if(|last| *last == b'}').is_some() {
        out.extend_from_slice(b",\"source\":null}");
    }
}

/// What has to be known of an envelope.
struct Head<'a> {
    /// Its type as it is written, where an event may have that name.
    name: Option<&'a str>,
    wants_source: bool,
}

impl<'a> Head<'a> {
    fn of(payload: &'a [u8]) -> Head<'a> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            r#type: Option<&'a RawValue>,
            #[serde(default, deserialize_with = "is_there")]
            source: bool,
        }
        fn is_there<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
            IgnoredAny::deserialize(value).map(|_| true)
        }
        // Whatever is no envelope travels as it is.
        let none = Head { name: None, wants_source: false };
        let Ok(Fields { r#type: kind, source }) = serde_json::from_slice(payload) else { return none };
        let name = kind
            .map(RawValue::get)
            .filter(|name| serde_json::from_str::<std::borrow::Cow<'_, str>>(name).is_ok_and(|name| !is_reserved(&name)));
        Head { name, wants_source: !source && kind.is_some() }
    }
}
