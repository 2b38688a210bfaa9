//! Very many clients on one gateway, each a socket of its own.

use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::raise_open_files;
use roomcast_tests::real::raw::RawClient;
use roomcast_tests::real::setup::Setup;
use serde_json::json;

gateway_tests!(a_message_reaches_each_of_ten_thousand_clients);

fn a_message_reaches_each_of_ten_thousand_clients(binary: &Path) {
    const CLIENTS: usize = 10_000;
    let files = raise_open_files();
    assert!(files > CLIENTS + 100, "only {files} files may be open at a time");
    let gateway = Setup::new(binary).start();
    // A token is optional there, and what goes to everybody goes to those without one as well.
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| RawClient::upgraded(gateway.addr(), "/ws/tasks", &[])).collect();
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
    assert_eq!(gateway.metric("roomcast_deliveries_total"), (CLIENTS * texts.len()) as u64);
}
