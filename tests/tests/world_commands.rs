//! Commands on their way to the streams of their services, in the World. That each gets there once and unchanged is an oracle
//! of every step.

use std::time::Duration;

use roomcast_tests::world::World;
use roomcast_tests::world::commands::{Form, SERVICES};

#[test]
fn each_command_stands_in_the_stream_of_its_service_in_order() {
    let mut world = World::new(1, 1);
    for _ in 0..100 {
        world.command("claude");
        world.add_command("mcp", Form::Flat);
    }
    world.settle();
    assert!(world.commands_for("claude").into_iter().eq((1..=200).step_by(2)));
    assert!(world.commands_for("mcp").into_iter().eq((2..=200).step_by(2)));
    assert!(world.commands_for("cursor").is_empty());
    assert_eq!((world.stats().commands, world.stats().acked, world.dead_letters()), (200, 200, 0));
    world.converge();
}

#[test]
fn a_broken_command_becomes_a_dead_letter_and_the_next_good_one_is_routed() {
    let mut world = World::new(2, 1);
    let broken = [Form::Unknown, Form::Nonsense, Form::Incomplete, Form::Empty];
    for form in broken {
        world.add_command("cursor", form);
        world.command("cursor");
    }
    world.settle();
    assert_eq!(world.commands_for("cursor"), [2, 4, 6, 8]);
    assert_eq!((world.dead_letters(), world.pending()), (broken.len(), 0));
    assert_eq!((world.stats().dead_lettered, world.stats().commands), (4, 4));
    world.converge();
}

#[test]
fn what_a_node_that_died_was_routing_is_taken_over() {
    for delay in 0..20 {
        let mut world = World::new(3 + delay, 2);
        for number in 0..60 {
            world.command(SERVICES[number % 3]);
        }
        // From before the first read to after the last commit.
        world.run(Duration::from_micros(500 * delay));
        world.crash(0);
        world.run(Duration::from_secs(90));
        assert_eq!(world.pending(), 0);
        for (service, first) in SERVICES.into_iter().zip(1..) {
            let mut numbers = world.commands_for(service);
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq((first..=60).step_by(3)), "{service}, dead after {delay}");
        }
        world.converge();
    }
}

#[test]
fn an_answer_that_is_lost_after_the_commit_routes_nothing_twice() {
    for delay in 0..20 {
        let mut world = World::new(30 + delay, 1);
        for _ in 0..10 {
            world.command("mcp");
        }
        world.run(Duration::from_micros(500 * delay));
        world.lose_answers(0);
        world.run(Duration::from_secs(20));
        let mut numbers = world.commands_for("mcp");
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=10));
        world.converge();
    }
}

#[test]
fn a_command_waits_until_the_connection_to_the_store_works_again() {
    let mut world = World::new(60, 1);
    world.cut_store(0);
    world.command("claude");
    world.run(Duration::from_secs(10));
    assert!(world.commands_for("claude").is_empty());
    world.heal_store(0);
    world.run(Duration::from_secs(30));
    assert_eq!(world.commands_for("claude"), [1]);
    world.converge();
}

#[test]
fn a_command_that_is_refused_becomes_a_dead_letter_after_its_last_delivery_and_delays_nobody() {
    let mut world = World::new(70, 1);
    world.set_refused("mcp", true);
    let poison = world.command("mcp");
    world.doom_command(poison);
    let began = world.now();
    for number in 2..=200 {
        world.command("claude");
        world.run(Duration::from_millis(200));
        assert_eq!(world.commands_for("claude").len(), number - 1, "its neighbours do not wait for it");
    }
    assert_eq!((world.dead_letters(), world.pending()), (1, 0));
    // Delivered at once, and after pauses of 2, 4, 8 and 16 seconds; after 32 more it would have been the sixth time.
    let retried = world.stats().retried;
    assert_eq!(retried, 5, "four times in vain, and once to be put away");
    assert!(world.now() - began < Duration::from_secs(60));
    world.converge();
}

#[test]
fn a_command_that_is_refused_for_a_while_is_routed_once() {
    let mut world = World::new(71, 2);
    world.set_refused("mcp", true);
    world.command("mcp");
    world.run(Duration::from_secs(7));
    assert!(world.commands_for("mcp").is_empty());
    world.set_refused("mcp", false);
    world.run(Duration::from_secs(20));
    assert_eq!((world.commands_for("mcp"), world.dead_letters(), world.pending()), (vec![1], 0, 0));
    world.converge();
}
