//! Dead letters replayed, in the World. That no command is routed twice, and each as its publisher wrote it, is an oracle of
//! every step.

use std::collections::BTreeSet;
use std::time::Duration;

use roomcast_core::config::{Commands, Config, Destination};
use roomcast_core::dead_letter::{DeadLetter, Interrupted, Outcome, Replay, Request, Selection, Summary};
use roomcast_core::id::StreamId;
use roomcast_tests::world::World;
use roomcast_tests::world::commands::Form;

#[test]
fn what_was_poison_is_routed_once_after_the_fix() {
    let mut world = without_cursor(1, 2);
    let doomed = poison(&mut world, 50);
    assert_eq!((world.dead_letters(), world.commands_for("claude").len()), (50, 50));
    let listed = list(&mut world);
    assert!(listed.is_sorted_by(|newer, older| newer.id > older.id));
    let of: BTreeSet<Option<String>> = listed.iter().map(|letter| letter.header.msg_id.clone()).collect();
    assert_eq!(of, doomed.iter().map(|id| Some(id.to_string())).collect());

    fix(&mut world);
    // The other node asks for the same at the same time.
    let operations = [world.operate(0, Request::Replay(Selection::All)), world.operate(1, Request::Replay(Selection::All))];
    world.settle();
    world.expect_replayed(true);
    let replays = operations.map(|operation| replayed(world.outcome(operation)));
    assert_eq!(replays.iter().map(|replay| replay.replayed).sum::<u64>(), 50);
    world.run(Duration::from_secs(1));
    assert_eq!((world.dead_letters(), world.commands_for("cursor").len()), (0, 50));

    // All of it again does nothing.
    let ids = listed.iter().map(|letter| letter.id).collect();
    for selection in [Selection::All, Selection::Ids(ids)] {
        assert_eq!(replay(&mut world, selection).replayed, 0);
    }
    assert_eq!(world.commands_for("cursor").len(), 50);
    world.converge();
}

#[test]
fn a_letter_that_fails_again_tells_its_trail() {
    let mut world = without_cursor(2, 1);
    let mut lives = vec![poison(&mut world, 1)[0]];
    for _ in 0..3 {
        let done = replay(&mut world, Selection::All);
        world.expect_replayed(false);
        world.run(Duration::from_secs(1));
        lives.push(done.entries[0].entry);
        let letters = list(&mut world);
        assert_eq!((letters.len(), letters[0].header.msg_id.as_deref()), (1, Some(lives[lives.len() - 1].to_string().as_str())));
        let trail: Vec<StreamId> = letters[0].header.trail.lives().iter().map(|life| life.msg_id).collect();
        assert_eq!(trail, lives[..lives.len() - 1]);
        assert!(letters[0].header.trail.lives().iter().all(|life| &*life.code == "unknown_service"));
    }
    fix(&mut world);
    let letter = list(&mut world)[0].id;
    replay(&mut world, Selection::Ids([letter].into()));
    world.expect_replayed(true);
    world.run(Duration::from_secs(1));
    assert_eq!((world.commands_for("cursor").len(), world.dead_letters()), (1, 0));
    world.converge();
}

#[test]
fn whatever_happens_in_the_middle_a_second_replay_brings_it_to_its_end() {
    for delay in 0..40 {
        let mut world = without_cursor(100 + delay, 1);
        poison(&mut world, 40);
        fix(&mut world);
        let operation = world.operate(0, Request::Replay(Selection::All));
        world.run(Duration::from_micros(500 * delay));
        match delay % 3 {
            0 => world.lose_answers(0),
            1 => world.cut_store(0),
            _ => world.crash(0),
        }
        world.run(Duration::from_secs(10));
        world.heal_store(0);
        world.restart(0);
        // It ends in any case, unless its node died before.
        let outcome = world.outcome(operation);
        assert!(outcome.is_some() || delay % 3 == 2, "{delay}");
        world.run(Duration::from_secs(60));
        replay(&mut world, Selection::All);
        world.expect_replayed(true);
        world.run(Duration::from_secs(60));
        assert_eq!((world.commands_for("cursor").len(), world.dead_letters()), (40, 0), "{delay}");
        world.converge();
    }
}

#[test]
fn what_is_shown_and_purged_is_what_there_was() {
    let mut world = without_cursor(3, 1);
    poison(&mut world, 30);
    let letters = list(&mut world);
    let show = |world: &mut World, id| {
        let operation = world.operate(0, Request::Show(id));
        world.settle();
        match world.outcome(operation) {
            Some(Ok(Outcome::Shown(letter))) => letter,
            other => panic!("{other:?}"),
        }
    };
    let DeadLetter { id, complete, fields, .. } = *show(&mut world, letters[4].id).expect("it is there");
    assert_eq!((id, complete, fields[0].0.as_ref()), (letters[4].id, true, &b"n"[..]));
    let purge = |world: &mut World, selection| {
        let operation = world.operate(0, Request::Purge(selection));
        world.settle();
        world.outcome(operation)
    };
    let one = || Selection::Ids([letters[4].id].into());
    assert_eq!(purge(&mut world, one()), Some(Ok(Outcome::Purged(1))));
    assert_eq!(purge(&mut world, one()), Some(Ok(Outcome::Purged(0))));
    assert_eq!(show(&mut world, letters[4].id), None);
    assert_eq!(purge(&mut world, Selection::All), Some(Ok(Outcome::Purged(29))));
    assert_eq!((list(&mut world), world.dead_letters()), (vec![], 0));
    world.converge();
}

/// Nodes that know no service `cursor`.
fn without_cursor(seed: u64, nodes: usize) -> World {
    let mut config = Config::default();
    set_services(&mut config, &["claude"]);
    World::with(seed, nodes, config)
}

/// Every node starts again, and knows it.
fn fix(world: &mut World) {
    world.reconfigure(|config| set_services(config, &["claude", "cursor"]));
    for node in 0..world.nodes() {
        world.crash(node);
        world.restart(node);
    }
    world.settle();
}

fn set_services(config: &mut Config, services: &[&str]) {
    let services = services.iter().map(|service| (*service).to_owned()).collect();
    config.sources[1].to = Destination::Commands(Commands { services, ..Commands::default() });
}

/// Commands for the service that is not known, and as many for one that is.
fn poison(world: &mut World, count: usize) -> Vec<StreamId> {
    let mut doomed = Vec::new();
    for at in 0..count {
        let entry = world.add_command("cursor", if at % 2 == 0 { Form::Payload } else { Form::Flat });
        world.doom_command(entry);
        doomed.push(entry);
        world.command("claude");
    }
    world.run(Duration::from_secs(1));
    doomed
}

fn list(world: &mut World) -> Vec<Summary> {
    let operation = world.operate(0, Request::List { count: 1_000, before: None });
    world.settle();
    match world.outcome(operation) {
        Some(Ok(Outcome::Listed { letters, next: None, depth })) if depth as usize == letters.len() => letters,
        other => panic!("{other:?}"),
    }
}

fn replay(world: &mut World, selection: Selection) -> Replay {
    let operation = world.operate(0, Request::Replay(selection));
    world.run(Duration::from_secs(1));
    replayed(world.outcome(operation))
}

fn replayed(outcome: Option<Result<Outcome, Interrupted>>) -> Replay {
    match outcome {
        Some(Ok(Outcome::Replayed(replay))) => replay,
        other => panic!("{other:?}"),
    }
}
