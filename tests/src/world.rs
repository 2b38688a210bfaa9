//! The World: several nodes, a store, clients, one virtual clock, and faults. Tests read like sentences:
//!
//! ```
//! use roomcast_tests::world::World;
//!
//! let mut world = World::new(7, 2);
//! let alice = world.connect(0, "alice");
//! let bob = world.connect(1, "bob");
//! world.subscribe(alice, "workspace:w");
//! world.subscribe(bob, "workspace:w");
//! world.settle();
//!
//! world.file_event("w");
//! world.settle();
//! assert_eq!(world.seen(alice, "workspace:w"), world.seen(bob, "workspace:w"));
//! assert_eq!(world.seen(alice, "workspace:w").len(), 1);
//! ```
//!
//! Every step checks the oracles ([`oracle`]): one for each line of the contract that applies so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use roomcast_core::address::ClientAddress;
use roomcast_core::config::{AccessRule, AuthMode, Config, Route, Secret, Who};
use roomcast_core::dead_letter::{Interrupted, OperationId, Outcome};
use roomcast_core::door::{PublishId, Published};
use roomcast_core::id::{ConnId, StreamId, Ticket};
use roomcast_core::node::{Action, Node, OwnedMessage};
use roomcast_core::store::memory::{ClientId, Memory};
use roomcast_core::store::{Answer, Lane, StoreError, StoreOp};
use roomcast_core::survey::Surveyed;
use roomcast_core::time::{Time, UnixMillis};

pub mod batches;
mod channels;
mod client;
mod clients;
pub mod commands;
mod dead_letters;
mod digest;
mod faults;
mod frames;
mod host;
mod jobs;
mod operators;
pub mod oracle;
pub mod policy;
pub mod processing;
mod publishing;
mod socketio;
pub mod swarm;
mod tokens;

use client::Client;
use digest::Digest;
use host::{Host, Peer};
use oracle::Oracles;
use socketio::{Letter, Sessions};

pub use socketio::{SessionNumber, Transport};

/// Where the wall clock starts.
pub const WALL_START: UnixMillis = UnixMillis(1_800_000_000_000);
/// The stream of file events and its group.
pub const SOURCE: (&str, &str) = ("stream:file-events", "websocket-consumers");
/// Its dead letters.
pub const DEAD_LETTERS: &str = "stream:file-events-dlq";

/// Several nodes on one store, and their clients.
#[derive(Debug)]
pub struct World {
    now: Time,
    config: Config,
    rng: ChaCha8Rng,
    memory: Memory,
    /// The store as a replica knows it, where there is one.
    replica: Option<Memory>,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    sessions: Sessions,
    events: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    /// The entries that were added to the source, with what each should become.
    added: BTreeMap<StreamId, batches::Expected>,
    /// The same of the command stream.
    commands: BTreeMap<StreamId, commands::Expected>,
    /// What should have become of commands that had to be dead-lettered.
    doomed: BTreeMap<StreamId, commands::Expected>,
    events_made: u64,
    /// When each of them was.
    made_at: BTreeMap<u64, Time>,
    policy: policy::Policy,
    /// Messages published by nodes whose outcome is not known yet: node and its number for it, to the number it carries, and its
    /// room.
    publishing: BTreeMap<(usize, PublishId), (u64, String)>,
    /// Messages that publishers have said on a channel, for rooms that remember nothing: no log has them.
    said: BTreeSet<u64>,
    /// What came of those that were published, by the number that each carries.
    outcomes: BTreeMap<u64, Published>,
    /// Entries that nodes have handed over and the test has not asked for yet.
    handed: Vec<processing::Handed>,
    /// What came of operations on dead letters: node and its number for it.
    operated: BTreeMap<(usize, OperationId), Result<Outcome, Interrupted>>,
    /// What came of the last survey.
    surveyed: Option<Surveyed>,
    oracles: Oracles,
    digest: Digest,
}

/// A client of the World.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientNumber(usize);

/// Something on its way.
#[derive(Debug)]
enum Happening {
    /// An operation reaches the store.
    Operation { client: ClientId, lane: Lane, ticket: Ticket, op: StoreOp },
    /// The wish to end a blocking read reaches the store.
    Interruption { client: ClientId, lane: Lane },
    /// An answer reaches a node, unless that node's connection is another by now.
    Answer { node: usize, boot: u32, ticket: Ticket, answer: Result<Answer, StoreError> },
    /// A client's message reaches a node.
    Upstream { peer: Peer, session: u32, message: OwnedMessage },
    /// A request of a client that polls reaches a node, or its answer the client.
    Letter { engine: usize, session: u32, letter: Letter },
}

impl World {
    /// Nodes that run, on an empty store. The seed decides delays, identifiers and jitter.
    pub fn new(seed: u64, nodes: usize) -> World {
        World::with(seed, nodes, World::usual())
    }

    /// The usual configuration.
    pub fn usual() -> Config {
        let mut config = Config::default();
        config.routes.push(Route::json("/open", AuthMode::Optional));
        config.access.push(AccessRule::new("*", Who::Authenticated, Who::Admin));
        config.relay.partitions = 4;
        config
    }

    /// The same with a configuration of its own.
    pub fn with(seed: u64, nodes: usize, mut config: Config) -> World {
        config.auth.secret.get_or_insert(Secret::new("the World's"));
        let mut world = World {
            now: Time::from_micros(1_000_000),
            rng: ChaCha8Rng::seed_from_u64(seed),
            memory: Memory::new(config.relay.length as usize),
            replica: None,
            config,
            hosts: Vec::new(),
            clients: Vec::new(),
            sessions: Sessions::default(),
            events: BTreeMap::new(),
            sequence: 0,
            added: BTreeMap::new(),
            commands: BTreeMap::new(),
            doomed: BTreeMap::new(),
            events_made: 0,
            made_at: BTreeMap::new(),
            policy: policy::Policy::default(),
            publishing: BTreeMap::new(),
            said: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            handed: Vec::new(),
            operated: BTreeMap::new(),
            surveyed: None,
            oracles: Oracles::default(),
            digest: Digest::default(),
        };
        for node in 0..nodes {
            let host = world.boot(node, 0);
            world.hosts.push(host);
            world.pump(node);
        }
        world.settle();
        world
    }

    // ---- publishers -----------------------------------------------------------------------------------------------------

    /// A publisher adds a batch with one event for a workspace.
    pub fn file_event(&mut self, workspace: &str) -> StreamId {
        self.add_batch(&[workspace], batches::Form::Plain)
    }

    /// A publisher adds a batch with one event for each workspace named.
    pub fn add_batch(&mut self, workspaces: &[&str], form: batches::Form) -> StreamId {
        let numbers: Vec<u64> = workspaces.iter().map(|_| self.next_number()).collect();
        let (fields, expected) = batches::batch(workspaces, &numbers, form);
        let id = self.memory.add(self.now, SOURCE.0, fields);
        self.added.insert(id, expected);
        self.after_store();
        id
    }

    // ---- time -----------------------------------------------------------------------------------------------------------

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets everything that is under way arrive: 100 virtual milliseconds, far more than any delay.
    pub fn settle(&mut self) {
        self.run(Duration::from_millis(100));
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.next_moment().filter(|at| *at <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    /// Heals everything and lets the time pass in which promises must come true, then holds the nodes to them.
    pub fn converge(&mut self) {
        self.set_full(false);
        for node in 0..self.hosts.len() {
            self.heal_store(node);
            self.restart(node);
        }
        for client in 0..self.clients.len() {
            self.set_reading(ClientNumber(client), true);
        }
        // Long enough for every time-out, back-off and claim; longer for an entry that has failed several times before.
        let claim_after = self.config.sources.first().map_or(Duration::from_secs(15), |source| source.claim_after);
        self.run(claim_after * 4);
        self.forget_lost_sessions();
        for _ in 0..1 << self.deliveries().min(6) {
            if self.pending() > 0 {
                self.run(claim_after);
            }
        }
        oracle::converged(self);
    }

    /// A number that two runs share exactly when they did the same, byte for byte.
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// Entries of the sources that are pending.
    pub fn pending(&self) -> usize {
        [SOURCE, commands::SOURCE].into_iter().map(|(stream, group)| self.memory.pending(stream, group).count()).sum()
    }

    /// How often the entry has been delivered that is pending and was delivered most often.
    pub fn deliveries(&self) -> u32 {
        self.memory.pending(SOURCE.0, SOURCE.1).map(|(_, pending)| pending.deliveries).max().unwrap_or_default()
    }

    /// Entries in the dead-letter streams.
    pub fn dead_letters(&self) -> usize {
        [DEAD_LETTERS, commands::DEAD_LETTERS].into_iter().map(|stream| self.memory.entries(stream).count()).sum()
    }

    /// Why a node is not ready.
    pub fn unready(&self, node: usize) -> Vec<String> {
        self.hosts[node].peek().map(|node| node.unready()).unwrap_or_default()
    }

    /// Adds up the counters of the nodes that run.
    pub fn stats(&self) -> roomcast_core::stats::Stats {
        let mut sum = roomcast_core::stats::Stats::default();
        self.hosts.iter().filter_map(Host::peek).for_each(|node| sum.add(&node.stats()));
        sum
    }

    // ---- the machinery --------------------------------------------------------------------------------------------------

    fn step(&mut self) {
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Happening::Operation { client, lane, ticket, op } => {
                    self.memory.submit(self.now, client, lane, ticket, op);
                }
                Happening::Interruption { client, lane } => self.memory.interrupt(client, lane),
                Happening::Answer { node, boot, ticket, answer } => {
                    let host = &mut self.hosts[node];
                    if host.boot == boot {
                        host.in_flight.remove(&ticket);
                        let now = self.now;
                        if let Some(running) = host.node() {
                            running.answer(now, ticket, answer);
                        }
                        self.pump(node);
                    }
                }
                Happening::Upstream { peer, session, message } => self.upstream(peer, session, &message),
                Happening::Letter { engine, session, letter } => self.arrive(engine, session, letter),
            }
            self.after_store();
        }
        self.memory.tick(self.now);
        self.after_store();
        for node in 0..self.hosts.len() {
            let now = self.now;
            if let Some(running) = self.hosts[node].node()
                && running.next_deadline().is_some_and(|at| at <= now)
            {
                running.tick(now);
                self.pump(node);
            }
        }
        self.note_tokens();
        oracle::after_step(self);
    }

    fn send_message(&mut self, peer: Peer, message: OwnedMessage) {
        let delay = self.delay();
        let (session, last_arrival) = match peer {
            Peer::Client(client) => (self.clients[client].session(), &mut self.clients[client].last_arrival),
            Peer::Engine(engine) => {
                let engine = &mut self.sessions.engines[engine];
                (engine.session, &mut engine.last_arrival)
            }
        };
        // What a client sends arrives in its order.
        let at = (self.now + delay).max(*last_arrival);
        *last_arrival = at;
        self.schedule(at, Happening::Upstream { peer, session, message });
    }

    fn upstream(&mut self, peer: Peer, session: u32, message: &OwnedMessage) {
        let Some((node, conn)) = self.place(peer).filter(|_| self.session(peer) == session) else { return };
        let now = self.now;
        if let Some(running) = self.hosts[node].node() {
            running.receive(now, conn, message.borrow());
        }
        self.pump(node);
    }

    /// Does what a node wants done, until it wants nothing more.
    fn pump(&mut self, node: usize) {
        loop {
            let now = self.now;
            let poll = |running: &mut Node| running.poll_action(now);
            let mut action = self.hosts[node].node().and_then(poll);
            if action.is_none() {
                self.flush(node);
                // What is written may be a connection's last word, after which it is dropped; and who polls is answered.
                action = self.hosts[node].node().and_then(poll);
            }
            let Some(action) = action else { return };
            self.digest.add(node, &action);
            self.perform(node, action);
        }
    }

    fn perform(&mut self, node: usize, action: Action) {
        match action {
            Action::Process(delivery) => self.hand(node, delivery),
            // The World knows no states of rooms.
            Action::Snapshot(request) => panic!("{request:?}"),
            Action::LacksKey => {}
            Action::Authorize(petition) => self.policy.ask((node, self.hosts[node].boot), petition),
            Action::Respond(exchange, answer) => self.respond(exchange, answer),
            Action::Client(event) => self.told_host(event),
            Action::Acked(ack, result) => self.client_acked(ack, result),
            Action::Store { ticket, lane, op } => self.submit(node, ticket, lane, op),
            Action::Interrupt(lane) => {
                let at = self.hosts[node].arrival(lane, self.now);
                let client = self.hosts[node].store;
                self.schedule(at, Happening::Interruption { client, lane });
            }
            Action::Reset(lane) => {
                let (boot, now) = (self.hosts[node].boot, self.now);
                for ticket in self.hosts[node].drop_in_flight(Some(lane)) {
                    let answer = Err(StoreError::Disconnected("reset".into()));
                    self.schedule(now, Happening::Answer { node, boot, ticket, answer });
                }
                self.memory.deafen(self.hosts[node].store, lane);
                // Half of the time the server learns at once that the reader is gone; else it goes on to wait, and what
                // it then delivers is pending without anyone having seen it.
                if self.rng.next_u32().is_multiple_of(2) {
                    self.memory.interrupt(self.hosts[node].store, lane);
                    self.after_store();
                }
            }
            Action::Drop(conn) => match self.hosts[node].forget(conn) {
                Some(Peer::Client(client)) => drop(self.clients[client].disconnect()),
                Some(Peer::Engine(engine)) => self.dropped(engine),
                None => {}
            },
            Action::Flush => self.flush(node),
            Action::Published(id, result) => self.published(node, id, result),
            Action::Surveyed(_, surveyed) => self.surveyed = Some(surveyed),
            Action::Operated(id, outcome) => drop(self.operated.insert((node, id), outcome)),
            Action::Read(..) | Action::Report(_) => {}
        }
    }

    /// Writes to every client that has something new.
    fn flush(&mut self, node: usize) {
        while let Some(conn) = self.hosts[node].node().and_then(Node::poll_flush) {
            if let Some(peer) = self.hosts[node].peer_of(conn) {
                self.write(peer);
            }
        }
    }

    /// Writes what waits for a client, in pieces of any size, as a socket would.
    fn write(&mut self, peer: Peer) {
        let Some((node, conn)) = self.place(peer) else { return };
        while self.reads(peer) {
            let Some(running) = self.hosts[node].node() else { return };
            let Some(outbox) = running.outbox(conn) else { break };
            let whole: Vec<u8> = outbox.pieces().flatten().copied().collect();
            let length = match self.rng.next_u32() % 4 {
                0 => 1 + self.rng.next_u32() as usize % whole.len(),
                _ => whole.len(),
            };
            running.written(conn, length);
            self.digest.bytes(peer, &whole[..length]);
            let marks = self.oracles.lengths();
            match peer {
                Peer::Client(client) => {
                    if let Some(reply) = self.clients[client].receive(&whole[..length], &marks) {
                        self.send_message(peer, reply);
                    }
                }
                Peer::Engine(engine) => self.read(engine, &whole[..length], &marks),
            }
        }
        let Some(running) = self.hosts[node].node() else { return };
        oracle::bounds(running, conn, &self.config);
    }

    /// Where a client's WebSocket is, if it has one.
    fn place(&self, peer: Peer) -> Option<(usize, ConnId)> {
        match peer {
            Peer::Client(client) => self.clients[client].place(),
            Peer::Engine(engine) => self.sessions.engines[engine].place(),
        }
    }

    fn session(&self, peer: Peer) -> u32 {
        match peer {
            Peer::Client(client) => self.clients[client].session(),
            Peer::Engine(engine) => self.sessions.engines[engine].session,
        }
    }

    fn reads(&self, peer: Peer) -> bool {
        match peer {
            Peer::Client(client) => self.clients[client].reads,
            Peer::Engine(engine) => self.sessions.engines[engine].reads,
        }
    }

    fn submit(&mut self, node: usize, ticket: Ticket, lane: Lane, op: StoreOp) {
        let boot = self.hosts[node].boot;
        let delay = self.delay();
        if self.hosts[node].cut {
            let answer = Err(StoreError::Disconnected("cut".into()));
            return self.schedule(self.now + delay, Happening::Answer { node, boot, ticket, answer });
        }
        // A connection keeps its order.
        let at = self.hosts[node].arrival(lane, self.now + delay);
        self.hosts[node].in_flight.insert(ticket, lane);
        let client = self.hosts[node].store;
        self.schedule(at, Happening::Operation { client, lane, ticket, op });
    }

    /// The store may have new answers and new entries.
    fn after_store(&mut self) {
        while let Some((client, ticket, answer)) = self.memory.poll_answer() {
            let Some(node) = self.hosts.iter().position(|host| host.store == client) else { continue };
            let delay = self.delay();
            let host = &mut self.hosts[node];
            let Some(lane) = host.in_flight.get(&ticket).copied() else { continue };
            let at = host.departure(lane, self.now + delay);
            let boot = host.boot;
            self.schedule(at, Happening::Answer { node, boot, ticket, answer });
        }
        self.oracles.observe(&self.memory, self.config.relay.partitions);
    }

    fn open(&mut self, node: usize, path: &str, user: Option<&str>) -> ClientNumber {
        self.open_with(node, path, user, None)
    }

    /// The same with a token of its own, in place of the one that the user usually has.
    fn open_with(&mut self, node: usize, path: &str, user: Option<&str>, token: Option<String>) -> ClientNumber {
        let number = self.clients.len();
        let mut client = Client::new(user);
        client.token = token;
        self.clients.push(client);
        self.attach(number, node, path);
        ClientNumber(number)
    }

    fn attach(&mut self, number: usize, node: usize, path: &str) {
        let mut request = http::Request::get(path);
        let Client { token, user, .. } = &self.clients[number];
        let usual = || Some(self.hosts[node].token(user.as_deref()?, &self.config));
        let token = token.clone().or_else(usual);
        if let Some(token) = &token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut request = request.body(()).expect("the request is well formed");
        if let Some(address) = self.clients[number].address {
            request.extensions_mut().insert(ClientAddress(address));
        }
        let now = self.now;
        if let Some(running) = self.hosts[node].node()
            && let Ok(opened) = running.open(now, &request)
        {
            self.clients[number].attach(node, opened.conn);
            self.hosts[node].attach(opened.conn, Peer::Client(number));
            self.note_session(number, token.as_deref(), now, true);
            self.pump(node);
        }
    }

    fn boot(&mut self, node: usize, boot: u32) -> Host {
        let mut config = self.config.clone();
        config.node = format!("node-{node}-{boot}");
        let store = self.memory.connect(&config.node);
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let rules = (self.now, config.access.clone());
        let mut running = Node::new(Arc::new(config), seed, self.now).expect("the configuration is valid");
        running.set_wall_clock(self.now, WALL_START + (self.now - Time::ZERO));
        running.set_reporting(true);
        Host::new(running, store, boot, rules)
    }

    fn next_moment(&self) -> Option<Time> {
        let events = self.events.first_key_value().map(|((at, _), _)| *at);
        let nodes = self.hosts.iter().filter_map(|host| host.peek()?.next_deadline());
        nodes.chain(events).chain(self.memory.next_deadline()).min()
    }

    fn schedule(&mut self, at: Time, what: Happening) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), what);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(50 + u64::from(self.rng.next_u32() % 3_000))
    }

    fn next_number(&mut self) -> u64 {
        self.events_made += 1;
        self.made_at.insert(self.events_made, self.now);
        self.events_made
    }
}
