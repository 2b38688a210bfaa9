//! The shard: one future that owns a hub and all its sockets.
//!
//! There is no task, channel or buffer for a connection. Each socket's waker puts its number into the shard's mailbox; a poll
//! works off everything that is there (sockets, what the backplane tells, the one timer), hands it to the hub, and then makes
//! one write for each connection that has something new. Under load many messages leave in one write; without load nothing
//! waits for anything.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use roomcast_core::door::Tell;
use roomcast_core::hub::{CloseCause, Hub, HubAction};
use roomcast_core::id::{ConnId, ShardId};
use roomcast_core::time::Time;
use slab::Slab;

use crate::backplane;
use crate::clock::Clock;
use crate::flush::Flusher;
use crate::gateway::Gateway;
use crate::handshake::{self, HeadBuffer};
use crate::log;
use crate::mailbox::{Mailbox, Ready, ReadyWaker};
use crate::transport::{Timer, Transport};
use crate::wire::Wire;

/// Rounds of one poll before the runtime gets its turn again.
const ROUNDS: usize = 8;
/// Reads of one socket in a round, so that one fast sender does not hold up the others.
const READS: usize = 4;
const READ_BUFFER: usize = 64 * 1024;
/// How long a client may take for its request head. A silent socket costs little, but not nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long closing may take when the shard is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What a shard's task is sent.
#[derive(Debug)]
pub enum Input<T> {
    /// A socket can go on.
    Ready(u32),
    /// A new socket, and what has been read of it already.
    Arrived(T, Vec<u8>),
    /// The backplane tells.
    Tell(Tell),
    /// Close everything, then end.
    Stop,
}

impl<T> From<Ready> for Input<T> {
    fn from(Ready(number): Ready) -> Input<T> {
        Input::Ready(number)
    }
}

/// Takes a socket whose request is not for a WebSocket, with what has been read of it: the runtime serves HTTP on it.
pub type Handoff<T> = fn(&Arc<Gateway<T>>, T, Vec<u8>);

/// A future that drives a hub and its sockets. It ends after [`Input::Stop`].
pub struct Shard<T, M> {
    number: ShardId,
    hub: Hub,
    gateway: Arc<Gateway<T>>,
    mailbox: Arc<Mailbox<Input<T>>>,
    clock: Clock,
    timer: M,
    handoff: Handoff<T>,
    sockets: Slab<Socket<T>>,
    /// Where the socket of a connection is, by the connection's slot.
    by_slot: Vec<u32>,
    serial: u32,
    /// Sockets without a request so far, with the moment at which the patience ends.
    heads: VecDeque<(Time, u32, u32)>,
    inbox: Vec<Input<T>>,
    outgoing: Vec<backplane::Input>,
    read_buffer: Box<[u8]>,
    flusher: Flusher,
    stop_at: Option<Time>,
}

struct Socket<T> {
    io: T,
    waker: Arc<ReadyWaker<Input<T>>>,
    serial: u32,
    /// The kernel takes no more at the moment; the waker will say when it does.
    blocked: bool,
    stage: Stage,
}

enum Stage {
    /// The request head is not complete.
    Head(HeadBuffer),
    Open {
        conn: ConnId,
        wire: Wire,
    },
    /// The connection's input has ended in a protocol error: what still comes is not looked at.
    Deaf {
        conn: ConnId,
    },
}

/// What becomes of a socket after it was read.
enum Verdict {
    Keep,
    Remove,
    HandOff(Vec<u8>),
}

impl<T: Transport, M: Timer> Shard<T, M> {
    pub(crate) fn new(number: ShardId, hub: Hub, gateway: Arc<Gateway<T>>, timer: M, handoff: Handoff<T>) -> Shard<T, M> {
        Shard {
            number,
            hub,
            mailbox: gateway.mailbox(number),
            clock: gateway.clock(),
            gateway,
            timer,
            handoff,
            sockets: Slab::new(),
            by_slot: Vec::new(),
            serial: 0,
            heads: VecDeque::new(),
            inbox: Vec::new(),
            outgoing: Vec::new(),
            read_buffer: vec![0; READ_BUFFER].into(),
            flusher: Flusher::default(),
            stop_at: None,
        }
    }

    /// Works off the mailbox and what is due. Whether there was anything.
    fn work(&mut self, cx: &mut Context<'_>) -> bool {
        self.mailbox.take(cx.waker(), &mut self.inbox);
        let now = self.clock.now();
        let mut busy = !self.inbox.is_empty();
        let mut inbox = mem::take(&mut self.inbox);
        for input in inbox.drain(..) {
            match input {
                Input::Ready(index) => self.drive(now, index),
                Input::Arrived(io, read) => self.insert(now, io, read),
                Input::Tell(tell) => self.hub.tell(now, tell),
                Input::Stop => self.stop(now),
            }
            // Before the next input: a connection that is opened may take the slot of one that is to be dropped.
            self.obey();
            if self.hub.wants_flush() {
                self.flush(now);
            }
        }
        self.inbox = inbox;
        if self.next_deadline().is_some_and(|at| at <= now) {
            busy = true;
            // The wall clock may have been set since: tokens expire by what it shows now.
            self.hub.set_wall_clock(now, self.clock.unix());
            self.hub.tick(now);
            self.drop_slow_heads(now);
        }
        self.act();
        self.flush(now);
        busy
    }

    fn insert(&mut self, now: Time, io: T, mut read: Vec<u8>) {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let entry = self.sockets.vacant_entry();
        let index = entry.key() as u32;
        let waker = ReadyWaker::new(index, self.mailbox.clone());
        let stage = Stage::Head(HeadBuffer::new());
        entry.insert(Socket { io, waker, serial, blocked: false, stage });
        self.heads.push_back((now + HEAD_TIMEOUT, index, serial));
        let verdict = if read.is_empty() { Verdict::Keep } else { self.feed(now, index, &mut read) };
        self.settle(now, index, verdict);
        self.drive(now, index);
    }

    /// A socket may be readable, writable or both.
    fn drive(&mut self, now: Time, index: u32) {
        let Some(socket) = self.sockets.get_mut(index as usize) else { return };
        socket.waker.take();
        if mem::take(&mut socket.blocked)
            && let Stage::Open { conn, .. } | Stage::Deaf { conn } = socket.stage
        {
            self.flush_one(now, conn);
        }
        let verdict = self.read(now, index);
        self.settle(now, index, verdict);
    }

    fn read(&mut self, now: Time, index: u32) -> Verdict {
        let mut buffer = mem::take(&mut self.read_buffer);
        let mut verdict = Verdict::Keep;
        for turn in 0.. {
            let Some(socket) = self.sockets.get_mut(index as usize) else { break };
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
                Poll::Ready(Ok(0) | Err(_)) => {
                    verdict = Verdict::Remove;
                    break;
                }
                Poll::Ready(Ok(read)) => read,
            };
            verdict = self.feed(now, index, &mut buffer[..read]);
            if !matches!(verdict, Verdict::Keep) {
                break;
            }
            let Some(socket) = self.sockets.get_mut(index as usize) else { break };
            if read < READ_BUFFER && socket.io.poll_rearm(&mut cx).is_pending() {
                break;
            }
        }
        self.read_buffer = buffer;
        verdict
    }

    fn feed(&mut self, now: Time, index: u32, bytes: &mut [u8]) -> Verdict {
        let Shard { sockets, hub, by_slot, .. } = self;
        let Some(socket) = sockets.get_mut(index as usize) else { return Verdict::Keep };
        match &mut socket.stage {
            Stage::Deaf { .. } => Verdict::Keep,
            Stage::Open { conn, wire } => {
                let conn = *conn;
                let heard = wire.feed(bytes, hub.message_limit(conn), &mut |message| {
                    hub.receive(now, conn, message);
                    ControlFlow::Continue(())
                });
                if let Err(error) = heard {
                    socket.stage = Stage::Deaf { conn };
                    hub.fail(now, conn, error.close_code(), error.reason());
                }
                Verdict::Keep
            }
            Stage::Head(head) => {
                let (request, length) = match head.feed(bytes) {
                    Ok(None) => return Verdict::Keep,
                    Ok(Some(parsed)) => parsed,
                    Err(error) => return socket.refuse(&handshake::refuse(error.status(), &error.to_string())),
                };
                let mut rest = mem::take(head).into_bytes();
                if !handshake::is_upgrade(&request) {
                    return Verdict::HandOff(rest);
                }
                if let Err(refusal) = handshake::check_upgrade(&request) {
                    return socket.refuse(&refusal.to_response());
                }
                let opened = match hub.open(now, &request) {
                    Ok(opened) => opened,
                    Err(refused) => return socket.refuse(&handshake::refuse(refused.status, refused.message)),
                };
                hub.preface(opened.conn, handshake::accept(&request, opened.protocol.as_deref()));
                let slot = opened.conn.slot();
                if by_slot.len() <= slot {
                    by_slot.resize(slot + 1, u32::MAX);
                }
                by_slot[slot] = index;
                socket.stage = Stage::Open { conn: opened.conn, wire: Wire::new() };
                // Frames that came together with the request are served.
                if rest.len() > length { self.feed(now, index, &mut rest[length..]) } else { Verdict::Keep }
            }
        }
    }

    fn settle(&mut self, now: Time, index: u32, verdict: Verdict) {
        match verdict {
            Verdict::Keep => {}
            Verdict::Remove => self.remove(now, index, CloseCause::Gone),
            Verdict::HandOff(read) => {
                let socket = self.sockets.remove(index as usize);
                (self.handoff)(&self.gateway, socket.io, read);
            }
        }
    }

    /// A socket has ended by itself.
    fn remove(&mut self, now: Time, index: u32, cause: CloseCause) {
        let Some(socket) = self.sockets.try_remove(index as usize) else { return };
        if let Stage::Open { conn, .. } | Stage::Deaf { conn } = socket.stage {
            self.hub.closed(now, conn, cause);
        }
    }

    /// Does what the hub wants done, and lets the backplane know what is asked of it.
    fn act(&mut self) {
        self.obey();
        self.gateway.post().post_all(&mut self.outgoing);
    }

    fn obey(&mut self) {
        while let Some(action) = self.hub.poll_action() {
            match action {
                HubAction::Ask(ask) => self.outgoing.push(backplane::Input::Ask(self.number, ask)),
                HubAction::Report(report) => log::write(&report),
                HubAction::Drop(conn) => {
                    if let Some(index) = self.socket_of(conn) {
                        self.sockets.remove(index as usize);
                    }
                }
            }
        }
    }

    /// One write for each connection that has something new.
    fn flush(&mut self, now: Time) {
        while let Some(conn) = self.hub.poll_flush() {
            self.flush_one(now, conn);
        }
        self.flusher.forget();
        // What was written may have been a connection's last word.
        self.act();
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
        match self.sockets.get(index as usize)?.stage {
            Stage::Open { conn: other, .. } | Stage::Deaf { conn: other } if other == conn => Some(index),
            _ => None,
        }
    }

    fn drop_slow_heads(&mut self, now: Time) {
        while let Some((_, index, serial)) = self.heads.pop_front_if(|(at, ..)| *at <= now) {
            let waits = |socket: &Socket<T>| socket.serial == serial && matches!(socket.stage, Stage::Head(_));
            if self.sockets.get(index as usize).is_some_and(waits) {
                self.sockets.remove(index as usize);
            }
        }
    }

    fn stop(&mut self, now: Time) {
        if self.stop_at.is_none() {
            self.stop_at = Some(now + STOP_TIMEOUT);
            self.hub.close_all(now, 1001, "the server is going away");
            self.sockets.retain(|_, socket| !matches!(socket.stage, Stage::Head(_)));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.sockets.is_empty() || at <= self.clock.now())
    }

    fn next_deadline(&self) -> Option<Time> {
        let head = self.heads.front().map(|(at, ..)| *at);
        [self.hub.next_deadline(), head, self.stop_at].into_iter().flatten().min()
    }
}

impl<T: Transport, M: Timer> Future for Shard<T, M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shard = &mut *self;
        for _ in 0..ROUNDS {
            let busy = shard.work(cx);
            shard.gateway.board().set_hub(shard.number, shard.hub.stats());
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

impl<T: Transport> Socket<T> {
    /// Answers and gives up the socket. A fresh socket takes a short answer whole; one that does not is not waited for.
    fn refuse(&mut self, answer: &[u8]) -> Verdict {
        let _ = self.io.poll_write(&mut Context::from_waker(Waker::noop()), answer);
        Verdict::Remove
    }
}

impl<T, M> fmt::Debug for Shard<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("number", &self.number).field("sockets", &self.sockets.len()).finish_non_exhaustive()
    }
}
