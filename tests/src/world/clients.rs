//! What clients do, and what can be known of them.

use roomcast_core::hub::CloseCause;
use roomcast_core::node::OwnedMessage;

use serde_json::Value;

use super::client::Client;
use super::host::{Peer, sign};
use super::{ClientNumber, World};

impl World {
    /// A client whose connection is gone comes back, to any node, and asks to go on in every room that it has a position of.
    pub fn come_back(&mut self, client: ClientNumber, node: usize) {
        if self.is_connected(client) {
            return;
        }
        let fellows = self.fellows(client.0);
        self.reopen(client, node);
        for fellow in fellows {
            let places = self.clients[fellow].rooms().filter_map(|(name, room)| Some((name.to_owned(), room.position.clone()?)));
            for (room, position) in places.collect::<Vec<_>>() {
                self.recover(ClientNumber(fellow), &room, &position);
            }
        }
    }

    /// A client whose connection is gone comes back, and asks for nothing.
    pub fn reopen(&mut self, ClientNumber(client): ClientNumber, node: usize) {
        if !self.clients[client].is_there() && self.hosts[node].peek().is_some() {
            if self.clients[client].socket.is_some() {
                return self.reopen_socket(client, node);
            }
            self.clients[client].come_back();
            let path = if self.clients[client].user.is_some() { "/ws" } else { "/open" };
            self.attach(client, node, path);
        }
    }

    /// A client asks for a room from a position on.
    pub fn recover(&mut self, client: ClientNumber, room: &str, position: &str) {
        self.send(client, &format!(r#"{{"type":"subscribe","room":"{room}","recover":"{position}"}}"#));
    }

    /// How far a client has come in a room, as it was told.
    pub fn position(&self, ClientNumber(client): ClientNumber, room: &str) -> Option<&str> {
        self.clients[client].room(room)?.position.as_deref()
    }

    /// What a client was told of its attempts to recover in a room, and of losses there.
    pub fn recovered(&self, ClientNumber(client): ClientNumber, room: &str) -> &[bool] {
        self.clients[client].room(room).map_or(&[], |room| &room.recovered)
    }

    /// A client with a token connects to a node.
    pub fn connect(&mut self, node: usize, user: &str) -> ClientNumber {
        self.open(node, "/ws", Some(user))
    }

    /// A client with a token connects to a node from an address.
    pub fn connect_from(&mut self, node: usize, user: &str, address: &str) -> ClientNumber {
        let number = self.clients.len();
        let mut client = Client::new(Some(user));
        client.address = Some(address.parse().expect("it is an address"));
        self.clients.push(client);
        self.attach(number, node, "/ws");
        ClientNumber(number)
    }

    /// A client without a token connects where none is demanded.
    pub fn connect_unknown(&mut self, node: usize) -> ClientNumber {
        self.open(node, "/open", None)
    }

    /// A client asks for a room.
    pub fn subscribe(&mut self, client: ClientNumber, room: &str) {
        self.send(client, &format!(r#"{{"type":"subscribe","room":"{room}"}}"#));
    }

    /// A client leaves a room.
    pub fn unsubscribe(&mut self, client: ClientNumber, room: &str) {
        self.send(client, &format!(r#"{{"type":"unsubscribe","room":"{room}"}}"#));
    }

    /// A client sends any text.
    pub fn send(&mut self, ClientNumber(client): ClientNumber, text: &str) {
        self.clients[client].note_sent(text);
        if self.clients[client].socket.is_some() {
            return self.say_frame(client, text);
        }
        self.send_message(Peer::Client(client), OwnedMessage::Text(text.to_owned()));
    }

    /// A client without a session sends a ping, or an answer to none.
    pub fn send_control(&mut self, ClientNumber(client): ClientNumber, is_ping: bool) {
        let control = if is_ping { OwnedMessage::Ping("?".into()) } else { OwnedMessage::Pong };
        self.send_message(Peer::Client(client), control);
    }

    /// How many of its pings were answered.
    pub fn pongs(&self, ClientNumber(client): ClientNumber) -> usize {
        self.clients[client].pongs
    }

    /// A client no longer answers anything, as if its computer had gone to sleep.
    pub fn fall_silent(&mut self, ClientNumber(client): ClientNumber) {
        match self.peer(client) {
            Peer::Client(client) => self.clients[client].answers = false,
            Peer::Engine(engine) => self.sessions.engines[engine].answers = false,
        }
    }

    /// A client stops reading, or reads again.
    pub fn set_reading(&mut self, ClientNumber(client): ClientNumber, reads: bool) {
        let peer = self.peer(client);
        match peer {
            Peer::Client(client) => self.clients[client].reads = reads,
            Peer::Engine(engine) => {
                self.sessions.engines[engine].reads = reads;
                self.poll(engine);
            }
        }
        self.write(peer);
    }

    /// A client's connection breaks.
    pub fn cut(&mut self, ClientNumber(client): ClientNumber) {
        if let Peer::Engine(engine) = self.peer(client) {
            return self.cut_session(engine);
        }
        if let Some((node, conn)) = self.clients[client].disconnect() {
            self.hosts[node].forget(conn);
            if let Some(running) = self.hosts[node].node() {
                running.closed(self.now, conn, CloseCause::Gone);
            }
            self.pump(node);
        }
    }

    /// The events a client saw in a room, in order, by the number each carries.
    pub fn seen(&self, ClientNumber(client): ClientNumber, room: &str) -> &[u64] {
        self.clients[client].seen(room)
    }

    /// Who joined (`+`) and left (`-`) a room, in order, as a client was told.
    pub fn told(&self, ClientNumber(client): ClientNumber, room: &str) -> Vec<String> {
        self.clients[client].told(room)
    }

    /// A client asks who is in a room, and waits for the answer.
    pub fn who(&mut self, client: ClientNumber, room: &str) -> Value {
        self.send(client, &format!(r#"{{"type":"presence","data":{{"room":"{room}"}}}}"#));
        self.settle();
        self.last_notice(client, "presence").expect("the question is answered")["data"].clone()
    }

    /// The users in a room, as the store knows them.
    pub fn here(&self, room: &str) -> Vec<&str> {
        self.memory.here(room).map(|(user, _)| user).collect()
    }

    /// A token for a user, without an end.
    pub fn token(&mut self, node: usize, user: &str) -> String {
        self.hosts[node].token(user, &self.config)
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        sign(claims, &self.config)
    }

    /// The types of the server's own frames a client saw, in order.
    pub fn notices(&self, ClientNumber(client): ClientNumber) -> Vec<&str> {
        self.clients[client].notices.iter().map(|(kind, _)| kind.as_str()).collect()
    }

    /// The last of the server's own frames of a type that a client saw, as JSON.
    pub fn last_notice(&self, ClientNumber(client): ClientNumber, kind: &str) -> Option<&Value> {
        self.clients[client].notices.iter().rev().find(|(other, _)| other == kind).map(|(_, frame)| frame)
    }

    /// The code a client was closed with, if it was.
    pub fn close_code(&self, ClientNumber(client): ClientNumber) -> Option<u16> {
        self.clients[client].close_code
    }

    /// Whether a node runs.
    pub fn is_running(&self, node: usize) -> bool {
        self.hosts[node].peek().is_some()
    }

    /// Whether a client's connection exists.
    pub fn is_connected(&self, ClientNumber(client): ClientNumber) -> bool {
        self.clients[client].is_there()
    }
}
