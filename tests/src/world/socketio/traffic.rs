//! What goes to and fro between the clients of Socket.IO and their nodes.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request};
use roomcast_core::address::ClientAddress;
use roomcast_core::hub::{CloseCause, ExchangeId, PollAnswer};
use roomcast_core::node::OwnedMessage;
use serde_json::Value;

use super::super::host::Peer;
use super::super::{Happening, World};
use super::PATH;
use super::engine::{Phase, SEPARATOR, Transport};
use super::packet::{Kind, Packet};
use super::socket::Stage;

/// The lengths of the rooms' logs at some moment.
type Marks = BTreeMap<String, usize>;

/// A request on its way to a node, or its answer on the way back.
#[derive(Debug)]
pub(in super::super) enum Letter {
    Request(ExchangeId, Request<Bytes>),
    Answer { exchange: ExchangeId, status: u16, body: Bytes, marks: Marks },
}

impl World {
    /// A session begins on a node that runs.
    pub(super) fn begin(&mut self, engine: usize, node: usize) {
        if self.hosts[node].peek().is_none() {
            return;
        }
        self.sessions.engines[engine].begin(node);
        if self.sessions.engines[engine].transport != Transport::WebSocket {
            return self.poll(engine);
        }
        if !self.open_websocket(engine) {
            self.end_session(engine, None);
        }
    }

    /// A session that polls tries a WebSocket.
    pub(super) fn probe(&mut self, engine: usize) {
        if self.sessions.engines[engine].phase == Phase::Polling && self.open_websocket(engine) {
            self.sessions.engines[engine].phase = Phase::Probing;
            self.send_message(Peer::Engine(engine), OwnedMessage::Text("2probe".into()));
        }
    }

    /// The client breaks the WebSocket that it tries.
    pub(super) fn lose_probe(&mut self, engine: usize) {
        let session = &mut self.sessions.engines[engine];
        let is_probe = matches!(session.phase, Phase::Probing | Phase::Pausing);
        let Some((node, conn)) = session.place().filter(|_| is_probe) else { return };
        self.hosts[node].forget(conn);
        self.give_up_probe(engine);
        let now = self.now;
        if let Some(running) = self.hosts[node].node() {
            running.closed(now, conn, CloseCause::Gone);
        }
        self.pump(node);
    }

    /// The node has dropped a WebSocket.
    pub(in super::super) fn dropped(&mut self, engine: usize) {
        match self.sessions.engines[engine].phase {
            Phase::Probing | Phase::Pausing => self.give_up_probe(engine),
            _ => self.end_session(engine, None),
        }
    }

    fn give_up_probe(&mut self, engine: usize) {
        let session = &mut self.sessions.engines[engine];
        session.phase = Phase::Polling;
        session.socket = None;
        session.frames.clear();
        // What was sent to it has nobody to go to.
        self.poll(engine);
        self.say_on(engine);
    }

    /// A session is over, as its client knows, with a code where it was closed with one.
    pub(in super::super) fn end_session(&mut self, engine: usize, code: Option<u16>) {
        let session = &mut self.sessions.engines[engine];
        let node = session.node;
        let (socket, _) = session.end();
        if let Some(conn) = socket {
            self.hosts[node].forget(conn);
        }
        for client in self.sessions.engines[engine].clients.clone() {
            if self.clients[client].is_there() {
                self.clients[client].close_code = code.or(self.clients[client].close_code);
            }
            self.clients[client].disconnect();
        }
    }

    /// The client ends its session without a word: its WebSocket breaks, the request that waits is abandoned. Where none does,
    /// the node will learn it by the time that passes.
    pub(in super::super) fn cut_session(&mut self, engine: usize) {
        let session = &mut self.sessions.engines[engine];
        let (node, now) = (session.node, self.now);
        let (socket, requests) = session.end();
        if let Some(conn) = socket {
            self.hosts[node].forget(conn);
            if let Some(running) = self.hosts[node].node() {
                running.closed(now, conn, CloseCause::Gone);
            }
        }
        for exchange in requests.into_iter().flatten() {
            if self.sessions.waiting.remove(&exchange).is_some()
                && let Some(running) = self.hosts[node].node()
            {
                running.abandon(now, exchange);
                self.sessions.abandoned.insert(exchange);
            }
        }
        self.end_session(engine, None);
        self.pump(node);
    }

    /// A node is dead, and with it its sessions.
    pub(in super::super) fn end_sessions_of(&mut self, node: usize) {
        for engine in 0..self.sessions.engines.len() {
            let session = &self.sessions.engines[engine];
            if session.is_there() && session.node == node {
                self.sessions.waiting.retain(|_, (other, _)| *other != engine);
                self.end_session(engine, None);
            }
        }
    }

    /// A session's client polls, where it is time to.
    pub(in super::super) fn poll(&mut self, engine: usize) {
        if self.sessions.engines[engine].wants_poll() {
            let exchange = self.request(engine, Method::GET, Bytes::new());
            self.sessions.engines[engine].get = Some(exchange);
        }
    }

    pub(super) fn say_packet(&mut self, engine: usize, packet: OwnedMessage) {
        if self.sessions.engines[engine].is_there() {
            self.sessions.engines[engine].outgoing.push(packet);
            self.say_on(engine);
        }
    }

    /// Sends what the client has to say, as far as its transport can take it.
    fn say_on(&mut self, engine: usize) {
        let session = &mut self.sessions.engines[engine];
        if session.phase == Phase::WebSocket {
            let packets = std::mem::take(&mut session.outgoing);
            return packets.into_iter().for_each(|packet| self.send_message(Peer::Engine(engine), packet));
        }
        if let Some(body) = session.payload(self.config.socketio.payload_packets) {
            let exchange = self.request(engine, Method::POST, body);
            self.sessions.engines[engine].post = Some(exchange);
        }
        self.take_over(engine);
    }

    /// The WebSocket becomes the transport when the last requests are answered.
    fn take_over(&mut self, engine: usize) {
        let session = &mut self.sessions.engines[engine];
        if session.phase == Phase::Pausing && session.get.is_none() && session.post.is_none() {
            session.phase = Phase::WebSocket;
            session.outgoing.insert(0, OwnedMessage::Text("5".into()));
            self.say_on(engine);
        }
    }

    fn request(&mut self, engine: usize, method: Method, body: Bytes) -> ExchangeId {
        self.sessions.requests += 1;
        let exchange = ExchangeId(self.sessions.requests);
        let request = self.head(engine, "polling").method(method).body(body).expect("the request is well formed");
        let at = self.now + self.delay();
        let session = self.sessions.engines[engine].session;
        self.schedule(at, Happening::Letter { engine, session, letter: Letter::Request(exchange, request) });
        exchange
    }

    fn head(&self, engine: usize, transport: &str) -> http::request::Builder {
        let session = &self.sessions.engines[engine];
        let sid = session.sid.as_ref().map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let mut request = Request::builder().uri(format!("{PATH}?EIO=4&transport={transport}{sid}"));
        if let Some(address) = session.address {
            request = request.extension(ClientAddress(address));
        }
        match &session.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn open_websocket(&mut self, engine: usize) -> bool {
        let request = self.head(engine, "websocket").body(()).expect("the request is well formed");
        let (node, now) = (self.sessions.engines[engine].node, self.now);
        let opened = self.hosts[node].node().and_then(|running| running.open(now, &request).ok());
        if let Some(opened) = &opened {
            self.hosts[node].attach(opened.conn, Peer::Engine(engine));
            self.sessions.engines[engine].socket = Some(opened.conn);
            self.pump(node);
        }
        opened.is_some()
    }

    /// A letter arrives.
    pub(in super::super) fn arrive(&mut self, engine: usize, session: u32, letter: Letter) {
        let is_for_nobody = self.sessions.engines[engine].session != session;
        match letter {
            Letter::Request(..) if is_for_nobody => {}
            Letter::Request(exchange, request) => {
                let (node, now) = (self.sessions.engines[engine].node, self.now);
                if let Some(running) = self.hosts[node].node() {
                    self.sessions.waiting.insert(exchange, (engine, session));
                    running.exchange(now, exchange, &request);
                    self.pump(node);
                }
            }
            Letter::Answer { body, .. } if is_for_nobody => self.lose(&body),
            Letter::Answer { exchange, status, body, marks } => self.answered(engine, exchange, status, &body, &marks),
        }
    }

    /// A node answers a request.
    pub(in super::super) fn respond(&mut self, exchange: ExchangeId, answer: PollAnswer) {
        if self.sessions.abandoned.remove(&exchange) {
            return;
        }
        let waiting = self.sessions.waiting.remove(&exchange);
        let (engine, session) = waiting.expect("each request is answered once, as long as somebody waits");
        let response = answer.into_response();
        let (status, body) = (response.status().as_u16(), response.into_body());
        if self.sessions.engines[engine].loses && self.sessions.engines[engine].get == Some(exchange) {
            self.lose(&body);
            return self.cut_session(engine);
        }
        let (at, marks) = (self.now + self.delay(), self.oracles.lengths());
        let letter = Letter::Answer { exchange, status, body, marks };
        self.schedule(at, Happening::Letter { engine, session, letter });
    }

    fn answered(&mut self, engine: usize, exchange: ExchangeId, status: u16, body: &Bytes, marks: &Marks) {
        let session = &mut self.sessions.engines[engine];
        let is_poll = session.get == Some(exchange);
        if is_poll {
            session.get = None;
        } else {
            assert_eq!(session.post.take(), Some(exchange), "one request at a time says something");
        }
        if status != 200 {
            return self.cut_session(engine);
        }
        let body = str::from_utf8(body).expect("what polls is answered with text");
        if !is_poll {
            assert_eq!(body, "ok");
            return self.say_on(engine);
        }
        assert!(body.split(SEPARATOR).count() <= 16, "common clients take no more packets at once");
        for packet in body.split(SEPARATOR) {
            self.hear(engine, packet, marks);
        }
        self.poll(engine);
        self.say_on(engine);
    }

    /// An answer has got lost, and with it the messages in it.
    fn lose(&mut self, body: &Bytes) {
        let text = String::from_utf8_lossy(body);
        let numbers = text.split("\"n\":").skip(1).map(|rest| rest.split(|other: char| !other.is_ascii_digit()).next());
        self.sessions.lost.extend(numbers.flatten().filter_map(|digits| digits.parse::<u64>().ok()));
    }

    /// Bytes arrive on a WebSocket.
    pub(in super::super) fn read(&mut self, engine: usize, bytes: &[u8], marks: &Marks) {
        self.sessions.engines[engine].frames.extend(bytes);
        while let Some((opcode, payload)) = self.sessions.engines[engine].frames.next() {
            match opcode {
                0x1 => self.hear(engine, str::from_utf8(&payload).expect("text is UTF-8"), marks),
                0x2 => self.hear_bytes(engine, payload.into(), marks),
                0x8 => {
                    let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    if self.sessions.engines[engine].answers {
                        self.send_message(Peer::Engine(engine), OwnedMessage::Close(code));
                    }
                    // The end of a WebSocket that is still being tried may come before what was sent by the transport that counts.
                    let is_tried = matches!(self.sessions.engines[engine].phase, Phase::Probing | Phase::Pausing);
                    for client in self.sessions.engines[engine].clients.clone() {
                        if self.clients[client].is_there() && !is_tried {
                            self.clients[client].close_code = Some(code.unwrap_or(1005));
                        }
                    }
                }
                other => panic!("a server frame with opcode {other}"),
            }
        }
    }

    /// A packet of Engine.IO arrives.
    fn hear(&mut self, engine: usize, packet: &str, marks: &Marks) {
        let session = &mut self.sessions.engines[engine];
        let Some(kind) = packet.chars().next().filter(|_| session.is_there()) else {
            assert!(!packet.is_empty(), "a packet has a type");
            return;
        };
        let rest = &packet[1..];
        match kind {
            '0' => self.opened(engine, rest),
            // There is no code, as in a close frame without one.
            '1' => self.end_session(engine, Some(1005)),
            '2' => {
                assert_eq!(rest, "", "a server's ping says nothing");
                if session.answers {
                    self.say_packet(engine, OwnedMessage::Text("3".into()));
                }
            }
            '3' => {
                assert_eq!((rest, session.phase), ("probe", Phase::Probing), "only a probe is answered");
                session.phase = Phase::Pausing;
                self.take_over(engine);
            }
            '4' => {
                assert!(session.assembly.is_none(), "nothing comes between a packet and its attachments");
                let packet = Packet::read(rest);
                self.collect(engine, packet, marks);
            }
            '6' => assert_eq!(rest, ""),
            'b' => {
                let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, rest).expect("it is base64");
                self.hear_bytes(engine, bytes.into(), marks);
            }
            other => panic!("a server's packet of type {other}"),
        }
    }

    fn hear_bytes(&mut self, engine: usize, bytes: Bytes, marks: &Marks) {
        let mut packet = self.sessions.engines[engine].assembly.take().expect("bytes belong to a packet");
        packet.attach(bytes);
        self.collect(engine, packet, marks);
    }

    fn collect(&mut self, engine: usize, packet: Packet, marks: &Marks) {
        if packet.missing > 0 {
            self.sessions.engines[engine].assembly = Some(packet);
        } else {
            self.hear_packet(engine, packet, marks);
        }
    }

    /// The session is there.
    fn opened(&mut self, engine: usize, handshake: &str) {
        let handshake: Value = serde_json::from_str(handshake).expect("it is JSON");
        let keys: Vec<&String> = handshake.as_object().expect("it is an object").keys().collect();
        assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
        let session = &mut self.sessions.engines[engine];
        assert_eq!(session.phase, Phase::Opening, "a session opens once");
        let is_websocket = session.transport == Transport::WebSocket;
        assert_eq!(handshake["upgrades"].as_array().map(Vec::len), Some(usize::from(!is_websocket)));
        session.phase = if is_websocket { Phase::WebSocket } else { Phase::Polling };
        session.sid = handshake["sid"].as_str().map(String::from);
        let upgrades = session.transport == Transport::Upgrading;
        session.clients.clone().into_iter().for_each(|client| self.ask_in(client));
        if upgrades {
            self.probe(engine);
        }
        self.say_on(engine);
    }

    /// A packet of Socket.IO arrives.
    fn hear_packet(&mut self, engine: usize, packet: Packet, marks: &Marks) {
        let Packet { kind, namespace, number, data, .. } = packet;
        let clients = &self.sessions.engines[engine].clients;
        let is_it = |client: &usize| self.clients[*client].socket.as_ref().is_some_and(|socket| socket.namespace == namespace);
        let client = clients.iter().copied().rfind(is_it);
        let client = client.unwrap_or_else(|| panic!("{kind:?} in {namespace}, where nobody is"));
        let stage = self.socket(client).stage;
        match (kind, stage) {
            (Kind::Connect, Stage::Entering) => {
                assert!(data["sid"].is_string());
                let (since, token) = self.socket(client).entering.clone();
                self.clients[client].shown = None;
                if token.is_some() {
                    self.note_session(client, token.as_deref(), since, true);
                }
                if self.socket(client).let_in(data["pid"].as_str()) {
                    self.clients[client].go_on();
                }
                let waiting = std::mem::take(&mut self.socket(client).waiting);
                waiting.into_iter().for_each(|packet| self.say_packet(engine, packet));
            }
            (Kind::ConnectError, Stage::Entering) => {
                self.socket(client).end();
                self.socket(client).stage = Stage::Refused;
                self.clients[client].notices.push(("connect_error".into(), data));
            }
            // It crossed the word that the client leaves.
            (_, Stage::Left) => {}
            (Kind::Disconnect, Stage::In) => {
                self.clients[client].disconnect();
                self.socket(client).stage = Stage::SentAway;
                self.clients[client].notices.push(("disconnect".into(), data));
            }
            (Kind::Event, Stage::In) => {
                if let Some(number) = number.filter(|_| self.sessions.engines[engine].answers) {
                    let args = Value::from(data.as_array().expect("an event is a list")[1..].to_vec());
                    let answer = format!("43{}{number}{args}", self.socket(client).prefix());
                    self.say_packet(engine, OwnedMessage::Text(answer));
                }
                self.socket(client).note_offset(&data);
                self.clients[client].hear_event(data, marks);
            }
            (Kind::Ack, Stage::In) => {
                let asked = self.socket(client).answered(number.expect("an answer has a number"));
                self.clients[client].hear_answer(&asked, data, marks);
            }
            (kind, stage) => panic!("{kind:?} for a client that is {stage:?}"),
        }
    }
}
