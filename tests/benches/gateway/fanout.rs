//! Fan-out: a message published once goes to every subscriber of a room.

use crate::Options;
use crate::connection::Connection;
use crate::limit::Mode;
use crate::room::{Room, pad_to_longest};
use crate::rounds::{self, Contestant};
use crate::server::Stable;
use crate::subscribers::open_room;
use crate::table;

/// Messages published and not yet delivered to all.
const WINDOWS: [usize; 3] = [1, 16, 64];

/// Prints a table of all servers.
pub(crate) fn measure(stable: &Stable, options: &Options) {
    let open = |server| {
        let load = open_room(&server, options.subscribers);
        // With one message in flight there is nothing to join.
        let least_in_flight = if server.name() == Mode::Joined.name() { 2 } else { 1 };
        Contestant { server, load, least_in_flight }
    };
    let mut contestants: Vec<Contestant<Room<Connection>>> = stable.start_each(&[Mode::Single, Mode::Joined]).map(open).collect();
    let bytes = pad_to_longest(&mut contestants, options.bytes);

    let rounds = rounds::run(&mut contestants, &WINDOWS, options);
    println!(
        "\nfan-out to {} subscribers, frames of {bytes} bytes, {} rounds of {} s\n",
        options.subscribers, options.rounds, options.seconds
    );
    let limits = [(Mode::Single, "x single"), (Mode::Joined, "x joined")];
    table::print("deliveries/s", &stable.references(&limits), &rounds);
    for contestant in &contestants {
        contestant.load.check_all_delivered();
    }
}
