//! A session of Engine.IO over a WebSocket.

use std::net::SocketAddr;

use serde_json::Value;

use super::PATIENCE;
use super::poller::{Poller, handshake};
use super::raw::{CLOSE, FINAL, RawClient, TEXT, masked_frame, upgrade_request};
use super::session::{Packet, Session};

const BINARY: u8 = 2;

/// A WebSocket on which every frame is a packet.
#[derive(Debug)]
pub struct PacketSocket {
    client: RawClient,
    handshake: Value,
}

impl PacketSocket {
    /// Begins a session.
    ///
    /// # Panics
    ///
    /// When the server refuses it.
    #[must_use]
    pub fn open(addr: SocketAddr, path: &str) -> PacketSocket {
        let mut client = RawClient::upgraded(addr, &format!("{path}?EIO=4&transport=websocket"), &[]);
        let handshake = handshake(&client.text());
        PacketSocket { client, handshake }
    }

    /// Opens a WebSocket that is to take over a session, and says nothing yet.
    ///
    /// # Panics
    ///
    /// When the server refuses it.
    #[must_use]
    pub fn beside(addr: SocketAddr, session: &Poller) -> PacketSocket {
        let client = RawClient::upgraded(addr, &session.upgrade_target(), &[]);
        PacketSocket { client, handshake: session.handshake().clone() }
    }

    /// Takes over a session that nobody polls at the moment.
    ///
    /// # Panics
    ///
    /// When the server does not let it.
    #[must_use]
    pub fn instead_of(addr: SocketAddr, session: &Poller) -> PacketSocket {
        let mut socket = PacketSocket::beside(addr, session);
        socket.say("2probe");
        socket.expect("3probe");
        socket.say("5");
        socket
    }

    /// Asserts that a WebSocket with this path and query is refused: by the answer, or by its end at once.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn expect_refused(addr: SocketAddr, target: &str) {
        let mut client = RawClient::connect(addr);
        client.send(&upgrade_request(target, &[]));
        let status = client.response().status;
        assert!(matches!(status, 101 | 400), "{status} for {target}");
        // What comes before the end of an accepted one is not always a frame: some servers answer in HTTP once more.
        while let Some(frame) = client.frame() {
            assert!(frame.first != FINAL | TEXT, "{frame:?} for {target}");
            client.send(&masked_frame(FINAL | CLOSE, &frame.payload));
        }
    }

    /// What the server said first.
    #[must_use]
    pub fn handshake(&self) -> &Value {
        &self.handshake
    }

    /// The next packet, pings among them.
    ///
    /// # Panics
    ///
    /// When the connection ends, or nothing comes in time.
    pub fn next_of_all(&mut self) -> Packet {
        let frame = self.client.frame().expect("the connection is open");
        match frame.first ^ FINAL {
            TEXT => Packet::Text(String::from_utf8(frame.payload).expect("text is UTF-8")),
            BINARY => Packet::Binary(frame.payload),
            _ => panic!("{frame:?}"),
        }
    }

    /// Sends bytes that are no proper frame.
    ///
    /// # Panics
    ///
    /// When the connection is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }
}

impl Session for PacketSocket {
    fn send(&mut self, packets: &[Packet]) {
        let frame = |packet: &Packet| match packet {
            Packet::Text(text) => masked_frame(FINAL | TEXT, text.as_bytes()),
            Packet::Binary(bytes) => masked_frame(FINAL | BINARY, bytes),
        };
        let frames: Vec<u8> = packets.iter().flat_map(frame).collect();
        self.client.send(&frames);
    }

    fn send_wrong(&mut self, packets: &[Packet]) {
        self.send(packets);
    }

    fn next(&mut self) -> Packet {
        loop {
            match self.next_of_all() {
                Packet::Text(ping) if ping == "2" => self.say("3"),
                packet => return packet,
            }
        }
    }

    fn expect_closed(&mut self) -> Option<u16> {
        loop {
            let frame = self.client.frame()?;
            if frame.first == FINAL | CLOSE {
                self.client.send(&masked_frame(FINAL | CLOSE, &frame.payload));
                assert!(self.client.is_closed(PATIENCE), "something is said after the end");
                return frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
            // A ping, or the word that the session ends.
            assert!(frame.first == FINAL | TEXT && matches!(&frame.payload[..], b"1" | b"2"), "{frame:?}");
        }
    }
}
