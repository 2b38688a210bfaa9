//! The user-space memory of idle connections, authenticated and in one room. One that polls has a request that waits.

use std::time::Instant;

use crate::client::{Client, enter_room, tokens};
use crate::memory::Memory;
use crate::server::{Server, Stable};
use crate::statistics::{grouped, print_aligned};

/// What the first connections bring into being belongs to the process, not to a connection.
const FIRST: usize = 100;

/// Prints a table of all servers.
pub(crate) fn measure<C: Client>(stable: &Stable, connections: usize) {
    let head = ["server", "B RSS each", "x first", "B PSS each", "KiB RSS", "connects/s"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let mut first = None;
    for server in stable.start_each() {
        let name = server.name().to_owned();
        let Grown { before, after, seconds } = measure_one::<C>(server, connections);
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / connections as f64;
        let rss = each(before.rss, after.rss);
        lines.push(vec![
            name,
            grouped(rss as u64),
            format!("{:.3}", rss / *first.get_or_insert(rss)),
            grouped(each(before.pss, after.pss) as u64),
            format!("{} -> {}", before.rss / 1024, after.rss / 1024),
            grouped((connections as f64 / seconds) as u64),
        ]);
    }
    println!("\nidle memory over {connections} connections, {}\n", C::TRANSPORT);
    print_aligned(&lines);
}

/// What connections have brought about.
struct Grown {
    before: Memory,
    after: Memory,
    seconds: f64,
}

fn measure_one<C: Client>(mut server: Server, connections: usize) -> Grown {
    let tokens = tokens(0..FIRST + connections);
    let (first, rest) = tokens.split_at(FIRST);
    let first: Vec<C> = enter_room(server.addr(), first);
    server.come_to_rest();
    let before = Memory::of(server.pid());
    let started = Instant::now();
    let rest: Vec<C> = enter_room(server.addr(), rest);
    let seconds = started.elapsed().as_secs_f64();
    server.come_to_rest();
    let after = Memory::of(server.pid());
    // The server goes first: so the ends that linger in TIME_WAIT are its own.
    drop(server);
    drop((first, rest));
    Grown { before, after, seconds }
}
