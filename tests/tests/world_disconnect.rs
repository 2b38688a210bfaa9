//! Users who are sent away by an administrator, in the World: from every node, whatever becomes of the store.

use std::time::Duration;

use roomcast_tests::world::World;

const ROOM: &str = "project:1";

#[test]
fn every_connection_of_the_user_is_closed_on_every_node_and_no_other() {
    let mut world = World::new(1, 3);
    let theirs: Vec<_> = (0..3).map(|node| world.connect(node, "alice")).collect();
    let others = [world.connect(0, "alic"), world.connect(1, "bob"), world.connect_unknown(2)];
    world.settle();
    world.disconnect(1, "alice");
    world.settle();
    for client in theirs {
        assert_eq!((world.close_code(client), world.is_connected(client)), (Some(4003), false));
    }
    assert!(others.iter().all(|client| world.is_connected(*client)));
    world.converge();
}

#[test]
fn a_node_that_was_cut_off_carries_it_out_when_it_comes_back() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2);
        let alice = world.connect(0, "alice");
        world.settle();
        world.cut_store(0);
        world.disconnect(1, "alice");
        world.run(Duration::from_secs(20));
        assert!(world.is_connected(alice));
        world.heal_store(0);
        world.run(Duration::from_secs(20));
        assert_eq!(world.close_code(alice), Some(4003), "seed {seed}");
        world.converge();
    }
}

#[test]
fn who_comes_back_is_let_in_and_is_in_no_room() {
    let mut config = World::usual();
    config.routes.iter_mut().for_each(|route| route.restore = Some(Duration::from_secs(60)));
    let mut world = World::with(1, 2, config);
    let alice = world.connect(0, "alice");
    world.subscribe(alice, ROOM);
    world.settle();
    world.disconnect(0, "alice");
    world.settle();
    assert_eq!(world.close_code(alice), Some(4003));
    world.reopen(alice, 1);
    world.settle();
    assert!(world.is_connected(alice), "a token stays valid");
    assert!(world.recovered(alice, ROOM).is_empty(), "its rooms are not restored");
    assert!(world.here(ROOM).is_empty());
    world.converge();
}
