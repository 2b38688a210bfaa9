//! What is said to a node: requests, frames, answers and entries, most of them sensible.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use roomcast_core::id::StreamId;
use roomcast_core::position::Position;
use roomcast_core::store::{
    Answer, Committed, Entry, Fields, Here, Page, PresenceAnswer, RelayEntry, Relayed, Stale, Stamp, StoreError,
};
use roomcast_core::time::UnixMillis;
use serde_json::{Value, json};

use crate::input::Input;

/// What the wall clock shows first.
pub(super) const START: UnixMillis = UnixMillis(1_760_000_000_000);

/// The secret of good tokens.
pub(super) const SECRET: &str = "secret";

const ROOMS: [&str; 12] =
    ["chat:1", "chat:2", "project:1", "project:2", "user:1", "user:2", "task:7", "global", "workspace:9", "*", "", "chat:\n"];

const NONSENSE: [&str; 6] = ["", "nonsense", "[]", r#"{"type":7}"#, r#"{"type":"dance","message_id":"m"}"#, r#"{"type":"auth"}"#];

/// Tokens of two users and an administrator, some of which are about to expire; and what is no token.
static TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let start = START.as_secs();
    let sign = |secret: &str, claims: Value| {
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()))
            .expect("claims can be signed")
    };
    vec![
        sign(SECRET, json!({"sub": "1", "exp": start + 3600})),
        sign(SECRET, json!({"sub": "1", "exp": start + 45, "rooms": ["chat:1", "project:*"]})),
        sign(SECRET, json!({"user_id": 2})),
        sign(SECRET, json!({"sub": "2", "exp": start + 5, "rooms": []})),
        sign(SECRET, json!({"sub": "root", "role": "admin", "exp": start + 100_000})),
        sign(SECRET, json!({"sub": "1", "exp": start - 100})),
        sign(SECRET, json!({"sub": "1", "nbf": start + 100})),
        sign(SECRET, json!({"sub": "1", "token_type": "refresh"})),
        sign("another secret", json!({"sub": "1"})),
        "nonsense".to_owned(),
    ]
});

/// An upgrade request, as the handshake has passed it.
pub(super) fn request(input: &mut Input<'_>) -> Request<()> {
    let path = input.pick(&["/ws", "/ws", "/open", "/open", "/echo", "/nowhere"]);
    let token = &TOKENS[input.below(TOKENS.len())];
    let request = match input.below(5) {
        0 => Request::get(path),
        1 => Request::get(format!("{path}?token={token}")),
        2 => Request::get(path).header("authorization", format!("Bearer {token}")),
        3 => Request::get(path).header("sec-websocket-protocol", format!("chat, access_token.{token}")),
        _ => Request::get(path).header("origin", input.pick(&["https://good.example", "https://evil.example"])),
    };
    request.body(()).expect("the request is well-formed")
}

/// A request of a client that polls: to open a session, for what it is sent, and with what it says; or an odd one.
pub(super) fn exchange(input: &mut Input<'_>, session: Option<&str>) -> Request<Bytes> {
    let path = input.pick(&["/socket.io/", "/socket.io/", "/engine.io/", "/engine.io", "/ws"]);
    let session = session.map(|session| format!("&sid={session}")).unwrap_or_default();
    let target = match input.below(16) {
        0 => format!("{path}?EIO=3&transport=polling{session}"),
        1 => format!("{path}?EIO=4&transport=websocket{session}"),
        2 => format!("{path}?EIO=4&transport=polling&sid=nobody"),
        3 => format!("{path}?EIO=4&transport=polling&j=0{session}"),
        4 => path.to_owned(),
        5 => format!("{path}?EIO=4&transport=polling"),
        _ => format!("{path}?EIO=4&transport=polling{session}"),
    };
    let (method, body) = match input.below(8) {
        0..=2 => (Method::GET, Vec::new()),
        3..=6 => (Method::POST, packets(input)),
        _ => (input.pick(&[&Method::OPTIONS, &Method::PUT, &Method::HEAD]).clone(), Vec::new()),
    };
    let request = Request::builder().method(method).uri(target);
    let request = match input.below(4) {
        0 => request.header("origin", input.pick(&["https://good.example", "https://evil.example"])),
        1 => request.header("authorization", format!("Bearer {}", TOKENS[input.below(TOKENS.len())])),
        _ => request,
    };
    request.body(body.into()).expect("the request is well-formed")
}

/// What a client that polls says.
fn packets(input: &mut Input<'_>) -> Vec<u8> {
    let packets: Vec<Vec<u8>> = (0..=input.below(3)).map(|_| packet(input)).collect();
    packets.join(&0x1e)
}

fn packet(input: &mut Input<'_>) -> Vec<u8> {
    let text = match input.below(16) {
        0 => "1".to_owned(),
        1..=2 => "3".to_owned(),
        3..=5 => format!("40{{\"token\":\"{}\"}}", TOKENS[input.below(TOKENS.len())]),
        6 => "40".to_owned(),
        7 => format!("42[\"subscribe\",{}]", json!({"room": room(input)})),
        8 => format!("42{}[\"unsubscribe\",{}]", input.byte(), json!({"room": room(input)})),
        9 => format!("42[\"dance\",{:?}]", payload(input)),
        10 => input
            .pick(&["41", "40/nowhere,", "41/nowhere,", "44{}", "43[]", "430[]", "42{}", "42[]", "4", "6", "bAA", "2probe"])
            .to_owned(),
        11 => format!("45{}-[\"dance\",{{\"_placeholder\":true,\"num\":0}}]", input.below(3)),
        12 => "bAAEC".to_owned(),
        13 => format!("4{}", frame(input)),
        _ => {
            let length = input.below(64);
            return input.take(length).to_vec();
        }
    };
    text.into_bytes()
}

/// A client's text frame.
pub(super) fn frame(input: &mut Input<'_>) -> String {
    let kind = input.below(19);
    let frame = match kind {
        0 => json!({"type": "ping", "message_id": "m"}),
        1..=3 => json!({"type": "auth", "data": {"token": TOKENS[input.below(TOKENS.len())]}}),
        4..=6 => json!({"type": "subscribe", "room": room(input), "message_id": "s"}),
        7 => json!({"type": "subscribe", "task_id": input.byte()}),
        8 => json!({"type": "subscription", "data": {"action": "subscribe", "project_id": input.below(3).to_string()}}),
        9..=10 => json!({"type": "unsubscribe", "room": room(input)}),
        11..=12 => json!({"type": "publish", "message_id": "p", "data": {
            "room": room(input), "type": "note", "data": payload(input),
        }}),
        13 if input.below(2) == 0 => json!({"type": "rooms"}),
        13 => json!({"type": "presence", "data": {"room": room(input)}}),
        16 => json!({"type": "subscribe", "room": room(input), "recover": position(input).to_string()}),
        17 => json!({"type": "subscribe", "room": room(input), "history": input.byte()}),
        18 => json!({"type": "history", "data": {"room": room(input), "since": position(input).to_string()}}),
        14 => return input.pick(&NONSENSE).to_owned(),
        _ => {
            let length = input.below(128);
            return String::from_utf8_lossy(input.take(length)).into_owned();
        }
    };
    frame.to_string()
}

pub(super) fn room(input: &mut Input<'_>) -> &'static str {
    input.pick(&ROOMS)
}

/// Data of up to a kilobyte.
pub(super) fn payload(input: &mut Input<'_>) -> String {
    "x".repeat(4 * input.below(256))
}

/// The fields of an entry of a source.
pub(super) fn entry(input: &mut Input<'_>) -> Fields {
    let event = |workspace: usize| {
        json!({
            "event_id": "e", "timestamp": "t", "workspace": {"id": workspace.to_string()},
            "file": {"path": "a.py", "event_type": "modify"}, "change": {"type": "diff"},
        })
    };
    let data = match input.below(4) {
        0..=1 => {
            let events: Vec<Value> = (0..input.below(3)).map(|_| event(7 + input.below(3))).collect();
            json!({"batch_id": "b", "events": events}).to_string().into_bytes()
        }
        2 => {
            let length = input.below(256);
            input.take(length).to_vec()
        }
        _ => return Vec::new(),
    };
    vec![(Bytes::from_static(b"data"), data.into())]
}

/// An answer to no question in particular.
pub(super) fn answer(input: &mut Input<'_>) -> Result<Answer, StoreError> {
    let id = |input: &mut Input<'_>| StreamId { millis: u64::from(input.short()), sequence: 0 };
    Ok(match input.below(18) {
        0 => Answer::Done,
        1 => Answer::Id(id(input)),
        2 => Answer::Id(StreamId { millis: u64::MAX, sequence: u64::MAX }),
        3 => {
            let room = room(input);
            let message = Relayed { room: Bytes::from_static(room.as_bytes()), stamp: stamp(input), payload: envelope(room) };
            let messages = vec![message];
            Answer::Relayed(vec![RelayEntry { partition: u16::from(input.byte()), id: id(input), messages, mark: None }])
        }
        4 => Answer::Relayed(Vec::new()),
        5 => Answer::Entries(vec![Entry { id: id(input), fields: entry(input) }]),
        6 => Answer::Stale(vec![Stale { id: id(input), idle: Duration::from_secs(60), deliveries: u32::from(input.byte()) }]),
        7 => Answer::Committed(vec![Committed::Stored; input.below(3)]),
        8 => Answer::Committed(vec![Committed::Failed(StoreError::Busy("loading".into())), Committed::NotPending]),
        9 => return Err(StoreError::Disconnected("reset".into())),
        10 => return Err(StoreError::NoGroup),
        11 => return Err(StoreError::Refused("no".into())),
        12 => Answer::Appended(vec![Some(position(input)); input.below(3)]),
        13 => Answer::Positions((0..input.below(4)).map(|_| position(input)).collect()),
        14 => {
            let room = room(input);
            let messages = (0..input.below(4)).map(|_| (position(input), envelope(room))).collect();
            Answer::Page(Page { messages, head: position(input), whole: input.below(2) == 0 })
        }
        16 => Answer::Presence(presence(input)),
        15 => Answer::Places((0..input.below(3)).map(|_| (room(input).into(), Some(position(input)))).collect()),
        _ => return Err(StoreError::Timeout),
    })
}

fn presence(input: &mut Input<'_>) -> PresenceAnswer {
    match input.below(4) {
        0 => PresenceAnswer::Beat { alive: input.below(2) == 0, dead: vec!["dead".into()] },
        1 => PresenceAnswer::Taken(input.below(2) == 0),
        2 => PresenceAnswer::Left(vec![(room(input).into(), "1".into())]),
        _ => PresenceAnswer::Here(Here { users: vec!["1".into()], truncated: true, connections: 2 }),
    }
}

fn stamp(input: &mut Input<'_>) -> Stamp {
    match input.below(4) {
        0 if input.below(8) == 0 => Stamp::Disconnect(Bytes::from_static(b"7")),
        0 => Stamp::Others(Bytes::from_static(b"7")),
        1..=2 => Stamp::At { position: position(input), previous: u32::from(input.byte()) },
        _ => Stamp::Plain,
    }
}

/// A place in a history that is short, so that places meet.
fn position(input: &mut Input<'_>) -> Position {
    let epoch = 1 + u64::from(input.below(2) == 0);
    Position { epoch, offset: input.below(6) as u64, tag: input.below(3) as u32 }
}

/// Spans after which something or other is due.
pub(super) fn span(input: &mut Input<'_>) -> Duration {
    Duration::from_millis(input.pick(&[1, 20, 500, 5_000, 10_000, 30_000, 60_000, 3_600_000, 1_000_000_000_000]))
}

/// What another node has put into a relay log for a room. The store is trusted with what a room's messages are.
fn envelope(room: &str) -> Bytes {
    format!(r#"{{"type":"note","message_id":"m","room":{}}}"#, Value::from(room)).into()
}
