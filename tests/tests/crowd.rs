//! Very many clients on one gateway, each a socket of its own.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::raise_open_files;
use roomcast_tests::real::raw::RawClient;
use roomcast_tests::real::setup::Setup;
use serde_json::json;

gateway_tests!(a_message_reaches_each_of_very_many_clients);

/// Both together would have more files open than there may be.
static TURN: Mutex<()> = Mutex::new(());

/// How many connect at the same time: where other tests need the processor, each waits for its turn.
const AT_ONCE: usize = 50;

fn connect(gateway: &Gateway, count: usize) -> Vec<RawClient> {
    let connect = |count: usize| (0..count).map(|_| RawClient::upgraded(gateway.addr(), "/ws/tasks", &[])).collect::<Vec<_>>();
    thread::scope(|scope| {
        let share = |number: usize| count / AT_ONCE + usize::from(number < count % AT_ONCE);
        let threads: Vec<_> = (0..AT_ONCE).map(|number| scope.spawn(move || connect(share(number)))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("all are let in")).collect()
    })
}

fn a_message_reaches_each_of_very_many_clients(binary: &Path) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // As many as may have a file here: ten thousand, unless the machine allows fewer.
    let count = raise_open_files().saturating_sub(200).min(10_000);
    println!("{count} clients");
    assert!(count >= 500, "too few files may be open at a time");
    let gateway = Setup::new(binary).start();
    // A token is optional there, and what goes to everybody goes to those without one as well.
    let mut clients = connect(&gateway, count);
    let texts = ["the first", "the second", "the last"];
    for text in texts {
        let answer = gateway.post(&json!({"broadcast": true, "type": "news", "data": text}));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for text in texts {
            let frame = client.text();
            assert!(frame.contains(text), "client {number} gets {frame} instead of {text:?}");
        }
    }
    assert_eq!(gateway.metric("roomcast_deliveries_total"), (count * texts.len()) as u64);
    // Whoever closes first keeps the port for a minute: that must not be the clients, or there are none left for other tests.
    drop(gateway);
}
