//! The user-space memory of idle connections: at a gateway authenticated and in one room.

use std::time::Instant;

use crate::limit;
use crate::memory::Memory;
use crate::server::{Server, Stable};
use crate::subscribers::connect_subscribers;

/// What the first connections bring into being belongs to the process, not to a connection.
const FIRST: usize = 100;

/// Prints a line for each server.
pub(crate) fn measure(stable: &Stable, connections: usize) {
    println!("\nidle memory over {connections} connections\n");
    for server in stable.start_each(&[limit::Mode::Echo]) {
        measure_one(server, connections);
    }
}

fn measure_one(server: Server, connections: usize) {
    let first = connect_subscribers(&server, 0..FIRST);
    let before = Memory::of(server.pid());
    let started = Instant::now();
    let rest = connect_subscribers(&server, FIRST..FIRST + connections);
    let took = started.elapsed();
    let after = Memory::of(server.pid());
    println!(
        "{:<14}  {:>5.0} B RSS, {:>5.0} B PSS a connection ({} KiB -> {} KiB RSS), {:.0} connects/s",
        server.name(),
        after.rss.saturating_sub(before.rss) as f64 / connections as f64,
        after.pss.saturating_sub(before.pss) as f64 / connections as f64,
        before.rss / 1024,
        after.rss / 1024,
        connections as f64 / took.as_secs_f64(),
    );
    // The server goes first: so the ends that linger in TIME_WAIT are its own.
    drop(server);
    drop((first, rest));
}
