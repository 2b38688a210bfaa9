//! Access in the World: rules that change, tokens that grant less, and a host that decides.

use std::time::Duration;

use roomcast_core::config::{AccessRule, Auth, Config, Who};
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
