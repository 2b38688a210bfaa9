//! A session of Engine.IO whose client polls.

use std::collections::VecDeque;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::http::{Response, http};
use super::raw::{RawClient, get_request};
use super::session::{Packet, Session};
use super::{PATIENCE, poll_until};

/// What stands between the packets of a body.
pub const SEPARATOR: char = '\u{1e}';

/// A session that is polled, with requests that are each a connection of their own.
#[derive(Debug)]
pub struct Poller {
    addr: SocketAddr,
    target: String,
    handshake: Value,
    read: VecDeque<Packet>,
}

impl Poller {
    /// Begins a session.
    ///
    /// # Panics
    ///
    /// When the server refuses it.
    #[must_use]
    pub fn open(addr: SocketAddr, path: &str) -> Poller {
        let target = format!("{path}?EIO=4&transport=polling");
        let answer = http("GET", addr, &target, &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let handshake = handshake(&answer.text());
        let sid = handshake["sid"].as_str().expect("a session has an identifier");
        Poller { addr, target: format!("{target}&sid={sid}"), handshake, read: VecDeque::new() }
    }

    /// What the server said first.
    #[must_use]
    pub fn handshake(&self) -> &Value {
        &self.handshake
    }

    /// The path and query of the session's requests.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path and query of a WebSocket that is to take over.
    #[must_use]
    pub fn upgrade_target(&self) -> String {
        self.target.replace("transport=polling", "transport=websocket")
    }

    /// Polls once.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    #[must_use]
    pub fn get(&self) -> Response {
        http("GET", self.addr, &self.target, &[], b"")
    }

    /// Polls, and leaves the answer to be read.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[must_use]
    pub fn hold(&self) -> RawClient {
        let mut client = RawClient::connect(self.addr);
        client.send(&get_request(&self.target, &[]));
        client
    }

    /// Sends a body, whatever it is.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn post(&self, body: &[u8]) -> Response {
        http("POST", self.addr, &self.target, &[("content-type", "text/plain;charset=UTF-8")], body)
    }

    /// Waits until the session is not known any more, without polling it.
    ///
    /// # Panics
    ///
    /// When it still is when a test's patience is over.
    pub fn expect_forgotten(&self) {
        // A packet without a meaning.
        let gone = poll_until(PATIENCE, || (self.post(b"6").status == 400).then_some(()));
        assert!(gone.is_some(), "the session is still there; {self:?}");
    }
}

impl Session for Poller {
    fn send(&mut self, packets: &[Packet]) {
        let answer = self.post(body(packets).as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{packets:?}; {self:?}");
    }

    fn send_wrong(&mut self, packets: &[Packet]) {
        // The documents say only that the session ends: the packets may be read before the answer or after it.
        let answer = self.post(body(packets).as_bytes());
        assert!(matches!(answer.status, 200 | 400), "{} {}; {packets:?}", answer.status, answer.text());
    }

    fn next(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.read.pop_front() {
                return packet;
            }
            let answer = self.get();
            assert_eq!(answer.status, 200, "{}; {self:?}", answer.text());
            for packet in answer.text().split(SEPARATOR) {
                match packet.strip_prefix('b') {
                    Some(bytes) => self.read.push_back(Packet::Binary(BASE64_STANDARD.decode(bytes).expect("base64"))),
                    None if packet == "2" => self.say("3"),
                    None => self.read.push_back(packet.into()),
                }
            }
        }
    }

    fn expect_closed(&mut self) -> Option<u16> {
        assert!(self.read.is_empty(), "{self:?}");
        let gone = poll_until(PATIENCE, || {
            let answer = self.get();
            if answer.status == 400 {
                return Some(());
            }
            let text = answer.text();
            let is_end = answer.status == 200 && text.split(SEPARATOR).all(|packet| matches!(packet, "1" | "2" | "6"));
            assert!(is_end, "{} {text:?}; {self:?}", answer.status);
            None
        });
        assert!(gone.is_some(), "the session is still there; {self:?}");
        None
    }
}

/// The object of an open packet.
///
/// # Panics
///
/// When it is none.
#[must_use]
pub fn handshake(packet: &str) -> Value {
    let object = packet.strip_prefix('0').unwrap_or_else(|| panic!("not an open packet: {packet:?}"));
    serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {packet:?}"))
}

/// Packets as the body of a request.
fn body(packets: &[Packet]) -> String {
    let texts: Vec<String> = packets
        .iter()
        .map(|packet| match packet {
            Packet::Text(text) => text.clone(),
            Packet::Binary(bytes) => format!("b{}", BASE64_STANDARD.encode(bytes)),
        })
        .collect();
    texts.join(&SEPARATOR.to_string())
}
