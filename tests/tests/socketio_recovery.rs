//! Connection state recovery of the unmodified `socket.io-client`: what was missed comes, exactly, on any node, or the client is told
//! that it was not recovered.

use std::net::SocketAddr;
use std::path::Path;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::poll_until;
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::{RedisServer, free_port};
use roomcast_tests::real::setup::SECRET;
use roomcast_tests::real::socketio::scenarios::nodes;
use roomcast_tests::real::socketio::{Clients, Library, Mode, SocketClient};
use serde_json::{Value, json};

gateway_tests!(
    nothing_is_missed_over_a_cut_another_node_and_a_crash,
    nothing_is_missed_where_connections_break_in_mid_traffic,
    a_long_inbox_comes_whole,
    a_history_that_was_trimmed_begins_anew,
    a_room_without_a_memory_begins_anew,
    another_user_gets_nothing,
    a_token_that_is_not_good_is_refused_on_return,
);

const CONFIG: &str = r#"
[[routes]]
path = "/socket.io/"
dialect = "socketio"
room = "global"
claims = ["sub", "email", "role", "token_type", "exp"]
recovery = "2m"

[[access]]
rooms = "*"
subscribe = "authenticated"
[[rooms]]
rooms = "global"
keep.history = { size = 1000, ttl = "1h" }

[[rooms]]
rooms = "user:*"
keep.inbox = { size = 1000, ttl = "1h" }

[[rooms]]
rooms = "project:*"
keep.history = { size = 1000, ttl = "1h" }

[[rooms]]
rooms = "short:*"
keep.history = { size = 10, ttl = "1h" }

[limits]
messages_per_second = 1000
burst = 1000
outbox_messages = 4000
"#;

const ROOMS: [&str; 3] = ["project:1", "project:2", "global"];

/// A client in each mode, each of a user of its own, with its token.
fn clients<'a>(process: &'a Clients, server: SocketAddr, rooms: &[&str]) -> Vec<SocketClient<'a>> {
    let open = |(number, mode)| process.open(server, mode, &json!({"tokens": [token(&format!("user-{number}"))]}));
    let mut clients: Vec<_> = (0..).zip(Mode::ALL).map(open).collect();
    for client in &mut clients {
        assert_eq!(client.wait("connect")["recovered"], false);
        rooms.iter().for_each(|room| drop(client.subscribe(room)));
    }
    clients
}

fn token(user: &str) -> String {
    access_token(SECRET, user, &json!({}))
}

/// Publishes these numbers to each of the rooms, and to each of the users.
fn publish(node: &Gateway, numbers: std::ops::Range<u64>) {
    let users = (0..Mode::ALL.len()).map(|number| format!("user:user-{number}"));
    let rooms: Vec<String> = ROOMS.map(String::from).into_iter().chain(users).collect();
    for number in numbers {
        rooms.iter().for_each(|room| node.publish(room, "tick", &json!({"n": number})));
    }
}

/// Each client has all numbers of all its rooms, once and in order.
fn expect_all(clients: &mut [SocketClient<'_>], count: u64) {
    for (number, client) in clients.iter_mut().enumerate() {
        let expected: Vec<u64> = (0..count).collect();
        for room in ROOMS.map(String::from).into_iter().chain([format!("user:user-{number}")]) {
            let _ = poll_until(PATIENCE, || (client.numbers_in(&room).len() >= expected.len()).then_some(()));
            assert_eq!(client.numbers_in(&room), expected, "in {room} over {:?}", client.mode());
        }
    }
}

fn expect_recovered(clients: &mut [SocketClient<'_>], ids: &[Value]) {
    for (client, id) in clients.iter_mut().zip(ids) {
        let connect = client.wait("connect");
        assert_eq!((&connect["recovered"], &connect["id"]), (&json!(true), id), "{:?}", client.mode());
    }
}

fn nothing_is_missed_over_a_cut_another_node_and_a_crash(binary: &Path) {
    let redis = RedisServer::start();
    let [a, mut b] = nodes(binary, &redis, CONFIG);
    let proxy = Proxy::to(a.addr());
    let process = Clients::start(Library::JavaScript);
    let mut clients = clients(&process, proxy.addr(), &ROOMS[..2]);
    let ids: Vec<Value> = clients.iter_mut().map(|client| client.all("connect")[0]["id"].clone()).collect();
    publish(&a, 0..3);
    expect_all(&mut clients, 3);

    clients.iter().for_each(|client| client.command(&json!({"do": "cut"})));
    publish(&b, 3..6);
    expect_recovered(&mut clients, &ids);
    expect_all(&mut clients, 6);

    proxy.lead_to(b.addr());
    proxy.cut();
    publish(&a, 6..9);
    expect_recovered(&mut clients, &ids);
    publish(&a, 9..10);
    expect_all(&mut clients, 10);

    proxy.lead_to(a.addr());
    b.kill();
    publish(&a, 10..13);
    expect_recovered(&mut clients, &ids);
    publish(&a, 13..14);
    expect_all(&mut clients, 14);
    // It is as before in every respect.
    for client in &mut clients {
        let mut rooms: Vec<String> =
            serde_json::from_value(client.call("debug:rooms", &json!([]))[0]["rooms"].take()).expect("names");
        rooms.sort();
        assert_eq!((rooms.len(), &*rooms[0], &*rooms[1], &*rooms[2]), (4, "global", "project:1", "project:2"));
    }
}

fn nothing_is_missed_where_connections_break_in_mid_traffic(binary: &Path) {
    const COUNT: u64 = 300;
    let redis = RedisServer::start();
    // A client that loses its WebSocket in the moment in which it leaves off polling notices that by missing pings alone.
    let nodes = nodes(binary, &redis, &format!("{CONFIG}\n[socketio]\nping_interval = \"500ms\"\nping_timeout = \"500ms\"\n"));
    let proxy = Proxy::to(nodes[0].addr());
    let process = Clients::start(Library::JavaScript);
    let mut clients = clients(&process, proxy.addr(), &ROOMS[..2]);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(&nodes[0], 0..COUNT));
        for round in 1.. {
            proxy.lead_to(nodes[round % 2].addr());
            proxy.cut();
            for client in &mut clients {
                let connect = client.wait("connect");
                assert_eq!(connect["recovered"], true, "{connect} over {:?} in round {round}", client.mode());
            }
            if publisher.is_finished() {
                break;
            }
        }
        publisher.join().expect("it publishes");
    });
    expect_all(&mut clients, COUNT);
}

fn a_long_inbox_comes_whole(binary: &Path) {
    const COUNT: u64 = 250;
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, CONFIG);
    let publish = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            (0..Mode::ALL.len()).for_each(|user| a.publish(&format!("user:user-{user}"), "tick", &json!({"n": number})));
        }
    };
    publish(0..COUNT);
    let proxy = Proxy::to(a.addr());
    let process = Clients::start(Library::JavaScript);
    let mut clients = clients(&process, proxy.addr(), &[]);
    clients.iter_mut().for_each(|client| client.expect_numbers(0..COUNT));
    proxy.lead_to(nowhere());
    proxy.cut();
    publish(COUNT..2 * COUNT);
    proxy.lead_to(b.addr());
    for client in &mut clients {
        assert_eq!(client.wait("connect")["recovered"], true, "{:?}", client.mode());
        client.expect_numbers(0..2 * COUNT);
    }
}

/// Nobody serves there.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn a_history_that_was_trimmed_begins_anew(binary: &Path) {
    let redis = RedisServer::start();
    let [a, _] = nodes(binary, &redis, CONFIG);
    let proxy = Proxy::to(a.addr());
    let process = Clients::start(Library::JavaScript);
    let mut clients = clients(&process, proxy.addr(), &["short:1"]);
    a.publish("short:1", "tick", &json!({"n": 0}));
    clients.iter_mut().for_each(|client| client.expect_numbers(0..1));
    proxy.lead_to(nowhere());
    proxy.cut();
    for number in 1..300 {
        a.publish("short:1", "tick", &json!({"n": number}));
    }
    proxy.lead_to(a.addr());
    for client in &mut clients {
        assert_eq!(client.wait("connect")["recovered"], false);
        // It begins anew: it is in the rooms that it need not ask for.
        client.subscribe("short:1");
    }
    a.publish("short:1", "tick", &json!({"n": 300}));
    for client in &mut clients {
        client.wait_event("tick");
        assert_eq!(client.numbers(), [0, 300]);
    }
}

fn a_room_without_a_memory_begins_anew(binary: &Path) {
    let redis = RedisServer::start();
    let [a, b] = nodes(binary, &redis, CONFIG);
    let proxy = Proxy::to(a.addr());
    let process = Clients::start(Library::JavaScript);
    let mut clients = clients(&process, proxy.addr(), &["project:1", "agent:1"]);
    a.publish("project:1", "tick", &json!({"n": 0}));
    clients.iter_mut().for_each(|client| client.expect_numbers(0..1));
    proxy.lead_to(b.addr());
    proxy.cut();
    for client in &mut clients {
        assert_eq!(client.wait("connect")["recovered"], false);
        // Without that room it can be recovered again.
        client.subscribe("project:1");
    }
    proxy.cut();
    a.publish("project:1", "tick", &json!({"n": 1}));
    for client in &mut clients {
        assert_eq!(client.wait("connect")["recovered"], true);
        client.expect_numbers(0..2);
    }
}

fn another_user_gets_nothing(binary: &Path) {
    let redis = RedisServer::start();
    let [a, _] = nodes(binary, &redis, CONFIG);
    let proxy = Proxy::to(a.addr());
    let process = Clients::start(Library::JavaScript);
    let tokens = json!({"tokens": [token("alice"), token("bob")]});
    let mut clients = Mode::ALL.map(|mode| process.open(proxy.addr(), mode, &tokens));
    for client in &mut clients {
        client.wait("connect");
        client.subscribe("project:1");
    }
    a.publish("project:1", "tick", &json!({"n": 0}));
    clients.iter_mut().for_each(|client| client.expect_numbers(0..1));
    proxy.lead_to(nowhere());
    proxy.cut();
    a.publish("project:1", "tick", &json!({"n": 1}));
    a.publish("user:alice", "tick", &json!({"n": 2}));
    proxy.lead_to(a.addr());
    for client in &mut clients {
        assert_eq!(client.wait("connect")["recovered"], false);
        assert_eq!(client.wait_event("connection_established")["data"]["user_id"], "bob");
    }
    a.publish("user:bob", "tick", &json!({"n": 3}));
    for client in &mut clients {
        client.wait_event("tick");
        assert_eq!(client.numbers(), [0, 3]);
    }
}

fn a_token_that_is_not_good_is_refused_on_return(binary: &Path) {
    let redis = RedisServer::start();
    let [a, _] = nodes(binary, &redis, CONFIG);
    let proxy = Proxy::to(a.addr());
    let process = Clients::start(Library::JavaScript);
    let tokens = json!({"tokens": [token("alice"), "not good"]});
    let mut clients = Mode::ALL.map(|mode| process.open(proxy.addr(), mode, &tokens));
    for client in &mut clients {
        client.wait("connect");
        client.subscribe("project:1");
    }
    proxy.cut();
    a.publish("project:1", "tick", &json!({"n": 0}));
    for client in &mut clients {
        let error = client.wait("connect_error");
        assert_eq!(error["data"]["code"], "AUTH_FAILED", "{error}");
        assert_eq!(client.numbers(), Vec::<u64>::new());
    }
}
