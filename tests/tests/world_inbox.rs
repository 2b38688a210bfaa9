//! Inboxes, in the World: what is sent to a user who is not there waits, and is delivered once (contract C6).

use std::time::Duration;

use roomcast_tests::world::World;

const ROOM: &str = "user:b";

fn publish(world: &mut World, count: usize) {
    for _ in 0..count {
        world.publish(0, ROOM);
    }
    world.settle();
}

#[test]
fn what_came_while_nobody_was_there_is_delivered_once_in_order_on_any_node() {
    let mut world = World::new(1, 2);
    publish(&mut world, 5);
    let first = world.connect(1, "b");
    world.settle();
    assert_eq!(world.seen(first, ROOM), [1, 2, 3, 4, 5]);
    publish(&mut world, 2);
    assert_eq!(world.seen(first, ROOM), [1, 2, 3, 4, 5, 6, 7]);
    world.cut(first);
    world.settle();
    let again = world.connect(0, "b");
    world.settle();
    assert!(world.seen(again, ROOM).is_empty(), "everything was delivered");
    world.cut(again);
    publish(&mut world, 1);
    let last = world.connect(0, "b");
    world.settle();
    assert_eq!(world.seen(last, ROOM), [8]);
    world.converge();
}

#[test]
fn what_comes_in_while_an_inbox_is_emptied_follows_in_its_order() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        publish(&mut world, 250);
        let client = world.connect(1, "b");
        for _ in 0..60 {
            world.publish(seed as usize % 2, ROOM);
            world.run(Duration::from_micros(400));
        }
        world.settle();
        assert_eq!(world.seen(client, ROOM), (1..=310).collect::<Vec<_>>(), "seed {seed}");
        world.converge();
    }
}

#[test]
fn nothing_is_delivered_before_it_is_written() {
    let mut world = World::new(3, 2);
    publish(&mut world, 4);
    let dead = world.connect(0, "b");
    world.set_reading(dead, false);
    world.settle();
    world.cut(dead);
    let alive = world.connect(1, "b");
    world.settle();
    assert_eq!(world.seen(alive, ROOM), [1, 2, 3, 4]);
    // The same of what came in while a connection was there that no longer read.
    world.set_reading(alive, false);
    publish(&mut world, 3);
    world.cut(alive);
    let last = world.connect(1, "b");
    world.settle();
    assert_eq!(world.seen(last, ROOM), [5, 6, 7]);
    world.converge();
}

#[test]
fn two_connections_at_once_are_both_sent_what_neither_has_had() {
    let mut world = World::new(4, 2);
    publish(&mut world, 3);
    let both = [world.connect(0, "b"), world.connect(1, "b")];
    world.settle();
    publish(&mut world, 2);
    for client in both {
        let seen = world.seen(client, ROOM);
        assert!(seen.ends_with(&[4, 5]) && seen.is_sorted(), "{seen:?}");
    }
    let mut seen: Vec<u64> = both.iter().flat_map(|client| world.seen(*client, ROOM)).copied().collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    world.converge();
}

#[test]
fn a_node_that_dies_while_it_empties_an_inbox_loses_nothing() {
    for seed in 0..30 {
        let mut world = World::new(seed, 2);
        publish(&mut world, 20);
        world.connect(0, "b");
        world.run(Duration::from_micros(seed * 400));
        world.crash(0);
        world.connect(1, "b");
        world.settle();
        world.converge();
    }
}

#[test]
fn an_inbox_keeps_the_newest_and_nothing_for_ever() {
    let mut world = World::new(6, 1);
    for _ in 0..110 {
        publish(&mut world, 10);
    }
    let client = world.connect(0, "b");
    world.settle();
    assert_eq!(world.seen(client, ROOM), (101..=1_100).collect::<Vec<_>>());
    world.cut(client);
    publish(&mut world, 2);
    world.run(Duration::from_secs(25 * 3600));
    let late = world.connect(0, "b");
    world.settle();
    assert!(world.seen(late, ROOM).is_empty());
}
