//! Job streams in the World: every node reads the streams of the jobs that its clients are in.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use roomcast_core::config::{AccessRule, Who};
use roomcast_core::id::StreamId;
use roomcast_tests::world::{ClientNumber, World};

const ROOM: &str = "job:1";

#[test]
fn a_client_that_comes_before_the_first_update_sees_all_of_them() {
    let mut world = World::new(1, 2);
    let early = [world.connect_job(0, "a", "1"), world.connect_job(1, "b", "1")];
    world.run(Duration::from_secs(60));
    assert!(!world.has_job("1"), "nothing is created by those who wait");
    let all: Vec<u64> = (1..=50).collect();
    for _ in &all {
        world.job_update("1");
        world.run(Duration::from_micros(700));
    }
    world.settle();
    for client in early {
        assert_eq!(world.seen(client, ROOM), all);
    }
    assert_eq!(world.stats().tailed, 100, "each node reads each update once");
    world.converge();
}

#[test]
fn a_client_that_comes_late_is_sent_the_history_and_then_what_follows_exactly() {
    for seed in 0..30 {
        let mut world = World::new(100 + seed, 2);
        let pause = Duration::from_micros(100 + seed * 37);
        let mut clients = Vec::new();
        for number in 0..60 {
            world.job_update("1");
            world.run(pause);
            if number % 7 == 3 {
                clients.push(world.connect_job(number % 2, "a", "1"));
            }
        }
        world.settle();
        for client in clients {
            assert_eq!(world.seen(client, ROOM), (1..=60).collect::<Vec<_>>(), "seed {seed}");
        }
        world.converge();
    }
}

#[test]
fn an_update_that_comes_just_when_somebody_comes_is_missed_by_nobody() {
    for delay in 0..200 {
        let mut world = World::new(300 + delay, 1);
        let client = world.connect_job(0, "a", "1");
        world.run(Duration::from_micros(delay * 60));
        world.job_update("1");
        world.settle();
        assert_eq!(world.seen(client, ROOM), [1], "after {delay}");
    }
}

#[test]
fn a_burst_from_which_nothing_was_trimmed_is_delivered_without_a_word_of_loss() {
    let mut world = World::new(15, 1);
    let clients = [world.connect_job(0, "a", "1"), world.connect_job(0, "b", "2")];
    world.settle();
    world.job_update("2");
    world.settle();
    for _ in 0..400 {
        world.job_update("1");
        world.job_update("2");
    }
    world.settle();
    assert_eq!(
        [clients[0], clients[1]].map(|client| world.seen(client, if client == clients[0] { ROOM } else { "job:2" }).len()),
        [400, 401]
    );
    assert_eq!(world.stats().rooms_lost, 0);
    world.converge();
}

#[test]
fn a_client_resumes_where_it_was_cut_off() {
    let mut world = World::new(16, 2);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    (0..5).for_each(|_| _ = world.job_update("1"));
    world.settle();
    world.cut(client);
    (0..5).for_each(|_| _ = world.job_update("1"));
    world.settle();
    world.come_back(client, 1);
    world.settle();
    world.job_update("1");
    world.settle();
    assert_eq!((world.seen(client, ROOM), world.recovered(client, ROOM)), (&(1..=11).collect::<Vec<_>>()[..], &[true][..]));

    // The stream has begun anew under the same key: there is no telling what was missed.
    world.cut(client);
    world.delete_job("1");
    world.job_update("1");
    world.settle();
    world.come_back(client, 0);
    world.settle();
    assert_eq!(world.recovered(client, ROOM), [true, false]);
    assert_eq!(world.seen(client, ROOM).last(), Some(&12));
    world.converge();
}

#[test]
fn what_was_trimmed_while_the_store_was_away_is_told() {
    let mut world = World::new(17, 2);
    let client = world.connect(0, "a");
    world.subscribe(client, ROOM);
    world.settle();
    world.job_update("1");
    world.settle();
    world.cut_store(0);
    (0..10).for_each(|_| _ = world.job_update("1"));
    world.trim_job("1", 3);
    world.heal_store(0);
    world.run(Duration::from_secs(20));
    assert_eq!((world.recovered(client, ROOM), world.stats().rooms_lost), (&[false][..], 1));
    world.job_update("1");
    world.settle();
    assert_eq!(world.seen(client, ROOM).last(), Some(&12));
    world.converge();
}

#[test]
fn after_a_fail_over_that_lost_updates_everybody_is_told() {
    for seed in 0..10 {
        let mut world = World::new(200 + seed, 2);
        let clients: Vec<ClientNumber> = (0..4).map(|number| world.connect(number % 2, &number.to_string())).collect();
        clients.iter().for_each(|client| world.subscribe(*client, ROOM));
        world.settle();
        (0..seed % 4).for_each(|_| _ = world.job_update("1"));
        world.settle();
        world.replicate();
        (0..5).for_each(|_| _ = world.job_update("1"));
        world.settle();
        world.cut(clients[3]);
        world.fail_over();
        // What comes next has greater identifiers than what was lost, and seems to follow it.
        (0..3).for_each(|_| _ = world.job_update("1"));
        world.run(Duration::from_secs(20));
        world.come_back(clients[3], 0);
        world.settle();
        for client in &clients {
            assert_eq!(world.recovered(*client, ROOM).last(), Some(&false), "seed {seed}");
        }
        world.converge();
    }
}

#[test]
fn a_client_that_comes_late_sees_all_that_follows_once_and_in_order() {
    let mut world = World::new(2, 2);
    let early = world.connect_job(0, "a", "1");
    world.settle();
    for _ in 0..20 {
        world.job_update("1");
        world.run(Duration::from_micros(400));
    }
    let late = [world.connect_job(0, "b", "1"), world.connect_job(1, "c", "1")];
    for _ in 0..20 {
        world.job_update("1");
        world.run(Duration::from_micros(400));
    }
    world.settle();
    for _ in 0..10 {
        world.job_update("1");
    }
    world.settle();
    let truth = world.seen(early, ROOM).to_vec();
    assert_eq!(truth, (1..=50).collect::<Vec<_>>());
    for client in late {
        let seen = world.seen(client, ROOM);
        assert!(seen.len() >= 10 && truth.ends_with(seen), "{seen:?}");
    }
    world.converge();
}

#[test]
fn what_a_reader_was_served_is_delivered_although_the_stream_is_deleted() {
    let mut world = World::new(3, 2);
    let clients = [world.connect_job(0, "a", "1"), world.connect_job(1, "b", "1")];
    world.settle();
    for round in 1..=20_u64 {
        // The publisher deletes the stream right behind its last update.
        world.job_update("1");
        world.delete_job("1");
        world.run(Duration::from_millis(10));
        for client in clients {
            assert_eq!(world.seen(client, ROOM), (1..=round).collect::<Vec<_>>());
        }
    }
    world.converge();
}

#[test]
fn a_room_goes_on_with_whatever_comes_under_its_key_next() {
    let mut world = World::new(4, 1);
    let client = world.connect_job(0, "a", "1");
    world.settle();
    world.job_update("1");
    world.settle();
    world.delete_job("1");
    world.run(Duration::from_secs(7200));
    world.job_update("1");
    world.settle();
    assert_eq!((world.seen(client, ROOM), world.stats().rooms_lost), (&[1, 2][..], 0));
}

#[test]
fn a_stream_that_begins_anew_with_lower_identifiers_is_noticed_and_read_on() {
    let mut world = World::new(5, 1);
    let client = world.connect_job(0, "a", "1");
    world.settle();
    world.job_update("1");
    world.settle();
    world.delete_job("1");
    let id = |millis| StreamId { millis, sequence: 7 };
    (2..4).for_each(|millis| world.job_update_as("1", id(millis)));
    world.settle();
    assert_eq!(world.stats().rooms_lost, 0);
    // Within twice the time between two checks.
    world.run(Duration::from_secs(40));
    assert_eq!(world.stats().rooms_lost, 1, "members are told that they cannot go on");
    world.job_update_as("1", id(4));
    world.settle();
    assert_eq!(world.seen(client, ROOM).last(), Some(&4), "what follows is delivered");
    assert_eq!(world.seen(client, ROOM).iter().filter(|number| **number == 1).count(), 1);
    world.run(Duration::from_secs(120));
    assert_eq!(world.stats().rooms_lost, 1, "it is told once");
}

#[test]
fn jobs_whose_identifiers_begin_alike_are_different_jobs() {
    let mut world = World::new(6, 1);
    let jobs = ["1", "11", "111", "1x", "1:1"];
    let rooms = ["job:1", "job:11", "job:111", "job:1x", "job:1:1"];
    let clients: Vec<ClientNumber> = jobs.iter().map(|job| connect(&mut world, job)).collect();
    world.settle();
    for job in jobs {
        world.job_update(job);
    }
    world.settle();
    for (number, (client, room)) in (1..).zip(clients.iter().zip(rooms)) {
        assert_eq!(world.seen(*client, room), [number], "{room}");
    }
}

#[test]
fn what_is_no_update_is_skipped_and_stops_nothing() {
    let mut world = World::new(7, 1);
    let client = world.connect_job(0, "a", "1");
    world.settle();
    for (field, text) in [("message", "nonsense"), ("message", "[]"), ("message", r#"{"data":1}"#), ("other", "{}")] {
        world.job_nonsense("1", field, text);
        world.job_update("1");
        world.settle();
    }
    assert_eq!(world.seen(client, ROOM), [1, 2, 3, 4]);
    assert!(world.stats().skipped >= 4);
    world.job_nonsense("1", "message", "the last");
    let late = world.connect_job(0, "b", "1");
    world.settle();
    world.job_update("1");
    world.settle();
    assert_eq!((world.seen(client, ROOM).last(), world.seen(late, ROOM).last()), (Some(&5), Some(&5)));
}

#[test]
fn one_key_that_is_no_stream_keeps_nobody_from_reading_the_others() {
    let mut world = World::new(8, 1);
    let (good, bad) = (world.connect_job(0, "a", "1"), world.connect_job(0, "b", "2"));
    world.settle();
    world.set_job_refused("2", true);
    world.run(Duration::from_secs(30));
    world.job_update("1");
    world.settle();
    assert_eq!(world.seen(good, ROOM), [1]);
    assert!(world.unready(0).is_empty());

    // One that was never anything else, too.
    world.set_job_refused("3", true);
    let worse = world.connect_job(0, "c", "3");
    world.run(Duration::from_secs(30));
    world.job_update("1");
    world.settle();
    assert_eq!(world.seen(good, ROOM), [1, 2]);

    world.set_job_refused("2", false);
    world.set_job_refused("3", false);
    world.run(Duration::from_secs(60));
    world.job_update("2");
    world.job_update("3");
    world.settle();
    assert_eq!((world.seen(bad, "job:2"), world.seen(worse, "job:3")), (&[3][..], &[4][..]));
    world.converge();
}

#[test]
fn nothing_is_missed_while_the_store_is_away() {
    let mut world = World::new(9, 2);
    let client = world.connect_job(0, "a", "1");
    world.settle();
    world.job_update("1");
    world.settle();
    world.cut_store(0);
    for _ in 0..400 {
        world.job_update("1");
    }
    world.run(Duration::from_secs(60));
    assert!(world.unready(0).iter().any(|reason| reason.contains("publishers' streams")));
    assert_eq!(world.seen(client, ROOM), [1]);
    world.heal_store(0);
    world.run(Duration::from_secs(20));
    assert_eq!(world.seen(client, ROOM), (1..=401).collect::<Vec<_>>());
    assert!(world.unready(0).is_empty());
}

#[test]
fn a_client_that_comes_while_the_store_is_away_waits() {
    let mut world = World::new(10, 1);
    world.cut_store(0);
    let client = world.connect_job(0, "a", "1");
    world.run(Duration::from_secs(60));
    assert!(world.is_connected(client));
    world.heal_store(0);
    world.run(Duration::from_secs(20));
    world.job_update("1");
    world.settle();
    assert_eq!(world.seen(client, ROOM), [1]);
}

#[test]
fn who_may_not_be_in_the_room_of_a_path_is_told_and_closed() {
    let mut config = World::usual();
    config.access.insert(0, AccessRule::new("job:secret*", Who::Admin, Who::Admin));
    let mut world = World::with(11, 1, config);
    let (client, allowed) = (world.connect_job(0, "a", "secret-1"), world.connect_job(0, "a", "public"));
    world.settle();
    assert_eq!(world.last_notice(client, "error").unwrap()["data"]["code"], "forbidden");
    assert_eq!(world.close_code(client), Some(4003));
    assert_eq!(world.close_code(allowed), None);
    world.job_update("secret-1");
    world.settle();
    assert!(world.seen(client, "job:secret-1").is_empty());
}

#[test]
fn what_a_node_publishes_into_such_a_room_stands_in_its_stream() {
    let mut world = World::new(12, 2);
    let clients = [world.connect_job(0, "a", "1"), world.connect_job(1, "b", "1")];
    world.settle();
    for number in 0..20 {
        world.publish(number % 2, ROOM);
        world.job_update("1");
        world.run(Duration::from_micros(500));
    }
    world.settle();
    let seen = world.seen(clients[0], ROOM);
    assert_eq!((seen.len(), seen), (40, world.seen(clients[1], ROOM)));
    assert_eq!(world.stats().published, 20);
    world.converge();
}

#[test]
fn streams_that_come_and_go_while_others_are_read_lose_and_repeat_nothing() {
    for seed in 0..12 {
        let mut world = World::new(seed, 2);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |bound: u32| rng.next_u32() % bound;
        let clients: Vec<ClientNumber> = (0..6).map(|number| world.connect(number % 2, &format!("user-{number}"))).collect();
        world.settle();
        for _ in 0..400 {
            let (job, client) = (below(8).to_string(), clients[below(6) as usize]);
            match below(20) {
                0..8 => drop(world.job_update(&job)),
                8..11 => world.subscribe(client, &room(&job)),
                11..13 => world.unsubscribe(client, &room(&job)),
                13 => drop(world.publish(below(2) as usize, &room(&job))),
                14 => world.job_nonsense(&job, "message", "nonsense"),
                15 if seed % 3 == 0 => world.cut_store(below(2) as usize),
                15 if seed % 3 == 1 => world.lose_answers(below(2) as usize),
                16 => (0..2).for_each(|node| world.heal_store(node)),
                _ => {
                    let micros = below(20_000);
                    world.run(Duration::from_micros(micros.into()));
                }
            }
        }
        // The oracles judge: one order, no gap, nothing twice, and the end has come.
        world.converge();
    }
}

#[test]
fn thousands_of_streams_are_read_at_once() {
    let mut world = World::new(14, 1);
    let mut clients = Vec::new();
    for job in 0..2_000 {
        clients.push(world.connect_job(0, "a", &job.to_string()));
        if job % 50 == 0 {
            world.run(Duration::from_millis(5));
        }
    }
    world.settle();
    for job in [0, 1, 999, 1_999] {
        world.job_update(&job.to_string());
    }
    world.settle();
    for (number, job) in (1..).zip([0, 1, 999, 1_999]) {
        assert_eq!(world.seen(clients[job], &room(&job.to_string())), [number]);
    }
}

fn connect(world: &mut World, job: &str) -> ClientNumber {
    world.connect_job(0, "a", job)
}

fn room(job: &str) -> String {
    format!("job:{job}")
}
