//! An Engine.IO session as its client has it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use roomcast_core::hub::ExchangeId;
use roomcast_core::id::ConnId;
use roomcast_core::node::OwnedMessage;
use roomcast_core::time::Time;

use super::super::frames::Frames;
use super::packet::Packet;

/// Stands between the packets of a body.
pub(super) const SEPARATOR: char = '\u{1e}';

/// How a Socket.IO client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By a WebSocket.
    WebSocket,
    /// By requests that poll.
    Polling,
    /// First by requests that poll, then by a WebSocket, as soon as it works.
    Upgrading,
}

#[derive(Debug)]
pub(in super::super) struct Engine {
    pub(super) transport: Transport,
    /// The token of its first request.
    pub(super) token: Option<String>,
    /// Where it connects from, if nodes know that.
    pub(super) address: Option<IpAddr>,
    pub(super) phase: Phase,
    pub(super) node: usize,
    /// How often it has begun: what was on its way to or from an earlier session is for nobody.
    pub(in super::super) session: u32,
    pub(super) sid: Option<String>,
    /// The WebSocket that is its transport, or may become that.
    pub(super) socket: Option<ConnId>,
    /// The requests that are under way: one that polls, and one that says something.
    pub(super) get: Option<ExchangeId>,
    pub(super) post: Option<ExchangeId>,
    pub(super) outgoing: Vec<OwnedMessage>,
    /// Its namespaces.
    pub(super) clients: Vec<usize>,
    pub(in super::super) reads: bool,
    /// Whether it answers pings and close frames.
    pub(in super::super) answers: bool,
    /// Whether the answer to its poll will be lost on its way, and it with that.
    pub(super) loses: bool,
    pub(in super::super) last_arrival: Time,
    pub(super) frames: Frames,
    /// A packet that waits for its attachments.
    pub(super) assembly: Option<Packet>,
}

/// ```text
/// Gone ─▶ Opening ─┬─▶ Polling ◀─▶ Probing ─▶ Pausing ─┐
///                  └───────────────────────────────────┴─▶ WebSocket
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Phase {
    Gone,
    /// The server has not said anything yet.
    Opening,
    Polling,
    /// A WebSocket is being tried.
    Probing,
    /// It works: the last requests are waited for.
    Pausing,
    WebSocket,
}

impl Engine {
    pub(super) fn new(transport: Transport, token: Option<&str>) -> Engine {
        Engine {
            transport,
            token: token.map(String::from),
            address: None,
            phase: Phase::Gone,
            node: 0,
            session: 0,
            sid: None,
            socket: None,
            get: None,
            post: None,
            outgoing: Vec::new(),
            clients: Vec::new(),
            reads: true,
            answers: true,
            loses: false,
            last_arrival: Time::ZERO,
            frames: Frames::default(),
            assembly: None,
        }
    }

    pub(super) fn begin(&mut self, node: usize) {
        self.node = node;
        self.session += 1;
        (self.phase, self.sid) = (Phase::Opening, None);
        (self.reads, self.answers, self.loses) = (true, true, false);
    }

    /// It is over. The WebSocket and the requests that were left.
    pub(super) fn end(&mut self) -> (Option<ConnId>, [Option<ExchangeId>; 2]) {
        self.phase = Phase::Gone;
        self.session += 1;
        self.outgoing.clear();
        self.frames.clear();
        self.assembly = None;
        (self.socket.take(), [self.get.take(), self.post.take()])
    }

    pub(in super::super) fn is_there(&self) -> bool {
        self.phase != Phase::Gone
    }

    /// The node that it began on.
    pub(in super::super) fn node(&self) -> usize {
        self.node
    }

    /// The node and the connection, where it has a WebSocket.
    pub(in super::super) fn place(&self) -> Option<(usize, ConnId)> {
        Some((self.node, self.socket?))
    }

    /// Whether this is the request that it polls with.
    pub(in super::super) fn polls_with(&self, exchange: ExchangeId) -> bool {
        self.get == Some(exchange)
    }

    /// Whether it is time to poll.
    pub(super) fn wants_poll(&self) -> bool {
        let polls = matches!(self.phase, Phase::Opening | Phase::Polling | Phase::Probing);
        polls && self.transport != Transport::WebSocket && self.reads && self.get.is_none()
    }

    /// The body of the next request that says something, where there is one.
    pub(super) fn payload(&mut self, most: usize) -> Option<Bytes> {
        let polls = matches!(self.phase, Phase::Polling | Phase::Probing);
        if !polls || self.post.is_some() || self.outgoing.is_empty() {
            return None;
        }
        let packets = self.outgoing.drain(..self.outgoing.len().min(most)).map(|message| match message {
            OwnedMessage::Text(text) => text,
            OwnedMessage::Binary(bytes) => format!("b{}", BASE64_STANDARD.encode(bytes)),
            other => panic!("{other:?} is no packet"),
        });
        Some(packets.collect::<Vec<_>>().join(&SEPARATOR.to_string()).into())
    }
}
