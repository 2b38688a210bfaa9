//! Others whose messages must not be delayed: members of a room that remembers nothing, and a publisher.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use roomcast_tests::real::PATIENCE;

use crate::server::{OTHER, ROOM};
use crate::socket::Event;
use crate::swarm::Swarm;
use crate::text::{KIND, Text, data, understand};

/// How many members there are.
pub(crate) const MEMBERS: usize = 200;
/// Messages published each second, to each of the two rooms.
pub(crate) const RATE: f64 = 100.0;
/// The number of the first user.
const USERS: usize = 1_000_000;

/// The members of a room, and a publisher to it and to the room that remembers.
pub(crate) struct Live {
    swarm: Swarm,
    /// The number that each member is to see next.
    next: Vec<usize>,
    /// When each message was sent.
    sent: Vec<Instant>,
    /// Of each delivery, when its message was sent, and how long it took.
    deliveries: Vec<(Instant, Duration)>,
}

impl Live {
    /// All members are in their room.
    pub(crate) fn start(addr: SocketAddr) -> Self {
        // The last one is the publisher.
        let mut swarm = Swarm::new(USERS, MEMBERS + 1);
        swarm.connect_all(|_| addr);
        let mut live = Self { swarm, next: vec![0; MEMBERS], sent: Vec::new(), deliveries: Vec::new() };
        for index in 0..MEMBERS {
            live.swarm.send(index, &format!(r#"{{"type":"subscribe","room":"{OTHER}"}}"#));
        }
        let (deadline, mut inside) = (Instant::now() + PATIENCE, 0);
        while inside < MEMBERS {
            assert!(Instant::now() < deadline, "only {inside} members are let in");
            inside += live.hear(deadline);
        }
        live
    }

    /// Publishes and receives until it is told to stop. The numbers in the room that remembers begin at `first`.
    ///
    /// # Panics
    ///
    /// When a member does not see all messages, in order.
    pub(crate) fn run(mut self, first: usize, bytes: usize, stop: &AtomicBool) -> Vec<(Instant, Duration)> {
        let started = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let due = started + Duration::from_secs_f64(self.sent.len() as f64 / RATE);
            if due > Instant::now() {
                self.hear(due);
                continue;
            }
            let number = self.sent.len();
            self.sent.push(Instant::now());
            for (room, number) in [(OTHER, number), (ROOM, first + number)] {
                let data = data(number, bytes);
                let text = format!(r#"{{"type":"publish","data":{{"room":"{room}","type":"{KIND}","data":{data}}}}}"#);
                self.swarm.send(MEMBERS, &text);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while self.next.iter().any(|next| *next < self.sent.len()) {
            assert!(Instant::now() < deadline, "some of the others' messages do not come");
            self.hear(deadline);
        }
        self.deliveries
    }

    /// Waits until something has come, no longer than until then. How many subscriptions it confirms.
    fn hear(&mut self, until: Instant) -> usize {
        let Self { swarm, next, sent, deliveries } = self;
        let mut subscribed = 0;
        swarm.poll(until, |_, index, now, event| match event {
            Event::Open => {}
            Event::Lost(reason) => panic!("member {index} is lost: {reason}"),
            Event::Text(payload) => match understand(payload) {
                Text::Message(number, _) => {
                    assert_eq!(number, next[index], "the next message of member {index}");
                    next[index] += 1;
                    deliveries.push((sent[number], now - sent[number]));
                }
                Text::Subscribed { .. } => subscribed += 1,
                Text::Reconnect(_) | Text::Other => {}
            },
        });
        subscribed
    }
}
