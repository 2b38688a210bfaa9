//! A Socket.IO client, over either transport: into the namespace `/` with a token, and into a room.

use std::net::SocketAddr;
use std::ops::Range;

use roomcast_tests::real::client::access_token;
use serde_json::json;

use crate::connection::{Connection, TOGETHER, connect};
use crate::frame;
use crate::room::Member;
use crate::server::{PATH, SECRET};

/// The room of the benchmark.
pub(crate) const ROOM: &str = "bench:fanout";

/// A client with a session.
pub(crate) trait Client: Member + Sized {
    /// The name of the transport.
    const TRANSPORT: &str;

    /// Begins as many sessions.
    fn open(addr: SocketAddr, users: Range<usize>) -> Vec<Self>;

    /// Sends a packet. The next step is to [`listen`](Client::listen).
    fn say(&mut self, packet: &str);

    /// Lets the server answer.
    fn listen(&mut self);

    /// Waits for a packet that begins like this. Afterwards it listens no more.
    fn wait_for(&mut self, start: &str) -> String;
}

impl Client for Connection {
    const TRANSPORT: &str = "WebSocket";

    fn open(addr: SocketAddr, users: Range<usize>) -> Vec<Self> {
        let mut connections = connect(addr, &format!("{PATH}?EIO=4&transport=websocket"), None, users);
        connections.iter_mut().for_each(|connection| drop(connection.wait_for("0{")));
        connections
    }

    fn say(&mut self, packet: &str) {
        let mut bytes = Vec::new();
        frame::push_masked(&mut bytes, frame::TEXT, packet.as_bytes());
        self.send(&bytes);
    }

    /// It always does.
    fn listen(&mut self) {}

    fn wait_for(&mut self, start: &str) -> String {
        loop {
            let packet = self.next_text();
            check_accepted(&packet);
            if packet.starts_with(start) {
                return packet;
            }
        }
    }
}

/// # Panics
///
/// When a server refuses a client.
pub(crate) fn check_accepted(packet: &str) {
    assert!(!packet.starts_with("44"), "the server refuses a client: {packet}");
}

/// The tokens of users.
pub(crate) fn tokens(users: Range<usize>) -> Vec<String> {
    users.map(|user| access_token(SECRET, &format!("user-{user}"), &json!({"role": "admin"}))).collect()
}

/// Connects a client for each token and brings it into the room. In the end it listens.
pub(crate) fn enter_room<C: Client>(addr: SocketAddr, tokens: &[String]) -> Vec<C> {
    let mut clients = enter_namespace::<C>(addr, tokens);
    let subscribe = format!("420[\"subscribe\",{{\"room\":\"{ROOM}\"}}]");
    for group in clients.chunks_mut(TOGETHER) {
        group.iter_mut().for_each(|client| client.say(&subscribe));
        group.iter_mut().for_each(Client::listen);
        for client in &mut *group {
            let answer = client.wait_for("430[");
            assert!(answer.contains("\"success\""), "a client cannot subscribe: {answer}");
        }
        group.iter_mut().for_each(Client::listen);
    }
    clients
}

/// Connects a client for each token.
pub(crate) fn enter_namespace<C: Client>(addr: SocketAddr, tokens: &[String]) -> Vec<C> {
    let mut clients = C::open(addr, 0..tokens.len());
    for (group, tokens) in clients.chunks_mut(TOGETHER).zip(tokens.chunks(TOGETHER)) {
        for (client, token) in group.iter_mut().zip(tokens) {
            client.say(&format!("40{{\"token\":\"{token}\"}}"));
        }
        group.iter_mut().for_each(Client::listen);
        group.iter_mut().for_each(|client| drop(client.wait_for("40")));
    }
    clients
}

/// Appends what a publisher sends over WebSocket to publish these data.
pub(crate) fn publish(frames: &mut Vec<u8>, data: &str) {
    let packet = format!("42[\"publish\",{{\"room\":\"{ROOM}\",\"type\":\"b\",\"data\":{data}}}]");
    frame::push_masked(frames, frame::TEXT, packet.as_bytes());
}
