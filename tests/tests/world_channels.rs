//! Pub/Sub channels, in the World: every node serves its own clients, and a room that remembers has each message once.

use std::time::Duration;

use roomcast_core::store::Lane;
use roomcast_tests::world::{ClientNumber, World};

const BROADCAST: &str = "websocket:broadcast";
const SECOND: Duration = Duration::from_secs(1);

/// A member of a room on each of two nodes.
fn members(world: &mut World, room: &str) -> [ClientNumber; 2] {
    let members = [world.connect(0, "a"), world.connect(1, "b")];
    members.iter().for_each(|member| world.subscribe(*member, room));
    world.settle();
    members
}

fn seen(world: &World, members: [ClientNumber; 2], room: &str) -> [Vec<u64>; 2] {
    // Who comes and goes is told by other numbers.
    members.map(|member| world.seen(member, room).iter().copied().filter(|number| *number < 1_000_000).collect())
}

#[test]
fn each_node_serves_its_own_clients_and_nothing_is_stored() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        let members = members(&mut world, "task:1");
        let numbers: Vec<u64> = (0..5).map(|_| world.broadcast(r#""room":"task:1""#, "task:1")).collect();
        world.settle();
        assert_eq!(seen(&world, members, "task:1"), [numbers.clone(), numbers], "seed {seed}");
        assert_eq!((world.stats().heard, world.stats().published), (10, 0));
        world.converge();
    }
}

#[test]
fn the_first_target_that_a_message_has_counts() {
    let mut world = World::new(1, 2);
    let [a, b] = members(&mut world, "project:1");
    let everybody = world.broadcast("", "*");
    let user = world.broadcast(r#""user_id":"b""#, "user:b");
    let project = world.broadcast(r#""project_id":1,"user_id":"b""#, "project:1");
    world.settle();
    assert_eq!([a, b].map(|client| world.seen(client, "*").to_vec()), [vec![everybody], vec![everybody]]);
    assert_eq!([a, b].map(|client| world.seen(client, "user:b").to_vec()), [vec![], vec![user]]);
    assert_eq!(seen(&world, [a, b], "project:1"), [vec![project], vec![project]]);
    world.converge();
}

#[test]
fn a_room_that_remembers_has_each_message_once_and_in_order() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let members = members(&mut world, "project:1");
        let mut numbers = Vec::new();
        for _ in 0..10 {
            numbers.push(world.broadcast(r#""project_id":"1""#, "project:1"));
            world.run(Duration::from_micros(300));
        }
        world.settle();
        assert_eq!(seen(&world, members, "project:1"), [numbers.clone(), numbers.clone()], "seed {seed}");
        // One that comes back to another node has missed nothing.
        let position = world.position(members[0], "project:1").expect("the room has positions").to_owned();
        world.cut(members[0]);
        let missed = world.broadcast(r#""project_id":"1""#, "project:1");
        world.settle();
        world.reopen(members[0], 2);
        world.recover(members[0], "project:1", &position);
        world.settle();
        assert_eq!(world.recovered(members[0], "project:1"), [true]);
        numbers.push(missed);
        assert_eq!(seen(&world, members, "project:1"), [numbers.clone(), numbers], "seed {seed}");
        world.converge();
    }
}

#[test]
fn what_one_node_has_heard_reaches_all_in_a_room_that_remembers() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        let members = members(&mut world, "project:1");
        world.go_silent(0, Lane::Channels);
        let number = world.broadcast(r#""project_id":"1""#, "project:1");
        world.settle();
        assert_eq!(seen(&world, members, "project:1"), [vec![number], vec![number]], "seed {seed}");
        world.converge();
    }
}

#[test]
fn a_user_who_is_away_is_told_once_on_return_whoever_heard_it() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let numbers: Vec<u64> = (0..4).map(|_| world.broadcast(r#""user_id":"c""#, "user:c")).collect();
        world.settle();
        let client = world.connect(1, "c");
        world.settle();
        assert_eq!(world.seen(client, "user:c"), numbers, "seed {seed}");
        world.cut(client);
        world.settle();
        let again = world.connect(2, "c");
        world.settle();
        assert!(world.seen(again, "user:c").is_empty());
        world.converge();
    }
}

#[test]
fn what_is_broken_harms_nobody() {
    let mut world = World::new(1, 2);
    let members = members(&mut world, "task:1");
    for broken in [
        "",
        "nonsense",
        "[]",
        r#"{"data":1}"#,
        r#"{"type":"note","room":"a\u0000b"}"#,
        r#"{"type":"note","user_id":{"id":"a"}}"#,
        "\u{80}\u{4}pickle",
    ] {
        assert_eq!(world.say(BROADCAST, broken), 2);
    }
    let number = world.broadcast(r#""room":"task:1""#, "task:1");
    world.settle();
    assert_eq!(seen(&world, members, "task:1"), [vec![number], vec![number]]);
    assert_eq!(world.stats().unheard, 14);
    world.converge();
}

#[test]
fn a_gap_in_listening_is_told_to_those_whom_it_may_concern() {
    let mut world = World::new(1, 1);
    let [fed, other] = [world.connect(0, "a"), world.connect(0, "b")];
    world.subscribe(fed, "project:1");
    world.subscribe(other, "project:2");
    world.settle();
    world.broadcast(r#""project_id":"1""#, "project:1");
    world.settle();
    world.kill_subscription(0);
    world.run(SECOND);
    assert_eq!(world.recovered(fed, "project:1"), [false], "something may have been said there");
    assert!(world.recovered(other, "project:2").is_empty(), "nothing ever came there by a channel");
    assert_eq!(world.stats().channel_gaps, 1);
    world.converge();
}

#[test]
fn what_is_remembered_of_a_gap_comes_before_it_is_told() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        let members = members(&mut world, "project:1");
        let mut numbers = vec![world.broadcast(r#""project_id":"1""#, "project:1")];
        world.settle();
        // The second node reads and hears nothing for a moment, and its subscription is gone when it does again.
        world.go_silent(1, Lane::Relay);
        world.go_silent(1, Lane::Channels);
        numbers.extend((0..5).map(|_| world.broadcast(r#""project_id":"1""#, "project:1")));
        world.kill_subscription(1);
        world.run(SECOND * 20);
        assert_eq!(seen(&world, members, "project:1"), [numbers.clone(), numbers], "seed {seed}");
        assert_eq!(world.recovered(members[1], "project:1"), [false], "seed {seed}");
        world.converge();
    }
}

#[test]
fn what_was_heard_is_stored_when_the_store_has_memory_again() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        let members = members(&mut world, "project:1");
        world.set_full(true);
        let numbers: Vec<u64> = (0..5).map(|_| world.broadcast(r#""project_id":"1""#, "project:1")).collect();
        world.run(SECOND * 3);
        world.set_full(false);
        world.run(SECOND * 12);
        assert_eq!(seen(&world, members, "project:1"), [numbers.clone(), numbers], "seed {seed}");
        world.converge();
    }
}

#[test]
fn a_message_for_a_job_is_added_to_its_stream_once() {
    let mut world = World::new(1, 2);
    let members = members(&mut world, "job:1");
    let number = world.broadcast(r#""room":"job:1""#, "job:1");
    world.settle();
    assert_eq!(seen(&world, members, "job:1"), [vec![number], vec![number]]);
    world.converge();
}
