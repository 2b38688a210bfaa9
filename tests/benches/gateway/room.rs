//! The load of a fan-out: many subscribers and one publisher, in one thread.

use std::io::Read as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};
use roomcast_tests::real::PATIENCE;

use crate::connection::{Connection, TOGETHER, connect, wait, watch};
use crate::frame;
use crate::limit;
use crate::rounds::Load;
use crate::sample::{Meter, Sample};
use crate::server::{ROOMS, SECRET, Server};
use crate::server_frame;

const ROOM: &str = "bench:fanout";
/// The token of the publisher among those of the subscribers.
const PUBLISHER: u64 = u64::MAX;
/// More than the largest window, so that a slot is free again before it is reused.
const SLOTS: usize = 128;
/// Of this many subscribers one checks what it gets, the others count.
const CHECKED: usize = 100;
/// What stands before the number of a message in its data.
const NUMBER: &[u8] = b"\"n\":\"";

/// One room with all its subscribers and its publisher.
pub(crate) struct Room {
    /// Whether it is a gateway's room; a raw server passes frames as they are.
    of_gateway: bool,
    server: u32,
    epoll: Epoll,
    subscribers: Vec<Subscriber>,
    publisher: Connection,
    /// The first frames that the publisher got back, to tell why nothing comes.
    replies: Vec<u8>,
    padding: String,
    published: u64,
    complete: u64,
    in_flight: [InFlight; SLOTS],
    buffer: Vec<u8>,
}

struct Subscriber {
    connection: Connection,
    received: u64,
}

#[derive(Clone, Copy)]
struct InFlight {
    sent: Instant,
    missing: usize,
}

impl Room {
    /// Connects all subscribers, then the publisher.
    pub(crate) fn open(server: &Server, subscribers: usize) -> Self {
        let connections = connect_subscribers(server, 0..subscribers);
        let subscribers: Vec<Subscriber> =
            connections.into_iter().map(|connection| Subscriber { connection, received: 0 }).collect();
        let publisher = connect_publisher(server);
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("there are files left");
        for (token, subscriber) in subscribers.iter().enumerate() {
            watch(&epoll, &subscriber.connection.stream, token as u64);
        }
        watch(&epoll, &publisher.stream, PUBLISHER);
        let never = InFlight { sent: Instant::now(), missing: 0 };
        Self {
            of_gateway: server.is_gateway(),
            server: server.pid(),
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

    /// Whether every subscriber has everything, once and in order, is checked as it comes; this looks for
    /// anything that came too much.
    pub(crate) fn check_all_delivered(&self) {
        for (index, subscriber) in self.subscribers.iter().enumerate() {
            assert_eq!(subscriber.received, self.published, "messages at subscriber {index}");
            subscriber.connection.check_nothing_is_left();
        }
    }

    /// Publishes one message and returns the length of the frame that the first subscriber gets.
    fn deliver_one(&mut self) -> usize {
        self.publish(1);
        let mut meter = Meter::start(self.server);
        let mut peeked = vec![0; 64 * 1024];
        let stream = &self.subscribers[0].connection.stream;
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
            self.receive(&mut meter);
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
            if self.of_gateway {
                let text = format!("{{\"type\":\"publish\",\"data\":{{\"room\":\"{ROOM}\",\"type\":\"b\",\"data\":{data}}}}}");
                frame::push_masked(&mut frames, frame::TEXT, text.as_bytes());
            } else {
                server_frame::push_unmasked(&mut frames, frame::TEXT, data.as_bytes());
            }
            self.in_flight[self.published as usize % SLOTS] = InFlight { sent, missing: self.subscribers.len() };
            self.published += 1;
        }
        self.publisher.send(&frames);
    }

    /// Waits until something has come and reads it all.
    fn receive(&mut self, meter: &mut Meter) {
        let mut events = [EpollEvent::empty(); 1024];
        let ready = wait(&self.epoll, &mut events).unwrap_or_else(|| self.report_stall());
        for event in &events[..ready] {
            match event.data() {
                PUBLISHER => self.read_replies(),
                token => self.read_deliveries(token as usize, meter),
            }
        }
    }

    fn read_deliveries(&mut self, index: usize, meter: &mut Meter) {
        let Subscriber { connection, received } = &mut self.subscribers[index];
        connection.receive(&mut self.buffer, |now, payload| {
            let number = *received;
            assert!(number < self.published, "subscriber {index} gets more than was sent");
            if index.is_multiple_of(CHECKED) {
                check_number(payload, number, index);
            }
            *received += 1;
            let message = &mut self.in_flight[number as usize % SLOTS];
            meter.count_delivery(now - message.sent);
            message.missing -= 1;
            // Each subscriber gets them in order, so they become complete in order.
            self.complete += u64::from(message.missing == 0);
        });
        meter.count_read();
    }

    fn read_replies(&mut self) {
        const KEPT: usize = 600;
        let read = self.publisher.stream.read(&mut self.buffer).expect("the publisher stays");
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

impl Load for Room {
    fn run(&mut self, in_flight: usize, length: Duration) -> Sample {
        assert!(in_flight < SLOTS, "{in_flight} in flight need more slots");
        let mut meter = Meter::start(self.server);
        let end = meter.started() + length;
        self.publish(in_flight);
        while self.complete < self.published {
            self.receive(&mut meter);
            if Instant::now() < end {
                let missing = (self.published - self.complete) as usize;
                self.publish(in_flight - missing);
            }
        }
        meter.finish()
    }
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

/// Connects subscribers and waits until each of them is in the room.
pub(crate) fn connect_subscribers(server: &Server, users: Range<usize>) -> Vec<Connection> {
    let mut subscribers = connect_to_rooms(server, ROOMS, users);
    if server.is_gateway() {
        let request = format!(r#"{{"type":"subscription","data":{{"action":"subscribe","room":"{ROOM}"}}}}"#);
        let mut frame = Vec::new();
        frame::push_masked(&mut frame, frame::TEXT, request.as_bytes());
        for group in subscribers.chunks_mut(TOGETHER) {
            group.iter_mut().for_each(|one| one.send(&frame));
            group.iter_mut().for_each(wait_until_subscribed);
        }
    }
    subscribers
}

fn wait_until_subscribed(subscriber: &mut Connection) {
    loop {
        let text = subscriber.next_text();
        if text.contains("\"subscribed\"") {
            return;
        }
        // Anything but the greeting is a refusal.
        assert!(text.contains("\"auth_success\""), "cannot subscribe: {text}");
    }
}

fn connect_publisher(server: &Server) -> Connection {
    const USER: usize = 1_000_000;
    let path = if server.is_gateway() { ROOMS } else { limit::PUBLISHER };
    connect_to_rooms(server, path, USER..USER + 1).remove(0)
}

fn connect_to_rooms(server: &Server, path: &str, users: Range<usize>) -> Vec<Connection> {
    connect(server.addr(), path, server.is_gateway().then_some(SECRET), users)
}
