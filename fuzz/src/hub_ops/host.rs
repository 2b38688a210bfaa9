//! The host of a node: sockets, a store and a clock, and a memory of what it did, to judge the node by.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use roomcast_core::config::{
    AccessRule, Auth, AuthMode, BatchLimits, Config, Destination, DialectName, Events, Limits, Relay, Route, Source, Who,
};
use roomcast_core::door::PublishId;
use roomcast_core::frame::{Frame, FrameKind};
use roomcast_core::hub::{CloseCause, ExchangeId, PollAnswer};
use roomcast_core::id::{ConnId, Ticket};
use roomcast_core::message::{Json, Outgoing};
use roomcast_core::node::{Action, Event, Node, OwnedMessage};
use roomcast_core::store::memory::{ClientId, Memory};
use roomcast_core::store::{Answer, Fields, Lane, StoreError, StoreOp};
use roomcast_core::time::Time;
use serde_json::Value;

use super::client::Client;
use super::words;
use crate::input::Input;

pub(super) const ROOMS_PER_CONNECTION: usize = 3;

/// What the upgrade is answered with; any bytes will do.
const PREFACE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// The store trims its relay logs sooner than the configuration says, so that readers fall behind.
const RELAY_LENGTH: usize = 8;

/// More than a node can have to do at one moment. Beyond, it would go on for ever.
const ENDLESS: usize = 5_000;

#[derive(Debug)]
pub(super) struct Host {
    node: Node,
    now: Time,
    clients: BTreeMap<ConnId, Client>,
    /// Every connection that there ever was.
    known: Vec<ConnId>,
    dropped: BTreeSet<ConnId>,
    pub(super) memory: Memory,
    me: ClientId,
    /// Asked, and not carried out.
    questions: Vec<(Ticket, Lane, StoreOp)>,
    /// Carried out, and not told.
    answers: Vec<(Ticket, Result<Answer, StoreError>)>,
    /// Told: these will be late when they are told again.
    told: VecDeque<(Ticket, Result<Answer, StoreError>)>,
    publishes: BTreeSet<PublishId>,
    /// How many requests of sessions that poll there have been, and those whose clients wait for an answer.
    exchanges: u64,
    waiting: BTreeSet<ExchangeId>,
    answered: BTreeSet<ExchangeId>,
    /// The sessions of which an answer has told.
    sessions: Vec<String>,
    /// Whether the last publish that was answered is stored.
    stored: bool,
    /// Connections whose sockets did not take all there was: they are written to again without being flushed.
    full: BTreeSet<ConnId>,
    /// What every socket takes in a flush.
    pub(super) takes: usize,
    trace: String,
}

impl Host {
    pub(super) fn new(seed: u8) -> Host {
        let now = Time::from_micros(1_000_000_000);
        let config = config();
        let mut memory = Memory::new(RELAY_LENGTH);
        let me = memory.connect(&config.node);
        let mut node = Node::new(Arc::new(config), [seed; 32], now).expect("the configuration works");
        node.set_wall_clock(now, words::START);
        Host {
            node,
            now,
            clients: BTreeMap::new(),
            known: Vec::new(),
            dropped: BTreeSet::new(),
            memory,
            me,
            questions: Vec::new(),
            answers: Vec::new(),
            told: VecDeque::new(),
            publishes: BTreeSet::new(),
            exchanges: 0,
            waiting: BTreeSet::new(),
            answered: BTreeSet::new(),
            sessions: Vec::new(),
            stored: true,
            full: BTreeSet::new(),
            takes: usize::MAX,
            trace: String::new(),
        }
    }

    pub(super) fn open(&mut self, request: &Request<()>, with_preface: bool) {
        let opened = self.node.open(self.now, request);
        self.note("opened", &opened);
        let Ok(opened) = opened else { return };
        assert!(!self.known.contains(&opened.conn), "an identifier is used again");
        self.known.push(opened.conn);
        let preface: &[u8] = if with_preface { PREFACE } else { b"" };
        if with_preface {
            self.node.hub().preface(opened.conn, Bytes::from_static(preface));
        }
        self.clients.insert(opened.conn, Client::new(request.uri().path(), preface));
    }

    /// A connection, mostly one that lives, or one that did. Nobody, before the first.
    pub(super) fn somebody(&self, input: &mut Input<'_>) -> Option<ConnId> {
        let at = input.below(256);
        if at % 8 != 7 && !self.clients.is_empty() {
            return self.clients.keys().nth(at / 8 % self.clients.len()).copied();
        }
        self.known.get(at / 8 % self.known.len().max(1)).copied()
    }

    /// A client that polls sends a request.
    pub(super) fn exchange(&mut self, request: Request<Bytes>) {
        self.exchanges += 1;
        let exchange = ExchangeId(self.exchanges);
        self.waiting.insert(exchange);
        self.handle(Event::Exchange(exchange, request));
    }

    /// A client that waits for an answer goes; or the host says so of one that has it, or never was.
    pub(super) fn abandon(&mut self, at: usize) {
        let exchange = self.waiting.iter().nth(at).copied().unwrap_or(ExchangeId(at as u64));
        self.waiting.remove(&exchange);
        self.handle(Event::Abandon(exchange));
    }

    /// Mostly a session that was opened, as far as there is one, and often the latest.
    pub(super) fn session(&self, input: &mut Input<'_>) -> Option<String> {
        let at = input.below(8);
        self.sessions.iter().rev().nth(at).or(self.sessions.last().filter(|_| at < 7)).cloned()
    }

    fn responds(&mut self, exchange: ExchangeId, answer: PollAnswer) {
        assert!(self.answered.insert(exchange), "{exchange:?} is answered twice");
        assert!(exchange.0 <= self.exchanges, "nobody has asked {exchange:?}");
        self.waiting.remove(&exchange);
        let response = answer.into_response();
        let body = str::from_utf8(response.body()).expect("answers are text");
        // The first packet of a session says what it is called.
        if let Some(open) = body.strip_prefix('0')
            && let Ok(open) = serde_json::from_str::<Value>(open)
        {
            self.sessions.push(open["sid"].as_str().expect("a session has a name").to_owned());
        }
    }

    pub(super) fn receive(&mut self, conn: ConnId, message: OwnedMessage) {
        if let Some(client) = self.clients.get_mut(&conn) {
            match &message {
                OwnedMessage::Text(text) => client.sends(Bytes::copy_from_slice(text.as_bytes())),
                OwnedMessage::Binary(bytes) => client.sends(bytes.clone()),
                OwnedMessage::Ping(_) | OwnedMessage::Pong | OwnedMessage::Close(_) => {}
            }
        }
        self.handle(Event::Receive(conn, message));
    }

    pub(super) fn handle(&mut self, event: Event) {
        if let Event::Closed(conn, _) = &event {
            self.clients.remove(conn);
        }
        assert!(self.node.handle(self.now, event).is_ok());
    }

    /// A socket takes so many bytes, if there are.
    pub(super) fn write(&mut self, conn: ConnId, most: usize) {
        let Some(outbox) = self.node.outbox(conn) else { return };
        let client = self.clients.get_mut(&conn).expect("only the living have something to read");
        let mut bytes = outbox.pieces().collect::<Vec<_>>().concat();
        assert_eq!(bytes.len(), outbox.bytes());
        bytes.truncate(most);
        client.hears(&bytes);
        self.node.written(conn, most);
        self.note("written", &(conn, Bytes::from(bytes)));
    }

    /// Every socket with something new to read takes what it takes.
    pub(super) fn flush(&mut self) {
        let mut round = BTreeSet::new();
        while let Some(conn) = self.node.poll_flush() {
            assert!(self.clients.contains_key(&conn), "{conn:?} is gone");
            assert!(round.insert(conn), "{conn:?} comes twice in a round");
            self.write(conn, self.takes);
            if self.node.outbox(conn).is_some() {
                self.full.insert(conn);
            }
        }
    }

    /// Does what the node wants done, but for its questions, which wait.
    pub(super) fn act(&mut self) {
        for _ in 0..ENDLESS {
            let Some(action) = self.node.poll_action(self.now) else { return };
            self.note("does", &action);
            match action {
                Action::Drop(conn) => {
                    assert!(self.dropped.insert(conn), "{conn:?} is dropped twice");
                    // Its client may be gone already, where the host had closed the socket before it learnt of the drop.
                    self.clients.remove(&conn);
                }
                Action::Store { ticket, lane, op } => self.questions.push((ticket, lane, op)),
                Action::Interrupt(lane) | Action::Reset(lane) => self.interrupt(lane),
                Action::Published(id, result) => {
                    assert!(self.publishes.remove(&id), "{id:?} is answered twice");
                    self.stored = result.is_ok();
                }
                Action::Flush => self.flush(),
                Action::Respond(exchange, answer) => self.responds(exchange, answer),
                Action::LacksKey => panic!("no keys stand elsewhere"),
                Action::Authorize(petition) => self.node.decide(self.now, petition.id, petition.id.0 % 3 > 0),
                // No source goes to this host, and it knows no states.
                Action::Process(delivery) => panic!("{delivery:?}"),
                Action::Snapshot(request) => panic!("{request:?}"),
                // Nor does it want to know what clients do.
                Action::Client(event) => panic!("{event:?}"),
                Action::Acked(ack, result) => panic!("{ack:?} {result:?}"),
                Action::Operated(..) | Action::Read(..) | Action::Surveyed(..) | Action::Report(_) => {}
            }
        }
        panic!("actions without end");
    }

    /// The store carries out one question.
    pub(super) fn carry_out(&mut self, at: usize) {
        if self.questions.is_empty() {
            return;
        }
        let (ticket, lane, op) = self.questions.remove(at % self.questions.len());
        self.memory.submit(self.now, self.me, lane, ticket, op);
        self.collect_answers();
    }

    /// One answer arrives; when there is none, an old one arrives again.
    pub(super) fn tell(&mut self, at: usize) {
        let (ticket, answer) = match (self.answers.len(), self.told.len()) {
            (0, 0) => return,
            (0, told) => self.told[at % told].clone(),
            (waiting, _) => self.answers.remove(at % waiting),
        };
        self.told.push_back((ticket, answer.clone()));
        if self.told.len() > 32 {
            self.told.pop_front();
        }
        self.handle(Event::Answer(ticket, answer));
    }

    /// A question never reaches the store, or its answer gets lost.
    pub(super) fn lose(&mut self, at: usize) {
        if !self.answers.is_empty() {
            drop(self.answers.remove(at % self.answers.len()));
        } else if !self.questions.is_empty() {
            self.questions.remove(at % self.questions.len());
        }
    }

    /// A ticket that waits, or has been answered, or never was.
    pub(super) fn ticket(&self, input: &mut Input<'_>) -> Ticket {
        let at = input.below(256);
        let waiting = self.questions.iter().map(|(ticket, ..)| ticket);
        let tickets = waiting.chain(self.answers.iter().chain(&self.told).map(|(ticket, _)| ticket));
        tickets.copied().nth(at).unwrap_or(Ticket(at as u64))
    }

    /// Everything is done that can be done now, as by a host and a store without fault.
    pub(super) fn settle(&mut self) {
        for _ in 0..ENDLESS {
            self.act();
            match (self.questions.is_empty(), self.answers.is_empty()) {
                (_, false) => self.tell(0),
                (false, _) => self.carry_out(0),
                (true, true) => return,
            }
        }
        panic!("questions without end");
    }

    /// Ends the wait of a lane's reads. What waits to be carried out there was asked before.
    pub(super) fn interrupt(&mut self, lane: Lane) {
        while let Some(at) = self.questions.iter().position(|(_, other, _)| *other == lane) {
            self.carry_out(at);
        }
        self.memory.interrupt(self.me, lane);
        self.collect_answers();
    }

    pub(super) fn add_entry(&mut self, fields: Fields) {
        self.memory.add(self.now, "stream:file-events", fields);
        self.collect_answers();
    }

    pub(super) fn publish(&mut self, room: &str, data: &str) {
        let data = format!("{data:?}");
        let data = Json::parse(&data).expect("a string is JSON");
        let message = Outgoing { kind: "note", data, timestamp: None, message_id: None };
        let id = self.node.publish(self.now, room, &message);
        assert!(self.publishes.insert(id), "{id:?} is used again");
    }

    pub(super) fn close_all(&mut self) {
        self.node.hub().close_all(self.now, 1001, "going away");
    }

    pub(super) fn set_reporting(&mut self, on: bool) {
        self.node.set_reporting(on);
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.go_to(self.now + span);
    }

    pub(super) fn go_back(&mut self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.now = Time::from_micros(self.now.as_micros().saturating_sub(micros));
    }

    pub(super) fn pass_to_deadline(&mut self) {
        let deadlines = [self.node.next_deadline(), self.memory.next_deadline()];
        if let Some(next) = deadlines.into_iter().flatten().min() {
            self.go_to(next.max(self.now));
        }
    }

    fn go_to(&mut self, now: Time) {
        self.now = now;
        self.memory.tick(now);
        self.collect_answers();
        self.node.tick(now);
        assert!(self.node.next_deadline().is_none_or(|next| next > now), "what was due at {now:?} is still due");
    }

    fn collect_answers(&mut self) {
        while let Some((_, ticket, answer)) = self.memory.poll_answer() {
            self.answers.push((ticket, answer));
        }
    }

    /// What holds after every operation.
    pub(super) fn check(&self) {
        let limits = limits();
        let stats = self.node.stats();
        assert_eq!(stats.connections, stats.opened - stats.closed);
        assert!(stats.connections <= limits.connections as u64);
        assert!(stats.memberships <= stats.connections * (ROOMS_PER_CONNECTION as u64 + 1));
        for conn in &self.known {
            let Some(outbox) = self.node.outbox(*conn) else { continue };
            assert!(self.clients.contains_key(conn), "{conn:?} is gone and has something to read");
            // The answer to the upgrade and a close frame always fit, and so does a single frame.
            let extra = |kind| matches!(kind, FrameKind::Close | FrameKind::Raw);
            let counted = || outbox.frames().filter(|frame| !extra(frame.kind()));
            let uncounted: usize = outbox.frames().filter(|frame| extra(frame.kind())).map(Frame::len).sum();
            let longest = counted().map(Frame::len).max().unwrap_or(0);
            let messages: usize = counted().map(Frame::messages).sum();
            assert!(messages <= counted().map(Frame::messages).max().unwrap_or(0).max(limits.outbox_messages));
            assert!(outbox.bytes() <= longest.max(limits.outbox_bytes) + uncounted);
            assert!(outbox.len() <= counted().count() + 2 && !outbox.is_empty());
        }
    }

    /// Everybody leaves, the store works, time passes: nothing may be left, and nothing may wait. Returns the trace.
    pub(super) fn finish(mut self) -> String {
        self.takes = usize::MAX;
        self.settle();
        std::mem::take(&mut self.full).into_iter().for_each(|conn| self.write(conn, usize::MAX));
        // Whoever catches up is sent the next page when the one before is written.
        for _ in 0..ENDLESS {
            self.flush();
            self.settle();
            if self.known.iter().all(|conn| self.node.outbox(*conn).is_none()) {
                break;
            }
        }
        assert!(self.known.iter().all(|conn| self.node.outbox(*conn).is_none()), "what is to be written is not flushed");
        self.clients.values().for_each(Client::rests);
        self.check();
        assert!(self.is_settled(), "{} connections for {} clients", self.node.stats().connections, self.clients.len());
        for conn in self.known.clone() {
            self.handle(Event::Closed(conn, CloseCause::Gone));
        }
        for _ in 0..ENDLESS {
            self.settle();
            let stats = self.node.stats();
            if (stats.connections, stats.rooms) == (0, 0) && self.publishes.is_empty() && self.waiting.is_empty() {
                break;
            }
            self.pass_to_deadline();
        }
        let stats = self.node.stats();
        assert_eq!((stats.connections, stats.memberships, stats.rooms), (0, 0, 0));
        assert!(self.publishes.is_empty(), "{:?} wait for ever", self.publishes);
        assert!(self.waiting.is_empty(), "{:?} wait for ever", self.waiting);
        self.publish("chat:1", "last");
        self.settle();
        assert!(self.stored, "the node accepts nothing any more");
        assert_eq!(self.node.poll_flush(), None);
        assert!(self.known.iter().all(|conn| self.node.outbox(*conn).is_none()));
        self.trace
    }

    /// Whether the node has as many connections as there are clients: not while a drop has not been polled. Those of sessions that
    /// poll are not known here; they end when their time is up.
    fn is_settled(&self) -> bool {
        let (connections, clients) = (self.node.stats().connections, self.clients.len() as u64);
        connections == clients || connections > clients && !self.sessions.is_empty()
    }

    fn note(&mut self, what: &str, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.trace, "{what} {value:?}");
    }
}

fn config() -> Config {
    let rule = AccessRule::new;
    Config {
        auth: Auth::secret(words::SECRET),
        routes: vec![
            Route::json("/ws", AuthMode::Required),
            Route::json("/open", AuthMode::Optional),
            Route::echo("/echo"),
            Route { claims: Vec::new(), ..Route::socketio("/socket.io/", "chat:1") },
            Route { dialect: DialectName::EngineEcho, ..Route::json("/engine.io/", AuthMode::Ignored) },
        ],
        access: vec![
            rule("chat:*", Who::Anyone, Who::Anyone),
            rule("user:*", Who::Owner, Who::Admin),
            rule("project:*", Who::Listed, Who::Authenticated),
            rule("task:*", Who::Host, Who::Host),
            rule("*", Who::Authenticated, Who::Admin),
        ],
        origins: vec!["https://good.example".parse().expect("it is an origin")],
        limits: limits(),
        relay: Relay { partitions: 3, publishes_in_flight: 4, ..Relay::default() },
        sources: vec![Source {
            dead_letters: 3,
            count: 2,
            most: 4,
            to: Destination::Events(Events {
                limits: BatchLimits { compressed: 200, inflated: 1000, events: 2, depth: 8 },
                ..Events::default()
            }),
            ..Source::file_events()
        }],
        ..Config::default()
    }
}

/// Small enough to be met.
fn limits() -> Limits {
    Limits {
        connections: 5,
        messages_per_second: 20,
        burst: 60,
        rooms_per_connection: ROOMS_PER_CONNECTION,
        outbox_bytes: 3_000,
        outbox_messages: 12,
        publishes_in_flight: 2,
        ..Limits::default()
    }
}
