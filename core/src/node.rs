//! Hub and backplane joined: a whole node on one thread.
//!
//! Embedders with one thread, simulations and fuzzers use this; a runtime with several threads runs several hubs and one
//! backplane, and carries what they say to each other ([`crate::door`]) itself.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::address::ClientAddress;
use crate::admission::Admission;
use crate::backplane::{Backplane, BackplaneAction, derive};
use crate::config::{Config, ConfigError};
use crate::dead_letter::{Interrupted, OperationId, Outcome, Request};
use crate::door::{Ask, Publish, PublishId, Published, ReadId, Tell, Unavailable};
use crate::frame::Message;
use crate::health::SourceHealth;
use crate::hub::{
    AckId, Arguments, ClientEvent, CloseCause, ExchangeId, Hub, HubAction, NoAck, Opened, Outbox, Petition, PetitionId,
    PollAnswer, Refused,
};
use crate::id::{ConnId, ShardId, Ticket};
use crate::message::{Composer, Outgoing};
use crate::pattern::Pattern;
use crate::processor::{Delivery, Verdict};
use crate::report::Report;
use crate::snapshot;
use crate::stats::Stats;
use crate::store::{Answer, Lane, Page, Query, StoreError, StoreOp};
use crate::survey::{Question, Surveyed};
use crate::table::Table;
use crate::time::{Time, UnixMillis, WallClock};
use crate::token::{Revocation, Subject};

/// A whole node.
///
/// ```
/// use std::sync::Arc;
/// use roomcast_core::config::{AuthMode, Config, Route};
/// use roomcast_core::frame::Message;
/// use roomcast_core::node::Node;
/// use roomcast_core::time::Time;
///
/// let config = Config { routes: vec![Route::json("/ws", AuthMode::Optional)], ..Config::default() };
/// let mut node = Node::new(Arc::new(config), [7; 32], Time::ZERO).unwrap();
///
/// let request = http::Request::get("/ws").body(()).unwrap();
/// let conn = node.open(Time::ZERO, &request).unwrap().conn;
/// node.receive(Time::ZERO, conn, Message::Text(r#"{"type":"ping"}"#));
///
/// assert_eq!(node.poll_flush(), Some(conn));
/// let frames = node.outbox(conn).unwrap();
/// let reply = frames.frames().next().unwrap();
/// assert!(reply.payload().starts_with(br#"{"type":"pong","data":{"status":"ok"}"#));
/// let bytes = frames.bytes();
/// node.written(conn, bytes);
/// ```
#[derive(Debug)]
pub struct Node {
    hub: Hub,
    backplane: Backplane,
    composer: Composer,
    wall: WallClock,
    admission: Admission,
    /// For which address each connection is counted, where that is.
    guests: Table<ConnId, Option<IpAddr>>,
    publishes: u64,
    operations: u64,
    reads: u64,
    flush_told: bool,
    leaving: bool,
}

/// An input of a node as a value, for mailboxes, recorded traces and fuzzers. Each is the method of the same name.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is documented at the method of the same name")]
pub enum Event {
    Open(http::Request<()>),
    Exchange(ExchangeId, http::Request<Bytes>),
    Abandon(ExchangeId),
    Receive(ConnId, OwnedMessage),
    Fail(ConnId, u16),
    Close(ConnId, u16),
    Closed(ConnId, CloseCause),
    Written(ConnId, usize),
    Answer(Ticket, Result<Answer, StoreError>),
    Processed(Ticket, Verdict),
    Snapshot(Ticket, Option<Bytes>),
    WallClock(UnixMillis),
    Drain,
    Tick,
}

/// A client's message as a value; see [`Message`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented at the variant of the same name of Message")]
pub enum OwnedMessage {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    Close(Option<u16>),
}

/// Something the host must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// See [`HubAction::Drop`].
    Drop(ConnId),
    /// See [`HubAction::Respond`].
    Respond(ExchangeId, PollAnswer),
    /// See [`HubAction::Client`].
    Client(ClientEvent),
    /// See [`HubAction::LacksKey`].
    LacksKey,
    /// See [`HubAction::Authorize`].
    Authorize(Petition),
    /// See [`HubAction::Acked`].
    Acked(AckId, Result<Arguments, NoAck>),
    /// See [`BackplaneAction::Store`].
    Store {
        /// Names the question.
        ticket: Ticket,
        /// The connection to use.
        lane: Lane,
        /// What to do.
        op: StoreOp,
    },
    /// See [`BackplaneAction::Interrupt`].
    Interrupt(Lane),
    /// See [`BackplaneAction::Reset`].
    Reset(Lane),
    /// Better flush now, with [`Node::poll_flush`], before the next action: see [`Hub::wants_flush`].
    Flush,
    /// What came of [`Node::publish`] or [`Node::disconnect`].
    Published(PublishId, Published),
    /// See [`BackplaneAction::Process`].
    Process(Delivery),
    /// See [`BackplaneAction::Snapshot`].
    Snapshot(snapshot::Request),
    /// What came of an operation of [`Node::operate`].
    Operated(OperationId, Result<Outcome, Interrupted>),
    /// What all nodes have answered to [`Node::survey`].
    Surveyed(ReadId, Surveyed),
    /// What came of a reading of [`Node::read`].
    Read(ReadId, Result<Page, Unavailable>),
    /// Something for the log.
    Report(Report),
}

impl Node {
    /// A node that begins to work at once.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(config: Arc<Config>, seed: [u8; 32], now: Time) -> Result<Node, ConfigError> {
        let key = ChaCha8Rng::from_seed(derive(seed, b'a')).next_u64();
        Ok(Node {
            hub: Hub::new(config.clone(), ShardId(0), seed)?,
            admission: Admission::new(config.clone(), key),
            guests: Table::new(key),
            backplane: Backplane::new(config, seed, now)?,
            composer: Composer::new(derive(seed, b'n')),
            wall: WallClock::default(),
            publishes: 0,
            operations: 0,
            reads: 0,
            flush_told: false,
            leaving: false,
        })
    }

    /// Takes an input as a value. What a connection that is refused would be told is returned.
    ///
    /// # Errors
    /// See [`Node::open`].
    pub fn handle(&mut self, now: Time, event: Event) -> Result<Option<Opened>, Refused> {
        match event {
            Event::Open(request) => return self.open(now, &request).map(Some),
            Event::Exchange(exchange, request) => self.exchange(now, exchange, &request),
            Event::Abandon(exchange) => self.abandon(now, exchange),
            Event::Receive(conn, message) => self.receive(now, conn, message.borrow()),
            Event::Fail(conn, code) => self.hub.fail(now, conn, code, "protocol error"),
            Event::Close(conn, code) => self.hub.close(now, conn, code, "closed by the host"),
            Event::Closed(conn, cause) => self.closed(now, conn, cause),
            Event::Written(conn, bytes) => self.written(conn, bytes),
            Event::Answer(ticket, answer) => self.answer(now, ticket, answer),
            Event::Processed(ticket, verdict) => self.processed(now, ticket, verdict),
            Event::Snapshot(ticket, data) => self.snapshot(ticket, data),
            Event::WallClock(unix) => self.set_wall_clock(now, unix),
            Event::Drain => self.drain(now),
            Event::Tick => self.tick(now),
        }
        Ok(None)
    }

    /// What the wall clock shows. Given at the start and whenever it may have stepped.
    pub fn set_wall_clock(&mut self, now: Time, unix: UnixMillis) {
        self.wall = WallClock::new(now, unix);
        self.hub.set_wall_clock(now, unix);
        self.backplane.set_wall_clock(now, unix);
    }

    /// Whether [`Action::Report`]s are wanted.
    pub fn set_reporting(&mut self, on: bool) {
        self.hub.set_reporting(on);
        self.backplane.set_reporting(on);
    }

    /// See [`Hub::open`].
    ///
    /// # Errors
    /// See [`Hub::open`].
    pub fn open(&mut self, now: Time, request: &http::Request<()>) -> Result<Opened, Refused> {
        let address = request.extensions().get::<ClientAddress>().map(|address| address.0);
        self.admission.connect(now, address)?;
        let opened = self.hub.open(now, request).inspect_err(|_| self.admission.disconnected(address))?;
        if self.admission.counts_sockets() {
            self.guests.insert(opened.conn, address);
        }
        Ok(opened)
    }

    /// The socket of a connection is gone.
    fn dismiss(&mut self, conn: ConnId) {
        if let Some(address) = self.guests.remove(&conn) {
            self.admission.disconnected(address);
        }
    }

    /// See [`Hub::exchange`].
    pub fn exchange(&mut self, now: Time, exchange: ExchangeId, request: &http::Request<Bytes>) {
        let Node { hub, admission, .. } = self;
        hub.exchange(now, exchange, request, |address| admission.identify(now, address));
    }

    /// See [`Hub::abandon`].
    pub fn abandon(&mut self, now: Time, exchange: ExchangeId) {
        self.hub.abandon(now, exchange);
    }

    /// See [`Hub::receive`].
    pub fn receive(&mut self, now: Time, conn: ConnId, message: Message<'_>) {
        self.hub.receive(now, conn, message);
    }

    /// See [`Hub::closed`].
    pub fn closed(&mut self, now: Time, conn: ConnId, cause: CloseCause) {
        self.dismiss(conn);
        self.hub.closed(now, conn, cause);
    }

    /// See [`Hub::set_hosted`].
    pub fn set_hosted(&mut self, on: bool) {
        self.hub.set_hosted(on);
    }

    /// See [`Hub::emit`].
    pub fn emit(&mut self, now: Time, conn: ConnId, event: &str, args: &Arguments) {
        self.hub.emit(now, conn, event, args);
    }

    /// See [`Hub::emit_with_ack`].
    pub fn emit_with_ack(&mut self, now: Time, conn: ConnId, event: &str, args: &Arguments, within: Duration, ack: AckId) {
        self.hub.emit_with_ack(now, conn, event, args, within, ack);
    }

    /// See [`Hub::acknowledge`].
    pub fn acknowledge(&mut self, now: Time, conn: ConnId, ack: u64, args: &Arguments) {
        self.hub.acknowledge(now, conn, ack, args);
    }

    /// Publishes a message to a room, on all nodes. [`Action::Published`] tells what came of it.
    pub fn publish(&mut self, now: Time, room: &str, message: &Outgoing<'_>) -> PublishId {
        self.publishes += 1;
        let id = PublishId(self.publishes);
        let payload = self.composer.envelope(room, message, self.wall.unix(now)).payload;
        self.backplane.ask(
            now,
            ShardId::LOCAL,
            Ask::Publish(Publish { id, room: room.into(), payload, once: message.message_id.map(Box::from) }),
        );
        id
    }

    /// Closes every connection of a user, on all nodes. [`Action::Published`] tells whether the store has it.
    pub fn disconnect(&mut self, now: Time, user: &str) -> PublishId {
        self.publishes += 1;
        let id = PublishId(self.publishes);
        self.backplane.ask(now, ShardId::LOCAL, Ask::Disconnect { id, user: user.into() });
        id
    }

    /// Has something done with the dead letters of a source, which is named by its index in the configuration.
    /// [`Action::Operated`] tells what came of it.
    pub fn operate(&mut self, now: Time, source: usize, request: Request) -> OperationId {
        self.operations += 1;
        let id = OperationId(self.operations);
        self.backplane.operate(now, id, source, request);
        id
    }

    /// Reads at most `count` messages of what a room remembers. [`Action::Read`] tells what came of it; a room that remembers
    /// nothing cannot be read.
    pub fn read(&mut self, now: Time, room: &str, query: Query, count: usize) -> ReadId {
        self.reads += 1;
        let read = ReadId(self.reads);
        self.backplane.ask(now, ShardId::LOCAL, Ask::Read { read, room: room.into(), query, count });
        read
    }

    /// See [`Hub::decide`].
    pub fn decide(&mut self, now: Time, petition: PetitionId, allowed: bool) {
        self.hub.decide(now, petition, allowed);
    }

    /// Revokes tokens, on all nodes. [`Action::Surveyed`] tells how many connections were closed, and of how many nodes: once all that
    /// were asked have answered, no connection with such a token is sent anything any more. Where the store is away, the others
    /// learn of it when it is back.
    pub fn revoke(&mut self, now: Time, subject: Subject) -> ReadId {
        let revocation = Revocation::new(subject, self.wall.unix(now), self.hub.revoked_for());
        self.survey(now, Question::Revoke(revocation))
    }

    /// Asks all nodes what they have. [`Action::Surveyed`] tells what came of it.
    pub fn survey(&mut self, now: Time, question: Question) -> ReadId {
        self.reads += 1;
        let read = ReadId(self.reads);
        self.backplane.ask(now, ShardId::LOCAL, Ask::Survey { read, question });
        read
    }

    /// See [`Backplane::answer`].
    pub fn answer(&mut self, now: Time, ticket: Ticket, answer: Result<Answer, StoreError>) {
        self.backplane.answer(now, ticket, answer);
    }

    /// See [`Backplane::processed`].
    pub fn processed(&mut self, now: Time, ticket: Ticket, verdict: Verdict) {
        self.backplane.processed(now, ticket, verdict);
    }

    /// See [`Backplane::provide_snapshots`].
    pub fn provide_snapshots(&mut self, rooms: Vec<Pattern>) {
        self.backplane.provide_snapshots(rooms);
    }

    /// See [`Backplane::snapshot`].
    pub fn snapshot(&mut self, ticket: Ticket, data: Option<Bytes>) {
        self.backplane.snapshot(ticket, data);
    }

    /// Time has passed: whatever is due is done.
    pub fn tick(&mut self, now: Time) {
        self.hub.tick(now);
        self.backplane.tick(now);
    }

    /// Begins to end the node: see [`Hub::drain`] and [`Backplane::drain`]. What follows comes as actions, until it
    /// [`is_drained`](Node::is_drained).
    pub fn drain(&mut self, now: Time) {
        self.hub.drain(now, 1);
        self.backplane.drain(now);
    }

    /// Whether, after [`Node::drain`], no connection is left and everything has come to its end. While the store does not answer
    /// it has not: how long to wait is the host's decision.
    pub fn is_drained(&self) -> bool {
        self.backplane.is_drained()
    }

    /// The next action.
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        loop {
            // Said once for each time: a host that goes on regardless only risks that readers count as slow.
            let told = core::mem::replace(&mut self.flush_told, self.hub.wants_flush());
            if self.flush_told && !told {
                return Some(Action::Flush);
            }
            match self.hub.poll_action() {
                Some(HubAction::Ask(ask)) => self.backplane.ask(now, ShardId(0), ask),
                Some(HubAction::Drop(conn)) => {
                    self.dismiss(conn);
                    return Some(Action::Drop(conn));
                }
                Some(HubAction::Enter { conn, user }) => {
                    if self.admission.enter(&user).is_err() {
                        self.hub.turn_away(now, conn);
                    }
                }
                Some(HubAction::Left { user }) => self.admission.left(&user),
                Some(HubAction::SessionGone { address }) => self.admission.forget(address),
                Some(HubAction::Respond(exchange, answer)) => return Some(Action::Respond(exchange, answer)),
                Some(HubAction::Client(event)) => return Some(Action::Client(event)),
                Some(HubAction::LacksKey) => return Some(Action::LacksKey),
                Some(HubAction::Authorize(petition)) => return Some(Action::Authorize(petition)),
                Some(HubAction::Acked(ack, result)) => return Some(Action::Acked(ack, result)),
                Some(HubAction::Report(report)) => return Some(Action::Report(report)),
                None if self.hub.is_drained() && !self.leaving => {
                    self.leaving = true;
                    self.backplane.leave(now);
                }
                None => match self.backplane.poll_action(now)? {
                    BackplaneAction::Tell(ShardId::LOCAL, Tell::Published { id, result }) => {
                        return Some(Action::Published(id, result));
                    }
                    BackplaneAction::Tell(ShardId::LOCAL, Tell::Surveyed { read, result }) => {
                        return Some(Action::Surveyed(read, result));
                    }
                    BackplaneAction::Tell(ShardId::LOCAL, Tell::Page { read, result }) => {
                        return Some(Action::Read(read, result));
                    }
                    BackplaneAction::Tell(_, tell) => self.hub.tell(now, tell),
                    BackplaneAction::Revoked(revoked) => self.hub.tell(now, Tell::Revoked(revoked)),
                    BackplaneAction::Store { ticket, lane, op } => return Some(Action::Store { ticket, lane, op }),
                    BackplaneAction::Interrupt(lane) => return Some(Action::Interrupt(lane)),
                    BackplaneAction::Reset(lane) => return Some(Action::Reset(lane)),
                    BackplaneAction::Process(delivery) => return Some(Action::Process(delivery)),
                    BackplaneAction::Snapshot(request) => return Some(Action::Snapshot(request)),
                    BackplaneAction::Operated(id, outcome) => return Some(Action::Operated(id, outcome)),
                    BackplaneAction::Report(report) => return Some(Action::Report(report)),
                },
            }
        }
    }

    /// See [`Hub::poll_flush`]. Messages reach the outboxes while actions are polled, so poll those first.
    pub fn poll_flush(&mut self) -> Option<ConnId> {
        self.hub.poll_flush()
    }

    /// See [`Hub::outbox`].
    pub fn outbox(&self, conn: ConnId) -> Option<Outbox<'_>> {
        self.hub.outbox(conn)
    }

    /// See [`Hub::written`].
    pub fn written(&mut self, conn: ConnId, bytes: usize) {
        self.hub.written(conn, bytes);
    }

    /// When [`Node::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.hub.next_deadline(), self.backplane.next_deadline()].into_iter().flatten().min()
    }

    /// The hub, for what this type does not repeat.
    pub fn hub(&mut self) -> &mut Hub {
        &mut self.hub
    }

    /// The counters of both halves.
    pub fn stats(&self) -> Stats {
        let mut stats = self.hub.stats();
        stats.add(self.backplane.stats());
        stats.add(self.admission.stats());
        stats
    }

    /// See [`Backplane::sources`].
    pub fn sources(&mut self) -> Arc<[SourceHealth]> {
        self.backplane.sources()
    }

    /// See [`Backplane::unready`].
    pub fn unready(&self) -> Vec<String> {
        self.backplane.unready()
    }
}

impl OwnedMessage {
    /// The message as the methods take it.
    pub fn borrow(&self) -> Message<'_> {
        match self {
            OwnedMessage::Text(text) => Message::Text(text),
            OwnedMessage::Binary(bytes) => Message::Binary(bytes),
            OwnedMessage::Ping(bytes) => Message::Ping(bytes),
            OwnedMessage::Pong => Message::Pong,
            OwnedMessage::Close(code) => Message::Close(*code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_room_remembers_is_read() {
        let mut node = Node::new(Arc::new(Config::default()), [7; 32], Time::ZERO).unwrap();
        let read = |node: &mut Node, room: &str| node.read(Time::ZERO, room, Query::Newest, 5);
        let (one, other) = (read(&mut node, "project:1"), read(&mut node, "a room that remembers nothing"));
        let (mut asked, mut told) = (Vec::new(), Vec::new());
        let mut poll = |node: &mut Node| {
            while let Some(action) = node.poll_action(Time::ZERO) {
                match action {
                    Action::Store { ticket, op: StoreOp::Page { count: 5, .. }, .. } => asked.push(ticket),
                    Action::Read(read, result) => told.push((read, result)),
                    _ => {}
                }
            }
            (asked.clone(), told.clone())
        };
        let (asked, told) = poll(&mut node);
        assert_eq!(told, [(other, Err(Unavailable))]);
        let page = Page { messages: Vec::new(), head: Default::default(), whole: true };
        node.answer(Time::ZERO, asked[0], Ok(Answer::Page(page.clone())));
        assert_eq!(poll(&mut node).1[1], (one, Ok(page)));
    }
}
