//! Drain, in the World (contract C11): a node that ends lets its clients go one after the other, and leaves nothing behind.

use std::time::Duration;

use roomcast_core::config::{Config, DrainStyle, Host};
use roomcast_core::processor::Verdict;
use roomcast_tests::world::{ClientNumber, World, processing};

const ROOM: &str = "project:1";

/// Ten clients a second.
fn slow() -> Config {
    let mut config = World::usual();
    config.drain.rate = 10;
    config
}

fn members(world: &mut World, node: usize, count: usize) -> Vec<ClientNumber> {
    let clients: Vec<_> = (0..count).map(|number| world.connect(node, &format!("u{number}"))).collect();
    clients.iter().for_each(|client| world.subscribe(*client, ROOM));
    world.settle();
    clients
}

/// Lets time pass until a node is drained.
fn wait(world: &mut World, node: usize, within: Duration) {
    let until = world.now() + within;
    while !world.is_drained(node) {
        assert!(world.now() < until, "node {node} is not drained within {within:?}");
        world.run(Duration::from_millis(10));
    }
}

#[test]
fn clients_go_one_after_the_other_and_miss_nothing_on_another_node() {
    let mut orders = Vec::new();
    for seed in 0..5 {
        let mut world = World::with(seed, 2, slow());
        let clients = members(&mut world, 0, 20);
        world.publish(1, ROOM);
        world.settle();
        world.drain(0);
        let (mut order, mut waiting) = (Vec::new(), clients.clone());
        while !world.is_drained(0) {
            world.run(Duration::from_millis(100));
            // While some are gone, others are told as ever.
            world.publish(1, ROOM);
            let gone: Vec<_> = waiting.extract_if(.., |client| !world.is_connected(*client)).collect();
            assert!(gone.len() <= 2, "{} at once", gone.len());
            for client in gone {
                assert_eq!(world.close_code(client), Some(1001));
                let after = world.last_notice(client, "reconnect").expect("it is told")["data"]["after_ms"].as_u64();
                assert!(after.is_some_and(|after| after < 2_000));
                world.come_back(client, 1);
                order.push(client);
            }
        }
        assert_eq!(order.len(), 20);
        assert_ne!(order, clients, "not in the order in which they came");
        orders.push(order);
        world.retire(0);
        world.settle();
        for client in clients {
            assert_eq!(world.recovered(client, ROOM), [true]);
        }
        world.converge();
    }
    orders.dedup();
    assert_eq!(orders.len(), 5, "and in another order each time");
}

#[test]
fn the_others_learn_at_once_that_nobody_is_left_there() {
    let mut world = World::new(1, 2);
    let alice = world.connect(1, "alice");
    world.subscribe(alice, ROOM);
    members(&mut world, 0, 5);
    assert_eq!(world.nodes_known().len(), 2);
    world.drain(0);
    wait(&mut world, 0, Duration::from_millis(500));
    world.retire(0);
    world.settle();
    assert_eq!(world.here(ROOM), ["alice"]);
    let told = world.told(alice, ROOM);
    assert_eq!(told.iter().filter(|event| event.starts_with('-')).count(), 5, "{told:?}");
    assert_eq!(world.nodes_known().len(), 1, "nobody has to wait until the node counts as dead");
    world.converge();
}

#[test]
fn what_was_read_is_brought_to_its_end_and_the_rest_is_left_to_others() {
    let mut finished = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        world.crash(1);
        members(&mut world, 0, 3);
        for _ in 0..300 {
            world.file_event("w");
        }
        world.run(Duration::from_micros(seed * 1_400));
        world.drain(0);
        wait(&mut world, 0, Duration::from_secs(2));
        assert_eq!(world.pending(), 0, "seed {seed}");
        finished += world.stats().acked;
        world.retire(0);
        world.restart(1);
        world.converge();
    }
    assert!((1..20 * 300).contains(&finished), "some were caught in the middle: {finished}");
}

#[test]
fn what_the_host_works_on_is_waited_for_and_nothing_more_is_given_to_it() {
    let mut world = World::with(1, 1, processing::config(Host { at_once: 2, ..Host::new("p") }));
    for number in 0..5 {
        world.invoice(&number.to_string());
    }
    world.settle();
    let handed = world.handed();
    assert_eq!(handed.len(), 2);
    world.drain(0);
    world.settle();
    assert!(!world.is_drained(0));
    world.decide(&handed[0], Verdict::Done);
    world.settle();
    assert!(!world.is_drained(0));
    world.decide(&handed[1], Verdict::Done);
    world.settle();
    assert!(world.is_drained(0));
    assert!(world.handed().is_empty(), "what takes long is not begun any more");
    assert_eq!(world.invoices_left(), (3, 0), "the others stay pending");
    world.retire(0);
    world.restart(0);
    world.run(Duration::from_secs(90));
    let mut taken_over = world.handed();
    while let Some(handed) = taken_over.pop() {
        world.decide(&handed, Verdict::Done);
        world.settle();
        taken_over.extend(world.handed());
    }
    assert_eq!(world.invoices_left(), (0, 0), "and are taken over");
}

#[test]
fn a_node_does_not_end_while_the_store_has_not_heard_the_last_of_it() {
    let mut config = World::usual();
    config.routes.iter_mut().for_each(|route| route.restore = Some(Duration::from_secs(60)));
    for seed in 0..10 {
        let mut world = World::with(seed, 2, config.clone());
        let client = members(&mut world, 0, 1)[0];
        world.cut_store(0);
        world.drain(0);
        world.run(Duration::from_secs(3));
        assert!(!world.is_connected(client), "clients are let go all the same");
        assert!(!world.is_drained(0));
        world.heal_store(0);
        wait(&mut world, 0, Duration::from_secs(20));
        world.retire(0);
        world.reopen(client, 1);
        world.settle();
        assert_eq!(world.recovered(client, ROOM), [true], "seed {seed}: its rooms were remembered");
        world.converge();
    }
}

#[test]
fn who_never_answers_is_dropped_and_who_comes_late_is_refused() {
    let mut world = World::with(1, 2, slow());
    let clients = members(&mut world, 0, 3);
    clients.iter().for_each(|client| world.fall_silent(*client));
    world.drain(0);
    let late = world.connect(0, "late");
    assert!(!world.is_connected(late));
    world.run(Duration::from_secs(1));
    assert!(clients.iter().all(|client| world.is_connected(*client) && world.close_code(*client) == Some(1001)));
    wait(&mut world, 0, Duration::from_secs(6));
    world.retire(0);
    world.converge();
}

#[test]
fn a_route_may_end_its_connections_as_if_they_had_broken() {
    let mut config = slow();
    config.routes.iter_mut().for_each(|route| route.drain = DrainStyle::Abort);
    let mut world = World::with(1, 2, config);
    let clients = members(&mut world, 0, 5);
    world.drain(0);
    wait(&mut world, 0, Duration::from_secs(1));
    for client in clients {
        assert_eq!((world.close_code(client), world.is_connected(client)), (None, false));
        assert!(world.last_notice(client, "reconnect").is_some());
    }
    world.retire(0);
    world.converge();
}

#[test]
fn nodes_that_end_and_start_again_in_the_middle_of_everything_lose_nothing() {
    for seed in 0..10 {
        let mut world = World::with(seed, 3, slow());
        let clients = members(&mut world, 0, 6);
        for round in 0..6 {
            let node = round % 3;
            for number in 0..20 {
                world.publish((node + 1) % 3, ROOM);
                if number % 4 == 0 {
                    world.file_event("w");
                }
                if number == seed % 20 {
                    world.drain(node);
                }
                world.run(Duration::from_millis(40));
                for client in &clients {
                    world.come_back(*client, (node + 2) % 3);
                }
            }
            wait(&mut world, node, Duration::from_secs(10));
            world.retire(node);
            world.restart(node);
            clients.iter().for_each(|client| world.come_back(*client, (node + 2) % 3));
        }
        world.settle();
        for client in clients {
            assert!(world.recovered(client, ROOM).iter().all(|recovered| *recovered), "seed {seed}");
        }
        world.converge();
    }
}
