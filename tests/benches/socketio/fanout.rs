//! Fan-out: a message published once goes to every subscriber of a room.

use crate::Options;
use crate::client::{Client, enter_namespace, enter_room, publish, tokens};
use crate::room::{Room, pad_to_longest};
use crate::rounds::{self, Contestant};
use crate::server::{Server, Stable};
use crate::table;

/// Messages published and not yet delivered to all.
const WINDOWS: [usize; 2] = [16, 64];

/// Prints a table of all servers.
pub(crate) fn measure<C: Client>(stable: &Stable, subscribers: usize, options: &Options) {
    let open = |server| {
        let load = open_room::<C>(&server, subscribers);
        Contestant { server, load, least_in_flight: 1 }
    };
    let mut contestants: Vec<Contestant<Room<C>>> = stable.start_each().map(open).collect();
    let bytes = pad_to_longest(&mut contestants, options.bytes);

    let rounds = rounds::run(&mut contestants, &WINDOWS, options);
    println!(
        "\nfan-out to {subscribers} subscribers over {}, packets of {bytes} bytes, {} rounds of {} s\n",
        C::TRANSPORT,
        options.rounds,
        options.seconds
    );
    table::print("deliveries/s", &stable.references(), &rounds);
    for contestant in &contestants {
        contestant.load.check_all_delivered();
    }
}

/// The publisher is a client as well, over WebSocket in any case, and not in the room.
fn open_room<C: Client>(server: &Server, subscribers: usize) -> Room<C> {
    let tokens = tokens(0..subscribers + 1);
    let (publisher, subscribers) = tokens.split_last().expect("there is a publisher");
    let subscribers = enter_room(server.addr(), subscribers);
    let publisher = enter_namespace(server.addr(), std::slice::from_ref(publisher)).remove(0);
    Room::new(server.pid(), subscribers, publisher, publish)
}
