//! Operations on publishers' streams on a real Redis, and in memory, which is the model of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roomcast_core::config::Config;
use roomcast_core::id::{StreamId, Ticket};
use roomcast_core::position::Position;
use roomcast_core::store::memory::Memory;
use roomcast_core::store::redis::{Redis, Reply, Words};
use roomcast_core::store::{Answer, Entry, Lane, Once, Query, StoreError, StoreOp, TailAnswer, TailOp};
use roomcast_core::time::Time;
use roomcast_tests::real::redis::{RedisServer, Value};

#[test]
fn the_store_in_memory_answers_as_redis_does() {
    let (server, redis) = (RedisServer::start(), Redis::new(&Config::default()));
    let (mut memory, now) = (Memory::new(100), Time::from_micros(1_000_000));
    let client = memory.connect("n");
    let both = |memory: &mut Memory, op: TailOp| {
        let op = StoreOp::Tail(op);
        let last =
            redis.commands(&op).iter().map(|words| server.try_query::<Value>(&owned(words))).last().expect("there is a command");
        let on_redis = last.map_or_else(|error| Err(refused(&error.to_string())), |value| redis.answer(&op, reply(value)));
        memory.submit(now, client, Lane::Command, Ticket(1), op.clone());
        memory.tick(now + Duration::from_secs(1));
        let (.., in_memory) = memory.poll_answer().expect("it is answered");
        match (&on_redis, &in_memory) {
            (Err(StoreError::Refused(_)), Err(StoreError::Refused(_))) => {}
            _ => assert_eq!(on_redis, in_memory, "{op:?}"),
        }
        on_redis
    };
    let mut entries = Vec::new();
    for (at, id) in ["1-1", "1-2", "5-0", "9007199254740993-18446744073709551615"].into_iter().enumerate() {
        let (id, value): (StreamId, String) = (id.parse().unwrap(), format!("{{{at}}}\u{1f980}"));
        let fields = vec![(Bytes::from("message"), Bytes::from(value.clone())), (Bytes::from(""), Bytes::new())];
        memory.add_as(now, "a", id, fields.clone());
        server.command(&["XADD", "a", &id.to_string(), "message", &value, "", ""]);
        entries.push(Entry { id, fields });
    }
    let positions: Vec<Position> = entries.iter().map(Entry::position).collect();
    memory.set_refused("c", true);
    server.command(&["SET", "c", "a string"]);
    let keys = || ["a", "b", "c"].map(Arc::from);
    for count in [1, 3, 10] {
        let Ok(Answer::Tail(TailAnswer::Tips(tips))) = both(&mut memory, TailOp::Tips { keys: keys()[..2].to_vec(), count })
        else {
            panic!()
        };
        assert_eq!(tips[0].as_ref().unwrap().last(), entries.last());
        for query in [
            Query::Newest,
            Query::Oldest,
            Query::After(positions[1]),
            Query::Before(positions[2]),
            Query::After(Position::default()),
            Query::Before(positions[0]),
        ] {
            keys().into_iter().for_each(|key| drop(both(&mut memory, TailOp::Row { key, query, count })));
        }
        for cursor in [StreamId::ZERO, entries[1].id, entries[3].id] {
            let cursors = vec![("a".into(), cursor), ("b".into(), StreamId::ZERO)];
            both(&mut memory, TailOp::Read { cursors, count, block: Duration::from_millis(1) }).expect("it can be read");
        }
    }
    let cursors = vec![("a".into(), StreamId::ZERO), ("c".into(), StreamId::ZERO)];
    assert!(both(&mut memory, TailOp::Read { cursors, count: 1, block: Duration::from_millis(1) }).is_err());

    memory.set_value("v", "{}");
    server.command(&["SET", "v", "{}"]);
    for key in ["v", "none"] {
        both(&mut memory, TailOp::Value { key: key.into() }).expect("it can be read");
    }
    assert_eq!(server.query::<i64>(&["EXISTS", "b", "none"]), 0, "reading creates nothing");
}

#[test]
fn an_append_on_redis_is_one_step_and_known_by_its_identifier() {
    let (server, redis) = (RedisServer::start(), Redis::new(&Config::default()));
    let append = |key: &str, value: &str, once: Option<&str>| {
        let once = once.map(|id| Once { id: id.into(), window: Duration::from_secs(60) });
        let fields = vec![(Bytes::from("message"), Bytes::copy_from_slice(value.as_bytes()))];
        let op = StoreOp::Tail(TailOp::Append { key: key.into(), fields, once });
        let words = &redis.commands(&op)[0];
        server.try_query::<Value>(&owned(words)).map(|value| redis.answer(&op, reply(value)))
    };
    let position = |appended| match appended {
        Ok(Ok(Answer::Appended(positions))) => positions[0].expect("it has a position"),
        other => panic!("{other:?}"),
    };
    let first = position(append("s", "{1}", Some("m")));
    assert_eq!(position(append("s", "{2}", Some("m"))), first);
    assert_ne!(position(append("s", "{2}", Some("n"))), first);
    assert_ne!(position(append("t", "{3}", Some("m"))), first, "another stream has identifiers of its own");
    let entries: Vec<(String, Vec<String>)> = server.query(&["XRANGE", "s", "-", "+"]);
    assert_eq!(entries[0], (first.entry().to_string(), vec!["message".into(), "{1}".into()]));
    let op = TailOp::Tips { keys: vec!["s".into()], count: 2 };
    let Ok(Answer::Tail(TailAnswer::Tips(tips))) = tips(&server, &redis, vec!["s".into()]) else { panic!("{op:?}") };
    assert_eq!(tips[0].as_ref().unwrap()[0].position(), first, "what is read has the position that was given");
    for _ in 0..2_000 {
        position(append("s", "{}", None));
    }
    assert!((1_000..1_200).contains(&server.query::<usize>(&["XLEN", "s"])));
    assert!((86_000..=86_400).contains(&server.query::<i64>(&["TTL", "s"])));
    server.command(&["SET", "c", "a string"]);
    assert!(append("c", "{}", Some("x")).is_err());
    assert_eq!(server.query::<i64>(&["EXISTS", "rc:once:{c}:x"]), 0, "what was refused may be tried again");
}

fn tips(server: &RedisServer, redis: &Redis, keys: Vec<Arc<str>>) -> Result<Answer, StoreError> {
    let op = StoreOp::Tail(TailOp::Tips { keys, count: 2 });
    let last = redis.commands(&op).iter().map(|words| server.command(&owned(words))).last();
    redis.answer(&op, reply(last.expect("there is a command")))
}

fn owned(words: &Words) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

fn refused(text: &str) -> StoreError {
    StoreError::Refused(text.into())
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes.into()),
        Value::SimpleString(text) => Reply::Bytes(text.into()),
        Value::Okay => Reply::Bytes("OK".into()),
        Value::Array(items) => Reply::Array(items.into_iter().map(reply).collect()),
        Value::ServerError(error) => Reply::Error(refused(error.code())),
        other => panic!("{other:?}"),
    }
}
