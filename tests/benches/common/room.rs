//! The load of a fan-out: many subscribers and one publisher, in one thread.

use std::io::Read as _;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};
use roomcast_tests::real::PATIENCE;

use crate::connection::{Connection, wait, watch};
use crate::line::Line;
use crate::rounds::{Contestant, Load};
use crate::sample::{Meter, Sample};

/// The token of the publisher among those of the subscribers.
const PUBLISHER: u64 = u64::MAX;
/// More than the largest window, so that a slot is free again before it is reused.
const SLOTS: usize = 128;
/// What stands before the number of a message in its data.
const NUMBER: &[u8] = b"\"n\":\"";
/// The digits of the number.
const DIGITS: usize = 10;

/// A delivered text has the server's envelope; all servers must carry as much. Returns how much, at least `bytes`.
pub(crate) fn pad_to_longest<M: Member>(contestants: &mut [Contestant<Room<M>>], bytes: usize) -> usize {
    let longest = contestants.iter_mut().map(|contestant| contestant.load.pad_to(bytes)).max().unwrap_or(bytes);
    for Contestant { server, load, .. } in contestants {
        assert_eq!(load.pad_to(longest), longest, "texts of {} are of any length", server.name());
    }
    longest
}

/// A client that is sent what is published.
pub(crate) trait Member {
    /// Its connection.
    fn line(&self) -> &Line;

    /// Reads once what has come, and hands over each whole text with the time of the read.
    fn receive(&mut self, buffer: &mut [u8], on_text: impl FnMut(Instant, &[u8]));
}

/// Appends what the publisher sends to publish these data.
pub(crate) type Write = fn(&mut Vec<u8>, data: &str);

/// One room with all its subscribers and its publisher.
pub(crate) struct Room<M> {
    server: u32,
    epoll: Epoll,
    subscribers: Vec<Subscriber<M>>,
    publisher: Connection,
    write: Write,
    /// The first frames that the publisher got back, to tell why nothing comes.
    replies: Vec<u8>,
    padding: String,
    published: u64,
    complete: u64,
    in_flight: [InFlight; SLOTS],
    /// Where the number stands in every message, once one has come.
    number_at: Option<usize>,
    /// The length of the last message that came.
    length: usize,
    buffer: Vec<u8>,
}

struct Subscriber<M> {
    member: M,
    received: u64,
}

#[derive(Clone, Copy)]
struct InFlight {
    number: [u8; DIGITS],
    sent: Instant,
    missing: usize,
}

impl<M: Member> Room<M> {
    /// A room of a server, with all who are in it, and somebody who may publish in it.
    pub(crate) fn new(server: u32, members: Vec<M>, publisher: Connection, write: Write) -> Self {
        let subscribers: Vec<Subscriber<M>> = members.into_iter().map(|member| Subscriber { member, received: 0 }).collect();
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("there are files left");
        for (token, subscriber) in subscribers.iter().enumerate() {
            watch(&epoll, &subscriber.member.line().stream, token as u64);
        }
        watch(&epoll, &publisher.line.stream, PUBLISHER);
        let never = InFlight { number: [0; DIGITS], sent: Instant::now(), missing: 0 };
        Self {
            server,
            epoll,
            subscribers,
            publisher,
            write,
            replies: Vec::new(),
            padding: String::new(),
            published: 0,
            complete: 0,
            in_flight: [never; SLOTS],
            number_at: None,
            length: 0,
            buffer: vec![0; 512 * 1024],
        }
    }

    /// Lets delivered texts have at least this length, and returns the length they have.
    fn pad_to(&mut self, length: usize) -> usize {
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
            subscriber.member.line().check_nothing_is_left();
        }
    }

    /// Publishes one message and returns the length of the text that the subscribers get.
    fn deliver_one(&mut self) -> usize {
        self.publish(1);
        let mut meter = Meter::start(self.server);
        while self.complete < self.published {
            self.receive(&mut meter);
        }
        self.length
    }

    fn publish(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let mut frames = Vec::with_capacity(count * 256);
        let sent = Instant::now();
        for _ in 0..count {
            let number = format!("{:0DIGITS$}", self.published);
            (self.write)(&mut frames, &format!("{{\"n\":\"{number}{}\"}}", self.padding));
            let number = number.as_bytes().try_into().expect("nobody publishes ten thousand million messages");
            self.in_flight[self.published as usize % SLOTS] = InFlight { number, sent, missing: self.subscribers.len() };
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
        let Subscriber { member, received } = &mut self.subscribers[index];
        member.receive(&mut self.buffer, |now, payload| {
            assert!(*received < self.published, "subscriber {index} gets more than was sent");
            let message = &mut self.in_flight[*received as usize % SLOTS];
            let at = *self.number_at.get_or_insert_with(|| find_number(payload));
            assert!(
                payload.get(at..at + DIGITS) == Some(&message.number),
                "subscriber {index} should get message {received} and gets {:?}",
                String::from_utf8_lossy(payload)
            );
            *received += 1;
            self.length = payload.len();
            meter.count_delivery(now - message.sent);
            message.missing -= 1;
            // Each subscriber gets them in order, so they become complete in order.
            self.complete += u64::from(message.missing == 0);
        });
        meter.count_read();
    }

    fn read_replies(&mut self) {
        const KEPT: usize = 600;
        let read = self.publisher.line.stream.read(&mut self.buffer).expect("the publisher stays");
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

impl<M: Member> Load for Room<M> {
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

fn find_number(payload: &[u8]) -> usize {
    let at = payload.windows(NUMBER.len()).position(|window| window == NUMBER);
    at.unwrap_or_else(|| panic!("no number in {:?}", String::from_utf8_lossy(payload))) + NUMBER.len()
}
