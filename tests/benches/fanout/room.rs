//! The load generator: many subscribers and one publisher, in one thread.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::process;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use serde_json::json;

use crate::frame::{self, Frame};
use crate::histogram::Histogram;
use crate::limit;
use crate::machine::cpu_time;

const ROOM: &str = "bench:fanout";
/// The token of the publisher among those of the subscribers.
const PUBLISHER: u64 = u64::MAX;
/// More than the largest window, so that a slot is free again before it is reused.
const SLOTS: usize = 128;
/// Of this many subscribers one checks what it gets, the others count.
const CHECKED: usize = 100;
/// What stands before the number of a message in its data.
const NUMBER: &[u8] = b"\"n\":\"";

/// What the server speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dialect {
    /// The raw limit: frames pass as they are.
    Raw,
    /// Roomcast's JSON dialect.
    Gateway {
        /// The secret that signs tokens.
        secret: &'static str,
    },
}

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Messages times subscribers.
    pub(crate) deliveries: u64,
    /// From the first publish until everything was delivered.
    pub(crate) elapsed: Duration,
    /// Processor time of the server.
    pub(crate) server_cpu: Duration,
    /// Processor time of the load generator: near `elapsed`, it is the bottleneck itself.
    pub(crate) load_cpu: Duration,
    /// Reads that it took.
    pub(crate) reads: u64,
    /// Half of the deliveries took less.
    pub(crate) p50: Duration,
    /// One in a hundred took longer.
    pub(crate) p99: Duration,
}

/// One room with all its subscribers and its publisher.
pub(crate) struct Room {
    dialect: Dialect,
    server: u32,
    epoll: Epoll,
    subscribers: Vec<Subscriber>,
    publisher: TcpStream,
    /// The first frames that the publisher got back, to tell why nothing comes.
    replies: Vec<u8>,
    padding: String,
    published: u64,
    complete: u64,
    in_flight: [InFlight; SLOTS],
    buffer: Vec<u8>,
}

/// A subscriber's connection.
pub(crate) struct Subscriber {
    stream: TcpStream,
    /// The start of a frame whose rest has not come.
    carry: Vec<u8>,
    received: u64,
}

#[derive(Clone, Copy)]
struct InFlight {
    sent: Instant,
    missing: usize,
}

/// What the reads of one run add up to.
struct Tally {
    latencies: Histogram,
    reads: u64,
}

impl Room {
    /// Connects all subscribers, then the publisher.
    pub(crate) fn open(addr: SocketAddr, server: u32, dialect: Dialect, subscribers: usize) -> Self {
        let subscribers = connect_subscribers(addr, dialect, 0..subscribers);
        let publisher = connect_publisher(addr, dialect);
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("there are files left");
        for (token, subscriber) in subscribers.iter().enumerate() {
            watch(&epoll, &subscriber.stream, token as u64);
        }
        watch(&epoll, &publisher, PUBLISHER);
        let never = InFlight { sent: Instant::now(), missing: 0 };
        Self {
            dialect,
            server,
            epoll,
            subscribers,
            publisher,
            replies: Vec::new(),
            padding: String::new(),
            published: 0,
            complete: 0,
            in_flight: [never; SLOTS],
            buffer: vec![0; 512 * 1024],
        }
    }

    /// Lets delivered frames have at least this length, and returns the length they have.
    pub(crate) fn pad_frames_to(&mut self, length: usize) -> usize {
        self.padding.clear();
        let bare = self.deliver_one();
        self.padding = "x".repeat(length.saturating_sub(bare));
        self.deliver_one()
    }

    /// Keeps `window` messages in flight for `length`, then waits until all are delivered.
    pub(crate) fn run(&mut self, window: usize, length: Duration) -> Sample {
        assert!(window < SLOTS, "a window of {window} needs more slots");
        let mut tally = Tally { latencies: Histogram::new(), reads: 0 };
        let first = self.published;
        let load = process::id();
        let (server_before, load_before) = (cpu_time(self.server), cpu_time(load));
        let started = Instant::now();
        let end = started + length;
        self.publish(window);
        while self.complete < self.published {
            self.receive(&mut tally);
            if Instant::now() < end {
                let in_flight = (self.published - self.complete) as usize;
                self.publish(window - in_flight);
            }
        }
        Sample {
            deliveries: (self.published - first) * self.subscribers.len() as u64,
            elapsed: started.elapsed(),
            server_cpu: cpu_time(self.server) - server_before,
            load_cpu: cpu_time(load) - load_before,
            reads: tally.reads,
            p50: tally.latencies.quantile(0.50),
            p99: tally.latencies.quantile(0.99),
        }
    }

    /// Whether every subscriber has everything, once and in order, is checked as it comes; this looks for
    /// anything that came too much.
    pub(crate) fn check_all_delivered(&mut self) {
        for (index, subscriber) in self.subscribers.iter().enumerate() {
            assert_eq!(subscriber.received, self.published, "messages at subscriber {index}");
            assert!(subscriber.carry.is_empty(), "half a frame is left at subscriber {index}");
        }
    }

    /// Publishes one message and returns the length of the frame that the first subscriber gets.
    fn deliver_one(&mut self) -> usize {
        self.publish(1);
        let mut tally = Tally { latencies: Histogram::new(), reads: 0 };
        let mut peeked = vec![0; 64 * 1024];
        let stream = &self.subscribers[0].stream;
        stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        let length = loop {
            let read = stream
                .peek(&mut peeked)
                .unwrap_or_else(|error| panic!("the first message does not come: {error}; {}", self.reply()));
            assert!(read > 0, "the server closed the connection");
            match frame::split(&peeked[..read]) {
                Some(frame) if frame.opcode == frame::TEXT => break frame.payload.len(),
                // A ping would come first; that early there is none.
                Some(frame) => panic!("a frame of kind {} came first", frame.opcode),
                None => {}
            }
        };
        while self.complete < self.published {
            self.receive(&mut tally);
        }
        length
    }

    fn publish(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let mut frames = Vec::with_capacity(count * 256);
        let sent = Instant::now();
        for _ in 0..count {
            let data = format!("{{\"n\":\"{:010}{}\"}}", self.published, self.padding);
            match self.dialect {
                Dialect::Raw => frame::push_unmasked(&mut frames, frame::TEXT, data.as_bytes()),
                Dialect::Gateway { .. } => {
                    let text =
                        format!("{{\"type\":\"publish\",\"data\":{{\"room\":\"{ROOM}\",\"type\":\"b\",\"data\":{data}}}}}");
                    frame::push_masked(&mut frames, frame::TEXT, text.as_bytes());
                }
            }
            self.in_flight[self.published as usize % SLOTS] = InFlight { sent, missing: self.subscribers.len() };
            self.published += 1;
        }
        self.publisher.write_all(&frames).expect("the server reads what the publisher sends");
    }

    /// Waits until something has come and reads it all.
    fn receive(&mut self, tally: &mut Tally) {
        let mut events = [EpollEvent::empty(); 1024];
        let limit = u16::try_from(PATIENCE.as_millis()).expect("the limit fits");
        let ready = match self.epoll.wait(&mut events, EpollTimeout::from(limit)) {
            Err(Errno::EINTR) => return,
            ready => ready.expect("epoll works"),
        };
        if ready == 0 {
            self.report_stall();
        }
        for event in &events[..ready] {
            match event.data() {
                PUBLISHER => self.read_replies(),
                token => self.read_deliveries(token as usize, tally),
            }
        }
    }

    fn read_deliveries(&mut self, index: usize, tally: &mut Tally) {
        let subscriber = &mut self.subscribers[index];
        let carried = subscriber.carry.len();
        self.buffer[..carried].copy_from_slice(&subscriber.carry);
        // Sockets block, but this one has something to read.
        let read = subscriber.stream.read(&mut self.buffer[carried..]);
        let read = read.unwrap_or_else(|error| panic!("subscriber {index} is lost: {error}"));
        assert!(read > 0, "the server closed subscriber {index}");
        tally.reads += 1;

        let now = Instant::now();
        let mut rest = &self.buffer[..carried + read];
        while let Some(Frame { opcode, payload, rest: after }) = frame::split(rest) {
            rest = after;
            match opcode {
                frame::TEXT => {
                    let number = subscriber.received;
                    assert!(number < self.published, "subscriber {index} gets more than was sent");
                    if index.is_multiple_of(CHECKED) {
                        check_number(payload, number, index);
                    }
                    subscriber.received += 1;
                    let message = &mut self.in_flight[number as usize % SLOTS];
                    tally.latencies.record((now - message.sent).as_nanos() as u64);
                    message.missing -= 1;
                    // Each subscriber gets them in order, so they become complete in order.
                    self.complete += u64::from(message.missing == 0);
                }
                frame::PING => {
                    let mut pong = Vec::new();
                    frame::push_masked(&mut pong, frame::PONG, payload);
                    subscriber.stream.write_all(&pong).expect("the server reads pongs");
                }
                other => panic!("subscriber {index} gets a frame of kind {other}"),
            }
        }
        if !(rest.is_empty() && carried == 0) {
            subscriber.carry.clear();
            subscriber.carry.extend_from_slice(rest);
        }
    }

    fn read_replies(&mut self) {
        const KEPT: usize = 600;
        let read = self.publisher.read(&mut self.buffer).expect("the publisher stays");
        assert!(read > 0, "the server closed the publisher; {}", self.reply());
        let room = KEPT.saturating_sub(self.replies.len());
        self.replies.extend_from_slice(&self.buffer[..read.min(room)]);
    }

    fn report_stall(&self) -> ! {
        let least = self.subscribers.iter().map(|subscriber| subscriber.received).min();
        panic!(
            "nothing came for {PATIENCE:?}: {} published, {} delivered to all, the slowest subscriber has {}; {}",
            self.published,
            self.complete,
            least.unwrap_or_default(),
            self.reply()
        );
    }

    fn reply(&self) -> String {
        format!("the publisher's first replies: {:?}", String::from_utf8_lossy(&self.replies))
    }
}

fn watch(epoll: &Epoll, stream: &TcpStream, token: u64) {
    epoll.add(stream, EpollEvent::new(EpollFlags::EPOLLIN, token)).expect("a socket can be watched");
}

fn check_number(payload: &[u8], number: u64, index: usize) {
    let digits = payload
        .windows(NUMBER.len())
        .position(|window| window == NUMBER)
        .and_then(|at| payload.get(at + NUMBER.len()..)?.get(..10))
        .and_then(|digits| std::str::from_utf8(digits).ok());
    assert!(
        digits.and_then(|digits| digits.parse().ok()) == Some(number),
        "subscriber {index} should get message {number} and gets {:?}",
        String::from_utf8_lossy(payload)
    );
}

/// Connects subscribers and waits until each of them is in the room. Each is a user of its own.
pub(crate) fn connect_subscribers(addr: SocketAddr, dialect: Dialect, users: Range<usize>) -> Vec<Subscriber> {
    // Steps are taken for a hundred at a time: quick, and within the backlog of any listener.
    const TOGETHER: usize = 100;
    let mut subscribers = Vec::with_capacity(users.len());
    let users: Vec<usize> = users.collect();
    for group in users.chunks(TOGETHER) {
        let mut joining: Vec<Joining> = group.iter().map(|user| Joining::start(addr, "/ws", dialect, *user)).collect();
        for one in &mut joining {
            one.finish_handshake();
        }
        if matches!(dialect, Dialect::Gateway { .. }) {
            for one in &mut joining {
                one.subscribe();
            }
            for one in &mut joining {
                one.wait_until_subscribed();
            }
        }
        subscribers.extend(joining.into_iter().map(|one| Subscriber { stream: one.stream, carry: one.unread, received: 0 }));
    }
    subscribers
}

fn connect_publisher(addr: SocketAddr, dialect: Dialect) -> TcpStream {
    const USER: usize = 1_000_000;
    let path = match dialect {
        Dialect::Raw => limit::PUBLISHER,
        Dialect::Gateway { .. } => "/ws",
    };
    let mut publisher = Joining::start(addr, path, dialect, USER);
    publisher.finish_handshake();
    publisher.stream
}

/// A connection on its way into the room.
struct Joining {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Joining {
    fn start(addr: SocketAddr, path: &str, dialect: Dialect, user: usize) -> Self {
        let mut stream =
            TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        stream.set_nodelay(true).expect("a TCP socket has no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("the limit is not zero");
        let authorization = match dialect {
            Dialect::Raw => String::new(),
            Dialect::Gateway { secret } => {
                let token = access_token(secret, &format!("user-{user}"), &json!({"role": "admin"}));
                format!("authorization: Bearer {token}\r\n")
            }
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the server reads");
        Self { stream, unread: Vec::new() }
    }

    fn finish_handshake(&mut self) {
        const END: &[u8] = b"\r\n\r\n";
        let head = loop {
            if let Some(at) = self.unread.windows(END.len()).position(|window| window == END) {
                break at + END.len();
            }
            self.read_more();
        };
        let answer = String::from_utf8_lossy(&self.unread[..head]);
        assert!(answer.starts_with("HTTP/1.1 101"), "the handshake is refused: {answer}");
        self.unread.drain(..head);
    }

    fn subscribe(&mut self) {
        let request = format!(r#"{{"type":"subscription","data":{{"action":"subscribe","room":"{ROOM}"}}}}"#);
        let mut bytes = Vec::new();
        frame::push_masked(&mut bytes, frame::TEXT, request.as_bytes());
        self.stream.write_all(&bytes).expect("the server reads");
    }

    fn wait_until_subscribed(&mut self) {
        loop {
            while let Some(frame) = frame::split(&self.unread) {
                let text = String::from_utf8_lossy(frame.payload).into_owned();
                let rest = frame.rest.to_vec();
                self.unread = rest;
                if text.contains("\"subscribed\"") {
                    return;
                }
                // Anything but the greeting is a refusal.
                assert!(text.contains("\"auth_success\""), "cannot subscribe: {text}");
            }
            self.read_more();
        }
    }

    fn read_more(&mut self) {
        let mut bytes = [0; 4096];
        let read = self
            .stream
            .read(&mut bytes)
            .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&self.unread)));
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.unread));
        self.unread.extend_from_slice(&bytes[..read]);
    }
}
