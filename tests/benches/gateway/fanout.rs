//! Fan-out: a message published once goes to every subscriber of a room.

use crate::Options;
use crate::limit::Mode;
use crate::room::Room;
use crate::rounds::{self, Contestant};
use crate::server::Stable;
use crate::table::{self, Reference};

/// Messages published and not yet delivered to all.
const WINDOWS: [usize; 3] = [1, 16, 64];

/// Prints a table of all servers.
pub(crate) fn measure(stable: &Stable, options: &Options) {
    let open = |server| {
        let load = Room::open(&server, options.subscribers);
        // With one message in flight there is nothing to join.
        let least_in_flight = if server.name() == Mode::Joined.name() { 2 } else { 1 };
        Contestant { server, load, least_in_flight }
    };
    let mut contestants: Vec<Contestant<Room>> = stable.start_each(&[Mode::Single, Mode::Joined]).map(open).collect();
    let bytes = pad_to_longest(&mut contestants, options.bytes);

    let rounds = rounds::run(&mut contestants, &WINDOWS, options);
    println!(
        "\nfan-out to {} subscribers, frames of {bytes} bytes, {} rounds of {} s\n",
        options.subscribers, options.rounds, options.seconds
    );
    let limits = [(Mode::Single, "x single"), (Mode::Joined, "x joined")];
    table::print("deliveries/s", &Reference::all(&limits, stable), &rounds);
    for contestant in &contestants {
        contestant.load.check_all_delivered();
    }
}

/// A delivered frame has the gateway's envelope; all servers must carry as much.
fn pad_to_longest(contestants: &mut [Contestant<Room>], bytes: usize) -> usize {
    let longest = contestants.iter_mut().map(|contestant| contestant.load.pad_frames_to(bytes)).max().unwrap_or(bytes);
    for Contestant { server, load, .. } in contestants {
        assert_eq!(load.pad_frames_to(longest), longest, "frames of {} are of any length", server.name());
    }
    longest
}
