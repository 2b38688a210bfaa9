//! The operations of the store on a real Redis, without a gateway: what publishers and operators can make of a stream.

use std::time::{Duration, Instant};

use roomcast_core::config::Config;
use roomcast_core::id::StreamId;
use roomcast_core::store::redis::Redis;
use roomcast_core::store::{Effect, GroupRef, Posting, StoreOp, Whose};
use roomcast_tests::real::redis::{RedisServer, Value};

/// Entries as Redis gives them: identifier and words.
type Entries = Vec<(String, Vec<String>)>;

const MARK: &str = "rc:mark:{s}:g";

#[test]
fn a_group_begins_again_before_its_oldest_pending_entry_whatever_the_identifiers_are() {
    let redis = RedisServer::start();
    let ids = [
        "5-9007199254740994",
        "5-9007199254740995",
        "5-18446744073709551615",
        "6-0",
        "1760000000000000122-0",
        "1760000000000000123-0",
        "1760000000000000200-0",
    ];
    add(&redis, &ids);
    for (at, id) in ids.iter().enumerate() {
        for (mark, from) in [(format!("({id}"), at), ((*id).to_owned(), at + 1)] {
            redis.try_query::<Value>(&["XGROUP", "DESTROY", "s", "g"]).expect("the stream is there");
            redis.command(&["SET", MARK, &mark]);
            run(&redis, &StoreOp::GroupOpen(group()));
            let next: Vec<(String, Entries)> =
                redis.try_query(&["XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">"]).unwrap_or_default();
            let next = next.first().map(|(_, entries)| entries[0].0.as_str());
            assert_eq!(next, ids.get(from).copied(), "{mark}");
        }
    }
}

#[test]
fn a_mark_of_another_stream_of_the_same_name_is_not_believed() {
    let redis = RedisServer::start();
    add(&redis, &["9-9", "10-9007199254740993"]);
    for mark in ["11-0", "(11-0", "10-9007199254740994", "(10-18446744073709551615", "100-0"] {
        redis.command(&["SET", MARK, mark]);
        assert_eq!(run(&redis, &StoreOp::GroupOpen(group())), Value::BulkString(b"0-0".to_vec()), "{mark}");
        redis.command(&["XGROUP", "DESTROY", "s", "g"]);
    }
}

#[test]
fn an_entry_that_was_acknowledged_before_it_was_trimmed_is_not_gone() {
    let redis = RedisServer::start();
    add(&redis, &["1-0", "2-0"]);
    run(&redis, &StoreOp::GroupOpen(group()));
    redis.command(&["XREADGROUP", "GROUP", "g", "other", "STREAMS", "s", ">"]);
    // Between the look for what is stale and the claim, its consumer has ended it.
    redis.command(&["XACK", "s", "g", "1-0"]);
    redis.command(&["XTRIM", "s", "MAXLEN", "0"]);
    let ids = vec![(id(1), 2), (id(2), 2)];
    let claimed = run(&redis, &StoreOp::GroupClaim { group: group(), whose: Whose::Any, idle: Duration::ZERO, ids });
    let gone = Value::Array(vec![Value::BulkString(b"2-0".to_vec())]);
    assert_eq!(claimed, Value::Array(vec![Value::Array(vec![]), gone]));
}

#[test]
fn consumers_that_wait_in_vain_are_not_removed() {
    let redis = RedisServer::start();
    run(&redis, &StoreOp::GroupOpen(group()));
    let nodes = ["a", "b"].map(|node| Redis::new(&Config { node: node.into(), ..Config::default() }));
    for consumer in ["a", "b", "dead"] {
        redis.command(&["XGROUP", "CREATECONSUMER", "s", "g", consumer]);
    }
    let mut removed = Vec::new();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        for node in &nodes {
            let block = Duration::from_millis(20);
            query(&redis, node, &StoreOp::GroupRead { group: group(), count: 1, block });
            removed.push(query(&redis, node, &StoreOp::GroupTidy { group: group(), idle: Duration::from_millis(300) }));
        }
    }
    removed.retain(|names| *names != Value::Array(vec![]));
    assert_eq!(removed, [Value::Array(vec![Value::BulkString(b"dead".to_vec())])]);
}

#[test]
fn times_without_end_are_understood() {
    let redis = RedisServer::start();
    add(&redis, &["1-0"]);
    run(&redis, &StoreOp::GroupOpen(group()));
    let idle = Duration::MAX;
    let none = Value::Array(vec![]);
    let look = StoreOp::GroupStale { group: group(), whose: Whose::Any, idle, after: StreamId::ZERO, count: 1 };
    assert_eq!(run(&redis, &look), none);
    let claim = StoreOp::GroupClaim { group: group(), whose: Whose::Any, idle, ids: vec![(id(1), 2)] };
    assert_eq!(run(&redis, &claim), Value::Array(vec![none.clone(), none.clone()]));
    assert_eq!(run(&redis, &StoreOp::GroupTidy { group: group(), idle }), none);
}

#[test]
fn figures_are_told_whatever_the_identifiers_are() {
    let redis = RedisServer::start();
    add(&redis, &["1-0", "18446744073709551615-0"]);
    run(&redis, &StoreOp::GroupOpen(group()));
    let health = StoreOp::GroupHealth { group: group() };
    redis.command(&["XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">"]);
    redis.command(&["XACK", "s", "g", "1-0"]);
    let Value::Array(figures) = run(&redis, &health) else { panic!("no figures") };
    assert!(figures.iter().all(|figure| !matches!(figure, Value::Int(..0))), "{figures:?}");
}

#[test]
fn an_entry_that_stands_twice_in_a_commit_is_stored_once() {
    let relay = || Effect::Relay(vec![(0, vec![Posting::plain("r".into(), "p".into())])]);
    for (together, expected, length) in [(false, Value::Array(vec![Value::Int(1), Value::Int(0)]), 1), (true, Value::Int(0), 0)] {
        let redis = RedisServer::start();
        add(&redis, &["1-0"]);
        run(&redis, &StoreOp::GroupOpen(group()));
        redis.command(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        let effects = vec![(id(1), relay()), (id(1), relay())].into();
        let answer = run(&redis, &StoreOp::Commit { group: group(), effects, together });
        // Of a transaction, the script's answer is the last.
        let outcome = match answer {
            Value::Array(mut all) if together => all.pop().expect("an answer for each command"),
            other => other,
        };
        assert_eq!(outcome, expected);
        let relayed: Entries = redis.query(&["XRANGE", "rc:relay:{0}", "-", "+"]);
        assert_eq!(relayed.len(), length);
        assert!(relayed.iter().all(|(_, words)| words[1].matches('p').count() == 1), "{relayed:?}");
    }
}

fn add(redis: &RedisServer, ids: &[&str]) {
    for id in ids {
        redis.command(&["XADD", "s", id, "a", "1"]);
    }
}

fn run(redis: &RedisServer, op: &StoreOp) -> Value {
    query(redis, &Redis::new(&Config { node: "c".into(), ..Config::default() }), op)
}

/// The answer to the last command of an operation.
fn query(redis: &RedisServer, node: &Redis, op: &StoreOp) -> Value {
    let command = |words: &Vec<bytes::Bytes>| redis.command(&words.iter().map(|word| word.to_vec()).collect::<Vec<_>>());
    node.commands(op).iter().map(command).last().expect("every operation has a command")
}

fn group() -> GroupRef {
    GroupRef { stream: "s".into(), group: "g".into() }
}

fn id(millis: u64) -> StreamId {
    StreamId { millis, sequence: 0 }
}
