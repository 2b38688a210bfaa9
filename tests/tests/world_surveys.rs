//! Surveys, in the World: an operator asks one node what all have.

use roomcast_core::store::Lane;
use roomcast_core::survey::{ConnectionEntry, Question, RoomEntry, Survey, Surveyed};
use roomcast_tests::world::World;

fn rooms(prefix: &str, after: Option<&str>, limit: usize) -> Question {
    Question::Rooms { prefix: prefix.into(), exact: false, after: after.map(Box::from), limit }
}

fn room(name: &str, members: u64) -> RoomEntry {
    RoomEntry { room: name.into(), members }
}

/// Three nodes with two clients each, in a room of their node's and in one of all.
fn world(seed: u64) -> World {
    let mut world = World::new(seed, 3);
    for node in 0..3 {
        for user in ["a", "b"] {
            let client = world.connect(node, user);
            world.subscribe(client, "task:all");
            world.subscribe(client, &format!("task:{node}"));
        }
    }
    world.settle();
    world
}

#[test]
fn rooms_of_all_nodes_are_counted_together() {
    for seed in 0..10 {
        let mut world = world(seed);
        let Surveyed { survey, answered, asked } = world.survey(1, rooms("task:", None, 3));
        let expected = vec![room("task:0", 2), room("task:1", 2), room("task:2", 2)];
        assert_eq!((survey, answered, asked), (Survey::Rooms { rooms: expected }, 3, Some(3)), "seed {seed}");
        let Surveyed { survey, .. } = world.survey(2, rooms("task:", Some("task:2"), 3));
        assert_eq!(survey, Survey::Rooms { rooms: vec![room("task:all", 6)] });
    }
}

#[test]
fn connections_come_in_pages() {
    let mut world = world(1);
    let (mut seen, mut after) = (Vec::<ConnectionEntry>::new(), None);
    loop {
        let question = Question::Connections { user: Some("a".into()), after: after.clone(), limit: 2 };
        let Survey::Connections { total, connections } = world.survey(0, question).survey else { panic!("not connections") };
        assert_eq!(total, 3);
        let Some(last) = connections.last() else { break };
        after = Some((last.node.clone(), last.id));
        seen.extend(connections);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen.is_sorted() && seen.iter().all(|entry| entry.user_id.as_deref() == Some("a") && entry.rooms >= 2));
}

#[test]
fn a_node_that_does_not_answer_is_missed() {
    let mut world = world(1);
    world.go_silent(2, Lane::Channels);
    world.cut_store(2);
    let Surveyed { survey, answered, asked } = world.survey(0, rooms("task:all", None, 10));
    assert_eq!(survey, Survey::Rooms { rooms: vec![room("task:all", 4)] });
    assert_eq!((answered, asked), (2, Some(2)), "it does not listen");
    world.cut_store(0);
    let Surveyed { survey, answered, asked } = world.survey(0, rooms("task:all", None, 10));
    assert_eq!((survey, answered, asked), (Survey::Rooms { rooms: vec![room("task:all", 2)] }, 1, None));
}
