//! A client of the World: reads bytes, checks that they are frames, and remembers what it saw.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_core::id::ConnId;
use serde_json::Value;

use super::oracle::Event;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) user: Option<String>,
    place: Option<(usize, ConnId)>,
    session: u32,
    pub(super) reads: bool,
    pub(super) answers_pings: bool,
    pub(super) last_arrival: roomcast_core::time::Time,
    unparsed: Vec<u8>,
    /// What the server itself said: type and frame.
    pub(super) notices: Vec<(String, Value)>,
    pub(super) close_code: Option<u16>,
    rooms: BTreeMap<String, RoomView>,
    /// Rooms it has asked for at any time, which is all it may ever be sent.
    asked: BTreeSet<String>,
}

/// What a client knows of a room.
#[derive(Clone, Debug, Default)]
pub(super) struct RoomView {
    /// The numbers of the messages seen, in order.
    pub(super) seen: Vec<u64>,
    /// Set while the server has confirmed the membership: how long the room's log was then, and how much was seen before.
    pub(super) member_since: Option<(usize, usize)>,
    touched: bool,
    /// Users that joined or left while the client was a member, in order, with what they did.
    events: Vec<(String, bool)>,
    /// How many of these there were before.
    events_before: usize,
}

impl RoomView {
    /// What the client was told last of each user, since it is a member.
    pub(super) fn here(&self) -> impl Iterator<Item = (&str, bool)> {
        let last: BTreeMap<_, _> =
            self.events[self.events_before..].iter().map(|(user, joined)| (user.as_str(), *joined)).collect();
        last.into_iter()
    }

    /// Whether the client has neither entered nor left the room by itself.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }
}

impl Client {
    pub(super) fn new(user: Option<&str>) -> Client {
        Client {
            user: user.map(String::from),
            place: None,
            session: 0,
            reads: true,
            answers_pings: true,
            last_arrival: roomcast_core::time::Time::ZERO,
            unparsed: Vec::new(),
            notices: Vec::new(),
            close_code: None,
            rooms: BTreeMap::new(),
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn attach(&mut self, node: usize, conn: ConnId) {
        self.place = Some((node, conn));
        self.session += 1;
    }

    pub(super) fn place(&self) -> Option<(usize, ConnId)> {
        self.place
    }

    pub(super) fn session(&self) -> u32 {
        self.session
    }

    pub(super) fn disconnect(&mut self) -> Option<(usize, ConnId)> {
        self.rooms.values_mut().for_each(|room| room.member_since = None);
        self.unparsed.clear();
        self.place.take()
    }

    pub(super) fn seen(&self, room: &str) -> &[u64] {
        self.rooms.get(room).map_or(&[], |room| &room.seen)
    }

    /// Who joined (`+`) and left (`-`) a room, as it was told.
    pub(super) fn told(&self, room: &str) -> Vec<String> {
        let events = self.rooms.get(room).into_iter().flat_map(|room| &room.events);
        events.map(|(user, joined)| format!("{}{user}", if *joined { '+' } else { '-' })).collect()
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = (&str, &RoomView)> {
        self.rooms.iter().map(|(name, room)| (name.as_str(), room))
    }

    /// Remembers which rooms were asked for.
    pub(super) fn note_sent(&mut self, text: &str) {
        if let Ok(frame) = serde_json::from_str::<Value>(text)
            && frame["type"] == "subscribe"
            && let Some(room) = frame["room"].as_str()
        {
            self.asked.insert(room.to_owned());
        }
    }

    /// Bytes arrive. `lengths` are those of the rooms' logs at this moment. Whether a pong is to be sent.
    pub(super) fn receive(&mut self, bytes: &[u8], lengths: &BTreeMap<String, usize>) -> bool {
        let mut pinged = false;
        self.unparsed.extend_from_slice(bytes);
        while let Some((opcode, payload, length)) = frame(&self.unparsed) {
            self.unparsed.drain(..length);
            match opcode {
                0x1 => self.text(&payload, lengths),
                0x8 => {
                    assert_eq!(self.close_code, None, "one close frame");
                    self.close_code = Some(payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]])));
                }
                0x9 => pinged = true,
                other => panic!("a server frame with opcode {other}"),
            }
        }
        pinged && self.answers_pings
    }

    fn text(&mut self, payload: &[u8], lengths: &BTreeMap<String, usize>) {
        assert_eq!(self.close_code, None, "nothing follows a close frame");
        let frame: Value = serde_json::from_slice(payload).expect("the server sends one JSON object in a frame");
        let kind = frame["type"].as_str().expect("every frame has a type").to_owned();
        if let Some(event) = Event::read(&frame) {
            let room = frame["room"].as_str().expect("a room's message names the room");
            self.check_isolation(room);
            assert_ne!(self.user.as_ref(), Some(&event.user), "presence: nobody is told of oneself");
            let room = self.rooms.entry(room.to_owned()).or_default();
            room.seen.push(event.number);
            room.events.push((event.user, event.joined));
            return;
        }
        let is_message = matches!(kind.as_str(), "file.changed" | "note");
        if is_message {
            let room = frame["room"].as_str().expect("a room's message names the room");
            self.check_isolation(room);
            let number = frame["data"]["n"].as_u64().expect("every message of the World has a number");
            self.rooms.entry(room.to_owned()).or_default().seen.push(number);
            return;
        }
        let room = frame["data"]["room"].as_str().map(String::from);
        match (kind.as_str(), room) {
            ("subscribed", Some(name)) => {
                let length = lengths.get(&name).copied().unwrap_or(0);
                let room = self.rooms.entry(name).or_default();
                room.touched = true;
                if room.member_since.is_none() {
                    room.member_since = Some((length, room.seen.len()));
                    room.events_before = room.events.len();
                }
            }
            ("unsubscribed", Some(name)) => {
                let room = self.rooms.entry(name).or_default();
                room.touched = true;
                room.member_since = None;
            }
            _ => {}
        }
        self.notices.push((kind, frame));
    }

    /// Contract C7: nothing of a room reaches a connection that is not in it.
    fn check_isolation(&self, room: &str) {
        if room == "*" {
            return;
        }
        let own = self.user.as_ref().map(|user| format!("user:{user}"));
        if own.as_deref() == Some(room) {
            return;
        }
        assert!(self.asked.contains(room), "C7: {:?} was sent a message of {room}, which it never asked for", self.user);
        let member = self.rooms.get(room).is_some_and(|room| room.member_since.is_some());
        assert!(member, "C7: {:?} was sent a message of {room} without being its member", self.user);
    }
}

/// The first whole frame: opcode, payload and length on the wire. A server's frames are final and not masked.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xF0, 0x80, "final, without reserved bits");
    assert_eq!(second & 0x80, 0, "not masked");
    let (length, header) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    Some((first & 0x0F, bytes.get(header..header + length)?.to_vec(), header + length))
}
