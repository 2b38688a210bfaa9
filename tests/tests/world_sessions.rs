//! Sessions, in the World: clients that do not ask for their rooms again get them back, on any node, and miss nothing unsaid.

use std::time::Duration;

use roomcast_core::config::{Config, Keep, RoomRule};
use roomcast_tests::world::{ClientNumber, World};

const ROOM: &str = "project:1";

fn restoring(seed: u64) -> World {
    let mut config = World::usual();
    config.rooms = vec![RoomRule::keep("project:*", Keep::History(Default::default()))];
    config.routes.iter_mut().for_each(|route| route.restore = Some(Duration::from_secs(60)));
    World::with(seed, 2, Config { ..config })
}

fn member(world: &mut World, rooms: &[&str]) -> ClientNumber {
    let client = world.connect(0, "a");
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

/// What a client has seen of the room, each message once, and whether the rest is without a gap.
fn seen(world: &World, client: ClientNumber) -> Vec<u64> {
    let mut seen = world.seen(client, ROOM).to_vec();
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn rooms_are_restored_on_another_node_with_what_was_missed() {
    let mut world = restoring(1);
    let client = member(&mut world, &[ROOM, "workspace:w"]);
    publish(&mut world, 3);
    // The client answers a ping: what it was sent before needs not be sent again.
    world.run(Duration::from_secs(60));
    publish(&mut world, 2);
    world.cut(client);
    publish(&mut world, 4);
    world.reopen(client, 1);
    world.settle();
    assert_eq!(world.recovered(client, ROOM), [true]);
    assert_eq!(world.recovered(client, "workspace:w"), [false], "nothing is remembered there, and that is said");
    assert_eq!(world.seen(client, ROOM), [1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9], "what may not have arrived is sent again");
    publish(&mut world, 1);
    world.file_event("w");
    world.settle();
    assert_eq!(seen(&world, client), (1..=10).collect::<Vec<_>>());
    assert_eq!(world.seen(client, "workspace:w"), [11]);
    world.converge();
}

#[test]
fn a_node_that_dies_takes_no_rooms_with_it() {
    for seed in 0..20 {
        let mut world = restoring(seed);
        let client = member(&mut world, &[ROOM]);
        publish(&mut world, 3);
        world.run(Duration::from_secs(seed));
        world.crash(0);
        publish(&mut world, 2);
        world.reopen(client, 1);
        world.settle();
        publish(&mut world, 1);
        assert_eq!(world.recovered(client, ROOM), [true], "seed {seed}");
        assert_eq!(seen(&world, client), (1..=6).collect::<Vec<_>>(), "seed {seed}");
        world.converge();
    }
}

#[test]
fn what_was_left_or_is_too_long_ago_is_not_restored() {
    let mut world = restoring(3);
    let client = member(&mut world, &[ROOM, "task:7"]);
    world.unsubscribe(client, "task:7");
    world.settle();
    world.cut(client);
    world.run(Duration::from_secs(50));
    world.reopen(client, 1);
    world.settle();
    assert_eq!(world.recovered(client, ROOM), [true]);
    assert!(world.recovered(client, "task:7").is_empty());
    world.cut(client);
    world.run(Duration::from_secs(70));
    world.reopen(client, 0);
    world.settle();
    assert_eq!(world.recovered(client, ROOM), [true], "and not a second time");
}

#[test]
fn a_connection_that_is_dead_and_not_yet_known_to_be_is_followed_by_the_next() {
    let mut world = restoring(4);
    let dead = member(&mut world, &[ROOM]);
    publish(&mut world, 2);
    world.set_reading(dead, false);
    publish(&mut world, 3);
    let next = world.connect(1, "a");
    world.settle();
    assert_eq!(world.recovered(next, ROOM), [true]);
    assert_eq!(world.seen(next, ROOM), [1, 2, 3, 4, 5]);
}

#[test]
fn two_connections_of_a_token_are_restored_each_for_itself() {
    let mut world = restoring(5);
    let both = [member(&mut world, &[ROOM]), world.connect(1, "a")];
    world.settle();
    both.into_iter().for_each(|client| world.subscribe(client, "workspace:w"));
    world.settle();
    both.into_iter().for_each(|client| world.cut(client));
    world.settle();
    for (node, client) in both.into_iter().enumerate() {
        world.reopen(client, node);
        world.settle();
        assert_eq!(world.recovered(client, "workspace:w"), [false]);
    }
}

#[test]
fn what_could_not_be_saved_at_once_is_saved_when_the_store_is_back() {
    let mut world = restoring(6);
    let client = world.connect(0, "a");
    world.settle();
    world.cut_store(1);
    world.subscribe(client, ROOM);
    world.settle();
    world.cut_store(0);
    world.cut(client);
    world.heal_store(0);
    world.heal_store(1);
    world.run(Duration::from_secs(20));
    world.reopen(client, 1);
    world.settle();
    assert_eq!(world.recovered(client, ROOM), [true]);
    world.converge();
}
