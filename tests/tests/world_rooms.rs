//! Rooms, fan-out and isolation, in the World.

use std::time::Duration;

use roomcast_core::config::{Config, Limits};
use roomcast_core::time::UnixMillis;
use roomcast_tests::world::batches::Form;
use roomcast_tests::world::{WALL_START, World};

const ROOM: &str = "workspace:w";

#[test]
fn an_event_reaches_the_members_on_every_node_once_whichever_node_read_it() {
    let mut world = World::new(1, 3);
    let members: Vec<_> = (0..3).map(|node| world.connect(node, &format!("user-{node}"))).collect();
    members.iter().for_each(|member| world.subscribe(*member, ROOM));
    world.settle();
    for _ in 0..50 {
        world.file_event("w");
    }
    world.settle();
    // Which node reads which entry is chance, and so is the order; but it is one order for all.
    let order = world.seen(members[0], ROOM).to_vec();
    assert!(members.iter().all(|member| world.seen(*member, ROOM) == order));
    let mut once = order;
    once.sort_unstable();
    assert_eq!(once, (1..=50).collect::<Vec<_>>());
    assert_eq!(world.pending(), 0);
    world.converge();
}

#[test]
fn events_go_to_their_own_room_alone() {
    let mut world = World::new(2, 1);
    let (here, elsewhere) = (world.connect(0, "a"), world.connect(0, "b"));
    world.subscribe(here, ROOM);
    world.subscribe(elsewhere, "workspace:other");
    world.settle();
    world.add_batch(&["w", "other", "nobody"], Form::Compressed);
    world.settle();
    assert_eq!(world.seen(here, ROOM), [1]);
    assert_eq!(world.seen(elsewhere, "workspace:other"), [2]);
}

#[test]
fn who_has_left_sees_nothing_more_and_who_comes_back_sees_what_is_new() {
    let mut world = World::new(3, 1);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    world.file_event("w");
    world.settle();
    world.unsubscribe(client, ROOM);
    world.settle();
    world.file_event("w");
    world.settle();
    world.subscribe(client, ROOM);
    world.settle();
    world.file_event("w");
    world.settle();
    assert_eq!(world.seen(client, ROOM), [1, 3]);
}

#[test]
fn a_message_to_a_user_reaches_all_connections_of_that_user_and_no_other() {
    let mut world = World::new(4, 2);
    let (one, two, other) = (world.connect(0, "7"), world.connect(1, "7"), world.connect(0, "8"));
    world.settle();
    world.publish(1, "user:7");
    world.settle();
    assert_eq!((world.seen(one, "user:7"), world.seen(two, "user:7")), (&[1][..], &[1][..]));
    assert!(world.seen(other, "user:7").is_empty());
}

#[test]
fn nobody_enters_the_room_of_another_user() {
    let mut world = World::new(5, 1);
    let (user, unknown) = (world.connect(0, "8"), world.connect_unknown(0));
    for client in [user, unknown] {
        world.subscribe(client, "user:7");
    }
    world.subscribe(unknown, "project:1");
    world.settle();
    assert_eq!(world.last_notice(user, "error").unwrap()["data"]["code"], "forbidden");
    assert_eq!(world.last_notice(unknown, "error").unwrap()["data"]["code"], "forbidden");
    world.publish(0, "user:7");
    world.publish(0, "project:1");
    world.settle();
    assert!(world.seen(user, "user:7").is_empty() && world.seen(unknown, "project:1").is_empty());
}

#[test]
fn everybody_hears_what_is_sent_to_everybody() {
    let mut world = World::new(6, 2);
    let (one, two) = (world.connect(0, "a"), world.connect_unknown(1));
    world.settle();
    world.publish(0, "*");
    world.settle();
    assert_eq!((world.seen(one, "*"), world.seen(two, "*")), (&[1][..], &[1][..]));
}

#[test]
fn a_slow_reader_is_closed_and_delays_nobody() {
    let config = Config { limits: Limits { outbox_messages: 20, ..Limits::default() }, ..Config::default() };
    let mut world = World::with(7, 1, config);
    let (slow, quick) = (world.connect(0, "slow"), world.connect(0, "quick"));
    world.subscribe(slow, ROOM);
    world.subscribe(quick, ROOM);
    world.settle();
    world.set_reading(slow, false);
    for _ in 0..100 {
        world.file_event("w");
    }
    world.settle();
    assert_eq!(world.seen(quick, ROOM).len(), 100);
    world.set_reading(slow, true);
    world.settle();
    assert_eq!(world.close_code(slow), Some(4008));
    assert_eq!(world.stats().slow, 1);
    world.run(Duration::from_secs(10));
    assert!(!world.is_connected(slow), "the close that is not answered ends by time");
}

#[test]
fn a_subscription_waits_for_the_store_and_is_refused_in_time() {
    let mut world = World::new(8, 1);
    let client = world.connect(0, "a");
    world.settle();
    world.cut_store(0);
    world.subscribe(client, ROOM);
    world.run(Duration::from_secs(4));
    assert!(world.last_notice(client, "subscribed").is_none());
    world.run(Duration::from_secs(2));
    assert_eq!(world.last_notice(client, "error").unwrap()["data"]["code"], "unavailable");
    assert!(world.is_connected(client), "connections stay without the store");
    world.heal_store(0);
    world.run(Duration::from_secs(15));
    world.subscribe(client, ROOM);
    world.settle();
    assert!(world.last_notice(client, "subscribed").is_some());
}

#[test]
fn a_room_that_is_known_can_be_joined_without_the_store() {
    let mut world = World::new(9, 1);
    let (first, second) = (world.connect(0, "a"), world.connect(0, "b"));
    world.subscribe(first, ROOM);
    world.settle();
    world.cut_store(0);
    world.subscribe(second, ROOM);
    world.settle();
    assert!(world.last_notice(second, "subscribed").is_some());
    world.heal_store(0);
    world.file_event("w");
    world.run(Duration::from_secs(30));
    assert_eq!((world.seen(first, ROOM), world.seen(second, ROOM)), (&[1][..], &[1][..]));
}

#[test]
fn nothing_is_missed_while_the_connection_to_the_store_is_gone() {
    let mut world = World::new(10, 2);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    world.cut_store(0);
    for _ in 0..20 {
        world.file_event("w");
    }
    world.run(Duration::from_secs(60));
    assert!(world.seen(client, ROOM).is_empty());
    assert!(!world.unready(0).is_empty() && world.unready(1).is_empty());
    world.heal_store(0);
    world.run(Duration::from_secs(20));
    assert_eq!(world.seen(client, ROOM), (1..=20).collect::<Vec<_>>());
    assert!(world.unready(0).is_empty());
}

#[test]
fn a_room_that_is_joined_while_others_are_being_read_gets_its_messages_at_once() {
    let mut world = World::new(13, 1);
    let client = world.connect(0, "a");
    // Enough rooms to lie in every partition, joined one after the other while the read of the others waits.
    let rooms: Vec<String> = (0..16).map(|number| format!("project:{number}")).collect();
    for room in &rooms {
        world.subscribe(client, room);
        world.settle();
        world.publish(0, room);
        world.settle();
        assert_eq!(world.seen(client, room).len(), 1, "{room}");
        world.run(Duration::from_secs(1));
    }
}

#[test]
fn a_room_that_is_left_and_entered_while_its_messages_are_on_their_way_shows_none_of_them_twice() {
    for delay in 0..200 {
        let mut world = World::new(14, 1);
        let client = world.connect(0, "a");
        world.subscribe(client, ROOM);
        world.settle();
        for _ in 0..8 {
            world.file_event("w");
            world.run(Duration::from_micros(800));
        }
        world.run(Duration::from_micros(delay * 50));
        world.unsubscribe(client, ROOM);
        world.subscribe(client, ROOM);
        world.settle();
        world.file_event("w");
        world.settle();
        let seen = world.seen(client, ROOM);
        assert!(seen.is_sorted_by(|one, next| one < next), "after {delay}: {seen:?}");
        assert_eq!(seen.last(), Some(&9));
    }
}

#[test]
fn a_wall_clock_that_steps_does_not_end_connections_without_an_expiry() {
    let mut world = World::new(11, 1);
    let client = world.connect(0, "a");
    world.settle();
    world.step_wall_clock(0, UnixMillis(WALL_START.0 * 2));
    world.step_wall_clock(0, UnixMillis(0));
    world.run(Duration::from_secs(300));
    assert!(world.is_connected(client));
}

#[test]
fn a_client_from_which_nothing_comes_is_dropped_within_its_time() {
    let mut world = World::new(12, 1);
    let (silent, alive) = (world.connect(0, "a"), world.connect(0, "b"));
    world.settle();
    world.fall_silent(silent);
    world.run(Duration::from_secs(59));
    assert!(world.is_connected(silent));
    world.run(Duration::from_secs(2));
    assert!(!world.is_connected(silent) && world.is_connected(alive));
    assert_eq!(world.stats().silent, 1);
}
