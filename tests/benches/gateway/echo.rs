//! Echo: one message in, one out, on many connections at once.

use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};
use roomcast_tests::real::PATIENCE;

use crate::Options;
use crate::connection::{Connection, connect, wait, watch};
use crate::frame;
use crate::limit::Mode;
use crate::room::Member as _;
use crate::rounds::{self, Contestant, Load};
use crate::sample::{Meter, Sample};
use crate::server::{ECHO, Server, Stable};
use crate::table;

/// The letters at the start of a message that tell it from every other.
const NUMBER: usize = 16;
/// Numbers of one connection, so that an answer on the wrong connection is seen.
const NUMBERS: u64 = 1 << 40;

/// Prints a table of all servers.
pub(crate) fn measure(stable: &Stable, options: &Options) {
    let clients = options.echo_clients;
    let bytes = options.bytes.max(NUMBER);
    let open = |server| {
        let load = Echo::open(&server, clients, bytes);
        Contestant { server, load, least_in_flight: 1 }
    };
    let mut contestants: Vec<Contestant<Echo>> = stable.start_each(&[Mode::Echo]).map(open).collect();
    let rounds = rounds::run(&mut contestants, &[clients], options);
    println!("\necho on {clients} connections, messages of {bytes} bytes, {} rounds of {} s\n", options.rounds, options.seconds);
    table::print("round trips/s", &stable.references(&[(Mode::Echo, "x raw")]), &rounds);
    for client in contestants.iter().flat_map(|contestant| &contestant.load.clients) {
        client.connection.line.check_nothing_is_left();
    }
}

/// The connections of one server, in one thread.
struct Echo {
    server: u32,
    epoll: Epoll,
    clients: Vec<Client>,
    /// A message as it is sent; before that it gets its number.
    frame: Vec<u8>,
    /// A message as it should come back.
    expected: Vec<u8>,
    buffer: Vec<u8>,
}

struct Client {
    connection: Connection,
    /// The number of the last message sent.
    number: u64,
    /// When that was, until it comes back.
    sent: Option<Instant>,
}

impl Echo {
    fn open(server: &Server, clients: usize, bytes: usize) -> Self {
        let connections = connect(server.addr(), ECHO, None, 0..clients);
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("there are files left");
        for (token, connection) in connections.iter().enumerate() {
            watch(&epoll, &connection.line.stream, token as u64);
        }
        let numbers = (0..).step_by(NUMBERS as usize);
        let clients =
            connections.into_iter().zip(numbers).map(|(connection, number)| Client { connection, number, sent: None }).collect();
        let expected = vec![b'x'; bytes];
        let mut frame = Vec::new();
        frame::push_masked(&mut frame, frame::TEXT, &expected);
        Self { server: server.pid(), epoll, clients, frame, expected, buffer: vec![0; 128 * 1024] }
    }

    fn send(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        client.number += 1;
        client.sent = Some(now);
        let start = self.frame.len() - self.expected.len();
        write_number(&mut self.frame[start..], client.number);
        client.connection.send(&self.frame);
    }

    /// Reads what has come for a client, and returns when, if it was its message.
    fn receive(&mut self, index: usize, meter: &mut Meter) -> Option<Instant> {
        let Client { connection, number, sent } = &mut self.clients[index];
        write_number(&mut self.expected, *number);
        let mut came = None;
        connection.receive(&mut self.buffer, |now, payload| {
            assert!(
                payload == self.expected,
                "connection {index} should get {:?} and gets {:?}",
                String::from_utf8_lossy(&self.expected),
                String::from_utf8_lossy(payload)
            );
            let sent = sent.take().unwrap_or_else(|| panic!("connection {index} gets more than was sent"));
            meter.count_delivery(now - sent);
            came = Some(now);
        });
        meter.count_read();
        came
    }
}

impl Load for Echo {
    /// Each connection has one message in flight.
    fn run(&mut self, in_flight: usize, length: Duration) -> Sample {
        let mut events = [EpollEvent::empty(); 1024];
        let mut meter = Meter::start(self.server);
        let end = meter.started() + length;
        for index in 0..in_flight {
            self.send(index, Instant::now());
        }
        let mut missing = in_flight;
        while missing > 0 {
            let ready = wait(&self.epoll, &mut events)
                .unwrap_or_else(|| panic!("nothing came for {PATIENCE:?}: {missing} messages do not come back"));
            for event in &events[..ready] {
                let index = event.data() as usize;
                match self.receive(index, &mut meter) {
                    Some(now) if now < end => self.send(index, now),
                    Some(_) => missing -= 1,
                    None => {}
                }
            }
        }
        meter.finish()
    }
}

/// Sixteen letters a number: no division, so the load generator has no work with it.
fn write_number(message: &mut [u8], number: u64) {
    for (place, letter) in message[..NUMBER].iter_mut().enumerate() {
        *letter = b'a' + (number >> (4 * place) & 15) as u8;
    }
}
