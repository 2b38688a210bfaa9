//! Who is in a room: told on a user's first and last connection anywhere, whatever becomes of nodes and the store.

use std::time::Duration;

use roomcast_core::config::{AccessRule, Config, Who};
use roomcast_tests::world::{ClientNumber, World};
use serde_json::json;

const ROOM: &str = "project:1";

#[test]
fn the_first_and_the_last_connection_on_any_node_is_told_to_the_others() {
    let mut world = World::new(1, 2);
    let (alice, bob) = (member(&mut world, 0, "alice"), member(&mut world, 1, "bob"));
    assert_eq!(world.told(alice, ROOM), ["+bob"]);
    let more = [member(&mut world, 0, "bob"), member(&mut world, 1, "bob"), member(&mut world, 1, "alice")];
    assert_eq!(world.told(alice, ROOM), ["+bob"], "only the first connection counts");
    assert!(world.told(bob, ROOM).is_empty(), "alice was there before, and nobody is told of oneself");
    let here = json!({"room": ROOM, "users": ["alice", "bob"], "connections": 5});
    assert_eq!(world.who(bob, ROOM), here);
    assert_eq!(world.who(alice, ROOM), here);

    world.cut(bob);
    world.unsubscribe(more[0], ROOM);
    world.settle();
    assert_eq!(world.told(alice, ROOM), ["+bob"], "one is left");
    world.cut(more[1]);
    world.settle();
    assert_eq!(world.told(alice, ROOM), ["+bob", "-bob"]);
    assert_eq!(world.told(more[2], ROOM), ["-bob"], "who came later is told from then on");
    assert_eq!(world.who(alice, ROOM), json!({"room": ROOM, "users": ["alice"], "connections": 2}));
    world.converge();
}

#[test]
fn a_bounce_or_a_second_connection_is_told_to_nobody() {
    let mut world = World::new(2, 2);
    let (alice, bob) = (member(&mut world, 0, "alice"), member(&mut world, 1, "bob"));
    for _ in 0..10 {
        let second = member(&mut world, 0, "bob");
        world.cut(second);
        world.settle();
    }
    world.subscribe(bob, ROOM);
    world.settle();
    assert_eq!(world.told(alice, ROOM), ["+bob"]);
    world.converge();
}

#[test]
fn connections_without_a_token_are_not_counted_and_rooms_without_presence_tell_nothing() {
    let mut config = World::usual();
    config.access.insert(0, AccessRule::new("project:*", Who::Anyone, Who::Admin));
    let mut world = World::with(3, 1, config);
    let alice = member(&mut world, 0, "alice");
    let unknown = world.connect_unknown(0);
    world.subscribe(unknown, ROOM);
    world.settle();
    assert!(world.told(alice, ROOM).is_empty());
    assert_eq!(world.who(unknown, ROOM), json!({"room": ROOM, "users": ["alice"], "connections": 1}));

    world.send(alice, r#"{"type":"presence","data":{"room":"task:1"},"message_id":"m"}"#);
    world.send(alice, r#"{"type":"presence","data":{"room":"user:bob"},"message_id":"n"}"#);
    world.settle();
    let error = world.last_notice(alice, "error").expect("it is refused");
    assert_eq!((&error["data"]["code"], &error["reply_to"]), (&json!("forbidden"), &json!("n")));
    assert_eq!(world.stats().errors, 2);
    world.converge();
}

#[test]
fn who_enters_a_room_before_giving_a_token_is_counted_from_then_on() {
    let mut config = World::usual();
    config.access.insert(0, AccessRule::new("project:*", Who::Anyone, Who::Admin));
    let mut world = World::with(4, 2, config);
    let alice = member(&mut world, 0, "alice");
    let late = world.connect_unknown(1);
    world.subscribe(late, ROOM);
    world.settle();
    let token = world.token(1, "bob");
    world.send(late, &format!(r#"{{"type":"auth","data":{{"token":"{token}"}}}}"#));
    world.settle();
    assert_eq!(world.told(alice, ROOM), ["+bob"]);
    world.cut(late);
    world.settle();
    assert_eq!(world.told(alice, ROOM), ["+bob", "-bob"]);
}

#[test]
fn the_users_of_a_node_that_died_leave_in_time_and_once() {
    for survivors in [1, 2, 4] {
        let mut world = World::new(5, survivors + 1);
        let dead = survivors;
        let watchers: Vec<_> = (0..survivors).map(|node| member(&mut world, node, &format!("watcher-{node}"))).collect();
        for user in ["bob", "carol", "dave"] {
            let _of_the_dead = member(&mut world, dead, user);
        }
        // One of them is elsewhere as well.
        let _lives = member(&mut world, 0, "dave");
        world.run(Duration::from_secs(60));
        world.crash(dead);
        let config = Config::default().relay;
        world.run(config.dead_after - config.beat);
        assert_eq!(ghosts(&mut world, watchers[0]), ["bob", "carol"], "who may only be slow is not sent away");
        world.run(config.beat * 2);
        assert!(ghosts(&mut world, watchers[0]).is_empty());
        for watcher in &watchers {
            let told: Vec<_> = world.told(*watcher, ROOM).into_iter().filter(|event| event.starts_with('-')).collect();
            assert_eq!(told, ["-bob", "-carol"], "each left once");
        }
        world.converge();
    }
}

#[test]
fn a_sweeper_that_dies_half_way_is_replaced() {
    let mut world = World::new(6, 4);
    let watcher = member(&mut world, 0, "watcher");
    // More than one operation takes out.
    for number in 0..150 {
        let client = world.connect(3, &format!("user-{number}"));
        world.subscribe(client, ROOM);
    }
    world.run(Duration::from_secs(60));
    world.crash(3);
    let swept_by = world.now() + Duration::from_secs(25);
    while world.here(ROOM).len() == 151 && world.now() < swept_by {
        world.run(Duration::from_millis(1));
    }
    assert!((2..151).contains(&world.here(ROOM).len()), "it is half-way");
    world.crash(1);
    world.crash(2);
    world.cut_store(0);
    world.run(Duration::from_secs(1));
    world.heal_store(0);
    world.run(Duration::from_secs(30));
    assert_eq!(world.here(ROOM), ["watcher"]);
    assert_eq!(world.told(watcher, ROOM).len(), 300, "each came once and left once");
    world.converge();
}

#[test]
fn a_node_that_was_cut_off_for_long_tells_everything_again() {
    let mut world = World::new(7, 2);
    let (alice, bob) = (member(&mut world, 0, "alice"), member(&mut world, 1, "bob"));
    let gone = member(&mut world, 1, "carol");
    world.run(Duration::from_secs(60));
    world.cut_store(1);
    world.run(Duration::from_secs(40));
    assert_eq!(world.told(alice, ROOM), ["+bob", "+carol", "-bob", "-carol"], "nobody knows whether they live");
    world.cut(gone);
    world.heal_store(1);
    world.run(Duration::from_secs(6));
    assert_eq!(world.told(alice, ROOM), ["+bob", "+carol", "-bob", "-carol", "+bob"]);
    assert_eq!(world.who(bob, ROOM), json!({"room": ROOM, "users": ["alice", "bob"], "connections": 2}));
    world.converge();
}

#[test]
fn while_the_store_is_away_only_the_last_word_is_kept() {
    let mut world = World::new(8, 2);
    let (alice, bob) = (member(&mut world, 0, "alice"), member(&mut world, 1, "bob"));
    world.run(Duration::from_secs(20));
    world.cut_store(1);
    world.unsubscribe(bob, ROOM);
    for _ in 0..50 {
        // Others of the same user come and go; the room is joined on this node already.
        world.run(Duration::from_millis(20));
        world.subscribe(bob, ROOM);
        world.run(Duration::from_millis(20));
        world.unsubscribe(bob, ROOM);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.told(alice, ROOM), ["+bob"]);
    world.heal_store(1);
    world.run(Duration::from_secs(10));
    assert_eq!(world.told(alice, ROOM), ["+bob", "-bob"], "what came and went meanwhile is told to nobody");
    world.converge();
}

#[test]
fn answers_that_are_lost_repeat_no_event() {
    let mut world = World::new(9, 2);
    let (alice, _stays) = (member(&mut world, 0, "alice"), member(&mut world, 1, "carol"));
    world.run(Duration::from_secs(10));
    for round in 0..10 {
        let bob = world.connect(1, "bob");
        world.subscribe(bob, ROOM);
        world.run(Duration::from_micros(1_500 + 700 * round));
        world.lose_answers(1);
        world.run(Duration::from_secs(20));
        world.cut(bob);
        world.lose_answers(1);
        world.run(Duration::from_secs(20));
    }
    let expected = std::iter::once("+carol").chain(["+bob", "-bob"].into_iter().cycle().take(20));
    assert!(world.told(alice, ROOM).iter().eq(expected), "{:?}", world.told(alice, ROOM));
    world.converge();
}

#[test]
fn after_a_store_that_was_away_from_all_nodes_nobody_is_sent_away() {
    let mut world = World::new(10, 3);
    let members = [member(&mut world, 0, "alice"), member(&mut world, 1, "bob"), member(&mut world, 2, "carol")];
    world.run(Duration::from_secs(20));
    (0..3).for_each(|node| world.cut_store(node));
    world.run(Duration::from_secs(120));
    (0..3).for_each(|node| world.heal_store(node));
    world.run(Duration::from_secs(120));
    assert_eq!(world.told(members[0], ROOM), ["+bob", "+carol"], "all were there all the time");
    world.converge();
}

#[test]
fn a_store_that_has_lost_everything_is_told_again_within_a_beat() {
    let mut world = World::new(11, 2);
    let alice = member(&mut world, 0, "alice");
    let _others = [member(&mut world, 1, "bob"), member(&mut world, 1, "alice")];
    world.run(Duration::from_secs(20));
    world.flush_all();
    assert!(world.here(ROOM).is_empty());
    world.run(Config::default().relay.beat + Duration::from_millis(100));
    assert_eq!(world.who(alice, ROOM), json!({"room": ROOM, "users": ["alice", "bob"], "connections": 3}));
    world.converge();
    assert!(!world.told(alice, ROOM).contains(&"-bob".to_owned()), "what the nodes had before is swept without a word");
}

#[test]
fn a_store_that_is_away_is_no_reason_to_close_a_connection() {
    let mut world = World::new(12, 1);
    let alice = member(&mut world, 0, "alice");
    world.cut_store(0);
    for _ in 0..10 {
        world.send(alice, r#"{"type":"presence","data":{"room":"project:1"}}"#);
        world.run(Duration::from_secs(1));
        assert_eq!(world.last_notice(alice, "error").expect("it is told")["data"]["code"], "unavailable");
    }
    assert!(world.is_connected(alice));
    world.heal_store(0);
    world.run(Duration::from_secs(6));
    assert_eq!(world.who(alice, ROOM)["users"], json!(["alice"]));
}

fn member(world: &mut World, node: usize, user: &str) -> ClientNumber {
    let client = world.connect(node, user);
    world.subscribe(client, ROOM);
    world.settle();
    client
}

/// Who is in the room beside those whose nodes live.
fn ghosts(world: &mut World, watcher: ClientNumber) -> Vec<String> {
    let here = world.who(watcher, ROOM);
    let users = here["users"].as_array().expect("there is a list").iter().filter_map(|user| user.as_str());
    users.filter(|user| *user != "dave" && !user.starts_with("watcher")).map(String::from).collect()
}
