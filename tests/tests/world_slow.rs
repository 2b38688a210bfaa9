//! Slow readers, and what their rooms do about them, in the World.

use roomcast_core::config::{Config, Limits, RoomRule, Slow};
use roomcast_tests::world::{ClientNumber, Transport, World};

const DROPS: &str = "cursor:1";
const LATEST: &str = "ticker:1";
const CLOSES: &str = "workspace:w";

/// A World whose outboxes take few messages.
fn world(seed: u64) -> World {
    let mut config = Config { limits: Limits { outbox_messages: 20, ..Limits::default() }, ..World::usual() };
    // All messages of a room have the same room.
    for (rooms, slow) in [("cursor:*", r#""drop_oldest""#), ("ticker:*", r#"{"latest":"room"}"#)] {
        let rule = format!(r#"{{"rooms":"{rooms}","slow":{slow}}}"#);
        config.rooms.push(serde_json::from_str(&rule).expect("the rule is well formed"));
    }
    World::with(seed, 1, config)
}

/// A client of each kind that does not read, and one that does, in these rooms.
fn members(world: &mut World, rooms: &[&str]) -> (Vec<ClientNumber>, ClientNumber) {
    let mut slow = vec![world.connect(0, "a")];
    slow.extend([Transport::WebSocket, Transport::Polling].map(|transport| world.connect_socket(0, "b", transport)));
    let quick = world.connect(0, "quick");
    world.settle();
    for client in slow.iter().chain([&quick]) {
        rooms.iter().for_each(|room| world.subscribe(*client, room));
    }
    world.settle();
    slow.iter().for_each(|client| world.set_reading(*client, false));
    (slow, quick)
}

fn publish(world: &mut World, room: &str, count: usize) {
    for _ in 0..count {
        world.publish(0, room);
        world.settle();
    }
}

#[test]
fn the_oldest_messages_are_dropped_for_a_slow_reader_and_nothing_else_is() {
    let mut world = world(1);
    let (slow, quick) = members(&mut world, &[DROPS]);
    publish(&mut world, DROPS, 5);
    slow.iter().for_each(|client| world.send(*client, r#"{"type":"ping"}"#));
    publish(&mut world, DROPS, 200);
    assert_eq!((world.seen(quick, DROPS).len(), world.stats().slow), (205, 0));
    let all = world.seen(quick, DROPS).to_vec();
    for client in &slow {
        world.set_reading(*client, true);
        world.settle();
        let seen = world.seen(*client, DROPS);
        assert!(seen.len() >= 15 && all.ends_with(&seen[seen.len() - 15..]), "{seen:?}");
        assert!(world.is_connected(*client) && world.notices(*client).contains(&"pong"));
    }
    let seen: usize = slow.iter().map(|client| world.seen(*client, DROPS).len()).sum();
    assert_eq!(world.stats().slow_dropped as usize, 3 * 205 - seen);
    publish(&mut world, DROPS, 1);
    assert!(slow.iter().all(|client| world.seen(*client, DROPS).last() == world.seen(quick, DROPS).last()));
    world.converge();
}

#[test]
fn the_newest_message_is_all_that_a_slow_reader_is_sent_where_each_replaces_the_one_before() {
    let mut world = world(2);
    let (slow, quick) = members(&mut world, &[LATEST, DROPS]);
    publish(&mut world, LATEST, 100);
    publish(&mut world, DROPS, 10);
    publish(&mut world, LATEST, 100);
    assert_eq!((world.seen(quick, LATEST).len(), world.stats().slow), (200, 0));
    for client in slow {
        world.set_reading(client, true);
        world.settle();
        let seen = world.seen(client, LATEST);
        assert!(seen.len() <= 2 && seen.last() == world.seen(quick, LATEST).last(), "{seen:?}");
        assert_eq!(world.seen(client, DROPS), world.seen(quick, DROPS), "what is replaced leaves room for all else");
    }
    world.converge();
}

#[test]
fn what_may_not_be_dropped_closes_a_slow_reader_all_the_same() {
    let mut world = world(3);
    let (slow, quick) = members(&mut world, &[DROPS, CLOSES]);
    publish(&mut world, DROPS, 100);
    publish(&mut world, CLOSES, 15);
    assert_eq!(world.stats().slow, 0);
    publish(&mut world, CLOSES, 10);
    assert_eq!(world.stats().slow, slow.len() as u64);
    for client in slow {
        world.set_reading(client, true);
        world.settle();
        assert!(!world.is_connected(client));
    }
    assert_eq!((world.seen(quick, DROPS).len(), world.seen(quick, CLOSES).len()), (100, 25));
    world.converge();
}

#[test]
fn only_rooms_that_remember_nothing_may_drop() {
    for (rule, path) in [
        (r#"{"rooms":"a","slow":"drop_oldest","keep":{"history":{}}}"#, "rooms[0].slow"),
        (r#"{"rooms":"a","slow":{"latest":"x"},"keep":{"inbox":{}}}"#, "rooms[0].slow"),
        (r#"{"rooms":"a","slow":{"latest":""}}"#, "rooms[0].slow.latest"),
    ] {
        let rule: RoomRule = serde_json::from_str(rule).expect("the rule is well formed");
        assert_ne!(rule.slow, Slow::Disconnect);
        let error = Config { rooms: vec![rule], ..Config::default() }.validate().expect_err("it cannot work");
        assert_eq!(error.path, path);
    }
}
