//! Rooms that remember, in the World: exact joins, exact resumption, and what clients are told when that cannot be.

use std::time::Duration;

use roomcast_core::config::{Config, History, Keep, RoomRule};
use roomcast_tests::world::{ClientNumber, World};

const ROOM: &str = "project:1";

/// A world whose project rooms keep so many messages for an hour.
fn remembering(seed: u64, nodes: usize, size: u32) -> World {
    World::with(seed, nodes, config(size))
}

fn config(size: u32) -> Config {
    let history = History { size, ttl: Duration::from_secs(3600), newest: 0 };
    Config { rooms: vec![RoomRule::keep("project:*", Keep::History(history))], ..World::usual() }
}

fn member(world: &mut World, node: usize, user: &str) -> ClientNumber {
    let client = world.connect(node, user);
    world.subscribe(client, ROOM);
    world.settle();
    client
}

fn publish(world: &mut World, count: usize) {
    for _ in 0..count {
        world.publish(0, ROOM);
    }
    world.settle();
}

#[test]
fn who_comes_back_to_another_node_gets_what_it_missed_and_nothing_twice() {
    let mut world = remembering(1, 2, 100);
    let (away, here) = (member(&mut world, 0, "a"), member(&mut world, 1, "b"));
    publish(&mut world, 3);
    world.cut(away);
    publish(&mut world, 4);
    world.come_back(away, 1);
    world.settle();
    publish(&mut world, 2);
    assert_eq!(world.recovered(away, ROOM), [true]);
    assert_eq!(world.seen(away, ROOM), world.seen(here, ROOM));
    assert_eq!(world.seen(away, ROOM), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    world.converge();
}

#[test]
fn a_join_is_exact_while_messages_come_in() {
    let mut world = remembering(2, 3, 1_000);
    let first = member(&mut world, 0, "first");
    let mut joiners = Vec::new();
    for step in 0..200 {
        world.publish(step % 3, ROOM);
        if step % 4 == 0 {
            let client = world.connect(step % 3, &format!("user-{step}"));
            world.send(client, &format!(r#"{{"type":"subscribe","room":"{ROOM}","history":1000}}"#));
            joiners.push(client);
        }
        world.run(Duration::from_micros(700));
    }
    world.settle();
    let all = world.seen(first, ROOM).to_vec();
    assert_eq!(all.len(), 200);
    for joiner in joiners {
        assert_eq!(world.seen(joiner, ROOM), all);
    }
    world.converge();
}

#[test]
fn what_does_not_fit_into_an_outbox_is_sent_page_by_page() {
    let mut config = config(5_000);
    config.limits.outbox_messages = 40;
    let mut world = World::with(3, 1, config);
    let away = member(&mut world, 0, "a");
    world.cut(away);
    for _ in 0..100 {
        publish(&mut world, 10);
    }
    world.reopen(away, 0);
    let position = world.position(away, ROOM).expect("it was told").to_owned();
    world.recover(away, ROOM, &position);
    // More comes in while the pages are sent.
    for _ in 0..50 {
        world.publish(0, ROOM);
        world.run(Duration::from_micros(300));
    }
    world.settle();
    world.run(Duration::from_secs(1));
    assert_eq!(world.recovered(away, ROOM), [true]);
    assert_eq!(world.seen(away, ROOM).len(), 1_050);
    assert_eq!(world.stats().slow, 0);
    world.converge();
}

#[test]
fn who_was_away_for_too_long_is_told_so_and_goes_on_from_now() {
    let mut world = remembering(4, 1, 5);
    let away = member(&mut world, 0, "a");
    publish(&mut world, 2);
    world.cut(away);
    publish(&mut world, 10);
    world.come_back(away, 0);
    world.settle();
    publish(&mut world, 1);
    assert_eq!(world.recovered(away, ROOM), [false]);
    assert_eq!(world.seen(away, ROOM), [1, 2, 13]);
    world.converge();
}

#[test]
fn messages_that_have_expired_are_missed_and_silence_is_not() {
    let mut world = remembering(5, 1, 100);
    let (missed, silent) = (member(&mut world, 0, "a"), member(&mut world, 0, "b"));
    publish(&mut world, 2);
    world.cut(missed);
    publish(&mut world, 1);
    world.cut(silent);
    // The log is gone by now, but where the room stands is known for longer.
    world.run(Duration::from_secs(2 * 3600));
    for client in [missed, silent] {
        world.come_back(client, 0);
        world.settle();
    }
    assert_eq!(world.recovered(missed, ROOM), [false]);
    assert_eq!(world.recovered(silent, ROOM), [true]);
    world.converge();
}

#[test]
fn a_room_that_was_forgotten_recovers_nobody() {
    let mut world = remembering(6, 2, 100);
    let (member, away) = (member(&mut world, 0, "a"), member(&mut world, 1, "b"));
    publish(&mut world, 2);
    world.cut(away);
    world.forget_room(ROOM);
    publish(&mut world, 2);
    world.come_back(away, 1);
    world.settle();
    assert_eq!(world.recovered(away, ROOM), [false]);
    assert_eq!(world.recovered(member, ROOM), [false], "its chain is broken, and it is told without asking");
    assert_eq!(world.stats().rooms_lost, 1);
    let seen = world.seen(member, ROOM).len();
    publish(&mut world, 3);
    assert_eq!(world.seen(member, ROOM).len(), seen + 3);
}

#[test]
fn what_the_relay_logs_lose_is_read_from_the_logs_of_rooms() {
    let mut world = remembering(7, 2, 100);
    let client = member(&mut world, 1, "a");
    publish(&mut world, 2);
    world.cut_store(1);
    publish(&mut world, 5);
    // The logs are so short that nothing is left of what was missed.
    world.trim_relay(0);
    world.heal_store(1);
    world.run(Duration::from_secs(30));
    assert_eq!(world.seen(client, ROOM), [1, 2, 3, 4, 5, 6, 7], "a quiet room is checked");
    assert!(world.recovered(client, ROOM).is_empty(), "nothing was lost");
    world.cut_store(1);
    publish(&mut world, 3);
    world.trim_relay(1);
    world.heal_store(1);
    world.settle();
    publish(&mut world, 1);
    world.run(Duration::from_secs(30));
    assert_eq!(world.seen(client, ROOM).len(), 11);
    assert!(world.stats().healed >= 5);
    world.converge();
}

#[test]
fn who_has_seen_what_a_fail_over_lost_is_told_so() {
    for seed in 0..40 {
        let mut world = remembering(seed, 2, 100);
        let (live, away) = (member(&mut world, 0, "a"), member(&mut world, 1, "b"));
        publish(&mut world, 4);
        world.replicate();
        let behind = member(&mut world, 1, "c");
        world.cut(behind);
        publish(&mut world, 3);
        world.cut(away);
        world.fail_over();
        // As many other messages as were lost, or fewer: their offsets are those of lost ones.
        let others = seed as usize % 4;
        world.run(Duration::from_millis(seed * 100));
        publish(&mut world, others);
        world.come_back(away, 0);
        world.come_back(behind, 0);
        world.run(Duration::from_secs(40));
        for client in [live, away] {
            let told = world.recovered(client, ROOM);
            assert!(!told.is_empty() && !told.contains(&true), "seed {seed}: {told:?}");
        }
        assert_eq!(world.recovered(behind, ROOM), [true], "seed {seed}: it knows nothing that was lost");
        publish(&mut world, 2);
        let last = world.seen(behind, ROOM).to_vec();
        assert_eq!(last.len(), others + 2, "seed {seed}");
        assert!(world.seen(live, ROOM).ends_with(&last[others..]), "seed {seed}");
        world.converge();
    }
}

#[test]
fn the_last_value_is_sent_to_whoever_comes() {
    let history = History { size: 10, newest: 1, ..History::default() };
    let config = Config { rooms: vec![RoomRule::keep("project:*", Keep::History(history))], ..World::usual() };
    let mut world = World::with(8, 1, config);
    publish(&mut world, 3);
    let client = member(&mut world, 0, "a");
    assert_eq!(world.seen(client, ROOM), [3]);
    publish(&mut world, 1);
    assert_eq!(world.seen(client, ROOM), [3, 4]);
    let nothing = member(&mut world, 0, "b");
    world.cut(nothing);
    world.come_back(nothing, 0);
    world.settle();
    assert_eq!(world.recovered(nothing, ROOM), [true]);
    assert_eq!(world.seen(nothing, ROOM), [4], "what is recovered is not sent once more");
    world.converge();
}

#[test]
fn a_history_is_paged_both_ways() {
    let mut world = remembering(9, 1, 100);
    publish(&mut world, 7);
    let client = member(&mut world, 0, "a");
    let ask = |world: &mut World, more: &str| {
        world.send(client, &format!(r#"{{"type":"history","data":{{"room":"{ROOM}","limit":3{more}}}}}"#));
        world.settle();
        world.last_notice(client, "history").expect("it is answered")["data"].clone()
    };
    let numbers = |data: &serde_json::Value| {
        let messages = data["messages"].as_array().expect("a list");
        messages.iter().map(|message| message["data"]["n"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let last = |data: &serde_json::Value| data["messages"][2]["position"].as_str().expect("each has one").to_owned();
    let first = ask(&mut world, "");
    assert_eq!(numbers(&first), [1, 2, 3]);
    let second = ask(&mut world, &format!(r#","since":"{}""#, last(&first)));
    assert_eq!((numbers(&second), &second["recovered"]), (vec![4, 5, 6], &true.into()));
    let newest = ask(&mut world, r#","reverse":true"#);
    assert_eq!(numbers(&newest), [7, 6, 5]);
    assert_eq!(newest["position"], newest["messages"][0]["position"]);
    let before = ask(&mut world, &format!(r#","reverse":true,"since":"{}""#, last(&newest)));
    assert_eq!(numbers(&before), [4, 3, 2]);
    world.send(client, r#"{"type":"history","data":{"room":"workspace:1"}}"#);
    world.settle();
    assert_eq!(world.last_notice(client, "error").expect("it remembers nothing")["data"]["code"], "not_found");
}

#[test]
fn nothing_can_be_recovered_where_nothing_is_remembered_or_from_nowhere() {
    let mut world = remembering(10, 1, 100);
    let client = world.connect(0, "a");
    world.recover(client, "workspace:w", "1.2.3");
    world.settle();
    assert_eq!(world.recovered(client, "workspace:w"), [false]);
    for position in ["nonsense", "1.2.3", ""] {
        let client = world.connect(0, "b");
        world.recover(client, ROOM, position);
        world.settle();
        assert_eq!(world.recovered(client, ROOM), [false], "{position}");
    }
}
