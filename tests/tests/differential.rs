//! One script on both runtimes: every client gets the same bytes, and the hub wants the same done in the same order.
//!
//! Chance is an argument, so nothing is left in which two runs could differ but the runtime and the time of day.

use std::fmt::{Debug, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use roomcast_core::config::{Config, Secret};
use roomcast_shell::options::Options;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::embedded::{self, Embedded};
use roomcast_tests::real::http::Response;
use roomcast_tests::real::raw::{CLOSE, FINAL, PING, RawClient, TEXT, get_request, masked_frame, upgrade_request};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const SECRET: &str = "the secret of both runs";

/// What was seen of a run.
#[derive(Default)]
struct Recording {
    /// Who heard what, in the order of the script.
    frames: Vec<String>,
    actions: Vec<String>,
}

#[test]
fn both_runtimes_do_the_same() {
    let actions = Actions::default();
    tracing::subscriber::set_global_default(actions.clone()).expect("nobody else listens");

    let mut on_tokio = Recording { frames: frames(embedded::on_tokio(options())), ..Recording::default() };
    on_tokio.actions = actions.take();
    let mut on_smol = Recording { frames: frames(embedded::on_smol(options())), ..Recording::default() };
    on_smol.actions = actions.take();

    for (tokio, smol) in [(on_tokio.frames, on_smol.frames), (on_tokio.actions, on_smol.actions)] {
        assert!(tokio.len() > 25, "the script says something: {tokio:?}");
        // One by one, for a message that can be read.
        tokio.iter().zip(&smol).for_each(|(tokio, smol)| assert_eq!(tokio, smol));
        assert_eq!(tokio.len(), smol.len());
    }
}

/// What clients hear of a gateway, from its start to its end.
fn frames<G: Send + Sync + 'static>(embedded: Embedded<G>) -> Vec<String> {
    let mut script = Script::begin(embedded.address);
    script.play();
    script.end(thread::spawn(|| embedded.stop()))
}

fn options() -> Options {
    let mut config = Config { node: "node".into(), ..Config::default() };
    config.auth.secret = Some(Secret::new(SECRET));
    // The store's answers about what rooms remember come between the steps when they come, and who is first is chance.
    config.rooms.clear();
    Options { config, listen: SocketAddr::from(([127, 0, 0, 1], 0)), seed: Some([7; 32]), ..Options::default() }
}

/// Clients that take turns: the next step begins when the one before has been answered, so that time decides nothing.
struct Script {
    address: SocketAddr,
    clients: Vec<RawClient>,
    frames: Vec<String>,
}

impl Script {
    fn begin(address: SocketAddr) -> Script {
        Script { address, clients: Vec::new(), frames: Vec::new() }
    }

    fn play(&mut self) {
        for user in ["alice", "bob", "carol"] {
            self.connect(user);
        }
        let say = |kind: &str, data: Value| json!({"type": kind, "data": data, "message_id": "m"});
        let room = |action: &str, room: &str| say("subscription", json!({"action": action, "room": room}));
        for client in 0..3 {
            self.say(client, &room("subscribe", "workspace:1"), &[client]);
        }
        self.say(1, &room("subscribe", "workspace:1"), &[1]);
        self.say(2, &room("subscribe", "user:alice"), &[2]);
        self.publish(&json!({"room": "workspace:1", "type": "note", "data": {"n": 1.0, "text": "\u{1f980}"}}), &[0, 1, 2]);
        self.publish(&json!({"user_id": "bob", "type": "only you", "data": null}), &[1]);
        self.publish(&json!({"broadcast": true, "type": "all", "data": [1, 2, 3]}), &[0, 1, 2]);
        self.publish(&json!({"room": "workspace:1", "type": "large", "data": "x".repeat(300_000)}), &[0, 1, 2]);
        self.publish(&json!({"room": "", "type": "nowhere", "data": 1}), &[]);
        self.say(0, &say("ping", json!({})), &[0]);
        self.say(0, &say("publish", json!({"room": "workspace:1", "type": "t", "data": 1})), &[0]);
        self.say(0, &say("no such thing", json!({})), &[0]);
        self.send(0, &masked_frame(FINAL | TEXT, b"{not json"), &[0]);
        self.send(1, &masked_frame(FINAL | PING, b"are you there"), &[1]);
        // In pieces, a byte at a time.
        let ping = masked_frame(FINAL | TEXT, say("ping", json!({})).to_string().as_bytes());
        for byte in &ping {
            self.clients[2].send(&[*byte]);
        }
        self.hear(2);
        self.say(2, &room("unsubscribe", "workspace:1"), &[2]);
        self.publish(&json!({"room": "workspace:1", "type": "after", "data": 1}), &[0, 1]);
        // A frame that is not masked ends the connection; the others go on.
        self.send(2, &[FINAL | TEXT, 1, b'x'], &[2]);
        assert!(self.clients[2].is_closed(PATIENCE));
        self.open(&upgrade_request("/ws?token=nonsense", &[]));
        self.answered(3);
        self.hear(3);
        self.hear(3);
        self.leave(3, 4001);
        self.open(&get_request("/readyz", &[]));
        self.answered(4);
        self.publish(&json!({"room": "workspace:1", "type": "last", "data": 1}), &[0, 1]);
    }

    /// What the clients that are left hear when the gateway is stopped.
    fn end(mut self, gateway: thread::JoinHandle<()>) -> Vec<String> {
        for client in 0..2 {
            // When to come back, and the close.
            self.hear(client);
            self.hear(client);
            self.leave(client, 1001);
        }
        gateway.join().expect("the gateway stops");
        self.frames
    }

    /// Answers a close, which ends the connection.
    fn leave(&mut self, client: usize, code: u16) {
        self.clients[client].send(&masked_frame(FINAL | CLOSE, &code.to_be_bytes()));
        assert!(self.clients[client].is_closed(PATIENCE));
    }

    fn connect(&mut self, user: &str) {
        self.open(&upgrade_request(&format!("/ws?token={}", access_token(SECRET, user, &json!({}))), &[]));
        self.answered(self.clients.len() - 1);
        self.hear(self.clients.len() - 1);
    }

    fn open(&mut self, request: &[u8]) {
        let mut client = RawClient::connect(self.address);
        client.send(request);
        self.clients.push(client);
    }

    fn answered(&mut self, client: usize) {
        let Response { status, headers, body } = self.clients[client].response();
        let headers: Vec<_> = headers.into_iter().filter(|(name, _)| name != "date").collect();
        self.frames.push(format!("{client}: {status} {headers:?} {}", String::from_utf8_lossy(&body)));
    }

    fn say(&mut self, client: usize, message: &Value, hearers: &[usize]) {
        self.send(client, &masked_frame(FINAL | TEXT, message.to_string().as_bytes()), hearers);
    }

    fn send(&mut self, client: usize, bytes: &[u8], hearers: &[usize]) {
        self.clients[client].send(bytes);
        hearers.iter().for_each(|hearer| self.hear(*hearer));
    }

    fn publish(&mut self, message: &Value, hearers: &[usize]) {
        let body = message.to_string();
        let token = access_token(SECRET, "operator", &json!({"role": "admin"}));
        let head = format!(
            "POST /api/publish HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut operator = RawClient::connect(self.address);
        operator.send(&[head.as_bytes(), body.as_bytes()].concat());
        self.frames.push(operator.response().text());
        hearers.iter().for_each(|hearer| self.hear(*hearer));
    }

    fn hear(&mut self, client: usize) {
        let frame = self.clients[client].frame().expect("the connection is open");
        let text = String::from_utf8_lossy(&frame.payload).into_owned();
        self.frames.push(format!("{client}: {:x} {}", frame.first, without_timestamp(&text)));
    }
}

/// A message without the moment at which it was made.
fn without_timestamp(text: &str) -> String {
    const FIELD: &str = r#""timestamp":""#;
    match text.split_once(FIELD) {
        Some((before, rest)) => format!("{before}{FIELD}{}", rest.split_once('"').map_or("", |(_, after)| after)),
        None => text.to_owned(),
    }
}

/// Collects what the shards say their hubs want done.
#[derive(Clone, Default)]
struct Actions(Arc<Mutex<Vec<String>>>);

impl Actions {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panicked"))
    }
}

impl Subscriber for Actions {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Reports are actions as well, and made only where somebody wants to know.
        ["roomcast_shell::shard", "roomcast_shell::log"].contains(&metadata.target())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() != "roomcast_shell::shard" {
            return;
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().expect("nobody panicked").push(without_timestamp(&line.0.replace('\\', "")));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
