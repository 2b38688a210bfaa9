//! The honest clients: each is in a room with some others, and says something there every now and then.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roomcast_tests::real::PATIENCE;

use crate::latency::Latencies;
use crate::socket::Event;
use crate::swarm::Swarm;

const TOGETHER: usize = 10;
const MESSAGE: &[u8] = b"{\"type\":\"note\",\"data\":{\"n\":";

/// The clients, who are connected.
pub(crate) struct Crowd {
    swarm: Swarm,
    /// Messages of all of them in a second.
    rate: f64,
    began: Instant,
    /// Messages said, and heard.
    said: usize,
    heard: usize,
}

impl Crowd {
    /// All are in their rooms.
    pub(crate) fn start(addr: SocketAddr, clients: usize, rate: f64) -> Self {
        let clients = clients.next_multiple_of(TOGETHER);
        let mut swarm = Swarm::new(0, clients);
        swarm.connect_all(|_| addr);
        let mut inside = 0;
        for index in 0..clients {
            swarm.send(index, &format!(r#"{{"type":"subscribe","room":"{}"}}"#, room(index)));
        }
        let deadline = Instant::now() + PATIENCE;
        while inside < clients {
            assert!(Instant::now() < deadline, "only {inside} clients are let in");
            swarm.poll(deadline, |_, index, _, event| match event {
                Event::Text(text) => inside += usize::from(text.starts_with(b"{\"type\":\"subscribed\"")),
                Event::Open => {}
                Event::Lost(reason) => panic!("client {index} is lost: {reason}"),
            });
        }
        Self { swarm, rate: rate * clients as f64, began: Instant::now(), said: 0, heard: 0 }
    }

    /// Says and hears for so long, and until all has come.
    ///
    /// # Panics
    ///
    /// When somebody is lost, or does not hear everything.
    pub(crate) fn run(&mut self, lasting: Duration) -> Latencies {
        let (started, mut latencies, mut due) = (Instant::now(), Latencies::default(), Duration::ZERO);
        while due < lasting {
            let at = started + due;
            if at > Instant::now() {
                self.hear(at, &mut latencies);
                continue;
            }
            // From when it was to be said, not from when there was time to: what waits for its turn waits too.
            let index = self.said % self.swarm.len();
            let sent = (at - self.began).as_nanos();
            let room = room(index);
            let text = format!(
                r#"{{"type":"publish","data":{{"room":"{room}","type":"note","data":{{"n":{sent},"p":"0123456789abcdef"}}}}}}"#
            );
            self.swarm.send(index, &text);
            self.said += 1;
            due = Duration::from_secs_f64((due.as_secs_f64() * self.rate + 1.0) / self.rate);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.heard < self.said * TOGETHER {
            assert!(Instant::now() < deadline, "{} of {} messages are heard", self.heard, self.said * TOGETHER);
            self.hear(deadline, &mut latencies);
        }
        latencies
    }

    fn hear(&mut self, until: Instant, latencies: &mut Latencies) {
        let Self { swarm, began, heard, .. } = self;
        swarm.poll(until, |_, index, now, event| match event {
            Event::Lost(reason) => panic!("client {index} is lost: {reason}"),
            Event::Open => {}
            Event::Text(text) => {
                assert!(!text.starts_with(b"{\"type\":\"error\""), "{}", String::from_utf8_lossy(text));
                let Some(rest) = text.strip_prefix(MESSAGE) else { return };
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
                let sent = digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
                latencies.record((now - *began).saturating_sub(Duration::from_nanos(sent)));
                *heard += 1;
            }
        });
    }
}

fn room(index: usize) -> String {
    // One client speaks in each room before the next one of the same does.
    format!("workspace:{}", index / TOGETHER)
}
