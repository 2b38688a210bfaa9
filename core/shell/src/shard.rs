//! The shard: one future that owns a hub and all its sockets.
//!
//! There is no task, channel or buffer for a connection. Each socket's waker puts its number into the shard's mailbox; a poll
//! works off everything that is there (sockets, what the backplane tells, the one timer), hands it to the hub, and then makes
//! one write for each connection that has something new. Under load many messages leave in one write; without load nothing
//! waits for anything.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use http::{HeaderValue, Request, StatusCode, header};
use roomcast_core::config::AccessRule;
use roomcast_core::door::Tell;
use roomcast_core::hub::{AckId, Arguments, CloseCause, ExchangeId, Hub, HubAction, NoAck, PetitionId, PollAnswer};
use roomcast_core::id::{ConnId, ShardId};
use roomcast_core::stats::Stats;
use roomcast_core::time::Time;
use roomcast_core::timers::Timers;
use roomcast_core::token::Keys;
use slab::Slab;
use tracing::trace;

use crate::authorizer::Authorizer;
use crate::backplane;
use crate::clients::{Clients, Order, Replies};
use crate::clock::Clock;
use crate::entrance::{Guest, Permit, answer};
use crate::flush::Flusher;
use crate::gateway::{Gateway, HungUp};
use crate::handshake;
use crate::http::Http;
use crate::log;
use crate::mailbox::{Mailbox, Ready, ReadyWaker};
use crate::peer::Peer;
use crate::transport::{Timer, Transport};

mod drain;
mod serving;

use serving::{Answer, Served, Serving};

/// Rounds of one poll before the runtime gets its turn again.
const ROUNDS: usize = 8;
/// Reads of one socket in a round, so that one fast sender does not hold up the others.
const READS: usize = 4;
const READ_BUFFER: usize = 64 * 1024;
/// What a shard's task is sent.
#[derive(Debug)]
pub enum Input<T> {
    /// A socket can go on.
    Ready(u32),
    /// A new socket, what has been read of it already, and whose it is.
    Arrived(T, Vec<u8>, Guest),
    /// The socket of a client that asks for a WebSocket, for a session of this shard; what is read of it goes on behind the request.
    Moved(T, Box<Request<()>>, Vec<u8>, Guest),
    /// A request of an Engine.IO session, and where its answer goes.
    Exchange(Box<Request<Bytes>>, ExchangeId, oneshot::Sender<PollAnswer>),
    /// Nobody waits for the answer to a request any more.
    Abandon(ExchangeId),
    /// The host says something to a client.
    Order(ConnId, Order),
    /// The host's code has decided.
    Decided(PetitionId, bool),
    /// Tokens are checked by these keys from now on.
    Keys(Arc<Keys>),
    /// These rules of access hold from now on.
    Access(Arc<[AccessRule]>),
    /// The backplane tells.
    Tell(Tell),
    /// Close every connection at the configured rate, open no more, and say when none is left.
    Drain(oneshot::Sender<()>),
    /// Close everything, then end; after this time in any case.
    Stop(Duration),
}

impl<T> From<Ready> for Input<T> {
    fn from(Ready(number): Ready) -> Input<T> {
        Input::Ready(number)
    }
}

/// A future that drives a hub and its sockets. It ends after [`Input::Stop`].
pub struct Shard<T, M> {
    number: ShardId,
    hub: Hub,
    gateway: Arc<Gateway<T>>,
    mailbox: Arc<Mailbox<Input<T>>>,
    clock: Clock,
    timer: M,
    sockets: Slab<Socket<T>>,
    /// Where the socket of a connection is, by the connection's slot.
    by_slot: Vec<u32>,
    serial: u32,
    /// When the patience with sockets that are not the hub's ends, by number and serial.
    patience: Timers<(u32, u32)>,
    inbox: Vec<Input<T>>,
    outgoing: Vec<backplane::Input>,
    read_buffer: Box<[u8]>,
    flusher: Flusher,
    /// Who waits for the answers to requests of Engine.IO sessions.
    exchanges: BTreeMap<ExchangeId, oneshot::Sender<PollAnswer>>,
    /// Who waits for clients to acknowledge an event, and how many have.
    acks: BTreeMap<AckId, oneshot::Sender<Result<Arguments, NoAck>>>,
    asked: u64,
    clients: Clients,
    authorizer: Authorizer,
    /// Who waits until no connection is left.
    draining: Option<oneshot::Sender<()>>,
    stop_at: Option<Time>,
    /// What its hub does not see.
    stats: Stats,
}

struct Socket<T> {
    io: T,
    waker: Arc<ReadyWaker<Input<T>>>,
    serial: u32,
    /// The kernel takes no more at the moment; the waker will say when it does.
    blocked: bool,
    stage: Stage,
    permit: Permit,
}

enum Stage {
    /// Plain HTTP, the request for a WebSocket, and the end of a connection.
    Http(Box<Serving>),
    /// The WebSocket of one of the hub's connections.
    Open(Peer),
}

impl<T: Transport, M: Timer> Shard<T, M> {
    pub(crate) fn new(
        number: ShardId,
        hub: Hub,
        gateway: Arc<Gateway<T>>,
        (clients, authorizer): (Clients, Authorizer),
        timer: M,
    ) -> Shard<T, M> {
        Shard {
            number,
            hub,
            mailbox: gateway.mailbox(number),
            clock: gateway.clock(),
            gateway,
            timer,
            sockets: Slab::new(),
            by_slot: Vec::new(),
            serial: 0,
            patience: Timers::new(),
            inbox: Vec::new(),
            outgoing: Vec::new(),
            read_buffer: vec![0; READ_BUFFER].into(),
            flusher: Flusher::default(),
            exchanges: BTreeMap::new(),
            acks: BTreeMap::new(),
            asked: 0,
            clients,
            authorizer,
            draining: None,
            stop_at: None,
            stats: Stats::default(),
        }
    }

    /// Works off the mailbox and what is due. Whether there was anything.
    fn work(&mut self, cx: &mut Context<'_>) -> bool {
        self.mailbox.take(cx.waker(), &mut self.inbox);
        let now = self.clock.now();
        // It may have been set since: tokens expire by what it shows now.
        self.hub.set_wall_clock(now, self.clock.unix());
        let mut busy = !self.inbox.is_empty();
        let mut inbox = mem::take(&mut self.inbox);
        for input in inbox.drain(..) {
            match input {
                Input::Ready(index) => self.drive(now, index),
                Input::Arrived(io, read, guest) => {
                    let index = self.insert(io, Http::within(read, self.gateway.limits()), guest);
                    self.drive(now, index);
                }
                Input::Moved(io, request, rest, guest) => {
                    let index = self.insert(io, Http::new(Vec::new()), guest);
                    self.open(now, index, &request, rest);
                }
                Input::Exchange(request, exchange, done) => self.exchange(now, &request, exchange, done),
                Input::Abandon(exchange) => {
                    self.exchanges.remove(&exchange);
                    self.hub.abandon(now, exchange);
                }
                Input::Order(conn, order) => self.carry_out(now, conn, order),
                Input::Decided(petition, allowed) => self.hub.decide(now, petition, allowed),
                Input::Keys(keys) => self.hub.set_keys(keys),
                Input::Access(rules) => self.hub.set_access(now, rules.to_vec()),
                Input::Tell(tell) => self.hub.tell(now, tell),
                Input::Drain(drained) => {
                    self.hub.drain(now, self.gateway.shard_count());
                    self.draining = Some(drained);
                    self.hang_up_on_polls(now);
                }
                Input::Stop(within) => self.stop(now, within),
            }
            // Before the next input: a connection that is opened may take the slot of one that is to be dropped.
            self.obey(now);
            if self.hub.wants_flush() {
                self.flush(now);
            }
        }
        self.inbox = inbox;
        if self.next_deadline().is_some_and(|at| at <= now) {
            busy = true;
            self.hub.tick(now);
            self.lose_patience(now);
        }
        self.act(now);
        // What comes of writing may be followed by more: by what the host says to it.
        self.flush(now) || busy
    }

    fn insert(&mut self, io: T, http: Http, Guest { peer, permit }: Guest) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let entry = self.sockets.vacant_entry();
        let index = entry.key() as u32;
        let waker = ReadyWaker::new(index, self.mailbox.clone());
        let stage = Stage::Http(Box::new(Serving::new(http, peer)));
        entry.insert(Socket { io, waker, serial: self.serial, blocked: false, stage, permit });
        index
    }

    /// A socket may be readable, writable or both.
    fn drive(&mut self, now: Time, index: u32) {
        let Some(socket) = self.sockets.get_mut(index as usize) else { return };
        socket.waker.take();
        let blocked = mem::take(&mut socket.blocked);
        match &socket.stage {
            Stage::Http(_) => self.serve(now, index),
            Stage::Open(peer) => {
                if blocked {
                    let conn = peer.conn();
                    self.flush_one(now, conn);
                }
                self.read(now, index);
            }
        }
    }

    /// Answers requests until one asks for a WebSocket.
    fn serve(&mut self, now: Time, index: u32) {
        let unix = self.clock.unix();
        let Some(Socket { stage: Stage::Http(serving), .. }) = self.sockets.get(index as usize) else { return };
        let (gateway, number, peer) = (self.gateway.clone(), self.number, serving.peer);
        let polls = Cell::new(serving.polls);
        let respond = |request, hung_up: &HungUp| -> Answer {
            polls.set(gateway.has_sessions(&request));
            if let Some(response) = gateway.entrance().refuse_request(now, peer, &request) {
                return Box::pin(async { response });
            }
            let (gateway, request, hung_up) = (gateway.clone(), Box::new(request), hung_up.clone());
            Box::pin(async move {
                let mut response = gateway.respond_on((Some(number), peer), request, hung_up).await;
                if gateway.is_draining() {
                    // The next request is better sent to another node.
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            })
        };
        let Some(socket) = self.sockets.get_mut(index as usize) else { return };
        let Stage::Http(serving) = &mut socket.stage else { return };
        let waker = Waker::from(socket.waker.clone());
        let mut cx = Context::from_waker(&waker);
        let served = serving.drive((now, unix), &mut cx, &mut socket.io, &mut self.read_buffer, &respond);
        serving.polls = polls.get();
        match serving.take_refused() {
            Some(StatusCode::REQUEST_TIMEOUT) => self.stats.limit_handshakes += 1,
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => self.stats.limit_heads += 1,
            _ => {}
        }
        match served {
            Served::Waiting(_) if self.stop_at.is_some() && !serving.is_answering() => self.remove(now, index, CloseCause::Gone),
            Served::Waiting(deadline) | Served::Again(deadline) => {
                if matches!(served, Served::Again(_)) {
                    socket.waker.ready();
                }
                // A later deadline is armed when the earlier one has come.
                if deadline < serving.armed {
                    serving.armed = deadline;
                    self.patience.arm(deadline, (index, socket.serial));
                }
            }
            Served::Upgrade(mut request, rest) => {
                let entrance = gateway.entrance();
                entrance.recognise(peer, &mut request);
                if let Err(refused) = entrance.settle(now, &mut socket.permit, &request) {
                    return self.leave(now, index, answer(refused).into());
                }
                match gateway.owner(&request) {
                    Some(owner) if owner != number => self.hand_over(index, owner, request, rest),
                    _ => self.open(now, index, &request, rest),
                }
            }
            Served::Over => self.remove(now, index, CloseCause::Gone),
        }
    }

    /// A client asks for a WebSocket for a session of another shard: that goes on with it. A wake-up that still comes here finds
    /// nobody, or somebody who has nothing to do.
    fn hand_over(&mut self, index: u32, owner: ShardId, request: Request<()>, rest: Vec<u8>) {
        if let Some(socket) = self.sockets.try_remove(index as usize) {
            let guest = Guest { peer: None, permit: socket.permit };
            self.gateway.mailbox(owner).post(Input::Moved(socket.io, Box::new(request), rest, guest));
        }
    }

    /// A client asks for a WebSocket; `rest` is what came together with the request.
    fn open(&mut self, now: Time, index: u32, request: &Request<()>, mut rest: Vec<u8>) {
        if self.stop_at.is_some() {
            let answer = handshake::refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is going away");
            return self.leave(now, index, answer.into());
        }
        let peer = match Peer::open(now, &mut self.hub, request) {
            Ok(peer) => peer,
            Err(answer) => return self.leave(now, index, answer.into()),
        };
        let Some(socket) = self.sockets.get_mut(index as usize) else { return };
        let slot = peer.conn().slot();
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, u32::MAX);
        }
        self.by_slot[slot] = index;
        socket.stage = Stage::Open(peer);
        // Frames that came together with the request are served.
        self.feed(now, index, &mut rest);
        self.read(now, index);
    }

    /// A client of an Engine.IO session sends a request. Once the shard stops, nobody answers.
    fn exchange(&mut self, now: Time, request: &Request<Bytes>, exchange: ExchangeId, done: oneshot::Sender<PollAnswer>) {
        if self.stop_at.is_none() {
            self.exchanges.insert(exchange, done);
            let entrance = self.gateway.entrance();
            self.hub.exchange(now, exchange, request, |address| entrance.identify(now, address));
        }
    }

    /// The host says something to a client.
    fn carry_out(&mut self, now: Time, conn: ConnId, order: Order) {
        match order {
            Order::Emit { event, args } => self.hub.emit(now, conn, &event, &args),
            Order::EmitWithAck { event, args, within, done } => {
                self.asked += 1;
                let ack = AckId(self.asked);
                self.acks.insert(ack, done);
                self.hub.emit_with_ack(now, conn, &event, &args, within, ack);
            }
            Order::Acknowledge { ack, args } => self.hub.acknowledge(now, conn, ack, &args),
        }
    }

    fn read(&mut self, now: Time, index: u32) {
        let mut buffer = mem::take(&mut self.read_buffer);
        for turn in 0.. {
            let Some(socket) = self.sockets.get_mut(index as usize) else { break };
            if matches!(&socket.stage, Stage::Open(peer) if self.hub.is_shut_out(peer.conn())) {
                // Whoever floods waits for us, and not the others for them.
                break;
            }
            if turn == READS {
                // The rest waits for the next round, behind everybody else.
                socket.waker.ready();
                break;
            }
            let waker = Waker::from(socket.waker.clone());
            let mut cx = Context::from_waker(&waker);
            let read = match socket.io.poll_read(&mut cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Poll::Ready(Ok(0)) => {
                    // It may still read what its last bytes have led to.
                    if let Stage::Open(peer) = &socket.stage {
                        let conn = peer.conn();
                        self.flush_one(now, conn);
                    }
                    self.remove(now, index, CloseCause::Gone);
                    break;
                }
                Poll::Ready(Err(_)) => {
                    self.remove(now, index, CloseCause::Gone);
                    break;
                }
                Poll::Ready(Ok(read)) => read,
            };
            self.feed(now, index, &mut buffer[..read]);
            let Some(socket) = self.sockets.get_mut(index as usize) else { break };
            if read < READ_BUFFER && socket.io.poll_rearm(&mut cx).is_pending() {
                break;
            }
        }
        self.read_buffer = buffer;
    }

    fn feed(&mut self, now: Time, index: u32, bytes: &mut [u8]) {
        if let Some(Socket { stage: Stage::Open(peer), .. }) = self.sockets.get_mut(index as usize) {
            peer.feed(now, &mut self.hub, bytes);
        }
    }

    /// Ends a connection whose input has not been read to its end. Bytes left unread would make the system reset it, and the
    /// peer might never see our last ones.
    fn leave(&mut self, now: Time, index: u32, last: Vec<u8>) {
        if let Some(socket) = self.sockets.get_mut(index as usize) {
            socket.stage = Stage::Http(Box::new(Serving::new(Http::ending(last), None)));
            self.serve(now, index);
        }
    }

    /// A socket has ended by itself.
    fn remove(&mut self, now: Time, index: u32, cause: CloseCause) {
        let Some(socket) = self.sockets.try_remove(index as usize) else { return };
        if let Stage::Open(peer) = socket.stage {
            self.hub.closed(now, peer.conn(), cause);
        }
    }

    /// Does what the hub wants done, and lets the backplane know what is asked of it.
    fn act(&mut self, now: Time) {
        self.obey(now);
        self.gateway.post().post_all(&mut self.outgoing);
    }

    fn obey(&mut self, now: Time) {
        while let Some(action) = self.hub.poll_action() {
            trace!(shard = self.number.0, ?action);
            match action {
                HubAction::Ask(ask) => self.outgoing.push(backplane::Input::Ask(self.number, ask)),
                HubAction::Report(report) => log::write(&report),
                HubAction::Enter { conn, user } => {
                    if !self.gateway.entrance().enter(&user) {
                        self.hub.turn_away(now, conn);
                    }
                }
                HubAction::Left { user } => self.gateway.entrance().left(&user),
                HubAction::SessionGone { address } => self.gateway.entrance().forget(address),
                HubAction::Respond(exchange, answer) => {
                    if let Some(done) = self.exchanges.remove(&exchange) {
                        // Whoever waited may just have gone.
                        let _ = done.send(answer);
                    }
                }
                HubAction::Client(event) => {
                    let Shard { hub, gateway, clients, number: shard, .. } = self;
                    let post = |conn, order| gateway.order(conn, order);
                    clients.tell(&event, Replies { now, hub, shard: *shard, post: &post });
                }
                HubAction::LacksKey => self.gateway.keyring().want(false),
                HubAction::Authorize(petition) => {
                    let mailbox = self.mailbox.clone();
                    let answer = move |petition, allowed| mailbox.post(Input::Decided(petition, allowed));
                    self.authorizer.ask(petition, self.clock, answer);
                }
                HubAction::Acked(ack, result) => {
                    if let Some(done) = self.acks.remove(&ack) {
                        let _ = done.send(result);
                    }
                }
                HubAction::Drop(conn) => {
                    if let Some(index) = self.socket_of(conn) {
                        self.drop_socket(now, index);
                    }
                }
            }
        }
    }

    /// One write for each connection that has something new. Whether there was any.
    fn flush(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(conn) = self.hub.poll_flush() {
            self.flush_one(now, conn);
            any = true;
        }
        self.flusher.forget();
        // What was written may have been a connection's last word.
        self.act(now);
        any
    }

    fn flush_one(&mut self, now: Time, conn: ConnId) {
        let Some(index) = self.socket_of(conn) else { return };
        let Shard { sockets, hub, flusher, .. } = self;
        let socket = &mut sockets[index as usize];
        if socket.blocked {
            return;
        }
        let waker = Waker::from(socket.waker.clone());
        let mut cx = Context::from_waker(&waker);
        while let Some(outbox) = hub.outbox(conn) {
            match socket.io.poll_write(&mut cx, flusher.next(&outbox)) {
                Poll::Ready(Ok(written)) if written > 0 => hub.written(conn, written),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(_) => return self.remove(now, index, CloseCause::Failed),
                Poll::Pending => {
                    socket.blocked = true;
                    return;
                }
            }
        }
    }

    fn socket_of(&self, conn: ConnId) -> Option<u32> {
        let index = *self.by_slot.get(conn.slot())?;
        match &self.sockets.get(index as usize)?.stage {
            Stage::Open(peer) if peer.conn() == conn => Some(index),
            _ => None,
        }
    }

    /// The hub is done with a connection.
    fn drop_socket(&mut self, now: Time, index: u32) {
        match self.sockets.get(index as usize).map(|socket| &socket.stage) {
            // Its input was not read to the end, or may not have been.
            Some(Stage::Open(peer)) if peer.has_failed() || self.gateway.is_draining() => self.leave(now, index, Vec::new()),
            _ => drop(self.sockets.try_remove(index as usize)),
        }
    }

    fn lose_patience(&mut self, now: Time) {
        while let Some((at, (index, serial))) = self.patience.pop_due(now) {
            let Some(socket) = self.sockets.get_mut(index as usize).filter(|socket| socket.serial == serial) else { continue };
            let Stage::Http(serving) = &mut socket.stage else { continue };
            if serving.armed != at {
                continue;
            }
            serving.armed = Time::NEVER;
            serving.expire(now, self.clock.unix());
            // Which arms the next deadline, or the one that has moved away from this moment.
            self.serve(now, index);
        }
    }

    fn stop(&mut self, now: Time, within: Duration) {
        if self.stop_at.is_none() {
            self.stop_at = Some(now + within);
            self.hub.close_all(now, 1001, "the server is going away");
            self.sockets.retain(|_, socket| match &socket.stage {
                Stage::Http(serving) => serving.is_answering(),
                Stage::Open(_) => true,
            });
        }
    }

    /// Says that no connection is left, to whoever waits for that.
    fn note_drained(&mut self) {
        if self.hub.is_drained()
            && let Some(drained) = self.draining.take()
        {
            // Whoever waited may have given up.
            let _ = drained.send(());
        }
    }

    fn post_stats(&self) {
        let mut stats = self.hub.stats();
        stats.add(&self.stats);
        self.gateway.board().set_hub(self.number, stats);
    }

    fn is_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.sockets.is_empty() || at <= self.clock.now())
    }

    fn next_deadline(&self) -> Option<Time> {
        let patience = self.patience.next().map(|(at, _)| at);
        [self.hub.next_deadline(), patience, self.stop_at].into_iter().flatten().min()
    }
}

impl<T: Transport, M: Timer> Future for Shard<T, M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shard = &mut *self;
        for _ in 0..ROUNDS {
            let busy = shard.work(cx);
            shard.post_stats();
            shard.note_drained();
            if shard.is_stopped() {
                return Poll::Ready(());
            }
            if !busy {
                let at = shard.next_deadline().and_then(|at| shard.clock.instant(at));
                match at {
                    Some(at) if shard.timer.poll_at(cx, at).is_ready() => {}
                    _ => return Poll::Pending,
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T, M> Drop for Shard<T, M> {
    /// Whoever waits for it, or comes later, waits in vain and is told so.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl<T, M> fmt::Debug for Shard<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("number", &self.number).field("sockets", &self.sockets.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
