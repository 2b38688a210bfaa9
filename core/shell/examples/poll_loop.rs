//! A gateway without an async runtime: one thread, one loop, non-blocking sockets of the standard library; no future, no waker.
//!
//! The core decides everything and does nothing. Here is all that must be done for it: `main`, the loop, then one function for
//! each thing that can happen. `cargo run -p roomcast-shell --example poll_loop` serves `/ws`, with rooms `lobby:*` for anyone.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::{env, error::Error, mem, net::TcpListener, net::TcpStream, sync::Arc, thread, time::Duration};

use polling::{Event, Events, PollMode, Poller};
use roomcast_core::config::{AccessRule, AuthMode, Config, Limits, Route, Who};
use roomcast_core::store::memory::{ClientId, Memory};
use roomcast_core::{hub::CloseCause, id::ConnId, node::Action, node::Node, report::Report::Broadcast, time::Time};
use roomcast_shell::{clock::Clock, handshake, handshake::HeadBuffer, listen, peer::Peer};

/// The poller's name for the listener. Sockets count on from it: no name comes twice, so no event finds a wrong socket.
const LISTENER: usize = 0;

struct Driver {
    node: Node,
    /// Keeps the node's log of messages, and knows it as a client: in memory here, a Redis elsewhere.
    store: Memory,
    client: ClientId,
    clock: Clock,
    poller: Poller,
    listener: TcpListener,
    sockets: HashMap<usize, Socket>,
    last_key: usize,
    /// The node speaks of connections, the poller of sockets: which is which.
    keys: HashMap<ConnId, usize>,
    /// By when each socket must have sent its request, soonest first.
    heads: VecDeque<(Time, usize)>,
}

struct Socket {
    stream: TcpStream,
    /// What there is of the request, until that opens a connection.
    head: HeadBuffer,
    peer: Option<Peer>,
    /// The kernel takes no more. Only then is writability waited for: at other times it would never end.
    full: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let limits = Limits { message_bytes: 256 << 10, messages_per_second: 1_000, burst: 1_000, ..Limits::default() };
    let limits = Limits { burst_bytes: 256 << 20, bytes_per_second: 256 << 20, ..limits };
    let access = vec![AccessRule::new("lobby:*", Who::Anyone, Who::Anyone)];
    let config = Config { limits, access, routes: vec![Route::json("/ws", AuthMode::Optional)], ..Config::default() };
    let mut store = Memory::new(1_000);
    let client = store.connect(&config.node);
    // The core reads no clock and draws no random numbers: it is given a seed, and the time with everything that happens.
    let (clock, mut seed) = (Clock::start(), [0; 32]);
    getrandom::fill(&mut seed)?;
    let mut node = Node::new(Arc::new(config), seed, clock.now())?;
    node.set_reporting(true);
    let address = env::args().skip_while(|argument| argument != "--listen").nth(1).unwrap_or("127.0.0.1:8099".into());
    let (poller, listener) = (Poller::new()?, listen::bind(address.parse()?)?);
    // SAFETY: what is added must be deleted before it is closed; the listener stays open.
    unsafe { poller.add_with_mode(&listener, Event::readable(LISTENER), PollMode::Level)? };
    println!("listening on http://{}", listener.local_addr()?);
    let (sockets, keys, heads) = (HashMap::new(), HashMap::new(), VecDeque::new());
    Driver { node, store, client, clock, poller, listener, sockets, last_key: LISTENER, keys, heads }.run()
}

impl Driver {
    /// The loop: sleep until something happens or is due, tell the node of it, do what the node wants done.
    fn run(mut self) -> Result<(), Box<dyn Error>> {
        let mut events = Events::new();
        loop {
            let due = [self.node.next_deadline(), self.store.next_deadline(), self.heads.front().map(|head| head.0)];
            self.poller.wait(&mut events, due.into_iter().flatten().min().map(|due| due - self.clock.now()))?;
            let now = self.clock.now();
            for event in events.iter() {
                match event.key {
                    LISTENER => self.on_arrival(now),
                    key if event.writable => self.on_writable(now, key),
                    key => self.on_readable(now, key),
                }
            }
            events.clear();
            self.on_time(now);
            // Once, at the end: what came in together leaves together, in one write for each client.
            self.settle(now);
        }
    }

    /// Somebody connects. One at a time: the poller tells of the others again, and nobody waits for a stampede to end.
    fn on_arrival(&mut self, now: Time) {
        // Where the system has no more sockets, the poller would tell without a pause.
        let Ok((stream, _)) = self.listener.accept() else { return thread::sleep(Duration::from_millis(1)) };
        self.last_key += 1;
        let key = self.last_key;
        // SAFETY: `remove` deletes a socket before it closes it.
        let add = |()| unsafe { self.poller.add_with_mode(&stream, Event::readable(key), PollMode::Level) };
        if listen::prepare(&stream).and_then(|()| stream.set_nonblocking(true)).and_then(add).is_ok() {
            self.heads.push_back((now + Duration::from_secs(10), key));
            self.sockets.insert(key, Socket { stream, head: HeadBuffer::new(), peer: None, full: false });
        }
    }

    /// Bytes have come: one buffer of them, for the poller tells of the rest again, after everybody else's turn.
    fn on_readable(&mut self, now: Time, key: usize) {
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        let mut buffer = [0; 16 * 1024];
        let bytes = match socket.stream.read(&mut buffer) {
            Ok(length) if length > 0 => &mut buffer[..length],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            _ => return self.remove(now, key),
        };
        if let Some(peer) = &mut socket.peer {
            return peer.feed(now, self.node.hub(), bytes);
        }
        let answer = match socket.head.feed(bytes) {
            Ok(None) => return,
            Ok(Some((request, length))) if handshake::is_upgrade(&request) => match Peer::open(now, self.node.hub(), &request) {
                Ok(mut peer) => {
                    // Frames may have come together with the request.
                    peer.feed(now, self.node.hub(), &mut mem::take(&mut socket.head).into_bytes()[length..]);
                    self.keys.insert(peer.conn(), key);
                    return socket.peer = Some(peer);
                }
                Err(answer) => answer,
            },
            Ok(Some(_)) => handshake::refuse(http::StatusCode::NOT_FOUND, "Only WebSockets are served here"),
            Err(error) => handshake::refuse(error.status(), &error.to_string()),
        };
        // A fresh socket takes a short answer whole; one that does not is not waited for.
        let _ = socket.stream.write(&answer);
        self.remove(now, key);
    }

    /// A socket that was full takes more. If there is something to read as well, the poller tells of that again.
    fn on_writable(&mut self, now: Time, key: usize) {
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        socket.full = self.poller.modify_with_mode(&socket.stream, Event::readable(key), PollMode::Level).is_err();
        socket.peer.as_ref().map(Peer::conn).map_or((), |conn| self.write(now, conn))
    }

    /// Time has passed. Tokens expire by the wall clock, which may have been set meanwhile.
    fn on_time(&mut self, now: Time) {
        self.node.set_wall_clock(now, self.clock.unix());
        self.node.tick(now);
        self.store.tick(now);
        while let Some((_, key)) = self.heads.pop_front_if(|(at, _)| *at <= now) {
            if self.sockets.get(&key).is_some_and(|socket| socket.peer.is_none()) {
                self.remove(now, key);
            }
        }
    }

    /// Does what the node wants done, until it wants nothing more: every step may give cause for others.
    fn settle(&mut self, now: Time) {
        loop {
            while let Some((_, ticket, answer)) = self.store.poll_answer() {
                self.node.answer(now, ticket, answer);
            }
            match self.node.poll_action(now) {
                Some(Action::Store { ticket, lane, op }) => self.store.submit(now, self.client, lane, ticket, op),
                Some(Action::Interrupt(lane) | Action::Reset(lane)) => self.store.interrupt(self.client, lane),
                Some(Action::Drop(conn)) => self.keys.get(&conn).copied().map_or((), |key| self.remove(now, key)),
                Some(Action::Published(..) | Action::Operated(..) | Action::Surveyed(..) | Action::Read(..)) => {}
                Some(Action::Report(Broadcast { .. })) => {}
                Some(Action::Report(report)) => eprintln!("{report:?}"),
                // Nothing is left but to write; or an outbox is half full, and its client shall not be taken for a slow one.
                rest => match self.node.poll_flush() {
                    Some(conn) => self.write(now, conn),
                    None if rest.is_none() => return,
                    None => {}
                },
            }
        }
    }

    /// Writes what waits for a connection, as far as its socket takes it. The poller tells when it takes more.
    fn write(&mut self, now: Time, conn: ConnId) {
        let Some(&key) = self.keys.get(&conn) else { return };
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        while let (false, Some(outbox)) = (socket.full, self.node.outbox(conn)) {
            let pieces: Vec<IoSlice<'_>> = outbox.pieces().take(64).map(IoSlice::new).collect();
            match socket.stream.write_vectored(&pieces) {
                Ok(written) if written > 0 => self.node.written(conn, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.full = true;
                    let _ = self.poller.modify_with_mode(&socket.stream, Event::all(key), PollMode::Level);
                }
                _ => return self.remove(now, key),
            }
        }
    }

    /// A socket has ended, or is to end. The node is told in either case.
    fn remove(&mut self, now: Time, key: usize) {
        let Some(Socket { stream, peer, .. }) = self.sockets.remove(&key) else { return };
        let _ = self.poller.delete(&stream);
        let Some(peer) = peer else { return };
        self.keys.remove(&peer.conn());
        self.node.closed(now, peer.conn(), CloseCause::Gone);
    }
}
