//! The store's side of a node: reads sources, publishes, and relays the rooms' messages to the hubs.
//!
//! It decides what is read, acknowledged, retried, dead-lettered and relayed; it knows nothing of connections.
//! Every question to the store has a ticket and a deadline kept here: a lost answer costs a time-out, a late one is ignored.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::config::{Config, ConfigError, Keep};
use crate::dead_letter::{Interrupted, OperationId, Outcome, Request};
use crate::door::{Ask, Tell, Unavailable};
use crate::health::SourceHealth;
use crate::id::{ShardId, Ticket};
use crate::message::{Composer, RoomName};
use crate::pattern::Pattern;
use crate::processor::{Delivery, Verdict};
use crate::report::Report;
use crate::snapshot;
use crate::stats::Stats;
use crate::store::{Answer, Kept, Lane, Once, Place, Posting, StoreError, StoreOp};
use crate::survey::Question;
use crate::time::{Time, UnixMillis, WallClock};
use crate::token::Revoked;

mod backoff;
mod channels;
mod consumer;
mod drain;
mod operator;
mod outbound;
mod pause;
mod presence;
mod probe;
mod questions;
mod reading;
mod relay;
mod revocations;
mod router;
mod run;
mod sessions;
mod surveys;
mod tail;
#[cfg(test)]
mod tests;

use channels::{Audience, Channels};
use consumer::Consumer;
use operator::Operator;
use outbound::Outbound;
use presence::Presence;
use probe::Probe;
use questions::{Purpose, Questions, Wake};
use relay::Relay;
use revocations::{Revocations, Revoking};
use run::Run;
use sessions::{Saving, Sessions};
use surveys::Surveys;
use tail::Tail;

/// The store's side of a node.
///
/// Inputs are the methods that take `now`; what is to be done comes out of [`Backplane::poll_action`]. Any method may be
/// called at any time, in any order.
#[derive(Debug)]
pub struct Backplane {
    core: Core,
    relay: Relay,
    sessions: Sessions,
    tail: Tail,
    outbound: Outbound,
    probe: Probe,
    channels: Channels,
    surveys: Surveys,
    revocations: Revocations,
    consumers: Vec<Consumer>,
    sources: Arc<[SourceHealth]>,
    operator: Operator,
    presence: Presence,
    /// No hub asks for anything any more.
    leaving: bool,
}

/// Something the host must do for the backplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackplaneAction {
    /// Tell a hub.
    Tell(ShardId, Tell),
    /// Carry an operation out on a lane and give its answer back with the ticket.
    Store {
        /// Names the question.
        ticket: Ticket,
        /// The connection to use.
        lane: Lane,
        /// What to do.
        op: StoreOp,
    },
    /// End the blocking read of a lane, so that it is answered at once, with nothing if need be.
    Interrupt(Lane),
    /// Drop a lane's connection: it no longer answers. What still waits on it may be answered with an error or not at all.
    Reset(Lane),
    /// Hand an entry to the host's code, and give its verdict back with [`Backplane::processed`].
    Process(Delivery),
    /// Ask the host's code for the state of a room, and give its answer with [`Backplane::snapshot`].
    Snapshot(snapshot::Request),
    /// Tell every hub with [`Tell::Revoked`], and refuse these tokens elsewhere.
    Revoked(Arc<Revoked>),
    /// What came of an operation on dead letters.
    Operated(OperationId, Result<Outcome, Interrupted>),
    /// Something for the log.
    Report(Report),
}

/// What all parts of the backplane share: the questions under way, the actions, the dice and the counters.
#[derive(Debug)]
struct Core {
    actions: VecDeque<BackplaneAction>,
    questions: Questions,
    composer: Composer,
    rng: ChaCha8Rng,
    wall: WallClock,
    stats: Stats,
    /// Whether the store is away, as far as is known.
    away: bool,
    reporting: bool,
    /// Whether more is known of the sources than has been said.
    sources_changed: bool,
    config: Arc<Config>,
}

impl Backplane {
    /// A backplane that begins to work at once: its first actions create the consumer groups.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(config: Arc<Config>, seed: [u8; 32], now: Time) -> Result<Backplane, ConfigError> {
        config.validate()?;
        let mut core = Core {
            actions: VecDeque::new(),
            questions: Questions::new(config.relay.timeout),
            composer: Composer::new(derive(seed, b'c')),
            rng: ChaCha8Rng::from_seed(derive(seed, b'r')),
            wall: WallClock::default(),
            stats: Stats::default(),
            away: true,
            reporting: false,
            sources_changed: true,
            config: config.clone(),
        };
        let mut consumers: Vec<Consumer> =
            (0..).zip(&config.sources).map(|(index, source)| Consumer::new(index, source.clone(), &config)).collect();
        let (mut probe, mut presence) = (Probe::new(), Presence::new(&mut core));
        probe.ask(&mut core, now, None, None);
        presence.start(&mut core, now);
        for consumer in &mut consumers {
            consumer.start(&mut core, now);
        }
        let key = u64::from_le_bytes([seed[0], seed[1], seed[2], seed[3], 0, 0, 0, 0]);
        let relay = Relay::new(&mut core, &config, key, now);
        let mut channels = Channels::new(&config, key);
        channels.start(&mut core, now);
        let tail = Tail::new(&config, key);
        let (outbound, operator) = (Outbound::new(&config.relay), Operator::new(&config.sources));
        let (sessions, mut revocations) = (Sessions::default(), Revocations::default());
        revocations.read(&mut core, now, true);
        let (surveys, sources, leaving) = (Surveys::new(), Arc::default(), false);
        Ok(Backplane {
            core,
            relay,
            sessions,
            tail,
            outbound,
            probe,
            channels,
            surveys,
            revocations,
            consumers,
            operator,
            presence,
            sources,
            leaving,
        })
    }

    /// What the wall clock shows; envelopes of source events carry it. Given at the start and whenever it may have stepped.
    pub fn set_wall_clock(&mut self, now: Time, unix: UnixMillis) {
        self.core.wall = WallClock::new(now, unix);
    }

    /// How many hubs the node has; one by default.
    pub fn set_hubs(&mut self, hubs: u8) {
        self.surveys.set_hubs(hubs);
    }

    /// Whether [`BackplaneAction::Report`]s are wanted. They are not by default.
    pub fn set_reporting(&mut self, on: bool) {
        self.core.reporting = on;
    }

    /// A hub asks.
    pub fn ask(&mut self, now: Time, shard: ShardId, ask: Ask) {
        let Backplane { core, relay, tail, .. } = self;
        let is_stream = |core: &Core, room: &str| core.config.stream(room).is_some();
        match ask {
            Ask::Join { room, join } if is_stream(core, &room) => tail.join(core, now, shard, room, join),
            Ask::Join { room, join } => relay.join(core, now, shard, room, join),
            Ask::Leave { room } if is_stream(core, &room) => tail.leave(core, shard, &room),
            Ask::Leave { room } => relay.leave(shard, &room),
            Ask::Publish(publish) if core.away && core.config.is_local(&publish.room) => relay.tell_here(core, shard, publish),
            Ask::Disconnect { id, user } => self.outbound.disconnect(core, now, (shard, id), user),
            Ask::Publish(publish) => self.outbound.publish(core, now, shard, publish),
            Ask::Read { read, room, query, count } if is_stream(core, &room) => {
                tail.page(core, now, (shard, read), room, query, count);
            }
            Ask::Remember { conn, token, places, over, ttl } => {
                self.sessions.save(core, now, Saving { conn, token, places, over, ttl });
            }
            Ask::Restore { conn, token } => self.sessions.restore(core, now, conn, token),
            Ask::Present { room, user, connections } => self.presence.present(shard, room, user, connections),
            Ask::Who { read, room } => self.presence.who(core, now, shard, read, room),
            Ask::Read { read, room, query, count } => relay.page(core, now, (shard, read), room, query, count),
            Ask::Snapshot { read, room } => tail.snapshot(core, now, shard, read, room),
            Ask::Survey { read, question: Question::Revoke(revocation) } => {
                self.revocations.begin(core, now, Revoking { revocation, asker: Some((shard, read)) });
            }
            Ask::Survey { read, question } => {
                let channels = (self.channels.own(), self.channels.all());
                self.surveys.begin(core, now, (shard, read), channels, question);
            }
            Ask::Surveyed { number, survey } => self.surveys.answered(core, now, number, survey),
            Ask::Delivered { room, upto } => relay.delivered(core, now, room, upto),
            Ask::Listen { subscription } => self.channels.enter(core, now, shard, subscription),
            Ask::Unlisten { subscription } => self.channels.leave(core, now, shard, &subscription),
            Ask::Ping { read } => core.ask(now, Lane::Command, Purpose::Ping(shard, read, now), StoreOp::Ping),
        }
    }

    /// An operator wants something done with the dead letters of a source, which is named by its index in the configuration.
    /// [`BackplaneAction::Operated`] tells what came of it.
    pub fn operate(&mut self, now: Time, id: OperationId, source: usize, request: Request) {
        self.operator.begin(&mut self.core, now, id, source, request);
    }

    /// The store answers. An answer nobody waits for any more is ignored.
    pub fn answer(&mut self, now: Time, ticket: Ticket, answer: Result<Answer, StoreError>) {
        let Some((purpose, lane)) = self.core.questions.take(ticket) else { return };
        if let Purpose::Process(source) = purpose {
            return self.decided(now, source, ticket, Verdict::Retry("no verdict in time".into()));
        }
        if let Purpose::Snapshot(shard, read) = purpose {
            return tail::tell_snapshot(&mut self.core, shard, read, Err(()));
        }
        if let Err(error) = &answer {
            self.core.failed(lane, purpose.name(), error);
        }
        let is_lost = matches!(answer, Err(StoreError::Disconnected(_) | StoreError::Timeout));
        match purpose {
            Purpose::Process(_) | Purpose::Snapshot(..) => {}
            Purpose::Tail(errand) => self.tail.answered(&mut self.core, now, errand, answer),
            Purpose::Revoked => self.revocations.have(&mut self.core, now, answer),
            Purpose::Revoking(revoking) => {
                let Backplane { core, revocations, surveys, channels, .. } = self;
                if let Some((asker, revocation)) = revocations.saved(core, now, *revoking, &answer) {
                    let channels = (channels.own(), channels.all());
                    surveys.begin(core, now, asker, channels, Question::Revoke(revocation.clone()));
                    revocations.hear(core, &revocation);
                }
            }
            Purpose::Survey(number) => self.surveys.asked(&mut self.core, now, number, answer),
            Purpose::Told => {}
            Purpose::Probe(asked) => {
                if self.probe.answered(&mut self.core, now, asked, answer) {
                    self.hurry(now);
                }
            }
            Purpose::Ping(shard, read, since) => {
                self.core.tell(shard, Tell::Pong { read, result: answer.map(|_| now - since) });
            }
            Purpose::Append(batch) => self.outbound.stored(&mut self.core, now, batch, answer),
            Purpose::Heard(ear) => {
                let Backplane { core, relay, outbound, probe, channels, surveys, revocations, .. } = self;
                let mut audience = Audience { relay, outbound, probe, surveys, revocations };
                channels.answered(core, now, ear, &mut audience, answer);
            }
            Purpose::Tip(partition) => self.relay.resolved(&mut self.core, now, partition, answer),
            Purpose::Doubt(partition, cursor) => self.relay.doubted(&mut self.core, now, (partition, cursor), answer),
            Purpose::Relayed => self.relay.read(&mut self.core, now, &mut self.probe, answer),
            Purpose::Positions(asked) => self.relay.positioned(&mut self.core, now, asked, answer),
            Purpose::Heal(room) => self.relay.healed(&mut self.core, now, room, answer),
            Purpose::Page(shard, read, room, at) => {
                let result = if let Ok(Answer::Page(page)) = answer { Ok(page) } else { Err(Unavailable) };
                if let Ok(page) = &result {
                    self.relay.compare(&mut self.core, now, &room, at, page.head);
                }
                self.core.tell(shard, Tell::Page { read, result });
            }
            Purpose::Saved(saving) => self.sessions.saved(&mut self.core, now, *saving, answer),
            Purpose::Restored(conn) => self.sessions.restored(&mut self.core, conn, answer),
            Purpose::Drop(room, upto) => self.relay.dropped(&mut self.core, now, room, upto, answer),
            Purpose::Source(index, errand) => {
                if let Some(consumer) = self.consumers.get_mut(usize::from(index)) {
                    consumer.answered(&mut self.core, now, errand, answer);
                }
            }
            Purpose::Operation(operation) => self.operator.answered(&mut self.core, now, *operation, answer),
            Purpose::Presence(errand) => self.presence.answered(&mut self.core, now, errand, answer),
        }
        // Not before whoever asked knows of it: what is not listened to cannot be proven.
        if is_lost && self.probe.doubts(&mut self.core) {
            self.prove(now);
        }
    }

    /// The host's code has dealt with an entry. A verdict that comes too late is ignored: the entry is delivered again.
    pub fn processed(&mut self, now: Time, ticket: Ticket, verdict: Verdict) {
        if let Some(source) = self.core.questions.take_process(ticket) {
            self.decided(now, source, ticket, verdict);
        }
    }

    /// The host gives the snapshots of the rooms that fit, in place of what stands in the store.
    pub fn provide_snapshots(&mut self, rooms: Vec<Pattern>) {
        self.tail.provide(rooms);
    }

    /// The host's code tells the state of a room: one JSON value, or nothing where there is none. What comes too late is ignored.
    pub fn snapshot(&mut self, ticket: Ticket, data: Option<Bytes>) {
        if let Some((shard, read)) = self.core.questions.take_snapshot(ticket) {
            tail::tell_snapshot(&mut self.core, shard, read, Ok(data));
        }
    }

    /// Proves the store, and that this node hears what is said.
    fn prove(&mut self, now: Time) {
        let (log, ear) = (self.relay.next_log(), self.channels.own());
        self.probe.ask(&mut self.core, now, log, ear);
    }

    /// The store is back: what had to wait for it need not wait for the end of its pause.
    fn hurry(&mut self, now: Time) {
        let Backplane { core, relay, revocations, tail, channels, outbound, consumers, .. } = self;
        relay.hurry(core, now);
        revocations.hurry(core, now);
        tail.hurry(core, now);
        channels.hurry(core, now);
        outbound.hurry(core, now);
        consumers.iter_mut().for_each(|consumer| consumer.hurry(core, now));
    }

    fn decided(&mut self, now: Time, source: u16, ticket: Ticket, verdict: Verdict) {
        if let Some(consumer) = self.consumers.get_mut(usize::from(source)) {
            consumer.processed(&mut self.core, now, ticket, verdict);
        }
    }

    /// Time has passed: whatever is due is done.
    pub fn tick(&mut self, now: Time) {
        while let Some(wake) = self.core.questions.pop_due(now) {
            match wake {
                Wake::Overdue(ticket) => self.answer(now, ticket, Err(StoreError::Timeout)),
                Wake::Probe if self.probe.is_due(now) => self.prove(now),
                Wake::Probe => {}
                Wake::Echo => self.probe.judge(&mut self.core, now),
                Wake::Outbound => self.outbound.try_again(&mut self.core, now),
                Wake::Survey => self.surveys.wake(&mut self.core, now),
                Wake::Channels => self.channels.wake(&mut self.core, now),
                Wake::Relay => self.relay.wake(&mut self.core, now),
                Wake::Tail => self.tail.wake(&mut self.core, now),
                Wake::TailCheck => self.tail.check(&mut self.core, now),
                Wake::Check => self.relay.check(&mut self.core, now),
                Wake::Revocations => self.revocations.wake(&mut self.core, now),
                Wake::Sessions => self.sessions.try_again(&mut self.core, now),
                Wake::Memory => self.relay.try_again(&mut self.core, now),
                Wake::Tip(partition) => self.relay.resolve(&mut self.core, now, partition),
                Wake::Beat => self.presence.wake_to_beat(&mut self.core, now),
                Wake::Presence => {}
                Wake::Source(index) => {
                    if let Some(consumer) = self.consumers.get_mut(usize::from(index)) {
                        consumer.wake(&mut self.core, now);
                    }
                }
            }
        }
    }

    /// When [`Backplane::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.core.questions.next_deadline()
    }

    /// The next action. Messages published since the last call leave together.
    pub fn poll_action(&mut self, now: Time) -> Option<BackplaneAction> {
        if self.core.actions.is_empty() {
            self.outbound.flush(&mut self.core, now);
            self.relay.flush(&mut self.core, now);
            self.presence.flush(&mut self.core, now);
            self.tail.flush(&mut self.core, now);
        }
        self.core.actions.pop_front()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.core.stats
    }

    /// How the sources are doing, in the order of the configuration.
    pub fn sources(&mut self) -> Arc<[SourceHealth]> {
        if core::mem::take(&mut self.core.sources_changed) {
            self.sources = self.consumers.iter().map(Consumer::health).collect();
        }
        self.sources.clone()
    }

    /// Why the node is not ready to serve, one reason each; empty when it is.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self.probe.unready().collect();
        reasons.extend(self.channels.unready());
        reasons.extend(self.relay.unready());
        reasons.extend(self.tail.unready());
        reasons.extend(self.consumers.iter().filter_map(Consumer::unready));
        reasons
    }
}

impl Core {
    fn ask(&mut self, now: Time, lane: Lane, purpose: Purpose, op: StoreOp) {
        let ticket = self.questions.ask(now, lane, purpose, op.blocks_for());
        self.actions.push_back(BackplaneAction::Store { ticket, lane, op });
    }

    /// A message as it goes to the store, with all that its room's rule says.
    fn posting(&mut self, now: Time, room: RoomName, payload: Bytes, once: Option<Box<str>>) -> Posting {
        let shelf = shelf(&self.config, &room);
        self.posting_on(now, room, shelf, payload, once)
    }

    /// The same where it is known what the rule says.
    fn posting_on(&mut self, now: Time, room: RoomName, shelf: Option<Shelf>, payload: Bytes, once: Option<Box<str>>) -> Posting {
        let mut dice = || self.rng.next_u32().max(1);
        let kept = shelf.map(|Shelf { place, size, ttl }| {
            let at = self.wall.unix(now);
            Kept { place, size, ttl, epoch: dice(), tag: dice(), at }
        });
        let once = once.map(|id| Once { id, window: self.config.relay.once });
        Posting { room, payload, kept, once }
    }

    fn tell(&mut self, shard: ShardId, tell: Tell) {
        self.actions.push_back(BackplaneAction::Tell(shard, tell));
    }

    fn report(&mut self, report: impl FnOnce() -> Report) {
        if self.reporting {
            self.actions.push_back(BackplaneAction::Report(report()));
        }
    }

    fn failed(&mut self, lane: Lane, what: &'static str, error: &StoreError) {
        self.stats.store_errors += 1;
        self.report(|| Report::StoreFailed { what, error: error.clone() });
        if *error == StoreError::Timeout {
            self.actions.push_back(BackplaneAction::Reset(lane));
        }
    }
}

/// Where a room's messages are remembered, how many and for how long.
#[derive(Clone, Copy, Debug)]
struct Shelf {
    place: Place,
    size: u32,
    ttl: Duration,
}

/// What the rule of a room says; nothing where nothing is remembered, or where it is a publisher's stream that does.
fn shelf(config: &Config, room: &str) -> Option<Shelf> {
    match config.rule(room)?.keep.as_ref()? {
        Keep::History(history) => Some(Shelf { place: Place::Log, size: history.size, ttl: history.ttl }),
        Keep::Inbox(inbox) => Some(Shelf { place: Place::Inbox, size: inbox.size, ttl: inbox.ttl }),
        Keep::Stream(_) => None,
    }
}

/// A seed for one part, from the seed of the whole.
pub(crate) fn derive(mut seed: [u8; 32], part: u8) -> [u8; 32] {
    seed[31] ^= part;
    seed
}

/// The partition whose relay log carries a room: the same on every node and in every version.
pub(crate) fn partition(room: &str, partitions: u16) -> u16 {
    use core::hash::Hasher as _;
    let mut hasher = siphasher::sip::SipHasher13::new_with_keys(0, 0);
    hasher.write(room.as_bytes());
    (hasher.finish() % u64::from(partitions.max(1))) as u16
}
