//! Access in the World: rules that change, tokens that grant less, and a host that decides.

use std::time::Duration;

use roomcast_core::config::{AccessRule, Auth, Config, History, Keep, RoomRule, Who};
use roomcast_core::hub::Intent;
use roomcast_core::time::{Time, UnixMillis};
use roomcast_tests::world::{ClientNumber, Transport, WALL_START, World};
use serde_json::json;

const ROOM: &str = "workspace:1";

fn hosted(room: &str) -> Config {
    let mut config = World::usual();
    config.access.insert(0, AccessRule::new(room, Who::Host, Who::Host));
    config
}

fn error(world: &World, client: ClientNumber) -> Option<&str> {
    world.last_notice(client, "error").and_then(|error| error["data"]["code"].as_str())
}

#[test]
fn what_no_rule_names_is_refused_in_every_dialect() {
    let config = Config { auth: Auth::default(), ..Config::default() };
    let mut world = World::with(1, 1, config);
    let plain = world.connect(0, "alice");
    let socket = world.connect_socket(0, "alice", Transport::WebSocket);
    world.settle();
    for (client, room) in [(plain, "lobby"), (plain, "user:bob"), (socket, "lobby")] {
        world.subscribe(client, room);
        world.settle();
        assert!(world.seen(client, room).is_empty());
    }
    assert_eq!(error(&world, plain), Some("forbidden"));
    world.subscribe(plain, ROOM);
    world.settle();
    let number = world.publish(0, ROOM);
    world.settle();
    assert_eq!(world.seen(plain, ROOM), [number]);
    world.converge();
}

#[test]
fn rules_that_change_take_effect_in_the_rooms_that_clients_are_in() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1);
        let admin = world.connect_as(0, "root", &json!({ "roles": ["admin"] }));
        let (alice, bob) = (world.connect(0, "alice"), world.connect_socket(0, "bob", Transport::Polling));
        for client in [admin, alice, bob] {
            world.subscribe(client, ROOM);
            world.subscribe(client, "workspace:2");
        }
        world.settle();
        let mut rules = World::usual().access;
        rules.insert(0, AccessRule::new(ROOM, Who::Admin, Who::Admin));
        world.set_access(0, &rules);
        let numbers = [world.publish(0, ROOM), world.publish(0, "workspace:2")];
        world.settle();
        assert_eq!(world.seen(admin, ROOM), [numbers[0]]);
        for client in [alice, bob] {
            assert!(world.seen(client, ROOM).is_empty(), "seed {seed}");
            assert_eq!(world.seen(client, "workspace:2"), [numbers[1]]);
        }
        let told = &world.last_notice(alice, "unsubscribed").unwrap()["data"];
        assert_eq!((&told["room"], &told["reason"]), (&json!(ROOM), &json!("forbidden")));
        world.subscribe(alice, ROOM);
        world.settle();
        assert_eq!(error(&world, alice), Some("forbidden"));
        world.converge();
    }
}

#[test]
fn a_renewed_token_that_grants_less_leaves_rooms_and_says_so() {
    let mut config = World::usual();
    config.access.insert(0, AccessRule::new("team:*", Who::Role("member".into()), Who::Scope("say".into())));
    let mut world = World::with(2, 1, config);
    let alice = world.connect_as(0, "alice", &json!({ "roles": ["member"], "scope": "say hear" }));
    world.subscribe(alice, "team:1");
    world.settle();
    let say = r#"{"type":"publish","data":{"room":"team:1","type":"note","data":{"n":900}}}"#;
    world.send(alice, say);
    world.settle();
    assert!(world.last_notice(alice, "published").is_some());
    world.renew(alice, "alice", &json!({ "roles": [] }));
    world.settle();
    assert_eq!(world.last_notice(alice, "unsubscribed").unwrap()["data"]["room"], "team:1");
    world.send(alice, say);
    world.settle();
    assert_eq!(error(&world, alice), Some("forbidden"));
    assert_eq!(world.seen(alice, "team:1"), [900]);
}

#[test]
fn history_and_presence_have_rules_of_their_own() {
    let mut config = World::usual();
    let rule = AccessRule::new("project:1", Who::Authenticated, Who::Admin);
    let rule = AccessRule { history: Some(Who::Role("auditor".into()).into()), presence: Some(Who::Nobody.into()), ..rule };
    config.access.insert(0, rule);
    let mut world = World::with(2, 1, config);
    let alice = world.connect(0, "alice");
    let auditor = world.connect_as(0, "eve", &json!({ "roles": "auditor" }));
    world.subscribe(alice, "project:1");
    world.settle();
    for (client, history) in [(alice, false), (auditor, true)] {
        world.send(client, &json!({"type": "history", "data": {"room": "project:1"}}).to_string());
        world.settle();
        assert_eq!(world.last_notice(client, "history").is_some(), history);
        world.send(client, &json!({"type": "presence", "data": {"room": "project:1"}}).to_string());
        world.settle();
        assert!(world.last_notice(client, "presence").is_none());
        assert_eq!(error(&world, client), Some("forbidden"));
    }
}

#[test]
fn the_host_decides_who_gets_in_and_who_speaks() {
    for seed in 0..10 {
        let mut world = World::with(seed, 2, hosted("team:*"));
        let (alice, bob) = (world.connect(0, "alice"), world.connect_socket(1, "bob", Transport::WebSocket));
        world.settle();
        world.subscribe(alice, "team:1");
        world.subscribe(bob, "team:1");
        world.settle();
        let mut asked = world.petitions();
        asked.sort_by_key(|asked| asked.node);
        let seen: Vec<_> =
            asked.iter().map(|asked| (asked.petition.user.as_deref(), asked.petition.intent, &*asked.petition.room)).collect();
        assert_eq!(seen, [(Some("alice"), Intent::Subscribe, "team:1"), (Some("bob"), Intent::Subscribe, "team:1")]);
        let early = world.publish(0, "team:1");
        world.settle();
        world.decide_on(&asked[0], true);
        world.decide_on(&asked[1], false);
        world.settle();
        let late = world.publish(1, "team:1");
        world.settle();
        assert_eq!(world.seen(alice, "team:1"), [late], "not {early}, which was said before");
        assert!(world.seen(bob, "team:1").is_empty());
        world.send(alice, r#"{"type":"publish","data":{"room":"team:1","type":"note","data":{"n":900}}}"#);
        world.settle();
        assert_eq!(world.seen(alice, "team:1"), [late], "it waits for the host");
        let asked = world.petitions();
        assert_eq!(asked[0].petition.intent, Intent::Publish);
        world.decide_on(&asked[0], true);
        // A second word to the same question says nothing.
        world.decide_on(&asked[0], false);
        world.settle();
        assert_eq!(world.seen(alice, "team:1"), [late, 900]);
        world.converge();
    }
}

#[test]
fn a_member_that_asks_once_more_and_is_refused_is_put_out() {
    for is_socket in [false, true] {
        let mut world = World::with(4, 1, hosted("team:*"));
        let alice = connect(&mut world, "alice", is_socket);
        world.settle();
        let mut seen = Vec::new();
        for allowed in [true, true, false] {
            world.subscribe(alice, "team:1");
            world.settle();
            let asked = world.petitions();
            assert_eq!(asked.len(), 1);
            world.decide_on(&asked[0], allowed);
            world.settle();
            let number = world.publish(0, "team:1");
            seen.extend(allowed.then_some(number));
            world.settle();
        }
        assert_eq!((world.seen(alice, "team:1"), error(&world, alice)), (&seen[..], Some("forbidden")));
        world.subscribe(alice, "user:alice");
        world.settle();
        world.converge();
    }
}

#[test]
fn a_host_that_says_nothing_means_no() {
    let mut world = World::with(1, 1, hosted("team:*"));
    let alice = world.connect(0, "alice");
    world.subscribe(alice, "team:1");
    world.settle();
    let asked = world.petitions();
    world.run(Duration::from_secs(6));
    assert_eq!(error(&world, alice), Some("unavailable"));
    world.decide_on(&asked[0], true);
    world.publish(0, "team:1");
    world.settle();
    assert!(world.seen(alice, "team:1").is_empty(), "a late answer is ignored");
    // Nor is anybody asked about a client that has gone.
    world.subscribe(alice, "team:2");
    world.settle();
    let asked = world.petitions();
    world.cut(alice);
    world.decide_on(&asked[0], true);
    world.run(Duration::from_secs(10));
    world.converge();
}

#[test]
fn what_waits_for_the_host_is_bounded() {
    let mut config = hosted("team:*");
    config.limits.decisions_in_flight = 3;
    let mut world = World::with(1, 1, config);
    let alice = world.connect(0, "alice");
    (0..4).for_each(|number| world.subscribe(alice, &format!("team:{number}")));
    world.settle();
    let asked = world.petitions();
    assert_eq!((asked.len(), error(&world, alice)), (3, Some("limit_exceeded")));
    world.decide_on(&asked[0], false);
    world.subscribe(alice, "team:5");
    world.settle();
    assert_eq!(world.petitions().len(), 1);
}

#[test]
fn the_host_is_asked_again_when_a_token_or_the_rules_change() {
    let mut world = World::with(1, 1, hosted("team:*"));
    let alice = world.connect(0, "alice");
    world.subscribe(alice, "team:1");
    world.settle();
    let asked = world.petitions();
    world.decide_on(&asked[0], true);
    world.settle();
    world.renew(alice, "alice", &json!({ "jti": "2" }));
    world.settle();
    let asked = world.petitions();
    assert_eq!((asked.len(), &*asked[0].petition.room), (1, "team:1"));
    world.decide_on(&asked[0], true);
    world.settle();
    let mut rules = hosted("team:*").access;
    world.set_access(0, &rules);
    assert!(world.petitions().is_empty(), "the rules are the same");
    rules.push(AccessRule::new("other:*", Who::Nobody, Who::Nobody));
    world.set_access(0, &rules);
    let asked = world.petitions();
    world.decide_on(&asked[0], false);
    world.publish(0, "team:1");
    world.settle();
    assert!(world.seen(alice, "team:1").is_empty());
    assert_eq!(world.last_notice(alice, "unsubscribed").unwrap()["data"]["reason"], "forbidden");
}

#[test]
fn who_waits_for_a_bound_room_when_the_rules_change_is_not_let_in() {
    let mut world = World::new(1, 1);
    world.cut_store(0);
    let alice = world.connect_job(0, "alice", "42");
    world.run(Duration::from_secs(1));
    let mut rules = World::usual().access;
    rules.insert(0, AccessRule::new("job:*", Who::Admin, Who::Admin));
    world.set_access(0, &rules);
    world.heal_store(0);
    world.run(Duration::from_secs(20));
    assert_eq!(world.close_code(alice), Some(4003));
}

#[test]
fn a_decision_that_comes_when_the_token_has_ended_comes_too_late() {
    let mut world = World::with(1, 1, hosted("team:*"));
    let exp = WALL_START.0 / 1000 + 60;
    let alice = world.connect_as(0, "alice", &json!({ "exp": exp }));
    let bob = world.connect(0, "bob");
    world.subscribe(bob, "team:1");
    world.settle();
    let asked = world.petitions();
    world.decide_on(&asked[0], true);
    let end = world.virtual_time(UnixMillis((exp + 30) * 1000));
    world.run_until(Time::from_micros(end.as_micros() - 1_000_000));
    world.send(alice, r#"{"type":"publish","data":{"room":"team:1","type":"note","data":{"n":900}}}"#);
    world.settle();
    let asked = world.petitions();
    world.jump(end);
    world.decide_on(&asked[0], true);
    world.settle();
    assert_eq!((world.seen(bob, "team:1"), world.close_code(alice)), (&[][..], Some(4001)));
}

#[test]
fn many_rooms_are_judged_anew_without_a_bound_that_would_empty_them() {
    let mut config = hosted("team:*");
    (config.limits.decisions_in_flight, config.limits.burst) = (2, 100);
    let mut world = World::with(1, 1, config);
    let alice = world.connect(0, "alice");
    for number in 0..6 {
        world.subscribe(alice, &format!("team:{number}"));
        world.settle();
        let asked = world.petitions();
        world.decide_on(&asked[0], true);
        world.settle();
    }
    world.renew(alice, "alice", &json!({ "jti": "2" }));
    world.settle();
    let asked = world.petitions();
    assert_eq!(asked.len(), 6);
    asked.iter().for_each(|asked| world.decide_on(asked, true));
    assert!(world.last_notice(alice, "unsubscribed").is_none());
}

#[test]
fn rooms_that_are_not_allowed_any_more_are_not_restored_and_cost_nothing() {
    let mut config = World::usual();
    config.routes.iter_mut().for_each(|route| route.restore = Some(Duration::from_secs(60)));
    config.limits.burst = 100;
    let mut world = World::with(1, 1, config);
    let alice = world.connect(0, "alice");
    let rooms: Vec<String> = (0..10).map(|number| format!("workspace:{number}")).collect();
    rooms.iter().for_each(|room| world.subscribe(alice, room));
    world.subscribe(alice, "agent:1");
    world.settle();
    world.cut(alice);
    world.settle();
    let mut rules = World::usual().access;
    rules.insert(0, AccessRule::new("workspace:*", Who::Admin, Who::Admin));
    world.set_access(0, &rules);
    world.reopen(alice, 0);
    world.settle();
    assert_eq!((world.close_code(alice), error(&world, alice)), (None, None), "it has asked for nothing");
    let number = world.publish(0, "agent:1");
    for room in &rooms {
        world.publish(0, room);
    }
    world.settle();
    assert_eq!(world.seen(alice, "agent:1"), [number]);
    assert!(rooms.iter().all(|room| world.seen(alice, room).is_empty()));
}

/// So many partitions that rooms hardly share any: each has to be waited for.
fn spread(mut config: Config) -> Config {
    config.relay.partitions = 64;
    config
}

/// A client of either dialect.
fn connect(world: &mut World, user: &str, is_socket: bool) -> ClientNumber {
    if is_socket { world.connect_socket(0, user, Transport::WebSocket) } else { world.connect(0, user) }
}

#[test]
fn who_waits_for_a_room_when_it_is_left_to_the_host_gets_in_with_a_yes_and_is_sent_nothing_before() {
    for (answer, code) in [(Some(true), None), (Some(false), Some("forbidden")), (None, Some("unavailable"))] {
        for is_socket in [false, true] {
            let mut world = World::with(1, 1, spread(World::usual()));
            let alice = connect(&mut world, "alice", is_socket);
            world.settle();
            world.cut_store(0);
            world.run(Duration::from_secs(1));
            world.subscribe(alice, "team:1");
            world.settle();
            world.set_access(0, &hosted("team:*").access);
            let asked = world.petitions();
            assert_eq!((asked.len(), asked[0].petition.intent, &*asked[0].petition.room), (1, Intent::Subscribe, "team:1"));
            world.heal_store(0);
            world.run(Duration::from_secs(4));
            world.publish(0, "team:1");
            world.settle();
            assert!(world.seen(alice, "team:1").is_empty(), "the host has not said yes");
            match answer {
                Some(allowed) => world.decide_on(&asked[0], allowed),
                None => world.run(Duration::from_secs(2)),
            }
            world.run(Duration::from_secs(1));
            let late = world.publish(0, "team:1");
            world.settle();
            assert_eq!(error(&world, alice), code);
            assert_eq!(world.seen(alice, "team:1").contains(&late), answer == Some(true), "{answer:?}");
            assert!(world.petitions().is_empty(), "it is asked once");
            world.converge();
        }
    }
}

#[test]
fn whenever_the_rules_change_to_the_host_it_is_asked_once_and_its_word_counts() {
    // However far the subscription has come: on its way, waiting for the backplane or for what the room remembers, or a member.
    let mut config = spread(World::usual());
    let keep = Keep::History(History { newest: 5, ..History::default() });
    config.rooms.push(RoomRule::keep("team:*", keep));
    let mut rules = config.access.clone();
    rules.insert(0, AccessRule::new("team:*", Who::Host, Who::Admin));
    for (case, allowed) in (0..60).flat_map(|case| [(case, true), (case, false)]) {
        let mut world = World::with(case, 1, config.clone());
        let alice = connect(&mut world, "alice", case % 2 == 0);
        world.settle();
        let early = world.publish(0, "team:1");
        world.settle();
        world.subscribe(alice, "team:1");
        world.run(Duration::from_micros(250 * case));
        let was_in = world.last_notice(alice, "subscribed").is_some();
        world.set_access(0, &rules);
        world.settle();
        let asked = world.petitions();
        assert_eq!(asked.len(), 1, "case {case}");
        assert_eq!(world.seen(alice, "team:1").contains(&early), was_in, "case {case}: it is sent nothing before the answer");
        world.decide_on(&asked[0], allowed);
        world.settle();
        let late = world.publish(0, "team:1");
        world.settle();
        let expected = [early, late];
        let expected = if allowed { &expected[..] } else { &expected[..usize::from(was_in)] };
        assert_eq!(world.seen(alice, "team:1"), expected, "case {case}");
        let is_refused = error(&world, alice) == Some("forbidden");
        let is_put_out = world.last_notice(alice, "unsubscribed").is_some();
        assert_eq!((is_refused, is_put_out), (!allowed && !was_in, !allowed && was_in), "case {case}");
        world.converge();
    }
}

#[test]
fn a_renewed_token_leaves_to_the_host_what_its_client_waits_for() {
    let mut config = spread(World::usual());
    let both = [Who::Role("member".into()), Who::Host].into_iter().collect();
    config.access.insert(0, AccessRule { subscribe: both, ..AccessRule::new("team:*", Who::Host, Who::Host) });
    for allowed in [true, false] {
        let mut world = World::with(1, 1, config.clone());
        let alice = world.connect_as(0, "alice", &json!({ "roles": ["member"] }));
        world.settle();
        world.cut_store(0);
        world.run(Duration::from_secs(1));
        world.subscribe(alice, "team:1");
        world.settle();
        assert!(world.petitions().is_empty(), "it is a member's");
        world.renew(alice, "alice", &json!({ "roles": [] }));
        world.settle();
        let asked = world.petitions();
        assert_eq!(asked.len(), 1);
        world.heal_store(0);
        world.run(Duration::from_secs(3));
        world.decide_on(&asked[0], allowed);
        world.run(Duration::from_secs(1));
        let number = world.publish(0, "team:1");
        world.settle();
        assert_eq!(world.seen(alice, "team:1").contains(&number), allowed);
        assert_eq!(error(&world, alice), (!allowed).then_some("forbidden"));
        world.converge();
    }
}

#[test]
fn who_waits_for_a_bound_room_stays_with_a_yes_and_is_closed_with_a_no() {
    for (allowed, code) in [(Some(true), None), (Some(false), Some(4003)), (None, Some(4003))] {
        let mut world = World::new(1, 1);
        world.cut_store(0);
        let alice = world.connect_job(0, "alice", "42");
        world.run(Duration::from_secs(1));
        world.set_access(0, &hosted("job:*").access);
        let asked = world.petitions();
        assert_eq!((asked.len(), &*asked[0].petition.room), (1, "job:42"));
        world.heal_store(0);
        world.run(Duration::from_secs(3));
        match allowed {
            Some(allowed) => world.decide_on(&asked[0], allowed),
            None => world.run(Duration::from_secs(3)),
        }
        world.run(Duration::from_secs(5));
        let number = world.publish(0, "job:42");
        world.settle();
        assert_eq!(world.close_code(alice), code);
        assert_eq!(world.seen(alice, "job:42").contains(&number), code.is_none());
        world.converge();
    }
}

#[test]
fn a_no_about_a_room_that_is_being_restored_is_not_told() {
    for (case, allowed) in (0..40).flat_map(|case| [(case, true), (case, false)]) {
        let mut config = spread(World::usual());
        config.routes.iter_mut().for_each(|route| route.restore = Some(Duration::from_secs(60)));
        let mut world = World::with(case, 1, config);
        let alice = world.connect(0, "alice");
        world.subscribe(alice, "team:1");
        world.settle();
        world.cut(alice);
        world.settle();
        world.reopen(alice, 0);
        world.run(Duration::from_micros(250 * case));
        world.set_access(0, &hosted("team:*").access);
        world.settle();
        let asked = world.petitions();
        assert_eq!(asked.len(), 1, "case {case}");
        world.decide_on(&asked[0], allowed);
        world.settle();
        let number = world.publish(0, "team:1");
        world.settle();
        assert_eq!(world.seen(alice, "team:1").contains(&number), allowed, "case {case}");
        assert_eq!((world.close_code(alice), error(&world, alice)), (None, None), "case {case}: it has asked for nothing");
        world.converge();
    }
}

#[test]
fn who_leaves_while_the_host_is_asked_is_not_let_in_by_its_yes() {
    let mut config = hosted("team:*");
    config.limits.decisions_in_flight = 1;
    for (allowed, is_socket) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut world = World::with(1, 1, config.clone());
        let alice = connect(&mut world, "alice", is_socket);
        world.settle();
        world.send(alice, r#"{"type":"subscribe","room":"team:1","message_id":"asks"}"#);
        world.settle();
        let first = world.petitions();
        world.unsubscribe(alice, "team:1");
        world.settle();
        let told = world.last_notice(alice, "error").unwrap();
        assert_eq!(told["data"]["code"], "unavailable", "the subscription is answered");
        assert!(is_socket || told["reply_to"] == "asks", "{told}");
        assert!(world.last_notice(alice, "unsubscribed").is_some());
        // Its place is free, for another room and for the same one.
        world.subscribe(alice, "team:2");
        world.settle();
        let second = world.petitions();
        assert_eq!(&*second[0].petition.room, "team:2");
        world.unsubscribe(alice, "team:2");
        world.subscribe(alice, "team:1");
        world.settle();
        let third = world.petitions();
        assert_eq!(&*third[0].petition.room, "team:1");
        world.decide_on(&first[0], allowed);
        world.decide_on(&second[0], allowed);
        world.settle();
        for room in ["team:1", "team:2"] {
            world.publish(0, room);
        }
        world.run(Duration::from_secs(1));
        assert!(["team:1", "team:2"].iter().all(|room| world.seen(alice, room).is_empty()), "what was withdrawn is not granted");
        assert_eq!(error(&world, alice), Some("unavailable"), "nor refused");
        world.decide_on(&third[0], true);
        world.settle();
        let late = world.publish(0, "team:1");
        world.run(Duration::from_secs(10));
        assert_eq!(world.seen(alice, "team:1"), [late]);
        assert_eq!(world.notices(alice).iter().filter(|kind| **kind == "error").count(), if is_socket { 2 } else { 1 });
        world.converge();
    }
}

#[test]
fn who_leaves_and_comes_back_is_not_put_out_by_what_was_asked_before() {
    let mut world = World::new(1, 1);
    let alice = world.connect(0, "alice");
    world.subscribe(alice, "team:1");
    world.settle();
    let mut rules = hosted("team:*").access;
    world.set_access(0, &rules);
    let first = world.petitions();
    rules.push(AccessRule::new("other:*", Who::Nobody, Who::Nobody));
    world.set_access(0, &rules);
    world.renew(alice, "alice", &json!({ "jti": "2" }));
    world.settle();
    assert!(world.petitions().is_empty(), "what the host is being asked is not asked again");
    world.unsubscribe(alice, "team:1");
    world.subscribe(alice, "team:1");
    world.settle();
    let second = world.petitions();
    world.decide_on(&second[0], true);
    world.settle();
    world.decide_on(&first[0], false);
    world.settle();
    let number = world.publish(0, "team:1");
    world.settle();
    assert_eq!(world.seen(alice, "team:1"), [number]);
    assert!(world.last_notice(alice, "unsubscribed").unwrap()["data"]["reason"].is_null());
    // Nor is there anything to withdraw for one whose namespace or connection is gone.
    let bob = world.connect_socket(0, "bob", Transport::Polling);
    world.settle();
    world.subscribe(bob, "team:1");
    world.run(Duration::from_secs(1));
    let asked = world.petitions();
    world.leave(bob);
    world.run(Duration::from_secs(1));
    world.decide_on(&asked[0], true);
    world.publish(0, "team:1");
    world.settle();
    assert!(world.seen(bob, "team:1").is_empty());
    world.converge();
}

#[test]
fn a_bound_room_that_is_left_while_the_host_is_asked_closes_nothing() {
    let mut world = World::with(1, 1, hosted("job:*"));
    let alice = world.connect_job(0, "alice", "42");
    world.settle();
    let asked = world.petitions();
    world.unsubscribe(alice, "job:42");
    world.settle();
    world.decide_on(&asked[0], false);
    world.publish(0, "job:42");
    world.run(Duration::from_secs(10));
    assert_eq!((world.close_code(alice), world.seen(alice, "job:42")), (None, &[][..]));
}
