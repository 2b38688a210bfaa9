//! Connection state recovery of Socket.IO, in the World: a client that was away goes on where it was, on any node, each message
//! once; or it is told that it begins anew.

use std::time::Duration;

use roomcast_core::config::{Config, DialectName, History, Keep, RoomRule};
use roomcast_tests::world::{ClientNumber, Transport, World};

const ROOM: &str = "project:1";
const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Polling, Transport::Upgrading];

/// Two nodes on which connections can be recovered for a minute.
fn recovering(seed: u64) -> World {
    World::with(seed, 2, config())
}

fn config() -> Config {
    let mut config = World::usual();
    config.rooms.push(RoomRule::keep("global", Keep::History(History::default())));
    let routes = config.routes.iter_mut().filter(|route| route.dialect == DialectName::SocketIo);
    routes.for_each(|route| route.recovery = Some(Duration::from_secs(60)));
    config
}

fn member(world: &mut World, transport: Transport, rooms: &[&str]) -> ClientNumber {
    let client = world.connect_socket(0, "a", transport);
    rooms.iter().for_each(|room| world.subscribe(client, room));
    world.settle();
    client
}

fn publish(world: &mut World, count: usize) {
    for _ in 0..count {
        world.publish(1, ROOM);
    }
    world.settle();
}

/// A member that has seen three messages and is cut off.
fn cut_off(world: &mut World) -> ClientNumber {
    let client = member(world, Transport::WebSocket, &[ROOM]);
    publish(world, 3);
    world.cut(client);
    client
}

fn back(world: &mut World, client: ClientNumber, node: usize) -> Vec<bool> {
    world.reopen(client, node);
    world.settle();
    world.was_recovered(client).to_vec()
}

#[test]
fn what_was_missed_follows_once_on_another_node() {
    for transport in TRANSPORTS {
        let mut world = recovering(1);
        let client = member(&mut world, transport, &[ROOM, "project:2"]);
        publish(&mut world, 3);
        world.cut(client);
        publish(&mut world, 4);
        world.publish(0, "project:2");
        world.settle();
        assert_eq!(back(&mut world, client, 1), [false, true], "{transport:?}");
        publish(&mut world, 1);
        assert_eq!(world.seen(client, ROOM), [1, 2, 3, 4, 5, 6, 7, 9], "{transport:?}");
        assert_eq!(world.seen(client, "project:2"), [8], "{transport:?}");
        world.converge();
    }
}

#[test]
fn a_node_that_dies_takes_no_connection_with_it() {
    for seed in 0..30 {
        let mut world = recovering(seed);
        let client = member(&mut world, TRANSPORTS[seed as usize % 3], &[ROOM]);
        publish(&mut world, 3);
        world.run(Duration::from_secs(seed));
        world.publish(1, ROOM);
        world.run(Duration::from_micros(seed * 200));
        world.crash(0);
        publish(&mut world, 2);
        assert_eq!(back(&mut world, client, 1), [false, true], "seed {seed}");
        publish(&mut world, 1);
        assert_eq!(world.seen(client, ROOM), (1..=7).collect::<Vec<_>>(), "seed {seed}");
        world.converge();
    }
}

#[test]
fn connections_that_break_again_and_again_lose_and_repeat_nothing() {
    for seed in 0..60 {
        let mut world = recovering(seed);
        let rooms = [ROOM, "project:2", "global", "user:a"];
        let client = member(&mut world, TRANSPORTS[seed as usize % 3], &[ROOM, "project:2"]);
        let mut published = vec![Vec::new(); rooms.len()];
        for round in 0..25_u64 {
            let pick = (seed * 7 + round * 13) as usize;
            for count in 0..=pick % 4 {
                let room = (pick + count) % rooms.len();
                published[room].push(world.publish(1, rooms[room]));
            }
            world.run(Duration::from_micros(seed * 31 % 900 + round * 37 % 500));
            match pick % 3 {
                0 => world.cut(client),
                1 => world.lose_answer(client),
                _ => {}
            }
            world.run(Duration::from_millis(pick as u64 % 400));
            world.reopen(client, pick % 2);
            world.run(Duration::from_millis(pick as u64 % 300));
        }
        world.reopen(client, 0);
        world.settle();
        world.run(Duration::from_secs(120));
        world.reopen(client, 0);
        world.settle();
        let again = &world.was_recovered(client)[1..];
        assert!(again.iter().all(|recovered| *recovered), "seed {seed}: {again:?}");
        for (room, numbers) in rooms.iter().zip(&published) {
            assert_eq!(world.seen(client, room), numbers, "seed {seed}: {room}");
        }
        world.converge();
    }
}

#[test]
fn an_inbox_is_emptied_only_by_what_has_arrived() {
    for seed in 0..20 {
        let mut world = recovering(seed);
        let client = member(&mut world, TRANSPORTS[seed as usize % 3], &[]);
        world.publish(1, "user:a");
        world.settle();
        world.set_reading(client, false);
        world.publish(1, "user:a");
        world.run(Duration::from_millis(seed * 3));
        world.cut(client);
        world.publish(1, "user:a");
        world.settle();
        assert_eq!(back(&mut world, client, 1), [false, true], "seed {seed}");
        assert_eq!(world.seen(client, "user:a"), [1, 2, 3], "seed {seed}");
        world.run(Duration::from_secs(5));
        let other = world.connect_socket(0, "a", Transport::WebSocket);
        world.settle();
        assert_eq!(world.seen(other, "user:a"), [0; 0], "seed {seed}: all of it was delivered, and that is proven");
        world.converge();
    }
}

#[test]
fn much_that_was_missed_in_many_rooms_follows_without_being_too_much() {
    for transport in TRANSPORTS {
        let mut world = recovering(12);
        let rooms: Vec<String> = (0..5).map(|number| format!("project:{number}")).collect();
        let names: Vec<&str> = rooms.iter().map(String::as_str).collect();
        let client = member(&mut world, transport, &names);
        world.cut(client);
        for _ in 0..600 {
            for room in &names {
                world.publish(1, room);
            }
            world.run(Duration::from_millis(1));
        }
        world.settle();
        assert_eq!(back(&mut world, client, 1), [false, true], "{transport:?}");
        world.run(Duration::from_secs(20));
        assert_eq!(world.was_recovered(client).len(), 2, "{transport:?}: once is enough");
        for room in &names {
            assert_eq!(world.seen(client, room).len(), 600, "{transport:?} {room}");
        }
        world.converge();
    }
}

#[test]
fn a_history_that_does_not_reach_back_is_not_recovered() {
    let mut world = recovering(2);
    let client = cut_off(&mut world);
    publish(&mut world, 4);
    world.trim_room(ROOM, 2);
    assert_eq!(back(&mut world, client, 1), [false, false]);
    publish(&mut world, 1);
    assert_eq!(world.seen(client, ROOM), [1, 2, 3], "it begins anew, and is in no room that it has not asked for");
}

#[test]
fn a_history_that_has_begun_anew_is_not_recovered() {
    let mut world = recovering(3);
    let client = cut_off(&mut world);
    world.forget_room(ROOM);
    assert_eq!(back(&mut world, client, 1), [false, false]);
    // What it is given now holds.
    world.subscribe(client, ROOM);
    world.settle();
    publish(&mut world, 1);
    world.cut(client);
    publish(&mut world, 1);
    assert_eq!(back(&mut world, client, 0), [false, false, true]);
    assert_eq!(world.seen(client, ROOM), [1, 2, 3, 4, 5]);
}

#[test]
fn a_room_that_remembers_nothing_is_not_recovered() {
    let mut world = recovering(4);
    let client = member(&mut world, Transport::WebSocket, &[ROOM, "workspace:w"]);
    world.cut(client);
    assert_eq!(back(&mut world, client, 0), [false, false]);
    // Without that room it is.
    world.subscribe(client, ROOM);
    world.settle();
    world.cut(client);
    assert_eq!(back(&mut world, client, 1), [false, false, true]);
}

#[test]
fn more_rooms_than_an_offset_names_are_not_recovered() {
    let mut world = recovering(5);
    let rooms: Vec<String> = (0..31).map(|number| format!("project:{number}")).collect();
    let client = world.connect_socket(0, "a", Transport::WebSocket);
    world.settle();
    for some in rooms.chunks(8) {
        some.iter().for_each(|room| world.subscribe(client, room));
        world.run(Duration::from_secs(2));
    }
    world.cut(client);
    assert_eq!(back(&mut world, client, 1), [false, false], "these and two that nobody asked for");
}

#[test]
fn a_secret_is_good_for_its_user_alone_and_not_for_ever() {
    let mut world = recovering(6);
    let client = cut_off(&mut world);
    let token = world.socket_token("b");
    world.set_token(client, &token);
    assert_eq!(back(&mut world, client, 0), [false, false], "another user");

    let mut world = recovering(7);
    let client = cut_off(&mut world);
    world.run(Duration::from_secs(60 + 25 + 60));
    assert_eq!(back(&mut world, client, 0), [false, false], "too late");
}

#[test]
fn who_leaves_has_nothing_to_go_on_with() {
    let mut world = recovering(8);
    let client = member(&mut world, Transport::WebSocket, &[ROOM]);
    world.leave(client);
    world.settle();
    world.cut(client);
    assert_eq!(back(&mut world, client, 0), [false, false]);

    let mut world = recovering(9);
    let client = member(&mut world, Transport::WebSocket, &[ROOM]);
    world.disconnect(1, "a");
    world.settle();
    world.cut(client);
    assert_eq!(back(&mut world, client, 0), [false, false], "an administrator has sent it away");
}

#[test]
fn a_room_that_was_left_is_not_entered_again() {
    let mut world = recovering(10);
    let client = member(&mut world, Transport::Polling, &[ROOM, "project:2"]);
    world.unsubscribe(client, "project:2");
    world.settle();
    world.cut(client);
    world.publish(0, "project:2");
    publish(&mut world, 1);
    assert_eq!(back(&mut world, client, 1), [false, true]);
    assert_eq!((world.seen(client, ROOM), world.seen(client, "project:2")), (&[2][..], &[][..]));
}

#[test]
fn while_the_store_is_away_nobody_is_kept_waiting_for_long() {
    let mut world = recovering(11);
    let client = cut_off(&mut world);
    world.cut_store(1);
    world.reopen(client, 1);
    world.run(Duration::from_secs(6));
    assert_eq!(world.was_recovered(client), [false, false]);
    world.heal_store(1);
    world.settle();
    world.converge();
}
