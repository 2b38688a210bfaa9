//! Stream entries and their ends, in the World.

use std::time::Duration;

use roomcast_core::config::{Config, Secret};
use roomcast_tests::world::World;
use roomcast_tests::world::batches::Form;

const ROOM: &str = "workspace:w";

#[test]
fn entries_that_were_there_before_any_node_are_routed() {
    let mut world = World::new(1, 1);
    world.crash(0);
    world.file_event("w");
    world.file_event("w");
    world.run(Duration::from_secs(1));
    world.restart(0);
    world.settle();
    assert_eq!((world.stats().acked, world.pending()), (2, 0));
    world.converge();
}

#[test]
fn a_broken_batch_becomes_a_dead_letter_and_the_next_good_one_is_delivered() {
    let mut world = World::new(2, 1);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    for form in [Form::Nonsense, Form::Truncated, Form::Incomplete, Form::Empty] {
        world.add_batch(&["w"], form);
        world.file_event("w");
    }
    world.settle();
    assert_eq!(world.dead_letters(), 4);
    assert_eq!(world.seen(client, ROOM).len(), 4);
    assert_eq!(world.stats().dead_lettered, 4);
    world.converge();
}

#[test]
fn what_a_node_that_died_was_working_on_is_taken_over() {
    let mut world = World::new(3, 2);
    let client = world.connect(1, "a");
    world.subscribe(client, ROOM);
    world.settle();
    for _ in 0..30 {
        world.file_event("w");
    }
    // Some entries are delivered to each node by now, and nothing is committed yet.
    world.run(Duration::from_millis(2));
    world.crash(0);
    world.run(Duration::from_secs(90));
    assert_eq!(world.pending(), 0);
    assert_eq!(world.seen(client, ROOM).len(), 30);
    world.converge();
}

#[test]
fn an_answer_that_is_lost_after_the_commit_repeats_nothing() {
    for delay in 0..20 {
        let mut world = World::new(4 + delay, 1);
        let client = world.connect(0, "a");
        world.subscribe(client, ROOM);
        world.settle();
        for _ in 0..10 {
            world.file_event("w");
        }
        world.run(Duration::from_micros(500 * delay));
        world.lose_answers(0);
        // The read counts as lost after 15 s, and what it left pending is read again; nothing has to be taken over.
        world.run(Duration::from_secs(20));
        assert_eq!(world.stats().claimed, 0);
        let mut seen = world.seen(client, ROOM).to_vec();
        seen.sort_unstable();
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    }
}

#[test]
fn a_store_without_memory_holds_entries_up_and_nothing_else() {
    let mut world = World::new(8, 3);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    world.set_full(true);
    for _ in 0..50 {
        world.file_event("w");
        world.command("claude");
    }
    world.run(Duration::from_secs(600));
    assert!(world.unready(0)[0].contains("OOM"), "{:?}", world.unready(0));
    assert_eq!((world.stats().acked, world.dead_letters(), world.deliveries()), (0, 0, 1));
    assert_eq!(world.stats().claimed, 0, "what a node has in hand is taken over by no other");
    world.set_full(false);
    // No pause is longer than ten seconds.
    world.run(Duration::from_secs(11));
    assert_eq!((world.stats().acked, world.pending()), (100, 0));
    assert_eq!(world.seen(client, ROOM).len(), 50);
    world.converge();
}

#[test]
fn no_more_is_taken_in_hand_than_allowed() {
    let mut config = Config::default();
    config.sources[0].in_hand = 300;
    let mut world = World::with(9, 1, config);
    world.set_full(true);
    for _ in 0..1_000 {
        world.file_event("w");
    }
    world.run(Duration::from_secs(60));
    assert!((1..=300).contains(&world.pending()), "{}", world.pending());
    world.set_full(false);
    world.run(Duration::from_secs(20));
    assert_eq!((world.stats().acked, world.pending()), (1_000, 0));
    world.converge();
}

#[test]
fn entries_trimmed_while_a_dead_node_held_them_are_cleared_and_counted() {
    let mut world = World::new(10, 2);
    world.set_full(true);
    for _ in 0..20 {
        world.file_event("w");
    }
    world.run(Duration::from_secs(1));
    let held = world.pending();
    assert!(held > 0);
    world.trim(0);
    world.crash(0);
    world.crash(1);
    world.restart(0);
    world.run(Duration::from_secs(100));
    assert_eq!((world.pending(), world.stats().gone), (0, held as u64));
}

#[test]
fn a_group_that_is_destroyed_begins_again_where_all_was_acknowledged() {
    for delay in 0..40 {
        let mut world = World::new(100 + delay, 1);
        let client = world.connect(0, "a");
        world.subscribe(client, ROOM);
        world.settle();
        for _ in 0..20 {
            world.file_event("w");
            world.run(Duration::from_micros(250));
        }
        world.run(Duration::from_micros(250 * delay));
        world.destroy_group();
        for _ in 0..20 {
            world.file_event("w");
        }
        world.run(Duration::from_secs(5));
        assert_eq!(world.seen(client, ROOM), (1..=40).collect::<Vec<_>>(), "{delay}");
        assert!(world.stats().groups_lost >= 1);
        world.converge();
    }
}

#[test]
fn a_group_that_is_gone_is_created_again() {
    let mut world = World::new(5, 1);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    world.flush_all();
    world.run(Duration::from_secs(1));
    world.file_event("w");
    world.settle();
    assert_eq!(world.seen(client, ROOM), [1]);
    world.converge();
}

#[test]
fn an_entry_that_no_node_survives_becomes_a_dead_letter_after_its_last_delivery() {
    let mut world = World::new(6, 1);
    world.settle();
    let mut tried_at = vec![world.now()];
    let entry = world.file_event("w");
    world.doom(entry);
    for delivery in 1..=5 {
        // The node dies as soon as it has been given the entry, before anything can be stored.
        while world.deliveries() < delivery {
            world.run(Duration::from_micros(50));
        }
        tried_at.push(world.now());
        world.crash(0);
        world.restart(0);
    }
    world.file_event("w");
    world.run(Duration::from_secs(1));
    assert_eq!((world.stats().acked, world.pending()), (1, 1), "its neighbours do not wait for it");
    world.run(Duration::from_secs(3600));
    assert_eq!((world.dead_letters(), world.pending()), (1, 0));

    // It was left alone for a minute, and each time for twice as long as the time before.
    let pauses: Vec<u64> = tried_at.windows(2).skip(1).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    for (pause, least) in pauses.iter().zip([60, 120, 240, 480]) {
        assert!((least..least + 25).contains(pause), "{pauses:?}");
    }
}

#[test]
fn failures_of_the_store_are_not_counted_against_an_entry() {
    let mut world = World::new(7, 1);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    world.file_event("w");
    for _ in 0..20 {
        world.cut_store(0);
        world.run(Duration::from_secs(30));
        world.heal_store(0);
        world.run(Duration::from_millis(2));
    }
    world.run(Duration::from_secs(60));
    assert_eq!((world.dead_letters(), world.pending()), (0, 0));
    assert_eq!(world.seen(client, ROOM).len(), 1);
}

#[test]
fn events_from_another_redis_are_seen_once_whatever_is_lost_between_the_two() {
    for delay in 0..40 {
        let mut config = World::usual();
        config.sources[0].redis = Some(Secret::new("redis://elsewhere"));
        let mut world = World::with(200 + delay, 2, config);
        let client = world.connect(1, "a");
        world.subscribe(client, ROOM);
        world.settle();
        for _ in 0..20 {
            world.file_event("w");
        }
        world.add_batch(&["w"], Form::Nonsense);
        world.run(Duration::from_micros(300 * delay));
        match delay % 3 {
            0 => world.crash(0),
            1 => world.lose_answers(0),
            _ => {
                world.cut_store(0);
                world.run(Duration::from_secs(5));
                world.heal_store(0);
            }
        }
        world.run(Duration::from_secs(90));
        let mut seen = world.seen(client, ROOM).to_vec();
        seen.sort_unstable();
        assert_eq!((seen, world.pending(), world.dead_letters()), ((1..=20).collect::<Vec<_>>(), 0, 1), "{delay}");
        world.converge();
    }
}
