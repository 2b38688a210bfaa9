//! The clients' side of a node: connections, who they are, the rooms they are in, and what waits to be written to each.
//!
//! A hub belongs to one thread. Its inputs are the methods that take `now`; what is to be done comes out of
//! [`Hub::poll_action`], what is to be written out of [`Hub::poll_flush`] and [`Hub::outbox`]. Any method may be called at any
//! time, in any order; nothing a peer sends is an error of the caller.

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use slab::Slab;

use crate::address::Network;
use crate::backplane::derive;
use crate::config::{AuthMode, Config, ConfigError, DialectName, Heartbeat, Route};
use crate::dialect::socketio::engine::{Packet, parse};
use crate::door::{Ask, PublishId, ReadId, Tell};
use crate::frame::{Frame, Message};
use crate::id::{ConnId, ShardId};
use crate::ledger::Ledger;
use crate::limiter::Limiter;
use crate::message::{Composer, Json, RoomName};
use crate::report::Report;
use crate::stats::Stats;
use crate::table::Table;
use crate::time::{Time, UnixMillis, WallClock};
use crate::timers::Timers;
use crate::token::{Grants, Verifier};

mod access;
mod action;
mod audit;
mod catch_up;
mod connection;
mod credentials;
mod drain;
mod ending;
mod engine;
mod expiry;
mod fan_out;
mod history;
mod limit;
mod membership;
mod outbox;
mod page;
mod petition;
mod presence;
mod requests;
mod room;
mod session;
mod slow;
mod socketio;
mod survey;
mod wire;

pub use crate::message::EVERYBODY;
pub use access::{Decision, Intent, decide};
pub use action::HubAction;
pub use engine::{ExchangeId, PollAnswer, session_shard};
pub use outbox::Outbox;
pub use petition::{Petition, PetitionId};
pub use socketio::{AckId, Arguments, ClientEvent, NoAck};

use audit::source_of;
use catch_up::Turn;
use connection::{Connection, Due, Nature, Phase};
use credentials::Credentials;
use drain::Drain;
use engine::Sid;
use history::Historian;
use outbox::{Spares, Unflushed};
use petition::Petitions;
use presence::Present;
use requests::Publisher;
use room::Rooms;
use socketio::Hosted;

/// The clients' side of a node.
#[derive(Debug)]
pub struct Hub {
    config: Arc<Config>,
    shard: ShardId,
    /// A secret, by which hashes are made that nobody else can foresee.
    key: u64,
    verifier: Verifier,
    /// What the last token granted that granted anything.
    grants: Option<Arc<Grants>>,
    conns: Slab<Connection>,
    serial: u32,
    rooms: Rooms,
    /// Whether the backplane has been asked for what is sent to everybody.
    hears_everybody: bool,
    present: Present,
    publishers: Table<PublishId, Publisher>,
    publishes: u64,
    /// What the host is asked to decide.
    petitions: Petitions,
    /// The rooms whose memory is being read, and whoever asked for what was said in one.
    reads: Table<ReadId, usize>,
    historians: Table<ReadId, Historian>,
    reads_made: u64,
    /// The rooms in which a connection waits until it can be sent more.
    paused: Table<ConnId, Vec<usize>>,
    /// What is ready to be sent to those who catch up: the room, and the number of its serving.
    servings: VecDeque<(usize, u64)>,
    turn: Turn,
    drain: Option<Drain>,
    /// The sessions that poll, and the requests of those that wait.
    sids: Table<Sid, ConnId>,
    held: Table<ExchangeId, ConnId>,
    hosted: Hosted,
    /// The reads that prove that connections can be recovered.
    proofs: Table<ReadId, (ConnId, RoomName)>,
    dice: ChaCha8Rng,
    timers: Timers<Wake>,
    /// By the wall clock: however that is set, nothing need be armed anew.
    expiries: Timers<ConnId, UnixMillis>,
    unflushed: Unflushed,
    /// Whether an outbox has filled up so far that flushing should not wait.
    pressed: bool,
    spares: Spares,
    actions: VecDeque<HubAction>,
    composer: Composer,
    wall: WallClock,
    /// What users, and addresses, have sent by all their connections.
    users: Ledger<Box<str>>,
    addresses: Ledger<Network>,
    stats: Stats,
    reporting: bool,
    /// The refusals that are reported.
    told: Limiter,
}

/// What a deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Conn(ConnId),
    /// Somebody has waited long enough for the room of this index, under this number of its joining.
    Join(usize, u64),
    /// What could not be read of the room of this index is to be read again.
    Read(usize),
    /// More can be sent to those who catch up.
    Serve,
    /// A poll of a client that tries a WebSocket has waited long enough.
    Poll(ConnId),
    /// The host was to decide.
    Petition(PetitionId),
    /// An event was to be acknowledged by a connection, under this number.
    Ack(ConnId, u64),
    /// The next connection of a drain is to be closed, or the time for it is up.
    Drain,
}

/// A connection that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The connection.
    pub conn: ConnId,
    /// The subprotocol to confirm in the answer to the upgrade request.
    pub protocol: Option<String>,
}

/// A connection that is refused before the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status to answer with.
    pub status: StatusCode,
    /// Why, for the body.
    pub message: &'static str,
    /// After how many seconds another attempt may do better, where that is known.
    pub retry_after: Option<u64>,
}

/// Why a connection ended without a word from the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The peer closed the transport.
    Gone,
    /// The transport failed.
    Failed,
}

impl Hub {
    /// An empty hub.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(config: Arc<Config>, shard: ShardId, seed: [u8; 32]) -> Result<Hub, ConfigError> {
        config.validate()?;
        let mut seed = derive(seed, b'h');
        // A byte of its own: no hub's identifiers may repeat those of another part.
        seed[29] ^= shard.0;
        let key = u64::from_le_bytes([seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6], seed[7]]);
        Ok(Hub {
            verifier: Verifier::new(&config),
            grants: None,
            shard,
            key,
            conns: Slab::new(),
            serial: 0,
            rooms: Rooms::new(key),
            hears_everybody: false,
            present: Present::new(key),
            publishers: Table::new(key),
            publishes: 0,
            petitions: Petitions::new(key),
            reads: Table::new(key),
            historians: Table::new(key),
            reads_made: 0,
            paused: Table::new(key),
            servings: VecDeque::new(),
            turn: Turn::default(),
            drain: None,
            sids: Table::new(key),
            held: Table::new(key),
            hosted: Hosted::default(),
            proofs: Table::new(key),
            dice: ChaCha8Rng::from_seed(derive(seed, b'd')),
            timers: Timers::new(),
            expiries: Timers::new(),
            unflushed: Unflushed::default(),
            pressed: false,
            spares: Spares::default(),
            actions: VecDeque::new(),
            composer: Composer::new(seed),
            wall: WallClock::default(),
            users: Ledger::new(key),
            addresses: Ledger::new(key),
            stats: Stats::default(),
            reporting: false,
            told: Limiter::default(),
            config,
        })
    }

    /// What the wall clock shows: tokens expire by it. Given at the start and whenever it may have been set.
    pub fn set_wall_clock(&mut self, now: Time, unix: UnixMillis) {
        let stepped = self.wall.unix(now).0.abs_diff(unix.0) > 1_000;
        self.wall = WallClock::new(now, unix);
        if stepped {
            // A walk over all connections, but a rare one: it is told at another time that a token will end.
            let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn.id).collect();
            ids.into_iter().for_each(|id| self.arm(now, id));
        }
    }

    /// Whether [`HubAction::Report`]s are wanted. They are not by default.
    pub fn set_reporting(&mut self, on: bool) {
        self.reporting = on;
    }

    /// A client asks to be upgraded. What it is to be told first is in its outbox at once.
    ///
    /// # Errors
    /// A path that is not served (404), an origin that is not allowed (403), no room for another connection, or a hub that is
    /// being drained (503).
    pub fn open(&mut self, now: Time, request: &http::Request<()>) -> Result<Opened, Refused> {
        let (route, room) = self.admit(request).map_err(|refused| self.note_refusal(now, request, refused))?;
        if self.config.routes[route].dialect.is_engine() {
            return self.open_engine(now, request, (route, room)).map_err(|refused| self.note_refusal(now, request, refused));
        }
        let auth = self.config.routes[route].auth;
        let phase = if auth == AuthMode::Required { Phase::Authenticating } else { Phase::Open };
        let id = self.add(now, Nature::Plain, (route as u16, room), phase, source_of(request));
        let credentials = Credentials::of(request);
        match credentials.token.filter(|_| auth != AuthMode::Ignored) {
            Some(token) => self.authenticate(now, id, token, None),
            None if phase == Phase::Authenticating => self.notice(now, id, "auth_required", None, None),
            None => self.enter_bound(now, id),
        }
        self.arm(now, id);
        Ok(Opened { conn: id, protocol: credentials.protocol.map(String::from) })
    }

    /// Bytes that leave before everything else: the answer to the upgrade request.
    pub fn preface(&mut self, conn: ConnId, bytes: Bytes) {
        let Hub { conns, spares, unflushed, .. } = self;
        let Some(conn) = find(conns, conn) else { return };
        conn.queue.get_or_insert_with(|| spares.take()).push_front(bytes);
        unflushed.note(conn);
    }

    /// A message came from a connection.
    pub fn receive(&mut self, now: Time, id: ConnId, message: Message<'_>) {
        self.expire(now);
        let silent_at = now + self.config.heartbeat.timeout;
        let Some(conn) = self.get(id) else { return };
        if conn.is_client() {
            conn.silent_at = silent_at;
        }
        if let Phase::Closing { answered } = &mut conn.phase {
            // Whatever comes now comes too late, except the answer to our close frame.
            if matches!(message, Message::Close(_)) {
                *answered = true;
                self.drop_if_written(id);
            }
            return;
        }
        match message {
            Message::Text(text) => {
                self.stats.received += 1;
                match self.dialect(id) {
                    DialectName::Json => self.request(now, id, text),
                    DialectName::Echo => self.push(now, id, Frame::text(text.as_bytes())),
                    DialectName::SocketIo | DialectName::EngineEcho => self.hear(now, id, parse(text)),
                }
            }
            Message::Binary(bytes) => {
                self.stats.received += 1;
                match self.dialect(id) {
                    DialectName::Json => self.refuse_binary(now, id, bytes.len()),
                    DialectName::Echo => self.push(now, id, Frame::binary(bytes)),
                    DialectName::SocketIo | DialectName::EngineEcho => self.hear(now, id, Ok(Packet::Binary(bytes.into()))),
                }
            }
            Message::Ping(payload) => {
                if self.charge_control(now, id) {
                    self.push(now, id, Frame::pong(payload));
                }
            }
            Message::Pong => {
                if self.charge_control(now, id) {
                    self.note_pong(id);
                }
            }
            Message::Close(code) => {
                // RFC 6455, section 5.5.1: the answer repeats the code.
                self.close_with(now, id, code, "", "closed by the client", true);
            }
        }
    }

    /// What a connection sent breaks the WebSocket protocol: it is closed with `code` and heard no more. One that is being
    /// closed already gets what waits for it, and its answer is not waited for any longer.
    pub fn fail(&mut self, now: Time, id: ConnId, code: u16, reason: &'static str) {
        match code {
            1008 => self.stats.limit_fragments += 1,
            1009 => self.stats.limit_message_bytes += 1,
            _ => {}
        }
        self.close_with(now, id, Some(code), reason, reason, true);
        if let Some(conn) = self.get(id) {
            conn.phase = Phase::Closing { answered: true };
            self.drop_if_written(id);
        }
    }

    /// Closes a connection with a code of the application, after what already waits for it is written.
    pub fn close(&mut self, now: Time, id: ConnId, code: u16, reason: &'static str) {
        self.close_with(now, id, Some(code), reason, reason, false);
    }

    /// Closes every connection.
    pub fn close_all(&mut self, now: Time, code: u16, reason: &'static str) {
        let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn.id).collect();
        ids.into_iter().for_each(|id| self.close(now, id, code, reason));
    }

    /// A connection's transport has ended.
    pub fn closed(&mut self, _now: Time, id: ConnId, cause: CloseCause) {
        let cause = match cause {
            CloseCause::Gone => "the client went away",
            CloseCause::Failed => "the transport failed",
        };
        self.remove(id, cause, false);
    }

    /// The backplane tells.
    pub fn tell(&mut self, now: Time, tell: Tell) {
        self.expire(now);
        match tell {
            Tell::Joined { room, join, position } => self.joined(now, &room, join, position),
            Tell::Messages { room, payloads, positions } => self.deliver(now, &room, payloads, &positions, None),
            Tell::Others { room, user, payload } => self.deliver(now, &room, vec![payload], &[], Some(&user)),
            Tell::Disconnect { user } => self.disconnect(now, &user),
            Tell::Revoked(revoked) => self.told_revoked(now, revoked),
            Tell::Who { read, result } => self.told_who(now, read, result),
            Tell::Snapshot { read, data } => self.state_read(now, read, data),
            Tell::Survey { number, question } => self.survey(now, number, &question),
            Tell::Lost { room, position } => self.lost(now, &room, position),
            Tell::Restored { conn, places } => self.restored(now, conn, places),
            Tell::Page { read, result } => self.paged(now, read, result),
            Tell::Published { id, result } => self.published(now, id, result),
            // A hub never asks for these.
            Tell::Listening { .. } | Tell::Said { .. } | Tell::Pong { .. } | Tell::Surveyed { .. } => {}
        }
    }

    /// Time has passed: whatever is due is done. The work is that of what is due, however many connections there are.
    pub fn tick(&mut self, now: Time) {
        self.expire(now);
        while let Some((at, wake)) = self.timers.pop_due(now) {
            match wake {
                Wake::Read(room) => self.read_again(room),
                Wake::Drain => self.drain_on(now),
                Wake::Poll(id) => self.end_poll(id),
                Wake::Petition(petition) => self.petition_overdue(now, petition),
                Wake::Ack(conn, number) => self.ack_overdue(conn, number),
                Wake::Serve => {
                    self.turn.end();
                    self.serve(now);
                }
                Wake::Join(room, join) => self.join_overdue(now, room, join),
                Wake::Conn(id) => {
                    if let Some(conn) = self.get(id).filter(|conn| conn.armed == at) {
                        conn.armed = Time::NEVER;
                        self.due(now, id);
                        self.arm(now, id);
                    }
                }
            }
        }
    }

    /// When [`Hub::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        let expiry = self.expiries.next().map(|(at, _)| self.wall.when(Time::ZERO, at));
        self.timers.next().map(|(at, _)| at).into_iter().chain(expiry).min()
    }

    /// The next action.
    pub fn poll_action(&mut self) -> Option<HubAction> {
        while self.actions.is_empty()
            && let Some(id) = self.unflushed.polls.pop_front()
        {
            // It has no socket that could be flushed: it is answered.
            self.begin_flush(id);
            self.answer_poll(id);
        }
        self.actions.pop_front()
    }

    /// The next connection that has something new to write. It comes again only when more has been added.
    pub fn poll_flush(&mut self) -> Option<ConnId> {
        while let Some(id) = self.unflushed.sockets.pop_front() {
            if self.begin_flush(id) {
                return Some(id);
            }
        }
        self.pressed = false;
        None
    }

    /// What is added from now on has to be flushed again. Whether the connection is still there.
    fn begin_flush(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.get(id) else { return false };
        conn.dirty = false;
        if let Some(queue) = &mut conn.queue {
            queue.flushed();
        }
        true
    }

    /// Whether to flush now rather than after all that is to be done: an outbox is half full of what was added since it was
    /// last flushed. A host that goes on instead closes clients as too slow that were only never written to.
    pub fn wants_flush(&self) -> bool {
        self.pressed
    }

    /// What waits to be written to a connection; nothing for one that is gone or has nothing to write.
    pub fn outbox(&self, conn: ConnId) -> Option<Outbox<'_>> {
        self.peek(conn)?.queue.as_deref().map(outbox::Queue::outbox)
    }

    /// So many bytes of a connection's outbox were written.
    pub fn written(&mut self, id: ConnId, bytes: usize) {
        let Hub { conns, actions, spares, .. } = self;
        let Some(conn) = find(conns, id) else { return };
        let Some(queue) = &mut conn.queue else { return };
        queue.written(bytes);
        while let Some((room, upto)) = queue.delivered() {
            actions.push_back(HubAction::Ask(Ask::Delivered { room, upto }));
        }
        if queue.is_empty() {
            if let Some(queue) = conn.queue.take() {
                spares.give_back(queue);
            }
            if !self.paused.is_empty() {
                self.sockets_of(id).into_iter().chain([id]).for_each(|client| self.resume(client));
            }
            self.drop_if_written(id);
        }
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats { rooms: self.rooms.len() as u64, ..self.stats }
    }

    /// The route of a request, and the room it is bound to.
    fn admit<B>(&self, request: &http::Request<B>) -> Result<(usize, Option<String>), Refused> {
        let route = Route::find(&self.config.routes, request.uri().path());
        let refused = |status, message| Refused { status, message, retry_after: None };
        let route = route.ok_or(refused(StatusCode::NOT_FOUND, "Nothing is served on this path"))?;
        self.page_of(request)?;
        let is_full = self.stats.connections >= self.config.limits.connections as u64;
        if is_full || self.conns.len() >= ConnId::MAX_SLOTS {
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "Too many connections"));
        }
        self.refuse_while_draining()?;
        Ok(route)
    }

    /// Adds a connection. A namespace comes with the session that carries it, and counts for nothing by itself.
    fn add(
        &mut self,
        now: Time,
        nature: Nature,
        route: (u16, Option<String>),
        phase: Phase,
        (path, address): (&str, Option<IpAddr>),
    ) -> ConnId {
        self.serial = self.serial.wrapping_add(1);
        let entry = self.conns.vacant_entry();
        let id = ConnId::new(self.shard, self.serial, entry.key());
        let conn = entry.insert(Connection { nature, address, ..Connection::new(id, route, phase, now, &self.config) });
        if conn.carrier().is_none() {
            self.stats.opened += 1;
            self.stats.connections += 1;
        }
        self.report(|| Report::Opened { conn: id, address, path: path.into() });
        self.hear_everybody();
        id
    }

    /// Does what is due for a connection.
    fn due(&mut self, now: Time, id: ConnId) {
        loop {
            let Some(conn) = self.peek(id) else { return };
            let (at, due) = conn.next_due(now, &self.wall);
            if at > now {
                return;
            }
            match due {
                Due::CloseLate => return self.remove(id, "the close was not answered", true),
                Due::Silent => {
                    self.stats.silent += 1;
                    return self.remove(id, "nothing came from the client", true);
                }
                Due::AuthenticationLate if self.peek(id).is_some_and(Connection::recovers) => self.give_up_recovery(now, id),
                Due::AuthenticationLate => self.close(now, id, 4001, "authentication timeout"),
                Due::Ping if !self.peek(id).is_some_and(Connection::is_client) => self.ping_session(now, id),
                Due::Ping => {
                    let Heartbeat { ping, timeout } = self.config.heartbeat;
                    if let Some(conn) = self.get(id) {
                        let ping = if conn.session.is_some() { ping.min(session::PROOF) } else { ping };
                        conn.ping_at = now + ping;
                        conn.silent_at = conn.silent_at.max(now + timeout.saturating_sub(ping));
                    }
                    self.note_ping(id);
                    self.push(now, id, Frame::ping());
                }
                Due::ExpiryNotice => self.announce_expiry(now, id),
            }
        }
    }

    /// Makes sure that a wake-up stands for the next thing that is due.
    fn arm(&mut self, now: Time, id: ConnId) {
        let Hub { conns, timers, wall, .. } = self;
        let Some(conn) = find(conns, id) else { return };
        let (at, _) = conn.next_due(now, wall);
        if at < conn.armed {
            conn.armed = at;
            timers.arm(at, Wake::Conn(id));
        }
    }

    fn notice(&mut self, now: Time, id: ConnId, kind: &str, data: Option<String>, reply_to: Option<&str>) {
        match self.peek(id).map(|conn| &conn.nature) {
            Some(Nature::Plain) => {}
            Some(Nature::Socket { .. }) => return self.tell_socket(now, id, kind, data.as_deref(), reply_to),
            // What is no client understands no notices.
            Some(Nature::Engine(_) | Nature::Probe(_)) | None => return,
        }
        let data = data.as_deref().map(Json::trusted);
        let text = self.composer.notice(kind, data, reply_to, self.wall.unix(now));
        self.push(now, id, Frame::text(&text));
    }

    fn dialect(&self, id: ConnId) -> DialectName {
        self.route(id).map(|route| route.dialect).unwrap_or_default()
    }

    fn route(&self, id: ConnId) -> Option<&Route> {
        self.config.routes.get(usize::from(self.peek(id)?.route))
    }

    fn report(&mut self, report: impl FnOnce() -> Report) {
        if self.reporting {
            self.actions.push_back(HubAction::Report(report()));
        }
    }

    fn is_open(&self, id: ConnId) -> bool {
        self.peek(id).is_some_and(|conn| conn.phase == Phase::Open)
    }

    fn peek(&self, id: ConnId) -> Option<&Connection> {
        self.conns.get(id.slot()).filter(|conn| conn.id == id)
    }

    fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        find(&mut self.conns, id)
    }
}

/// A connection, unless its slot belongs to another one by now.
fn find(conns: &mut Slab<Connection>, id: ConnId) -> Option<&mut Connection> {
    conns.get_mut(id.slot()).filter(|conn| conn.id == id)
}

#[cfg(test)]
mod tests;
