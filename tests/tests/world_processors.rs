//! Entries that the host's own code deals with, in the World: the test is that code.

use std::time::Duration;

use roomcast_core::config::Host;
use roomcast_core::processor::Verdict;
use roomcast_tests::world::World;
use roomcast_tests::world::processing::{Handed, config};

#[test]
fn an_entry_ends_as_its_processor_says() {
    let mut world = world(1, Host::new("p"));
    let ids = ["a", "b", "c"].map(|text| world.invoice(text));
    world.settle();
    let handed = world.handed();
    assert!(handed.iter().map(|handed| handed.delivery.entry).eq(ids));
    assert_eq!(handed[0].delivery.fields[0].1, "a");
    assert_eq!(world.invoices_left(), (3, 0), "nothing is acknowledged before it is done");

    world.decide(&handed[2], Verdict::Done);
    world.settle();
    assert_eq!(world.invoices_left(), (2, 0));
    world.decide(&handed[0], Verdict::Reject("no total".into()));
    world.decide(&handed[1], Verdict::Done);
    world.settle();
    assert_eq!(world.invoices_left(), (0, 1));
    assert_eq!((world.stats().acked, world.stats().dead_lettered), (2, 1));
}

#[test]
fn a_processor_has_no_more_at_once_than_it_can_take() {
    let mut world = world(1, Host { at_once: 3, ..Host::new("p") });
    for number in 0..100 {
        world.invoice(&number.to_string());
    }
    world.settle();
    let mut seen = Vec::new();
    let mut handed = world.handed();
    assert_eq!(handed.len(), 3);
    while let Some(first) = handed.pop() {
        seen.push(first.delivery.entry);
        world.decide(&first, Verdict::Done);
        world.settle();
        handed.extend(world.handed());
        assert!(handed.len() <= 3);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), world.invoices_left()), (100, (0, 0)));
}

#[test]
fn a_failed_entry_comes_again_ever_more_rarely_and_at_last_is_put_away() {
    let mut world = world(1, Host::new("p"));
    world.invoice("bad");
    let mut began = world.now();
    for (delivery, least) in (1..=5).zip([0, 2, 4, 8, 16]) {
        let handed = wait_for_one(&mut world);
        assert_eq!(handed.delivery.deliveries, delivery);
        let waited = (world.now() - began).as_secs_f64();
        assert!((f64::from(least)..f64::from(least) * 1.3 + 1.0).contains(&waited), "{waited} s before delivery {delivery}");
        began = world.now();
        world.decide(&handed, Verdict::Retry("the bank is closed".into()));
    }
    world.run(Duration::from_secs(5));
    assert_eq!((world.handed().len(), world.invoices_left()), (0, (0, 1)));
}

#[test]
fn the_pause_before_another_try_begins_when_the_entry_fails() {
    let mut world = world(1, Host::new("p"));
    world.invoice("slow");
    for least in [2, 4, 8, 16] {
        let handed = wait_for_one(&mut world);
        world.run(Duration::from_secs(20));
        world.decide(&handed, Verdict::Retry("the bank takes its time, and says no".into()));
        world.run(Duration::from_secs(least));
        assert_eq!(world.handed().len(), 0, "it comes again within {least} s");
    }
}

#[test]
fn a_processor_that_works_for_long_is_not_overtaken_by_another_node() {
    let mut world = World::with(4, 2, config(Host { deadline: Duration::from_secs(600), ..Host::new("p") }));
    world.invoice("long");
    world.run(Duration::from_secs(500));
    let handed = world.handed();
    assert_eq!((handed.len(), world.stats().claimed), (1, 0));
    world.decide(&handed[0], Verdict::Done);
    world.settle();
    assert_eq!(world.invoices_left(), (0, 0));
}

#[test]
fn a_processor_that_says_nothing_in_time_has_failed_and_is_heard_no_more() {
    let mut world = world(1, Host { deadline: Duration::from_secs(5), ..Host::new("p") });
    world.invoice("slow");
    let late = wait_for_one(&mut world);
    world.run(Duration::from_secs(6));
    world.decide(&late, Verdict::Reject("too late".into()));
    world.settle();
    assert_eq!(world.invoices_left(), (1, 0));
    let again = wait_for_one(&mut world);
    assert_eq!(again.delivery.deliveries, 2);
    world.decide(&again, Verdict::Done);
    // A second word on the same delivery is one too many.
    world.decide(&again, Verdict::Retry("what?".into()));
    world.settle();
    assert_eq!((world.invoices_left(), world.stats().acked), ((0, 0), 1));
}

#[test]
fn what_a_node_that_died_was_processing_is_processed_by_another() {
    let mut world = World::with(6, 2, config(Host::new("p")));
    for number in 0..20 {
        world.invoice(&number.to_string());
    }
    world.settle();
    let (dead, alive): (Vec<Handed>, _) = world.handed().into_iter().partition(|handed| handed.node == 0);
    alive.iter().for_each(|handed| world.decide(handed, Verdict::Done));
    world.crash(0);
    world.run(Duration::from_secs(90));
    let mut handed = world.handed();
    while let Some(one) = handed.pop() {
        assert_eq!(one.node, 1);
        world.decide(&one, Verdict::Done);
        world.settle();
        handed.extend(world.handed());
    }
    assert!(!dead.is_empty());
    assert_eq!(world.invoices_left(), (0, 0));
}

#[test]
fn a_verdict_survives_a_store_that_is_away_for_long() {
    let mut world = world(2, Host::new("p"));
    world.invoice("a");
    let handed = wait_for_one(&mut world);
    (0..2).for_each(|node| world.cut_store(node));
    world.decide(&handed, Verdict::Done);
    world.run(Duration::from_secs(30));
    (0..2).for_each(|node| world.heal_store(node));
    world.run(Duration::from_secs(30));
    assert_eq!((world.handed().len(), world.invoices_left()), (0, (0, 0)), "it is not done twice");
}

fn world(nodes: usize, host: Host) -> World {
    World::with(3, nodes, config(host))
}

fn wait_for_one(world: &mut World) -> Handed {
    for _ in 0..10_000 {
        if let Some(handed) = world.handed().pop() {
            return handed;
        }
        world.run(Duration::from_millis(10));
    }
    panic!("nothing is handed over");
}
