//! Who is in a room, told by real gateways on a real Redis: on a user's first and last connection anywhere, also when a node is
//! killed or frozen, and when Redis loses everything.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use roomcast_core::config::Config;
use roomcast_core::id::{StreamId, Ticket};
use roomcast_core::store::memory::Memory;
use roomcast_core::store::redis::{Redis, Reply};
use roomcast_core::store::{Answer, Change, Lane, PresenceAnswer, PresenceOp, StoreOp};
use roomcast_core::time::Time;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::JsonClient;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::{RedisServer, Value};
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::json;

const ROOM: &str = "project:1";
const BEAT: Duration = Duration::from_millis(100);
const DEAD_AFTER: Duration = Duration::from_millis(500);

gateway_tests!(
    the_others_are_told_of_the_first_and_the_last_connection_on_any_node,
    without_redis_the_users_of_one_node_learn_of_each_other,
    the_users_of_a_node_that_is_killed_leave_in_time_and_once,
    a_node_that_was_frozen_tells_everything_again,
    a_node_that_is_stopped_takes_its_users_out_at_once,
    after_flushall_everything_is_told_again_within_a_beat,
    while_redis_does_not_answer_nobody_is_named,
    a_room_of_many_names_some_and_counts_all,
    entering_a_room_costs_one_command,
);

fn the_others_are_told_of_the_first_and_the_last_connection_on_any_node(binary: &Path) {
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let mut alice = a.member("alice", ROOM);
    let bobs = [b.member("bob", ROOM), a.member("bob", ROOM), b.member("bob", ROOM)];
    let joined = alice.expect_type("user_joined");
    assert_eq!(joined["data"], json!({"user_id": "bob", "room": ROOM, "project_id": "1", "action": "joined"}));
    assert!(joined["room"] == ROOM && joined["message_id"].is_string() && joined["timestamp"].is_string());
    wait_until_here(&mut alice, &["alice", "bob"], 4);
    bobs.into_iter().for_each(JsonClient::close);
    let left = alice.expect_type("user_left");
    assert_eq!(left["data"], json!({"user_id": "bob", "room": ROOM, "project_id": "1", "action": "left"}));
    wait_until_here(&mut alice, &["alice"], 1);

    let mut carol = b.member("carol", ROOM);
    alice.expect_type("user_joined");
    carol.send(&json!({"type": "unsubscribe", "room": ROOM}));
    carol.expect_type("unsubscribed");
    alice.expect_type("user_left");
    // One who is not in the room may ask, and one who may not enter it may not.
    wait_until_here(&mut carol, &["alice"], 1);
    carol.send(&json!({"type": "presence", "data": {"room": "user:alice"}, "message_id": "m"}));
    let error = carol.expect_type("error");
    assert_eq!((&error["data"]["code"], &error["reply_to"]), (&json!("forbidden"), &json!("m")));
    carol.send(&json!({"type": "presence", "data": {"room": "task:1"}}));
    assert_eq!(carol.expect_type("error")["data"]["code"], "unsupported_message");
}

fn without_redis_the_users_of_one_node_learn_of_each_other(binary: &Path) {
    let gateway = Setup::new(binary).shards(2).start();
    let mut alice = gateway.member("alice", ROOM);
    let bobs = [gateway.member("bob", ROOM), gateway.member("bob", ROOM)];
    assert_eq!(alice.expect_type("user_joined")["data"]["user_id"], "bob");
    wait_until_here(&mut alice, &["alice", "bob"], 3);
    bobs.into_iter().for_each(JsonClient::close);
    assert_eq!(alice.expect_type("user_left")["data"]["user_id"], "bob");
}

fn the_users_of_a_node_that_is_killed_leave_in_time_and_once(binary: &Path) {
    const USERS: usize = 200;
    let redis = RedisServer::start();
    let (a, b, mut c) = (node(binary, &redis, "a"), node(binary, &redis, "b"), node(binary, &redis, "c"));
    let mut watchers = [a.member("watcher", ROOM), b.member("watcher", ROOM)];
    let clients: Vec<_> = (0..USERS).map(|number| c.member(&format!("user-{number}"), ROOM)).collect();
    watchers.iter_mut().for_each(|watcher| assert_eq!(events(watcher, "user_joined", USERS).len(), USERS));
    // A node judges nobody before it has lived for as long as others are given.
    wait_until_old(&redis);

    let killed = Instant::now();
    c.kill();
    let left = watchers.each_mut().map(|watcher| events(watcher, "user_left", USERS));
    let took = killed.elapsed();
    for mut left in left {
        left.sort_unstable();
        left.dedup();
        assert_eq!(left.len(), USERS, "each leaves once");
    }
    println!("{USERS} users of a killed node left after {took:?}");
    assert!(took < DEAD_AFTER + BEAT + Duration::from_secs(1), "it took {took:?}");
    for watcher in &mut watchers {
        wait_until_here(watcher, &["watcher"], 2);
    }
    let forgotten = poll_until(PATIENCE, || (nodes(&redis).len() == 2).then_some(()));
    assert!(forgotten.is_some(), "{:?}", nodes(&redis));
    drop(clients);
}

fn a_node_that_was_frozen_tells_everything_again(binary: &Path) {
    let redis = RedisServer::start();
    let (a, mut b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let mut alice = a.member("alice", ROOM);
    let mut bob = b.member("bob", ROOM);
    alice.expect_type("user_joined");
    wait_until_old(&redis);
    b.signal(Signal::SIGSTOP);
    alice.expect_type("user_left");
    b.signal(Signal::SIGCONT);
    alice.expect_type("user_joined");
    for client in [&mut alice, &mut bob] {
        wait_until_here(client, &["alice", "bob"], 2);
    }
    let forgotten = poll_until(PATIENCE, || (nodes(&redis).len() == 2).then_some(()));
    assert!(forgotten.is_some(), "{:?}", nodes(&redis));
    wait_until_here(&mut alice, &["alice", "bob"], 2);
}

/// With times so long that no sweep can be what takes them out.
fn a_node_that_is_stopped_takes_its_users_out_at_once(binary: &Path) {
    let redis = RedisServer::start();
    let node = |name| {
        let config = "[relay]\ndead_after = \"1h\"\n";
        Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(config).start()
    };
    let (a, b) = (node("a"), node("b"));
    let mut alice = a.member("alice", ROOM);
    let clients: Vec<_> = (0..50).map(|number| b.member(&format!("user-{number}"), ROOM)).collect();
    assert_eq!(events(&mut alice, "user_joined", 50).len(), 50);
    drop(clients);
    assert_eq!(events(&mut alice, "user_left", 50).len(), 50);
    let _stay: Vec<_> = (0..50).map(|number| b.member(&format!("user-{number}"), ROOM)).collect();
    assert_eq!(events(&mut alice, "user_joined", 50).len(), 50);
    b.terminate(PATIENCE);
    assert_eq!(events(&mut alice, "user_left", 50).len(), 50);
}

fn after_flushall_everything_is_told_again_within_a_beat(binary: &Path) {
    const USERS: usize = 100;
    let redis = RedisServer::start();
    let (a, b) = (node(binary, &redis, "a"), node(binary, &redis, "b"));
    let mut alice = a.member("alice", ROOM);
    let _stay: Vec<_> = (0..USERS).map(|number| b.member(&format!("user-{number}"), ROOM)).collect();
    assert_eq!(events(&mut alice, "user_joined", USERS).len(), USERS);

    redis.command(&["FLUSHALL"]);
    let flushed = Instant::now();
    let told = poll_until(PATIENCE, || {
        let (users, connections) = here(&mut alice);
        (users.len() == USERS + 1 && connections == USERS as u64 + 1).then_some(())
    });
    let took = flushed.elapsed();
    assert!(told.is_some(), "{:?}", here(&mut alice));
    println!("{USERS} users were told again {took:?} after FLUSHALL");
    assert!(took < BEAT + Duration::from_secs(1), "it took {took:?}");
    // What the nodes had told before is swept, and changes nothing.
    wait_until_old(&redis);
    let forgotten = poll_until(PATIENCE, || (nodes(&redis).len() == 2).then_some(()));
    assert!(forgotten.is_some(), "{:?}", nodes(&redis));
    assert_eq!(here(&mut alice).1, USERS as u64 + 1);
}

fn while_redis_does_not_answer_nobody_is_named(binary: &Path) {
    let mut redis = RedisServer::start();
    let config = "[relay]\nbeat = \"100ms\"\ndead_after = \"500ms\"\ntimeout = \"300ms\"\nblock = \"300ms\"\n";
    let start = |name| Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(config).start();
    let (a, b) = (start("a"), start("b"));
    let (mut alice, mut bob) = (a.member("alice", ROOM), b.member("bob", ROOM));
    alice.expect_type("user_joined");
    redis.pause();
    alice.send(&json!({"type": "presence", "data": {"room": ROOM}, "message_id": "m"}));
    let error = alice.wait_for_type("error", PATIENCE);
    assert_eq!((&error["data"]["code"], &error["reply_to"]), (&json!("unavailable"), &json!("m")));
    bob.close();
    redis.resume();
    let left = poll_until(PATIENCE, || {
        alice.send(&json!({"type": "presence", "data": {"room": ROOM}}));
        // Until Redis is back there are errors in between, and the events.
        loop {
            let frame = alice.next(PATIENCE);
            match frame["type"].as_str() {
                Some("presence") => return (frame["data"]["users"] == json!(["alice"])).then_some(()),
                Some("error") => return None,
                _ => {}
            }
        }
    });
    assert!(left.is_some(), "bob is a ghost");
    bob = b.member("bob", ROOM);
    wait_until_here(&mut bob, &["alice", "bob"], 2);
}

fn a_room_of_many_names_some_and_counts_all(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = node(binary, &redis, "a");
    let mut alice = gateway.member("alice", ROOM);
    let users: Vec<String> = (0..1_500).map(|number| format!("user-{number}")).collect();
    let store = Store::new(&redis);
    for (number, users) in (1..).zip(users.chunks(128)) {
        let changes = users.iter().map(|user| change(ROOM, user, 2)).collect();
        assert_eq!(store.ask(&set(partition_of(&redis), "other", Some(number), changes)), PresenceAnswer::Taken(true));
    }
    // All the others have joined, too.
    assert_eq!(events(&mut alice, "user_joined", 1_500).len(), 1_500);
    let asked = Instant::now();
    alice.send(&json!({"type": "presence", "data": {"room": ROOM}}));
    let answer = alice.expect_type("presence")["data"].take();
    println!("1,000 of 1,501 users were named within {:?}", asked.elapsed());
    let named: Vec<_> = answer["users"].as_array().expect("there is a list").iter().map(|user| user.as_str()).collect();
    assert!(named.len() == 1_000 && named.is_sorted_by(|one, next| one < next));
    assert_eq!((&answer["truncated"], &answer["connections"]), (&json!(true), &json!(3_001)));
}

fn entering_a_room_costs_one_command(binary: &Path) {
    const USERS: u64 = 200;
    let redis = RedisServer::start();
    // Without beats in between.
    let config = "[relay]\nbeat = \"1h\"\ndead_after = \"2h\"\n";
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(config).start();
    let mut alice = gateway.member("alice", ROOM);
    let mut clients: Vec<_> = (0..USERS).map(|number| gateway.client(&format!("user-{number}"))).collect();
    wait_until_here(&mut alice, &["alice"], 1);
    redis.command(&["CONFIG", "RESETSTAT"]);
    clients.iter_mut().for_each(|client| drop(client.subscribe(ROOM)));
    assert_eq!(events(&mut alice, "user_joined", USERS as usize).len(), USERS as usize);
    let stats: String = redis.query(&["INFO", "commandstats"]);
    let of = |command: &str, figure: &str| -> f64 {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
        let figures = line.unwrap_or_else(|| panic!("no {command} in {stats}")).split(',');
        figures
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == figure)
            .map_or(0.0, |(_, value)| value.parse().unwrap())
    };
    println!("{USERS} users entered: {} scripts of {} microseconds", of("eval", "calls"), of("eval", "usec_per_call"));
    // Health and claims of sources are scripts as well: a few.
    assert!(of("eval", "calls") <= (USERS + 20) as f64, "{stats}");
}

/// The two stores answer alike, and tell the same in the relay log, whatever they are asked.
#[test]
fn the_store_in_memory_and_redis_are_alike() {
    let redis = RedisServer::start();
    for seed in 0..6 {
        redis.command(&["FLUSHALL"]);
        let (store, mut memory) = (Store::new(&redis), Memory::new(100_000));
        let client = memory.connect("n");
        let mut dice = Dice(seed);
        let mut number = 0;
        for step in 0..1_500 {
            let op = op(&mut dice, &mut number);
            let lane = Lane::Command;
            memory.submit(Time::from_micros(1_000_000), client, lane, Ticket(step), StoreOp::Presence(op.clone()));
            let Some((_, _, Ok(Answer::Presence(expected)))) = memory.poll_answer() else { panic!("{op:?} is not answered") };
            assert_eq!(in_order(store.ask(&op)), in_order(expected), "seed {seed}, step {step}: {op:?}");
        }
        for partition in 0..2 {
            let in_memory: Vec<_> =
                memory.relayed_after(partition, StreamId::ZERO).map(|(_, messages)| messages.to_vec()).collect();
            assert_eq!(store.relayed(partition), in_memory, "seed {seed}");
            assert!(!in_memory.is_empty());
        }
    }
}

/// An operation late or in time, of one of two nodes, that either tells, dies, is swept or asks.
fn op(dice: &mut Dice, last: &mut u64) -> PresenceOp {
    let node = ["a", "b"][dice.below(2)];
    let partition = dice.below(2) as u16;
    // A room lies in one partition.
    let room = format!("{partition}:{}", dice.below(3));
    match dice.below(40) {
        0 => PresenceOp::Beat {
            node: node.into(),
            new: dice.below(2) == 0,
            lasts: Duration::from_secs(3600 * dice.below(2) as u64),
        },
        1 => PresenceOp::Forget { node: node.into() },
        // Everybody is told of: a part of them would be any.
        2 if dice.below(8) == 0 => PresenceOp::Condemn { partition, node: node.into(), count: 1_000 },
        3..8 => PresenceOp::Who { partition, room: room.as_str().into(), most: 10 },
        kind => {
            *last += 1;
            let number = if kind == 8 { None } else { Some(last.saturating_sub(dice.below(4) as u64)) };
            let users = ["u", "v", "1:w,"];
            let rooms = 1 + dice.below(2);
            let changes = (0..rooms).map(|at| {
                let connections = dice.below(3) as u32;
                change(&format!("{partition}:{at}"), users[dice.below(3)], connections)
            });
            set(partition, node, number, changes.collect())
        }
    }
}

fn in_order(answer: PresenceAnswer) -> PresenceAnswer {
    match answer {
        PresenceAnswer::Left(mut left) => {
            left.sort();
            PresenceAnswer::Left(left)
        }
        PresenceAnswer::Beat { alive, mut dead } => {
            dead.sort();
            PresenceAnswer::Beat { alive, dead }
        }
        other => other,
    }
}

fn change(room: &str, user: &str, connections: u32) -> Change {
    let event = json!({"type": if connections > 0 { "user_joined" } else { "user_left" }, "data": {"user_id": user}});
    Change { room: room.into(), user: user.into(), connections, event: event.to_string().into() }
}

fn set(partition: u16, node: &str, number: Option<u64>, changes: Vec<Change>) -> PresenceOp {
    PresenceOp::Set { partition, node: node.into(), number, changes }
}

/// A real Redis, asked as the core asks.
struct Store<'r> {
    redis: &'r RedisServer,
    words: Redis,
}

impl<'r> Store<'r> {
    fn new(redis: &'r RedisServer) -> Store<'r> {
        Store { redis, words: Redis::new(&Config::default()) }
    }

    fn ask(&self, op: &PresenceOp) -> PresenceAnswer {
        match self.run(&StoreOp::Presence(op.clone())) {
            Answer::Presence(answer) => answer,
            other => panic!("{op:?}: {other:?}"),
        }
    }

    fn relayed(&self, partition: u16) -> Vec<Vec<roomcast_core::store::Relayed>> {
        let (cursors, block) = (vec![(partition, StreamId::ZERO)], Duration::from_millis(1));
        match self.run(&StoreOp::RelayRead { cursors, count: 100_000, block }) {
            Answer::Relayed(entries) => entries.into_iter().map(|entry| entry.messages).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn run(&self, op: &StoreOp) -> Answer {
        let commands = self.words.commands(op);
        let words: Vec<_> = commands.concat().iter().map(|word| word.to_vec()).collect();
        self.words.answer(op, reply(self.redis.command(&words))).unwrap_or_else(|error| panic!("{op:?}: {error}"))
    }
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes.into()),
        Value::Array(items) => Reply::Array(items.into_iter().map(reply).collect()),
        other => panic!("{other:?}"),
    }
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn node(binary: &Path, redis: &RedisServer, name: &str) -> Gateway {
    let config = format!(
        "[relay]\nbeat = \"{BEAT:?}\"\ndead_after = \"{DEAD_AFTER:?}\"\n[limits]\nmessages_per_second = 1000\nburst = 1000\noutbox_messages = 10000"
    );
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(&config).start()
}

/// The names under which nodes live, or lived last.
fn nodes(redis: &RedisServer) -> Vec<String> {
    redis.query(&["ZRANGE", "rc:nodes", "0", "-1"])
}

/// Waits until every node has lived for so long that it judges others.
fn wait_until_old(redis: &RedisServer) {
    let clock = || -> f64 {
        let (seconds, micros): (f64, f64) = redis.query(&["TIME"]);
        seconds * 1_000.0 + micros / 1_000.0
    };
    let old = clock() + (DEAD_AFTER + BEAT).as_millis() as f64;
    assert!(poll_until(PATIENCE, || (clock() > old).then_some(())).is_some());
}

/// The partition in which the room lies.
fn partition_of(redis: &RedisServer) -> u16 {
    // Who joins is told so, and counted a moment later.
    let key = poll_until(PATIENCE, || redis.query::<Vec<String>>(&["KEYS", "rc:who:*"]).pop()).expect("somebody is counted");
    key.split(['{', '}']).nth(1).and_then(|number| number.parse().ok()).expect("the key names the partition")
}

/// The users of the next events, which are all of one type.
fn events(client: &mut JsonClient, kind: &str, count: usize) -> Vec<String> {
    let user = |_| client.expect_type(kind)["data"]["user_id"].as_str().expect("it is somebody").to_owned();
    (0..count).map(user).collect()
}

fn wait_until_here(client: &mut JsonClient, users: &[&str], connections: u64) {
    let mut last = None;
    let found = poll_until(PATIENCE, || {
        last = Some(here(client));
        (last == Some((users.iter().map(|user| (*user).to_owned()).collect(), connections))).then_some(())
    });
    assert!(found.is_some(), "{last:?}");
}

/// Who is in the room, over events that come before the answer.
fn here(client: &mut JsonClient) -> (Vec<String>, u64) {
    client.send(&json!({"type": "presence", "data": {"room": ROOM}}));
    let data = client.wait_for_type("presence", PATIENCE)["data"].take();
    let users = data["users"].as_array().expect("there is a list").iter().filter_map(|user| user.as_str().map(String::from));
    (users.collect(), data["connections"].as_u64().expect("it is a number"))
}
