//! Packets of Socket.IO as a client reads them. What is malformed is a fault of the server.

use bytes::Bytes;
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    /// The number of an acknowledgement, or of an event that is to have one.
    pub(super) number: Option<u64>,
    pub(super) data: Value,
    /// How many attachments have yet to come.
    pub(super) missing: usize,
    attachments: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

impl Packet {
    /// The text of a message of Engine.IO.
    pub(super) fn read(text: &str) -> Packet {
        let malformed = || -> ! { panic!("a malformed packet: {text}") };
        let (kind, is_binary) = match text.as_bytes().first() {
            Some(b'0') => (Kind::Connect, false),
            Some(b'1') => (Kind::Disconnect, false),
            Some(b'2') => (Kind::Event, false),
            Some(b'3') => (Kind::Ack, false),
            Some(b'4') => (Kind::ConnectError, false),
            Some(b'5') => (Kind::Event, true),
            Some(b'6') => (Kind::Ack, true),
            _ => malformed(),
        };
        let mut rest = &text[1..];
        let mut missing = 0;
        if is_binary {
            let (count, behind) = rest.split_once('-').unwrap_or_else(|| malformed());
            (missing, rest) = (count.parse().unwrap_or_else(|_| malformed()), behind);
            assert_ne!(missing, 0, "a binary packet has attachments: {text}");
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or_else(|| malformed());
        }
        let digits = rest.len() - rest.trim_start_matches(|first: char| first.is_ascii_digit()).len();
        let number = (digits > 0).then(|| rest[..digits].parse().unwrap_or_else(|_| malformed()));
        let data = match &rest[digits..] {
            "" => Value::Null,
            data => serde_json::from_str(data).unwrap_or_else(|_| malformed()),
        };
        let is_whole = match kind {
            Kind::Connect | Kind::ConnectError => data.is_object() && number.is_none(),
            Kind::Disconnect => data.is_null() && number.is_none(),
            Kind::Event => data[0].is_string(),
            Kind::Ack => data.is_array() && number.is_some(),
        };
        if !is_whole {
            malformed();
        }
        Packet { kind, namespace: namespace.to_owned(), number, data, missing, attachments: Vec::new() }
    }

    /// The next attachment. In the end each stands where its placeholder was, as a list of numbers.
    pub(super) fn attach(&mut self, bytes: Bytes) {
        self.attachments.push(bytes);
        self.missing -= 1;
        if self.missing == 0 {
            fill(&mut self.data, &self.attachments);
        }
    }
}

fn fill(value: &mut Value, attachments: &[Bytes]) {
    if value["_placeholder"] == true {
        let number = value["num"].as_u64().expect("a placeholder has a number") as usize;
        *value = json!(attachments[number].to_vec());
        return;
    }
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, attachments)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, attachments)),
        _ => {}
    }
}
