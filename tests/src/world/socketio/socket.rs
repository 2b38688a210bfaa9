//! A namespace as its client has it.

use std::collections::BTreeMap;

use roomcast_core::node::OwnedMessage;
use roomcast_core::time::Time;

/// What a client has that speaks Socket.IO.
#[derive(Debug)]
pub(in super::super) struct Socket {
    /// The session that carries it.
    pub(super) engine: usize,
    pub(super) namespace: String,
    /// What it says when it connects.
    pub(super) auth: String,
    pub(super) stage: Stage,
    /// When it asked to be let in, and with which token.
    pub(super) entering: (Time, Option<String>),
    /// What it has said before it was connected.
    pub(super) waiting: Vec<OwnedMessage>,
    /// The events that have to be acknowledged: their numbers and names.
    asked: BTreeMap<u64, String>,
    numbers: u64,
    /// The secret under which its connection can be recovered, and where it stands, as it was told.
    pid: Option<String>,
    offset: Option<String>,
    /// Whether it was recovered, each time it was let in.
    pub(super) recovered: Vec<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Stage {
    /// Its session is gone, or has yet to come.
    Away,
    Entering,
    In,
    /// It was not let in.
    Refused,
    /// It has left: what is sent to it may have crossed that word.
    Left,
    /// It was told to leave.
    SentAway,
}

impl Socket {
    pub(super) fn new(engine: usize, namespace: &str, auth: String) -> Socket {
        let (waiting, asked) = (Vec::new(), BTreeMap::new());
        let namespace = namespace.to_owned();
        let (pid, offset, recovered) = (None, None, Vec::new());
        Socket {
            engine,
            namespace,
            auth,
            stage: Stage::Away,
            entering: (Time::ZERO, None),
            waiting,
            asked,
            numbers: 0,
            pid,
            offset,
            recovered,
        }
    }

    /// The token that it shows when it connects, where it has one of its own.
    pub(in super::super) fn token(&self) -> Option<String> {
        let auth: serde_json::Value = serde_json::from_str(&self.auth).ok()?;
        auth["token"].as_str().map(String::from)
    }

    /// What it says when it connects, as the JavaScript client does that can be recovered.
    pub(super) fn credentials(&self) -> String {
        let Some(pid) = &self.pid else { return self.auth.clone() };
        let mut auth: serde_json::Value = serde_json::from_str(&self.auth).expect("it is JSON");
        auth["pid"] = pid.as_str().into();
        if let Some(offset) = &self.offset {
            auth["offset"] = offset.as_str().into();
        }
        auth.to_string()
    }

    /// It is let in, under this secret: whether it goes on where it was.
    pub(super) fn let_in(&mut self, pid: Option<&str>) -> bool {
        let recovered = pid.is_some() && self.pid.as_deref() == pid;
        self.pid = pid.map(String::from);
        self.recovered.push(recovered);
        self.stage = Stage::In;
        recovered
    }

    /// An event has come: its last argument says where the client stands.
    pub(super) fn note_offset(&mut self, event: &serde_json::Value) {
        let last = event.as_array().and_then(|event| event.last()).and_then(|last| last.as_str());
        if let Some(offset) = last.filter(|_| self.pid.is_some() && event.as_array().map(Vec::len) > Some(1)) {
            self.offset = Some(offset.to_owned());
        }
    }

    pub(in super::super) fn is_in(&self) -> bool {
        self.stage == Stage::In
    }

    /// Whether it waits for no acknowledgement.
    pub(in super::super) fn is_content(&self) -> bool {
        self.asked.is_empty()
    }

    /// It is not connected any more, and nobody will acknowledge anything.
    pub(in super::super) fn end(&mut self) {
        self.waiting.clear();
        self.asked.clear();
        self.stage = Stage::Away;
    }

    /// It will ask for something: the number of that.
    pub(super) fn ask(&mut self, event: &str) -> u64 {
        self.numbers += 1;
        self.asked.insert(self.numbers, event.to_owned());
        self.numbers
    }

    /// It is answered: what it had asked for. Each answer comes once.
    pub(super) fn answered(&mut self, number: u64) -> String {
        self.asked.remove(&number).unwrap_or_else(|| panic!("an answer to {number}, which waits for none"))
    }

    /// How packets for its namespace begin, behind their type.
    pub(super) fn prefix(&self) -> String {
        if self.namespace == "/" { String::new() } else { format!("{},", self.namespace) }
    }
}
