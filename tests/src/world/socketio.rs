//! Clients that speak Socket.IO: by polling, by a WebSocket, and from one to the other. What they are told is judged as that of all
//! clients is: an event is read as the frame of its type, an acknowledgement as the frame that would have answered.

mod engine;
mod hosted;
mod packet;
mod socket;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use roomcast_core::config::Route;
use roomcast_core::hub::{AckId, Arguments, ClientEvent, ExchangeId, NoAck};
use roomcast_core::node::OwnedMessage;
use serde_json::{Value, json};

use super::client::Client;
use super::host::Peer;
use super::{ClientNumber, WALL_START, World};

pub use engine::Transport;

pub(super) use engine::Engine;
pub(super) use socket::Socket;
pub(super) use traffic::Letter;

use engine::Phase;
use socket::Stage;

/// Where they connect.
const PATH: &str = "/socket.io/";

/// An Engine.IO session of the World.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionNumber(usize);

/// The sessions of the World, and what belongs to them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) engines: Vec<Engine>,
    /// The requests that nodes have and have not answered: whose they are.
    waiting: BTreeMap<ExchangeId, (usize, u32)>,
    /// Those that clients have abandoned: their answers may have crossed that.
    abandoned: BTreeSet<ExchangeId>,
    requests: u64,
    /// The numbers of messages in answers that were lost on their way: like what is lost with a socket's buffer, they count as
    /// delivered.
    pub(super) lost: BTreeSet<u64>,
    /// What the host's code was told and the test has not asked for yet.
    heard: Vec<ClientEvent>,
    acked: BTreeMap<AckId, Result<Arguments, NoAck>>,
}

impl Sessions {
    /// The requests that are not answered yet, and whose they are.
    pub(super) fn requests_waiting(&self) -> impl Iterator<Item = (ExchangeId, &Engine)> {
        self.waiting.iter().map(|(exchange, (engine, _))| (*exchange, &self.engines[*engine]))
    }

    /// The session that carries a namespace.
    pub(super) fn engine_of(&self, socket: &Socket) -> &Engine {
        &self.engines[socket.engine]
    }
}

impl World {
    /// A Socket.IO client with a token connects to a node, in the first namespace.
    pub fn connect_socket(&mut self, node: usize, user: &str, transport: Transport) -> ClientNumber {
        self.connect_namespaces(node, user, transport, &["/"])[0]
    }

    /// The same in several namespaces of one session.
    pub fn connect_namespaces(
        &mut self,
        node: usize,
        user: &str,
        transport: Transport,
        namespaces: &[&str],
    ) -> Vec<ClientNumber> {
        let token = self.socket_token(user);
        self.connect_namespaces_with(node, user, transport, namespaces, &token)
    }

    /// The same with a token of this user.
    pub fn connect_namespaces_with(
        &mut self,
        node: usize,
        user: &str,
        transport: Transport,
        namespaces: &[&str],
        token: &str,
    ) -> Vec<ClientNumber> {
        let session = self.open_session(node, transport, None);
        let auth = json!({ "token": token }).to_string();
        namespaces.iter().map(|namespace| self.enter(session, namespace, Some(user), &auth)).collect()
    }

    /// A session is opened from an address, and enters no namespace.
    pub fn open_session_from(&mut self, node: usize, transport: Transport, address: &str) -> SessionNumber {
        let number = self.sessions.engines.len();
        let address = Some(address.parse().expect("it is an address"));
        self.sessions.engines.push(Engine { address, ..Engine::new(transport, None) });
        self.begin(number, node);
        SessionNumber(number)
    }

    /// A session is opened, with a token in its first request or without one, and enters no namespace.
    pub fn open_session(&mut self, node: usize, transport: Transport, token: Option<&str>) -> SessionNumber {
        let number = self.sessions.engines.len();
        self.sessions.engines.push(Engine::new(transport, token));
        self.begin(number, node);
        SessionNumber(number)
    }

    /// A client enters a namespace of a session, and says what it has for authentication: a JSON object, or nothing. `user` is whom
    /// its token is for.
    pub fn enter(
        &mut self,
        SessionNumber(engine): SessionNumber,
        namespace: &str,
        user: Option<&str>,
        auth: &str,
    ) -> ClientNumber {
        let number = self.clients.len();
        let mut client = Client::new(user);
        client.socket = Some(Socket::new(engine, namespace, auth.to_owned()));
        client.bound = Route::find(&self.config.routes, PATH).and_then(|(_, room)| room);
        self.clients.push(client);
        self.sessions.engines[engine].clients.push(number);
        self.ask_in(number);
        ClientNumber(number)
    }

    /// A client leaves its namespace.
    pub fn leave(&mut self, ClientNumber(client): ClientNumber) {
        let socket = self.socket(client);
        let (engine, packet) = (socket.engine, format!("41{}", socket.prefix()));
        self.say_packet(engine, OwnedMessage::Text(packet));
        self.clients[client].disconnect();
        self.socket(client).stage = Stage::Left;
    }

    /// A client sends an event with arguments, JSON values with commas between them, and waits for its acknowledgement: the number
    /// of that.
    pub fn emit(&mut self, client: ClientNumber, event: &str, args: &str) -> u64 {
        self.emit_binary(client, event, args, &[])
    }

    /// The same with attachments, for which the arguments have placeholders.
    pub fn emit_binary(&mut self, ClientNumber(client): ClientNumber, event: &str, args: &str, attachments: &[&[u8]]) -> u64 {
        let socket = self.socket(client);
        let number = socket.ask(event);
        let kind = if attachments.is_empty() { "42".to_owned() } else { format!("45{}-", attachments.len()) };
        let comma = if args.is_empty() { "" } else { "," };
        let text = format!("{kind}{}{number}[{}{comma}{args}]", socket.prefix(), Value::from(event));
        let attachments = attachments.iter().map(|bytes| OwnedMessage::Binary(Bytes::copy_from_slice(bytes)));
        for packet in std::iter::once(OwnedMessage::Text(text)).chain(attachments) {
            self.say_in(client, packet);
        }
        number
    }

    /// A client sends a packet of any form, which begins with its type of Engine.IO.
    pub fn send_packet(&mut self, SessionNumber(engine): SessionNumber, packet: &str) {
        self.say_packet(engine, OwnedMessage::Text(packet.to_owned()));
    }

    /// Whether a client went on where it was, each time it was let into its namespace.
    pub fn was_recovered(&self, ClientNumber(client): ClientNumber) -> &[bool] {
        &self.clients[client].socket.as_ref().expect("it speaks Socket.IO").recovered
    }

    /// Another token, for whom its client says it is, the next time that it connects.
    pub fn set_token(&mut self, client: ClientNumber, token: &str) {
        self.socket(client.0).auth = json!({ "token": token }).to_string();
    }

    /// The session of a client.
    pub fn session_of(&self, ClientNumber(client): ClientNumber) -> SessionNumber {
        SessionNumber(self.clients[client].socket.as_ref().expect("it speaks Socket.IO").engine)
    }

    /// Whether a session exists, as far as its client knows.
    pub fn is_open(&self, SessionNumber(engine): SessionNumber) -> bool {
        self.sessions.engines[engine].is_there()
    }

    /// Whether a session has got as far as to a WebSocket.
    pub fn has_websocket(&self, SessionNumber(engine): SessionNumber) -> bool {
        self.sessions.engines[engine].phase == Phase::WebSocket
    }

    /// A client that polls tries a WebSocket.
    pub fn upgrade(&mut self, client: ClientNumber) {
        if let Peer::Engine(engine) = self.peer(client.0) {
            self.probe(engine);
        }
    }

    /// The WebSocket that a client tries breaks.
    pub fn break_probe(&mut self, client: ClientNumber) {
        if let Peer::Engine(engine) = self.peer(client.0) {
            self.lose_probe(engine);
        }
    }

    /// The next answer to a client's poll is lost on its way, and the client is gone with it, without a word.
    pub fn lose_answer(&mut self, client: ClientNumber) {
        if let Peer::Engine(engine) = self.peer(client.0) {
            self.sessions.engines[engine].loses = true;
        }
    }

    /// A token with all the claims that Socket.IO's clients need, for a long time.
    pub fn socket_token(&self, user: &str) -> String {
        self.sign(&json!({ "sub": user, "email": format!("{user}@example.org"), "role": "user", "token_type": "access", "exp": WALL_START.0 / 1000 + 10_000_000 }))
    }

    /// Lets so much time pass that nodes know of all sessions whose clients are gone without a word.
    pub(super) fn forget_lost_sessions(&mut self) {
        if !self.sessions.engines.is_empty() {
            let socketio = &self.config.socketio;
            self.run(socketio.ping_interval + socketio.ping_timeout);
        }
    }

    pub(super) fn socket(&mut self, client: usize) -> &mut Socket {
        self.clients[client].socket.as_mut().expect("it speaks Socket.IO")
    }

    /// A client's own frame as an event.
    pub(super) fn say_frame(&mut self, client: usize, text: &str) {
        let frame = serde_json::from_str::<Value>(text).ok().filter(|frame| frame["type"].is_string());
        let Some(frame) = frame else {
            let engine = self.socket(client).engine;
            return self.say_packet(engine, OwnedMessage::Text(format!("4{text}")));
        };
        let argument = if frame["data"].is_null() { &frame } else { &frame["data"] };
        self.emit(ClientNumber(client), frame["type"].as_str().unwrap_or_default(), &argument.to_string());
    }

    /// With whom nodes are connected where a client is.
    pub(super) fn peer(&self, client: usize) -> Peer {
        self.clients[client].socket.as_ref().map_or(Peer::Client(client), |socket| Peer::Engine(socket.engine))
    }

    /// Who comes back when a client does: with a session all who were in it, unless they are on their way.
    pub(super) fn fellows(&self, client: usize) -> Vec<usize> {
        let Some(socket) = &self.clients[client].socket else { return vec![client] };
        let engine = &self.sessions.engines[socket.engine];
        match socket.stage {
            _ if !engine.is_there() => engine.clients.clone(),
            Stage::Away | Stage::Entering | Stage::In => Vec::new(),
            Stage::Refused | Stage::Left | Stage::SentAway => vec![client],
        }
    }

    /// Clients of a session that is gone come back; or one whose session is there asks to be let in again.
    pub(super) fn reopen_socket(&mut self, client: usize, node: usize) {
        let engine = self.socket(client).engine;
        let fellows = self.fellows(client);
        fellows.iter().for_each(|fellow| self.clients[*fellow].come_back());
        if self.sessions.engines[engine].is_there() {
            fellows.into_iter().for_each(|fellow| self.ask_in(fellow));
        } else {
            self.begin(engine, node);
        }
    }

    /// A client connects to its namespace, as soon as its session is there.
    fn ask_in(&mut self, client: usize) {
        let socket = self.socket(client);
        let (engine, packet) = (socket.engine, format!("40{}{}", socket.prefix(), socket.credentials()));
        let is_entering = matches!(socket.stage, Stage::Entering | Stage::In);
        if !is_entering && !matches!(self.sessions.engines[engine].phase, Phase::Gone | Phase::Opening) {
            let now = self.now;
            let socket = self.socket(client);
            (socket.stage, socket.entering) = (Stage::Entering, (now, socket.token()));
            self.say_packet(engine, OwnedMessage::Text(packet));
        }
    }

    /// A client says something in its namespace, or will do so when it is in.
    fn say_in(&mut self, client: usize, packet: OwnedMessage) {
        let socket = self.socket(client);
        let engine = socket.engine;
        if socket.is_in() {
            self.say_packet(engine, packet);
        } else if self.sessions.engines[engine].is_there() {
            self.socket(client).waiting.push(packet);
        } else {
            // Nobody will hear it.
            self.socket(client).end();
        }
    }
}
