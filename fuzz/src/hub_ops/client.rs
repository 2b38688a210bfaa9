//! A client's side of a connection: reads what it is sent and judges it.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use serde_json::Value;

use super::host::ROOMS_PER_CONNECTION;

/// What a client knows from what it has read.
#[derive(Debug)]
pub(super) struct Client {
    /// Bytes that come before the first frame, still unread.
    preface: &'static [u8],
    /// The beginning of a frame.
    unread: Vec<u8>,
    /// What an echo should send back, in this order; nothing for the JSON dialect.
    echoes: Option<VecDeque<Bytes>>,
    /// Whether it may hear what everybody hears: on a route that demands a token, from when its token is accepted.
    admitted: bool,
    /// The rooms it has been told it is in.
    rooms: BTreeSet<String>,
    closed: bool,
}

impl Client {
    pub(super) fn new(path: &str, preface: &'static [u8]) -> Client {
        Client {
            preface,
            unread: Vec::new(),
            echoes: (path == "/echo").then(VecDeque::new),
            admitted: path != "/ws",
            rooms: BTreeSet::new(),
            closed: false,
        }
    }

    /// It sends a message.
    pub(super) fn sends(&mut self, message: Bytes) {
        if let Some(echoes) = &mut self.echoes {
            echoes.push_back(message);
        }
    }

    /// It reads bytes, which may end anywhere.
    pub(super) fn hears(&mut self, bytes: &[u8]) {
        let (preface, later) = self.preface.split_at(self.preface.len().min(bytes.len()));
        assert!(bytes.starts_with(preface), "frames before the preface");
        self.preface = later;
        self.unread.extend_from_slice(&bytes[preface.len()..]);
        while let Some((opcode, payload)) = self.next_frame() {
            assert!(!self.closed, "a frame after the close");
            match opcode {
                0x1 | 0x2 => self.hears_message(opcode, &payload),
                0x8 => {
                    assert!(payload.len() != 1 && payload.len() <= 125);
                    assert!(str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok());
                    self.closed = true;
                }
                0x9 | 0xA => assert!(payload.len() <= 125),
                _ => panic!("opcode {opcode}"),
            }
        }
    }

    /// Nothing more is written to it for now: what it has read must be whole.
    pub(super) fn rests(&self) {
        assert!(self.preface.is_empty() && self.unread.is_empty(), "a frame was cut off: {:?}", self.unread);
    }

    /// The next frame of a server: whole, not masked, its length in the shortest form (RFC 6455, section 5.2).
    fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&[first, second], rest) = self.unread.split_first_chunk::<2>()?;
        assert_eq!(first & 0xf0, 0x80, "a frame of its own");
        let (length, size) = match second {
            0..126 => (u64::from(second), 2),
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            _ => panic!("a server's frame is masked"),
        };
        assert!(size == 2 || length > 125 && (size == 4 || length > 0xffff));
        let end = size + usize::try_from(length).expect("no frame is that long");
        if self.unread.len() < end {
            return None;
        }
        let frame: Vec<u8> = self.unread.drain(..end).collect();
        Some((first & 0xf, frame[size..].to_vec()))
    }

    fn hears_message(&mut self, opcode: u8, payload: &[u8]) {
        if let Some(echoes) = &mut self.echoes
            && echoes.front().is_some_and(|echo| **echo == *payload)
        {
            echoes.pop_front();
            return;
        }
        // What a token or a room brings comes on every route.
        assert_eq!(opcode, 0x1, "nobody sent this: {payload:?}");
        self.hears_json(payload);
    }

    fn hears_json(&mut self, payload: &[u8]) {
        let text = str::from_utf8(payload).expect("text is UTF-8");
        let frame: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let room = |value: &Value| value["room"].as_str().unwrap_or_default().to_owned();
        // A message of a room ends with the room; replies may repeat one, but before their own message_id.
        if text.rfind(r#""room":"#) > text.rfind(r#""message_id":"#) {
            let room = room(&frame);
            let may = if room == "*" { self.admitted } else { self.rooms.contains(&room) };
            assert!(may, "{room:?} is none of the rooms {:?}: {text}", self.rooms);
            return;
        }
        match frame["type"].as_str().expect("every frame has a type") {
            "auth_success" => {
                self.admitted = true;
                // Everybody is put into the room of their own.
                self.rooms.insert(format!("user:{}", frame["data"]["user_id"].as_str().expect("a user")));
            }
            "subscribed" => {
                self.rooms.insert(room(&frame["data"]));
                assert!(self.rooms.len() <= ROOMS_PER_CONNECTION + 1, "too many rooms: {:?}", self.rooms);
            }
            "unsubscribed" => {
                self.rooms.remove(&room(&frame["data"]));
            }
            _ => {}
        }
    }
}
