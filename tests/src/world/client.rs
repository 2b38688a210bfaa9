//! A client of the World: reads bytes, checks that they are frames, and remembers what it saw.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use roomcast_core::id::ConnId;
use roomcast_core::node::OwnedMessage;
use serde_json::{Value, json};

use super::frames::Frames;
use super::oracle::Event;
use super::socketio::Socket;
use super::tokens::{self, Session};

#[derive(Debug)]
pub(super) struct Client {
    pub(super) user: Option<String>,
    /// The token it shows, where that is not the one its user usually has.
    pub(super) token: Option<String>,
    /// As whom it is connected or was last, where that is known.
    pub(super) shown: Option<Session>,
    /// The tokens by which it wants to renew the one it has shown, and the last of them that was taken.
    showing: VecDeque<String>,
    pub(super) accepted: Option<String>,
    /// Where it is, if nodes are to know.
    pub(super) address: Option<IpAddr>,
    place: Option<(usize, ConnId)>,
    session: u32,
    pub(super) reads: bool,
    /// Whether it answers pings and close frames.
    pub(super) answers: bool,
    pub(super) last_arrival: roomcast_core::time::Time,
    frames: Frames,
    /// How often its own pings were answered.
    pub(super) pongs: usize,
    /// What the server itself said: type and frame.
    pub(super) notices: Vec<(String, Value)>,
    pub(super) close_code: Option<u16>,
    rooms: BTreeMap<String, RoomView>,
    /// Rooms it has asked for at any time, which is all it may ever be sent.
    asked: BTreeSet<String>,
    /// The room that its path is bound to.
    pub(super) bound: Option<String>,
    /// What it has beside if it speaks Socket.IO, and not JSON on a WebSocket of its own.
    pub(super) socket: Option<Socket>,
}

/// What a client knows of a room.
#[derive(Clone, Debug, Default)]
pub(super) struct RoomView {
    /// The numbers of the messages seen, in order.
    pub(super) seen: Vec<u64>,
    /// Set while the server has confirmed the membership: how long the room's log was then, and how much was seen before. A
    /// membership that was recovered goes on where it was.
    pub(super) member_since: Option<(usize, usize)>,
    /// The membership that ended with the connection.
    interrupted: Option<(usize, usize)>,
    /// How far the client has come, as it was told.
    pub(super) position: Option<String>,
    /// What it was told of each attempt to recover, and of losses.
    pub(super) recovered: Vec<bool>,
    /// Set while the client knows messages that are lost, and has not been told: the last number given before they were.
    doubtful: Option<u64>,
    touched: bool,
    /// Users that joined or left while the client was a member, in order, with what they did.
    events: Vec<(String, bool)>,
    /// How many of these there were before.
    events_before: usize,
    /// How many messages had been seen before the client was connected the last time.
    seen_before: usize,
}

impl RoomView {
    /// What the client was told last of each user, since it is a member.
    pub(super) fn here(&self) -> impl Iterator<Item = (&str, bool)> {
        let last: BTreeMap<_, _> =
            self.events[self.events_before..].iter().map(|(user, joined)| (user.as_str(), *joined)).collect();
        last.into_iter()
    }

    /// The messages that were seen since the client is connected.
    pub(super) fn seen_now(&self) -> &[u64] {
        &self.seen[self.seen_before..]
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
            token: None,
            shown: None,
            showing: VecDeque::new(),
            accepted: None,
            address: None,
            place: None,
            session: 0,
            reads: true,
            answers: true,
            last_arrival: roomcast_core::time::Time::ZERO,
            frames: Frames::default(),
            pongs: 0,
            notices: Vec::new(),
            close_code: None,
            rooms: BTreeMap::new(),
            asked: BTreeSet::new(),
            bound: None,
            socket: None,
        }
    }

    pub(super) fn attach(&mut self, node: usize, conn: ConnId) {
        self.place = Some((node, conn));
        self.session += 1;
    }

    /// It is connected, and has not been sent anything yet.
    pub(super) fn begin(&mut self) {
        self.rooms.values_mut().for_each(|room| room.seen_before = room.seen.len());
    }

    /// It begins anew, and knows what it knew.
    pub(super) fn come_back(&mut self) {
        (self.close_code, self.answers, self.reads) = (None, true, true);
        self.rooms.values_mut().for_each(|room| room.touched = false);
    }

    /// Whether it is connected.
    pub(super) fn is_there(&self) -> bool {
        self.socket.as_ref().map_or(self.place.is_some(), Socket::is_in)
    }

    pub(super) fn place(&self) -> Option<(usize, ConnId)> {
        self.place
    }

    pub(super) fn session(&self) -> u32 {
        self.session
    }

    pub(super) fn disconnect(&mut self) -> Option<(usize, ConnId)> {
        for room in self.rooms.values_mut() {
            room.interrupted = room.member_since.take().or(room.interrupted);
        }
        self.frames.clear();
        self.showing.clear();
        self.socket.iter_mut().for_each(Socket::end);
        self.place.take()
    }

    pub(super) fn seen(&self, room: &str) -> &[u64] {
        self.rooms.get(room).map_or(&[], |room| &room.seen)
    }

    /// Messages were lost. A client that has seen some must be told where rooms remember; elsewhere nothing is promised.
    pub(super) fn lose(
        &mut self,
        lost: &BTreeSet<u64>,
        last: u64,
        lengths: &BTreeMap<String, usize>,
        remembers: impl Fn(&str) -> bool,
    ) {
        for (name, room) in &mut self.rooms {
            let Some((_, from)) = room.member_since.or(room.interrupted) else { continue };
            if room.seen[from..].iter().any(|number| lost.contains(number)) {
                let length = lengths.get(name).copied().unwrap_or(0);
                room.doubtful = remembers(name).then_some(last);
                room.member_since = room.member_since.map(|_| (length, room.seen.len()));
                room.interrupted = room.interrupted.map(|_| (length, room.seen.len()));
            }
        }
    }

    /// The client is told that it goes on in all its rooms.
    pub(super) fn go_on(&mut self) {
        for (name, room) in &mut self.rooms {
            assert!(room.doubtful.is_none(), "C10: {:?} is told that it has recovered what is lost in {name}", self.user);
            room.member_since = room.interrupted.take().or(room.member_since);
        }
    }

    /// Whether the client has yet to be told that it has lost messages in some room.
    pub(super) fn is_misled(&self) -> bool {
        self.rooms.values().any(|room| room.doubtful.is_some() && room.member_since.is_some())
    }

    pub(super) fn room(&self, room: &str) -> Option<&RoomView> {
        self.rooms.get(room)
    }

    /// Who joined (`+`) and left (`-`) a room, as it was told.
    pub(super) fn told(&self, room: &str) -> Vec<String> {
        let events = self.rooms.get(room).into_iter().flat_map(|room| &room.events);
        events.map(|(user, joined)| format!("{}{user}", if *joined { '+' } else { '-' })).collect()
    }

    /// How often it was told that it may not be in a room.
    pub(super) fn forbidden(&self) -> usize {
        let is_it =
            |(_, frame): &&(String, Value)| frame["data"]["code"] == "forbidden" || frame["data"]["reason"] == "forbidden";
        self.notices.iter().filter(is_it).count()
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = (&str, &RoomView)> {
        self.rooms.iter().map(|(name, room)| (name.as_str(), room))
    }

    /// Remembers which rooms were asked for, and which tokens were shown.
    pub(super) fn note_sent(&mut self, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        match (frame["type"].as_str(), frame["room"].as_str(), frame["data"]["token"].as_str()) {
            (Some("subscribe"), Some(room), _) => drop(self.asked.insert(room.to_owned())),
            (Some("auth"), _, Some(token)) if frame["message_id"] == tokens::RENEWAL => self.showing.push_back(token.to_owned()),
            // Of this one nobody knows what will come of it.
            (Some("auth"), ..) => self.shown = None,
            _ => {}
        }
    }

    /// The wish to renew its token is granted, or not.
    fn note_renewal(&mut self, granted: bool) {
        let token = self.showing.pop_front();
        match token.filter(|_| granted) {
            Some(token) => self.accepted = Some(token),
            None => self.shown = None,
        }
    }

    /// Bytes arrive. `lengths` are those of the rooms' logs at this moment. What is to be answered, if anything.
    pub(super) fn receive(&mut self, bytes: &[u8], lengths: &BTreeMap<String, usize>) -> Option<OwnedMessage> {
        let mut reply = None;
        self.frames.extend(bytes);
        while let Some((opcode, payload)) = self.frames.next() {
            match opcode {
                0x1 => self.hear(serde_json::from_slice(&payload).expect("the server sends one JSON object in a frame"), lengths),
                0x8 => {
                    assert_eq!(self.close_code, None, "one close frame");
                    let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    self.close_code = Some(code.unwrap_or(1005));
                    reply = Some(OwnedMessage::Close(code));
                }
                0x9 => reply = Some(OwnedMessage::Pong),
                0xA => self.pongs += 1,
                other => panic!("a server frame with opcode {other}"),
            }
        }
        reply.filter(|_| self.answers)
    }

    /// An event of Socket.IO arrives: a list of its name and its arguments.
    pub(super) fn hear_event(&mut self, event: Value, lengths: &BTreeMap<String, usize>) {
        let name = event[0].as_str().expect("every event has a name").to_owned();
        let envelope = &event[1];
        if matches!(name.as_str(), "connection_established" | "connection_error") {
            assert_eq!(envelope["type"], name.replace('_', "."));
            assert!(envelope["timestamp"].is_string() && envelope["data"].is_object() && envelope.get("source").is_some());
            return self.notices.push((name, envelope.clone()));
        }
        if !envelope["type"].is_string() {
            // It is none of Roomcast's own.
            return self.notices.push((name, event));
        }
        assert_eq!(envelope["type"], name, "an event is named as its type");
        let is_message = envelope["room"].is_string();
        assert!(!is_message || envelope.get("source").is_some(), "a message has a source: {envelope}");
        self.hear(envelope.clone(), lengths);
    }

    /// What a Socket.IO client asked for by an event of this name is answered: a list of arguments.
    pub(super) fn hear_answer(&mut self, asked: &str, answer: Value, lengths: &BTreeMap<String, usize>) {
        if asked == "auth" {
            self.note_renewal(answer[0]["status"] == "success");
        }
        let kind = match (asked, answer[0]["status"].as_str()) {
            (_, None) => return self.notices.push((asked.to_owned(), answer)),
            (_, Some("error")) => "error",
            ("subscribe", _) => "subscribed",
            ("unsubscribe", _) => "unsubscribed",
            ("ping", _) => "pong",
            ("debug:rooms", _) => "rooms",
            (other, _) => other,
        };
        assert_eq!(answer.as_array().map(Vec::len), Some(1));
        self.hear(json!({ "type": kind, "data": answer[0] }), lengths);
    }

    /// A frame arrives, or what comes to the same.
    fn hear(&mut self, frame: Value, lengths: &BTreeMap<String, usize>) {
        assert_eq!(self.close_code, None, "nothing follows a close frame");
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
            let position = frame["position"].as_str().map(String::from);
            let name = room;
            let room = self.rooms.entry(name.to_owned()).or_default();
            let misled = room.doubtful.is_some_and(|last| number > last);
            assert!(!misled, "C10: {:?} goes on in {name} with {number}, and was not told what it has lost", self.user);
            room.seen.push(number);
            room.position = position.or(room.position.take());
            return;
        }
        if frame["reply_to"] == tokens::RENEWAL {
            self.note_renewal(kind == "auth_success");
        }
        let room = frame["data"]["room"].as_str().map(String::from);
        match (kind.as_str(), room) {
            ("subscribed", Some(name)) => {
                // Rooms are restored for a token that was in them.
                if frame["data"]["recovered"].is_boolean() {
                    self.asked.insert(name.clone());
                }
                let length = lengths.get(&name).copied().unwrap_or(0);
                let room = self.rooms.entry(name).or_default();
                room.touched = true;
                let is_new = room.member_since.is_none();
                let recovered = frame["data"]["recovered"].as_bool();
                room.recovered.extend(recovered);
                let misled = recovered == Some(true) && room.doubtful.is_some();
                assert!(!misled, "C10: {:?} is told that it has recovered what is lost", self.user);
                if recovered == Some(false) {
                    room.doubtful = None;
                }
                // A client that did not say where it was may be sent again what it has had.
                let goes_on = frame["data"]["position"].as_str().is_some_and(|at| room.position.as_deref() == Some(at));
                match recovered {
                    Some(true) if !goes_on => room.member_since = Some((length, room.seen.len())),
                    // Who asks again before the answer is told the same.
                    Some(true) if room.member_since.is_some() => {}
                    Some(true) => room.member_since = Some(room.interrupted.take().expect("only what was can be recovered")),
                    Some(false) => room.member_since = Some((length, room.seen.len())),
                    None if room.member_since.is_none() => room.member_since = Some((length, room.seen.len())),
                    None => {}
                }
                if is_new {
                    room.events_before = room.events.len();
                }
                if let Some(position) = frame["data"]["position"].as_str() {
                    room.position = Some(position.to_owned());
                }
            }
            ("unsubscribed", Some(name)) => {
                let room = self.rooms.entry(name).or_default();
                room.touched = true;
                (room.member_since, room.interrupted, room.position) = (None, None, None);
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
        if own.as_deref() == Some(room) || self.bound.as_deref() == Some(room) {
            return;
        }
        assert!(self.asked.contains(room), "C7: {:?} was sent a message of {room}, which it never asked for", self.user);
        let member = self.rooms.get(room).is_some_and(|room| room.member_since.is_some());
        assert!(member, "C7: {:?} was sent a message of {room} without being its member", self.user);
    }
}
