//! A whole node under any sequence of operations: hosts that are late, wrong and forgetful, peers that send anything, a clock
//! that jumps, a store that loses answers.
//!
//! The input is read byte by byte as operations; see `step`. After each, the invariants of `host::Host::check` hold; what
//! clients read is judged by `client::Client`; at the end everybody leaves, and nothing may be left of anybody. Every input
//! is played twice and must do the same.

mod client;
mod host;
mod words;

use std::time::Duration;

use bytes::Bytes;
use roomcast_core::hub::CloseCause;
use roomcast_core::id::ConnId;
use roomcast_core::node::{Event, OwnedMessage};
use roomcast_core::store::Lane;
use roomcast_core::time::UnixMillis;

use crate::input::Input;
use host::Host;

/// Operations read from one input at the most. More would only slow the search down.
const MOST_OPERATIONS: usize = 400;

/// Input: operations.
///
/// # Panics
///
/// When an invariant does not hold.
pub fn run(data: &[u8]) {
    let first = play(data);
    let second = play(data);
    if first != second {
        let at = first.lines().zip(second.lines()).position(|(first, second)| first != second).unwrap_or_default();
        panic!("two runs differ: {:?} and {:?}", first.lines().nth(at), second.lines().nth(at));
    }
}

/// Everything that the node did, as text.
fn play(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let mut host = Host::new(input.byte());
    for _ in 0..MOST_OPERATIONS {
        if input.is_empty() {
            break;
        }
        step(&mut host, &mut input);
        host.check();
    }
    host.finish()
}

/// Reads one operation and carries it out.
fn step(host: &mut Host, input: &mut Input<'_>) {
    match input.below(36) {
        0..=2 => {
            let request = words::request(input);
            host.open(&request, input.below(2) == 1);
        }
        about @ 3..=15 => {
            if let Some(conn) = host.somebody(input) {
                step_of(host, about, conn, input);
            }
        }
        16 => host.flush(),
        17 => host.takes = input.pick(&[0, 1, 100, 1000, usize::MAX]),
        18 => host.act(),
        19..=21 => host.settle(),
        // A store that answers in any order, twice, with an error, with nonsense, or not at all.
        22 => host.carry_out(input.below(256)),
        23 => host.tell(input.below(256)),
        24 => host.lose(input.below(256)),
        25 => {
            let ticket = host.ticket(input);
            host.handle(Event::Answer(ticket, words::answer(input)));
        }
        26 => match input.below(5) {
            0 => host.memory.flush(),
            1 => host.memory.trim("stream:file-events", input.below(3)),
            2 => host.interrupt(input.pick(&[Lane::Command, Lane::Relay, Lane::Tail, Lane::Source(0)])),
            _ => host.add_entry(words::entry(input)),
        },
        27..=28 => host.pass(words::span(input)),
        29 => match input.below(4) {
            0 => host.go_back(words::span(input)),
            1 => host.handle(Event::WallClock(UnixMillis(words::START.0 + u64::from(input.short()) * 100))),
            2 => host.handle(Event::Tick),
            _ => host.pass(Duration::ZERO),
        },
        30 => host.pass_to_deadline(),
        31 => match input.below(8) {
            0 => host.close_all(),
            1 => match input.below(16) {
                // Rarely, as it is the end of most that can happen.
                0 => host.handle(Event::Drain),
                number => host.set_reporting(number % 2 == 1),
            },
            _ => {
                let room = words::room(input);
                host.publish(room, &words::payload(input));
            }
        },
        32..=34 => {
            let session = host.session(input);
            host.exchange(words::exchange(input, session.as_deref()));
        }
        _ => host.abandon(input.below(256)),
    }
}

/// An operation on a connection, which may be long gone.
fn step_of(host: &mut Host, about: usize, conn: ConnId, input: &mut Input<'_>) {
    match about {
        3..=8 => host.receive(conn, OwnedMessage::Text(words::frame(input))),
        9 => {
            let (pings, length) = (input.below(2) == 1, input.below(64));
            let bytes = Bytes::copy_from_slice(input.take(length));
            host.receive(conn, if pings { OwnedMessage::Ping(bytes) } else { OwnedMessage::Binary(bytes) });
        }
        10 => host.receive(conn, OwnedMessage::Pong),
        11 => host.receive(conn, OwnedMessage::Close(input.pick(&[None, Some(1000), Some(4999)]))),
        12 => {
            let (fails, code) = (input.below(2) == 1, input.pick(&[1002, 1009, 4001]));
            host.handle(if fails { Event::Fail(conn, code) } else { Event::Close(conn, code) });
        }
        13 => host.handle(Event::Closed(conn, input.pick(&[CloseCause::Gone, CloseCause::Failed]))),
        // What a socket takes: a few bytes, or all there is.
        14 => host.write(conn, input.below(256)),
        _ => host.write(conn, usize::MAX),
    }
}
