//! Socket.IO events between clients and the host's own code.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::dialect::is_deeper_than;
use crate::dialect::socketio::packet::{self, Args};
use crate::door::Ask;
use crate::frame::Frame;
use crate::hub::connection::Connection;
use crate::hub::{Hub, HubAction, Wake};
use crate::id::ConnId;
use crate::message::Json;
use crate::survey::{MOST, Survey};
use crate::time::Time;

/// The arguments of a Socket.IO event or acknowledgement: JSON values, and the binary data that belong to them.
///
/// ```
/// use roomcast_core::hub::Arguments;
///
/// let args = Arguments::new(&("a", 1)).unwrap();
/// assert_eq!(args.as_str(), r#"["a",1]"#);
/// assert!(Arguments::new(&"not a list").is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    json: Box<str>,
    attachments: Vec<Bytes>,
}

impl Arguments {
    /// Whatever serialises to a JSON array: a tuple, a slice. Nothing where it does not.
    pub fn new(args: &impl Serialize) -> Option<Arguments> {
        let json = serde_json::to_string(args).ok().filter(|json| json.starts_with('['))?;
        Some(Arguments { json: json.into(), attachments: Vec::new() })
    }

    /// The same with binary data: in the arguments `{"_placeholder":true,"num":0}` stands for the first of them, and so on. Nothing if
    /// a placeholder names one that is not there.
    pub fn with_attachments(self, attachments: Vec<Bytes>) -> Option<Arguments> {
        packet::all_fit(&self.json, attachments.len()).then_some(Arguments { attachments, ..self })
    }

    /// An array that a parser of this crate has delimited.
    pub(super) fn trusted(json: String, attachments: Vec<Bytes>) -> Arguments {
        Arguments { json: json.into(), attachments }
    }

    /// The values, as a JSON array.
    pub fn as_str(&self) -> &str {
        &self.json
    }

    /// The binary data.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }
}

/// What a Socket.IO client has done, for the host's own code. Hosts that want to know say so with [`Hub::set_hosted`].
#[derive(Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// It has connected to a namespace.
    Connected {
        /// The connection, which is of this namespace alone.
        conn: ConnId,
        /// The namespace.
        namespace: Box<str>,
        /// The user that its token is for.
        user: Option<Box<str>>,
        /// What it said when it connected, a JSON object, where it said something.
        auth: Option<Box<str>>,
        /// Whether it goes on where it was before it was away.
        recovered: bool,
    },
    /// It has sent an event that is none of Roomcast's own.
    Said {
        /// The connection.
        conn: ConnId,
        /// The event's name.
        event: Box<str>,
        /// Its arguments.
        args: Arguments,
        /// The number to acknowledge it with ([`Hub::acknowledge`]), where the client waits for that.
        ack: Option<u64>,
    },
    /// It has gone, or left the namespace.
    Gone {
        /// The connection. The identifier means nothing any more.
        conn: ConnId,
    },
}

impl fmt::Debug for ClientEvent {
    /// Without what a client says when it connects: that may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientEvent::Connected { conn, namespace, user, recovered, auth: _ } => {
                let mut connected = f.debug_struct("Connected");
                let connected = connected.field("conn", conn).field("namespace", namespace).field("user", user);
                connected.field("recovered", recovered).finish_non_exhaustive()
            }
            ClientEvent::Said { conn, event, args, ack } => {
                let mut said = f.debug_struct("Said");
                said.field("conn", conn).field("event", event).field("args", args).field("ack", ack).finish()
            }
            ClientEvent::Gone { conn } => f.debug_struct("Gone").field("conn", conn).finish(),
        }
    }
}

/// An event that the host waits to have acknowledged, numbered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(pub u64);

/// Why an event was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAck {
    /// The connection is gone, or was none of Socket.IO.
    Gone,
    /// It did not answer in time.
    Late,
}

/// What is between clients and the host's code.
#[derive(Debug, Default)]
pub(in super::super) struct Hosted {
    on: bool,
    /// The events that the host waits to have acknowledged, by their number on the wire.
    asked: BTreeMap<(ConnId, u64), Asker>,
    numbers: u64,
    /// What the clients in a room are asked, by the number of the survey.
    gatherings: BTreeMap<u64, Gathering>,
}

/// Who wants an event acknowledged.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Host(AckId),
    Survey(u64),
}

#[derive(Debug)]
struct Gathering {
    clients: u64,
    /// Those that may still answer.
    waiting: u64,
    answers: Vec<Box<str>>,
    bytes: usize,
}

/// Bytes that the answers of one hub may have. Those that do not fit are left out.
const MOST_BYTES: usize = 256 * 1024;

impl Hosted {
    pub(super) fn is_on(&self) -> bool {
        self.on
    }
}

impl Hub {
    /// Whether events of Socket.IO clients are wanted as [`HubAction::Client`]. Where they are not, which is the default, events that
    /// Roomcast does not know are answered with an error.
    pub fn set_hosted(&mut self, on: bool) {
        self.hosted.on = on;
    }

    /// Sends an event to one Socket.IO connection. One that is gone is sent nothing, and none is sent what clients raise themselves,
    /// such as `disconnect`.
    pub fn emit(&mut self, now: Time, conn: ConnId, event: &str, args: &Arguments) {
        self.expire(now);
        if packet::is_reserved(event) {
            return;
        }
        // A client that can be recovered takes the last argument for its offset.
        let offset = self.recovery(conn).map(|recovery| format!("\"{}\"", recovery.offset()));
        self.send(now, conn, args, |namespace, values, attachments| {
            let offset = offset.as_deref().map(Json::trusted);
            let values: Vec<Json<'_>> = values.iter().copied().chain(offset).collect();
            packet::event(namespace, event, &values, None, attachments)
        });
    }

    /// The same, to be acknowledged in so much time: [`HubAction::Acked`] tells what came of it.
    pub fn emit_with_ack(&mut self, now: Time, conn: ConnId, event: &str, args: &Arguments, within: Duration, ack: AckId) {
        self.expire(now);
        if self.namespace(conn).is_none() || packet::is_reserved(event) {
            return self.actions.push_back(HubAction::Acked(ack, Err(NoAck::Gone)));
        }
        self.ask_client(now, conn, (event, args), within, Asker::Host(ack));
    }

    /// The Socket.IO clients in a room are asked something, for a survey.
    pub(in super::super) fn gather_acks(
        &mut self,
        now: Time,
        survey: u64,
        room: &str,
        (event, args): (&str, &str),
        within: Duration,
    ) {
        let room = self.rooms.find(room).and_then(|index| self.rooms.get(index));
        let members = room.into_iter().flat_map(|room| &room.members).filter_map(|slot| self.conns.get(*slot as usize));
        let is_asked = |conn: &&Connection| conn.carrier().is_some() && !packet::is_reserved(event);
        let clients: Vec<ConnId> = members.filter(is_asked).map(|conn| conn.id).collect();
        let waiting = clients.len() as u64;
        self.hosted.gatherings.insert(survey, Gathering { clients: waiting, waiting, answers: Vec::new(), bytes: 0 });
        let args = Arguments::trusted(args.into(), Vec::new());
        clients.into_iter().for_each(|conn| self.ask_client(now, conn, (event, &args), within, Asker::Survey(survey)));
        self.end_gathering(survey);
    }

    fn ask_client(&mut self, now: Time, conn: ConnId, (event, args): (&str, &Arguments), within: Duration, asker: Asker) {
        self.hosted.numbers += 1;
        let number = self.hosted.numbers;
        self.hosted.asked.insert((conn, number), asker);
        self.timers.arm(now + within, Wake::Ack(conn, number));
        self.send(now, conn, args, |namespace, values, attachments| {
            packet::event(namespace, event, values, Some(number), attachments)
        });
    }

    /// Answers an event of a client that waits for it.
    pub fn acknowledge(&mut self, now: Time, conn: ConnId, ack: u64, args: &Arguments) {
        self.expire(now);
        self.send(now, conn, args, |namespace, values, attachments| packet::ack(namespace, ack, values, attachments));
    }

    /// A client acknowledges an event. What nobody asked for, or not any more, is nothing to anybody.
    pub(super) fn hear_ack(&mut self, now: Time, conn: ConnId, number: u64, args: Args<'_>, attachments: Vec<Bytes>) {
        if !self.hosted.asked.contains_key(&(conn, number)) {
            self.charge_control(now, conn);
            return;
        }
        if is_deeper_than(self.config.limits.nesting, args.as_str()) {
            return self.refuse_nesting(now, conn, None);
        }
        self.end_asking(conn, number, Ok(Arguments::trusted(args.as_array(), attachments)));
    }

    /// An event was to be acknowledged by now.
    pub(in super::super) fn ack_overdue(&mut self, conn: ConnId, number: u64) {
        self.end_asking(conn, number, Err(NoAck::Late));
    }

    /// A connection will acknowledge nothing any more.
    pub(super) fn forget_asked(&mut self, conn: ConnId) {
        while let Some(((_, number), _)) = self.hosted.asked.range((conn, 0)..=(conn, u64::MAX)).next() {
            let number = *number;
            self.end_asking(conn, number, Err(NoAck::Gone));
        }
    }

    /// What came of asking a client is known; what nobody waits for any more is nothing to anybody.
    fn end_asking(&mut self, conn: ConnId, number: u64, result: Result<Arguments, NoAck>) {
        match self.hosted.asked.remove(&(conn, number)) {
            None => {}
            Some(Asker::Host(ack)) => self.actions.push_back(HubAction::Acked(ack, result)),
            Some(Asker::Survey(survey)) => {
                let Some(gathering) = self.hosted.gatherings.get_mut(&survey) else { return };
                gathering.waiting = gathering.waiting.saturating_sub(1);
                if let Ok(Arguments { json, .. }) = result
                    && gathering.answers.len() < MOST
                    && gathering.bytes + json.len() <= MOST_BYTES
                {
                    gathering.bytes += json.len();
                    gathering.answers.push(json);
                }
                self.end_gathering(survey);
            }
        }
    }

    /// A survey is answered when nobody may still answer it.
    fn end_gathering(&mut self, survey: u64) {
        if self.hosted.gatherings.get(&survey).is_some_and(|gathering| gathering.waiting == 0)
            && let Some(Gathering { clients, answers, .. }) = self.hosted.gatherings.remove(&survey)
        {
            self.actions.push_back(HubAction::Ask(Ask::Surveyed { number: survey, survey: Survey::Acks { clients, answers } }));
        }
    }

    pub(super) fn tell_host(&mut self, event: impl FnOnce() -> ClientEvent) {
        if self.hosted.on {
            self.actions.push_back(HubAction::Client(event()));
        }
    }

    /// Sends a packet, and what is attached to it.
    fn send(&mut self, now: Time, conn: ConnId, args: &Arguments, packet: impl FnOnce(&str, &[Json<'_>], usize) -> String) {
        let Some(namespace) = self.namespace(conn) else { return };
        let values: Vec<&RawValue> = serde_json::from_str(args.as_str()).unwrap_or_default();
        let values: Vec<Json<'_>> = values.into_iter().map(Json::from).collect();
        let text = packet(&namespace, &values, args.attachments.len());
        self.push(now, conn, Frame::packet(text.as_bytes(), &args.attachments));
    }
}
