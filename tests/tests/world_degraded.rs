//! A store that is away, in the World: what goes on, what waits, what is refused; and connections that only seem alive (contract
//! C9).

use std::time::Duration;

use roomcast_core::config::{Away, Config, History, Keep, RoomRule, Slow};
use roomcast_core::door::PublishError;
use roomcast_core::pattern::Pattern;
use roomcast_core::store::Lane;
use roomcast_tests::world::{ClientNumber, World};

const ROOM: &str = "chat:1";
const SECOND: Duration = Duration::from_secs(1);

/// Rooms with a history.
fn usual() -> Config {
    let mut config = World::usual();
    config.rooms.push(RoomRule::keep("chat:*", Keep::History(History::default())));
    config
}

/// A member of the room on each node.
fn members(world: &mut World, nodes: usize) -> Vec<ClientNumber> {
    let members: Vec<_> = (0..nodes).map(|node| world.connect(node, &format!("user-{node}"))).collect();
    members.iter().for_each(|member| world.subscribe(*member, ROOM));
    world.settle();
    members
}

/// Lets time pass until something is so; how long that took.
fn wait(world: &mut World, is_so: impl Fn(&World) -> bool) -> Duration {
    let began = world.now();
    while !is_so(world) {
        world.run(SECOND / 100);
        assert!(world.now() - began < SECOND * 60, "{:?}", world.unready(0));
    }
    world.now() - began
}

/// The same until node 0 is ready, or no longer is.
fn until(world: &mut World, is_ready: bool) -> Duration {
    wait(world, |world| world.unready(0).is_empty() == is_ready)
}

#[test]
fn a_reader_that_seems_alive_and_brings_nothing_is_noticed_and_replaced() {
    for seed in 0..20 {
        let mut world = World::with(seed, 2, usual());
        let members = members(&mut world, 2);
        world.run(SECOND * 3);
        world.go_silent(0, Lane::Relay);
        let number = world.publish(1, ROOM);
        world.settle();
        assert!(world.seen(members[0], ROOM).is_empty(), "node 0 is deaf");
        let noticed = wait(&mut world, |world| world.stats().deaf == 1);
        assert!(noticed <= SECOND * 8, "noticed after {noticed:?}");
        let healed = wait(&mut world, |world| world.seen(members[0], ROOM) == [number]);
        assert!(healed <= SECOND / 2, "healed after {healed:?}");
        assert_eq!(world.unready(0), [""; 0]);
        for member in members {
            assert_eq!(world.seen(member, ROOM), [number], "seed {seed}");
        }
        assert_eq!(world.stats().deaf, 1);
        world.converge();
    }
}

#[test]
fn a_subscription_that_seems_alive_and_brings_nothing_is_noticed_and_replaced() {
    for seed in 0..20 {
        let mut world = World::new(seed, 1);
        world.run(SECOND * 3);
        world.go_silent(0, Lane::Channels);
        let noticed = until(&mut world, false);
        assert!(noticed <= SECOND * 8, "noticed after {noticed:?}");
        assert!(world.unready(0).iter().any(|reason| reason.contains("channels")), "{:?}", world.unready(0));
        let healed = until(&mut world, true);
        assert!(healed <= SECOND * 4, "healed after {healed:?}");
        assert_eq!((world.stats().deaf, world.stats().channel_gaps), (1, 1), "seed {seed}");
    }
}

#[test]
fn what_has_an_identifier_waits_for_the_store_and_is_stored_once_and_in_order() {
    for seed in 0..20 {
        let mut world = World::with(seed, 2, usual());
        let members = members(&mut world, 2);
        let mut numbers: Vec<u64> = (0..3).map(|_| world.publish_once(0, ROOM)).collect();
        // Some are under way: nobody knows whether they were stored.
        world.run(Duration::from_micros(100 * seed));
        world.cut_store(0);
        numbers.extend((0..5).map(|_| world.publish_once(0, ROOM)));
        world.run(SECOND * 8);
        let refused = world.publish(0, ROOM);
        world.settle();
        assert_eq!(world.publish_outcome(refused), Some(Err(PublishError::Unavailable)), "it is not known by anything");
        world.heal_store(0);
        until(&mut world, true);
        world.run(SECOND * 12);
        for number in &numbers {
            assert!(
                matches!(world.publish_outcome(*number), Some(Ok(Some(_)))),
                "seed {seed}: {:?}",
                world.publish_outcome(*number)
            );
        }
        for member in members {
            assert_eq!(world.seen(member, ROOM), numbers, "seed {seed}");
        }
        world.converge();
    }
}

#[test]
fn a_publisher_does_not_wait_for_longer_than_it_may_nor_too_many_of_them() {
    let mut config = usual();
    (config.relay.publishes_in_flight, config.relay.patience) = (5, SECOND * 20);
    let mut world = World::with(1, 1, config);
    world.cut_store(0);
    let waiting: Vec<u64> = (0..5).map(|_| world.publish_once(0, ROOM)).collect();
    let full = world.publish_once(0, ROOM);
    world.run(SECOND * 10);
    assert_eq!(world.publish_outcome(full), Some(Err(PublishError::Full)));
    assert_eq!(waiting.iter().map(|number| world.publish_outcome(*number)).collect::<Vec<_>>(), [None; 5]);
    world.run(SECOND * 25);
    for number in waiting {
        assert_eq!(world.publish_outcome(number), Some(Err(PublishError::Unavailable)));
    }
    world.converge();
}

#[test]
fn a_store_without_memory_is_not_ready_and_what_waits_is_stored_when_it_has_some() {
    let mut world = World::with(1, 2, usual());
    let members = members(&mut world, 2);
    world.set_full(true);
    let number = world.publish_once(0, ROOM);
    until(&mut world, false);
    assert!(world.unready(0)[0].contains("OOM"), "{:?}", world.unready(0));
    world.set_full(false);
    until(&mut world, true);
    world.run(SECOND * 11);
    for member in members {
        assert_eq!(world.seen(member, ROOM), [number]);
    }
    world.converge();
}

/// Rooms that go on among those who are there.
fn local() -> Config {
    let mut config = World::usual();
    let rule =
        RoomRule { rooms: Pattern::new("cursor:*"), keep: None, presence: false, away: Away::Local, slow: Slow::Disconnect };
    config.rooms.insert(0, rule);
    config
}

#[test]
fn a_local_room_goes_on_while_the_store_is_away() {
    const CURSORS: &str = "cursor:1";
    for seed in 0..20 {
        let mut world = World::with(seed, 2, local());
        let [here, there] = [world.connect(0, "a"), world.connect(1, "b")];
        world.subscribe(here, CURSORS);
        world.subscribe(there, CURSORS);
        world.settle();
        let everywhere = world.publish(0, CURSORS);
        world.settle();
        assert_eq!([here, there].map(|client| world.seen(client, CURSORS).to_vec()), [vec![everywhere], vec![everywhere]]);

        world.cut_store(0);
        until(&mut world, false);
        // One may come in as well, and is told at once.
        let late = world.connect(0, "c");
        world.subscribe(late, CURSORS);
        world.subscribe(late, ROOM);
        world.settle();
        let alone = world.publish(0, CURSORS);
        world.settle();
        assert_eq!(world.publish_outcome(alone), Some(Ok(None)));
        assert_eq!(world.seen(here, CURSORS), [everywhere, alone]);
        assert_eq!(world.seen(late, CURSORS), [alone]);
        assert_eq!(world.seen(there, CURSORS), [everywhere]);

        world.heal_store(0);
        until(&mut world, true);
        world.run(SECOND * 12);
        let again = world.publish(1, CURSORS);
        world.settle();
        for (client, seen) in
            [(here, vec![everywhere, alone, again]), (late, vec![alone, again]), (there, vec![everywhere, again])]
        {
            assert_eq!(world.seen(client, CURSORS), seen, "seed {seed}");
        }
        world.converge();
    }
}
