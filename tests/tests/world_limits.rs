//! Limits: what a connection may do and how much of it, in the World. Each is told by its name.

use std::time::Duration;

use roomcast_core::config::{Config, Limits, PerAddress, PerUser};
use roomcast_tests::world::{ClientNumber, Transport, World};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const TRANSPORTS: [Transport; 2] = [Transport::WebSocket, Transport::Polling];

fn world(limits: Limits) -> World {
    World::with(8, 1, Config { limits, ..World::usual() })
}

/// The errors that a client was told, by their codes.
fn errors(world: &World, client: ClientNumber) -> usize {
    world.notices(client).iter().filter(|kind| matches!(**kind, "error" | "connection_error")).count()
}

fn last_error(world: &World, client: ClientNumber) -> Value {
    world.last_notice(client, "error").unwrap_or_else(|| panic!("{:?}", world.notices(client)))["data"].clone()
}

#[test]
fn a_connection_has_so_many_bytes_and_gets_them_back() {
    let mut world = world(Limits { bytes_per_second: 100, burst_bytes: 300, burst: 100, ..Limits::default() });
    let client = world.connect(0, "a");
    world.settle();
    let ping = |length: usize| format!(r#"{{"type":"ping"{}}}"#, " ".repeat(length - 15));
    // More than the bucket ever holds, but the bucket is full.
    world.send(client, &ping(500));
    world.send(client, &ping(15));
    world.settle();
    let refused = last_error(&world, client);
    assert_eq!((&refused["code"], world.stats().limit_bytes), (&json!("rate_limited"), 1));
    let wait = refused["retry_after_ms"].as_u64().expect("it says when to go on");
    assert!((2_000..2_200).contains(&wait), "500 bytes were taken, 15 must be left of 300: {wait}");
    world.run(Duration::from_millis(wait));
    world.send(client, &ping(15));
    world.settle();
    assert_eq!((errors(&world, client), world.notices(client).last()), (1, Some(&"pong")));
    world.converge();
}

#[test]
fn who_goes_on_sending_too_fast_is_closed_and_nobody_else() {
    let mut world = world(Limits { refusals: 50, ..Limits::default() });
    let (flooder, quiet) = (world.connect(0, "a"), world.connect(0, "b"));
    world.settle();
    (0..1_000).for_each(|_| world.send(flooder, r#"{"type":"ping"}"#));
    world.send(quiet, r#"{"type":"ping"}"#);
    world.settle();
    assert_eq!(world.close_code(flooder), Some(4009));
    assert_eq!(errors(&world, flooder), 51, "the answers to a flood come to an end");
    assert_eq!((world.close_code(quiet), world.notices(quiet).last()), (None, Some(&"pong")));
    assert_eq!((world.stats().limit_refusals, world.stats().limit_errors), (1, 0));
    world.converge();
}

#[test]
fn refusals_are_forgotten_after_a_while() {
    let mut world = world(Limits { refusals: 50, error_reset: 60 * SECOND, ..Limits::default() });
    let client = world.connect(0, "a");
    for _ in 0..5 {
        world.settle();
        (0..60).for_each(|_| world.send(client, r#"{"type":"ping"}"#));
        world.run(61 * SECOND);
    }
    assert!(errors(&world, client) > 100);
    assert_eq!(world.close_code(client), None);
    world.converge();
}

#[test]
fn pings_and_pongs_without_end_are_not_answered_and_end_the_connection() {
    for is_ping in [true, false] {
        let mut world = world(Limits { refusals: 50, ..Limits::default() });
        let client = world.connect(0, "a");
        world.settle();
        (0..100).for_each(|_| world.send_control(client, is_ping));
        world.settle();
        assert_eq!((world.close_code(client), world.stats().limit_controls > 10), (None, true));
        assert!(world.pongs(client) < 90, "{} of 100 pings were answered", world.pongs(client));
        (0..1_000).for_each(|_| world.send_control(client, is_ping));
        world.settle();
        assert_eq!((world.close_code(client), world.stats().limit_refusals), (Some(4009), 1));
        world.converge();
    }
}

#[test]
fn json_may_not_be_nested_without_end() {
    let limits = Limits { nesting: 4, error_budget: 100, ..Limits::default() };
    let mut world = world(limits);
    let mut clients = vec![world.connect(0, "a")];
    clients.extend(TRANSPORTS.map(|transport| world.connect_socket(0, "b", transport)));
    world.settle();
    for (at, client) in (1..).zip(clients) {
        let ping = |world: &mut World, data: &str| match at {
            1 => world.send(client, &format!(r#"{{"type":"ping","data":{data}}}"#)),
            _ => drop(world.emit(client, "ping", &format!("[{data}]"))),
        };
        ping(&mut world, r#"[[["[[["]]]"#);
        world.settle();
        assert_eq!((errors(&world, client), world.stats().limit_nesting), (0, at - 1));
        ping(&mut world, "[[[[1]]]]");
        world.settle();
        assert_eq!((&last_error(&world, client)["code"], world.stats().limit_nesting), (&json!("invalid_message"), at));
    }
    world.converge();
}

#[test]
fn subscriptions_that_wait_for_the_store_are_bounded() {
    let mut world = world(Limits { subscriptions_in_flight: 3, error_budget: 100, ..Limits::default() });
    let client = world.connect(0, "a");
    world.settle();
    world.cut_store(0);
    (0..15).for_each(|room| world.subscribe(client, &format!("workspace:{room}")));
    world.settle();
    // Rooms of a relay log that is read already need no store.
    let entered = world.notices(client).iter().filter(|kind| **kind == "subscribed").count();
    assert_eq!(errors(&world, client), 15 - 3 - entered);
    assert_eq!(world.stats().limit_subscriptions, errors(&world, client) as u64);
    assert_eq!(last_error(&world, client)["code"], "limit_exceeded");
    world.heal_store(0);
    world.run(10 * SECOND);
    world.subscribe(client, "workspace:4");
    world.settle();
    assert_eq!(world.last_notice(client, "subscribed").expect("it may subscribe again")["data"]["room"], "workspace:4");
    world.converge();
}

#[test]
fn a_session_that_is_flooded_ends_whatever_it_is_flooded_with() {
    // Events, acknowledgements that nobody waits for, words for a namespace that was left, packets that say nothing, and pongs.
    let floods = [r#"42["ping"]"#, r#"430["x"]"#, r#"42/ws,["ping"]"#, "6", "3"];
    for (transport, flood) in TRANSPORTS.into_iter().flat_map(|transport| floods.map(|flood| (transport, flood))) {
        let mut world = world(Limits { refusals: 50, ..Limits::default() });
        let client = world.connect_socket(0, "a", transport);
        let session = world.session_of(client);
        let other = world.enter(session, "/ws", None, &json!({ "token": world.socket_token("a") }).to_string());
        world.settle();
        world.leave(other);
        world.settle();
        let before = world.stats().received;
        for _ in 0..20 {
            (0..50).for_each(|_| world.send_packet(session, flood));
            world.settle();
        }
        assert!(!world.is_open(session), "{transport:?} {flood}");
        assert!(world.stats().received - before < 400, "{transport:?} {flood}");
        assert_eq!(world.stats().limit_refusals, 1, "{transport:?} {flood}");
        world.converge();
    }
}

// ---- users and addresses ------------------------------------------------------------------------------------------------

const PING: &str = r#"{"type":"ping"}"#;

/// How many of so many pings are answered.
fn answered(world: &mut World, client: ClientNumber, pings: usize) -> usize {
    let pongs = |world: &World| world.notices(client).iter().filter(|kind| **kind == "pong").count();
    let before = pongs(world);
    (0..pings).for_each(|_| world.send(client, PING));
    world.settle();
    pongs(world) - before
}

#[test]
fn a_user_has_so_many_messages_by_all_connections_together() {
    let per_user = Some(PerUser { messages_per_second: 1, burst: 25, ..PerUser::default() });
    let mut world = world(Limits { per_user, ..Limits::default() });
    let socket = world.connect_socket(0, "a", Transport::Polling);
    let clients = [world.connect(0, "a"), world.connect(0, "a"), socket];
    let other = world.connect(0, "b");
    world.settle();
    assert_eq!(clients.map(|client| answered(&mut world, client, 10)), [10, 10, 5]);
    assert_eq!((answered(&mut world, other, 10), world.stats().limit_user_messages), (10, 5));
    world.run(100 * SECOND);
    assert_eq!(answered(&mut world, clients[0], 10), 10);
    world.converge();
}

#[test]
fn a_user_has_so_many_connections() {
    let per_user = Some(PerUser { connections: 2, ..PerUser::default() });
    let mut world = world(Limits { per_user, ..Limits::default() });
    let (one, other) = (world.connect(0, "a"), world.connect_socket(0, "a", Transport::WebSocket));
    let stranger = world.connect(0, "b");
    world.settle();
    for _ in 0..3 {
        let third = world.connect(0, "a");
        world.settle();
        assert_eq!(world.close_code(third), Some(4029));
        let session = world.connect_socket(0, "a", Transport::Polling);
        world.settle();
        assert!(!world.is_connected(session));
    }
    assert_eq!(world.stats().limit_user_connections, 6);
    assert!([one, other, stranger].into_iter().all(|client| world.is_connected(client)));
    // However one goes, another may come.
    world.cut(one);
    let next = world.connect(0, "a");
    world.leave(other);
    world.settle();
    let last = world.connect_socket(0, "a", Transport::Upgrading);
    world.settle();
    assert!(world.is_connected(next) && world.is_connected(last));
    assert_eq!((world.close_code(next), world.stats().limit_user_connections), (None, 6));
    world.converge();
}

#[test]
fn an_address_has_so_many_connections_and_messages_and_comes_so_often() {
    let per_address = PerAddress { connections: 3, burst: 15, messages_per_second: 1, ..PerAddress::default() };
    let per_address = Some(PerAddress { connects_per_second: 1, connect_burst: 4, ..per_address });
    let mut world = world(Limits { per_address, ..Limits::default() });
    let house = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];
    let clients = house.map(|address| world.connect_from(0, "a", address));
    world.settle();
    assert!(clients.iter().all(|client| world.is_connected(*client)));
    assert_eq!(clients.map(|client| answered(&mut world, client, 10)), [10, 5, 0]);
    assert_eq!(world.stats().limit_address_messages, 15);
    // There are too many.
    let fourth = world.connect_from(0, "b", "2001:db8::4");
    assert!(!world.is_connected(fourth));
    let elsewhere = world.connect_from(0, "b", "2001:db8:0:1::1");
    world.settle();
    assert_eq!(answered(&mut world, elsewhere, 10), 10);
    // Then there are less, but they have come too fast.
    clients.iter().for_each(|client| world.cut(*client));
    let again: Vec<_> = (0..3).map(|_| world.connect_from(0, "a", house[0])).collect();
    world.settle();
    assert!(world.is_connected(again[0]) && !world.is_connected(again[1]) && !world.is_connected(again[2]));
    assert_eq!((world.stats().limit_address_connections, world.stats().limit_address_connects), (1, 2));
    world.run(2 * SECOND);
    let later = world.connect_from(0, "a", house[1]);
    assert!(world.is_connected(later));
    world.converge();
}

/// A client of Socket.IO from an address.
fn socket_from(world: &mut World, transport: Transport, address: &str) -> ClientNumber {
    let session = world.open_session_from(0, transport, address);
    let auth = json!({ "token": world.socket_token("a") }).to_string();
    world.enter(session, "/", Some("a"), &auth)
}

#[test]
fn sessions_that_poll_count_for_their_address() {
    let per_address = Some(PerAddress { connections: 3, ..PerAddress::default() });
    let mut world = world(Limits { per_address, ..Limits::default() });
    let house = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];
    let polling = house.map(|address| socket_from(&mut world, Transport::Polling, address));
    world.settle();
    assert!(polling.iter().all(|client| world.is_connected(*client)));
    for transport in TRANSPORTS {
        let session = world.open_session_from(0, transport, house[0]);
        world.settle();
        assert!(!world.is_open(session), "{transport:?}");
    }
    let plain = world.connect_from(0, "a", house[0]);
    let elsewhere = socket_from(&mut world, Transport::Polling, "2001:db8:0:1::1");
    world.settle();
    assert!(!world.is_connected(plain) && world.is_connected(elsewhere));
    assert_eq!((world.stats().limit_address_connections, world.stats().refused), (3, 1));
    // However one ends, there is room for another: it is cut off, it says so, it is sent away, or it goes on over a WebSocket.
    world.cut(polling[0]);
    let next = socket_from(&mut world, Transport::Polling, house[0]);
    world.settle();
    assert!(world.is_connected(next));
    world.send_packet(world.session_of(polling[1]), "1");
    world.settle();
    world.send_packet(world.session_of(polling[2]), "nonsense");
    world.settle();
    let last = socket_from(&mut world, Transport::Upgrading, house[1]);
    world.settle();
    assert!(world.is_connected(last) && world.has_websocket(world.session_of(last)));
    let beside = socket_from(&mut world, Transport::Polling, house[1]);
    world.settle();
    assert!(world.is_connected(beside), "one that was upgraded counts once");
    world.cut(last);
    let plain = world.connect_from(0, "a", house[2]);
    assert!(world.is_connected(plain));
    assert_eq!(world.stats().limit_address_connections, 3);
    world.converge();
}

#[test]
fn sessions_that_poll_come_only_so_often_from_an_address() {
    let per_address = Some(PerAddress { connects_per_second: 1, connect_burst: 4, ..PerAddress::default() });
    let mut world = world(Limits { per_address, ..Limits::default() });
    let address = "192.0.2.1";
    let sessions: Vec<_> = (0..6).map(|_| world.open_session_from(0, Transport::Polling, address)).collect();
    world.settle();
    assert_eq!(sessions.iter().filter(|session| world.is_open(**session)).count(), 4);
    assert_eq!(world.stats().limit_address_connects, 2);
    let plain = world.connect_from(0, "a", address);
    assert!(!world.is_connected(plain), "it is one rate for all");
    world.run(2 * SECOND);
    let later = world.open_session_from(0, Transport::Polling, address);
    world.settle();
    assert!(world.is_open(later));
    world.converge();
}

#[test]
fn a_node_has_so_many_sockets() {
    let mut world = world(Limits { sockets: Some(2), ..Limits::default() });
    let (one, two, three) = (world.connect(0, "a"), world.connect(0, "b"), world.connect(0, "c"));
    assert!(world.is_connected(one) && world.is_connected(two) && !world.is_connected(three));
    world.cut(two);
    world.reopen(three, 0);
    assert!(world.is_connected(three));
    assert_eq!(world.stats().limit_sockets, 1);
    world.converge();
}
