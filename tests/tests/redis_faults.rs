//! Whatever Redis does: each event reaches each client once, each command its target once, and nothing stays pending.
//!
//! Redis that is stopped, killed, frozen, emptied or unreachable while little happens is in `redis_down.rs`. Here it fails with
//! entries in every state: unread, read, being committed, committed and not yet known to be.

use std::path::Path;
use std::thread;

use roomcast_tests::gateway_tests;
use roomcast_tests::real::ordeal::{LONG, Ordeal, lasts};
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::replication::{follow, replicating, wait_for_role, wait_for_the_same_data};
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::traffic::{
    COMMANDS, EVENTS, ROOM, ROUTED, assert_each_once, assert_silent, command, receive, routed, sources,
};
use roomcast_tests::real::{PATIENCE, poll_until};

gateway_tests!(
    a_target_of_a_wrong_type_costs_its_own_commands_their_way_and_no_others,
    a_relay_log_of_a_wrong_type_holds_its_events_up_until_it_is_gone,
    a_redis_without_memory_for_long_gives_nothing_up,
    a_replica_is_not_ready_until_it_is_promoted,
    a_primary_that_is_demoted_for_a_while_loses_nothing,
    a_redis_that_loads_its_data_is_waited_for,
    a_redis_that_takes_no_writes_for_a_while_loses_nothing,
    a_redis_that_is_paused_for_a_while_loses_nothing,
    a_redis_that_is_frozen_for_a_while_loses_nothing,
    a_crash_of_redis_loses_and_repeats_no_command,
    connections_that_break_again_and_again_lose_nothing,
    what_comes_after_flushall_arrives_once,
    a_stream_that_is_deleted_is_read_again_when_it_is_back,
    a_group_that_is_destroyed_skips_nothing,
    a_group_that_is_destroyed_repeats_nothing_of_a_node_alone,
    entries_deleted_while_they_are_pending_hold_nothing_up,
);

fn a_target_of_a_wrong_type_costs_its_own_commands_their_way_and_no_others(binary: &Path) {
    const REFUSED: [&str; 3] = ["first", "second", "third"];
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    redis.command(&["SET", "stream:mcp-commands", "not a stream"]);
    for message in REFUSED {
        ordeal.publish(&redis, 50);
        redis.command(&["XADD", COMMANDS.stream, "*", "payload", &command("mcp", message)]);
    }
    let given_up = || redis.query::<Vec<(String, Vec<String>)>>(&["XRANGE", COMMANDS.dead_letters, "-", "+"]);
    assert!(poll_until(PATIENCE, || (given_up().len() == REFUSED.len()).then_some(())).is_some(), "{:?}", given_up());
    let mut letters: Vec<String> = given_up().into_iter().filter_map(|(_, fields)| fields.last().cloned()).collect();
    letters.sort();
    assert_eq!(letters, REFUSED.map(|message| command("mcp", message)), "the original bytes are kept");
    redis.command(&["DEL", COMMANDS.dead_letters]);
    ordeal.end(&redis);
}

fn a_relay_log_of_a_wrong_type_holds_its_events_up_until_it_is_gone(binary: &Path) {
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    // Nodes leave marks in other logs, without messages.
    let has_messages = |log: &String| {
        let entries: Vec<(String, Vec<(String, String)>)> = redis.query(&["XRANGE", log, "-", "+"]);
        entries.iter().any(|(_, fields)| fields.iter().any(|(name, _)| name == "m"))
    };
    let log = poll_until(PATIENCE, || {
        ordeal.publish(&redis, 1);
        redis.query::<Vec<String>>(&["KEYS", "rc:relay:*"]).into_iter().find(has_messages)
    })
    .expect("there is a log, for there is a room");
    // What is in the log has been read before it is lost.
    let seen = ordeal.wait_for_all(&redis);
    redis.command(&["DEL", &log]);
    redis.command(&["SET", &log, "not a stream"]);
    let first = ordeal.published;
    ordeal.publish(&redis, 20);
    ordeal.expect_unready("WRONGTYPE");
    redis.command(&["DEL", &log]);
    ordeal.publish(&redis, 20);
    assert!(seen.iter().all(|seen| seen.len() == first), "no event came twice");
    ordeal.end_with_loss(&redis, first);
}

/// For longer than it takes to use up every delivery, if an outage counted as one.
fn a_redis_without_memory_for_long_gives_nothing_up(binary: &Path) {
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    ordeal.publish_then(&redis, 300, &[&["CONFIG", "SET", "maxmemory", "1"]]);
    ordeal.expect_unready("OOM");
    lasts(LONG);
    ordeal.expect_unready("OOM");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    ordeal.publish(&redis, 100);
    ordeal.end(&redis);
}

fn a_replica_is_not_ready_until_it_is_promoted(binary: &Path) {
    let (primary, replica) = (replicating(), replicating());
    let before = 0..50;
    EVENTS.publish(&primary, before.clone());
    COMMANDS.publish(&primary, before.clone());
    follow(&replica, &primary);

    let mut ordeal = Ordeal::begin_unready(binary, &replica.url());
    ordeal.expect_unready("READONLY");
    ordeal.published = before.end;
    ordeal.publish(&primary, 50);
    wait_for_the_same_data(&replica, &primary);
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    ordeal.publish(&replica, 50);
    ordeal.end(&replica);
}

fn a_primary_that_is_demoted_for_a_while_loses_nothing(binary: &Path) {
    let (server, other) = (replicating(), replicating());
    let mut ordeal = Ordeal::begin(binary, &server.url());
    follow(&other, &server);
    ordeal.publish(&server, 100);
    ordeal.wait_for_routed(&server, 50);
    // In good order: the other one has everything before it is written to.
    server.command(&["FAILOVER"]);
    ordeal.expect_unready("READONLY");
    ordeal.publish(&other, 100);
    wait_for_the_same_data(&server, &other);
    other.command(&["FAILOVER"]);
    wait_for_role(&server, "master");
    ordeal.publish(&server, 100);
    ordeal.end(&server);
}

fn a_redis_that_loads_its_data_is_waited_for(binary: &Path) {
    // A millisecond for each of 2,000 keys, and a look at the clients for each KiB.
    let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    let mut redis = RedisServer::start_with(&slow);
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    let mut filler = redis::pipe();
    for number in 0..2_000 {
        filler.set(format!("filler:{number}"), number).ignore();
    }
    filler.exec(&mut redis.connect(0).expect("the server is there")).expect("it takes the keys");

    ordeal.publish(&redis, 200);
    // Everything it has told anybody is in the file.
    assert!(redis.try_query::<String>(&["SHUTDOWN", "SAVE"]).is_err(), "it ends without an answer");
    redis.kill();
    thread::scope(|scope| {
        let loaded = scope.spawn(|| redis.start_again());
        ordeal.expect_unready("LOADING");
        loaded.join().expect("it starts");
    });
    ordeal.publish(&redis, 100);
    ordeal.end(&redis);
}

fn a_redis_that_takes_no_writes_for_a_while_loses_nothing(binary: &Path) {
    pause(binary, "WRITE");
}

fn a_redis_that_is_paused_for_a_while_loses_nothing(binary: &Path) {
    pause(binary, "ALL");
}

fn pause(binary: &Path, mode: &str) {
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    ordeal.publish_then(&redis, 300, &[&["CLIENT", "PAUSE", &LONG.as_millis().to_string(), mode]]);
    ordeal.expect_unready("no answer in time");
    // It is taken when the pause is over.
    ordeal.publish(&redis, 100);
    ordeal.end(&redis);
}

fn a_redis_that_is_frozen_for_a_while_loses_nothing(binary: &Path) {
    let mut redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    for _ in 0..2 {
        ordeal.publish(&redis, 200);
        // What was sent and given up meanwhile is still in its sockets when it wakes.
        redis.pause();
        ordeal.expect_unready("no answer in time");
        lasts(LONG / 4);
        redis.resume();
    }
    ordeal.publish(&redis, 100);
    ordeal.end(&redis);
}

fn a_crash_of_redis_loses_and_repeats_no_command(binary: &Path) {
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    for _ in 0..3 {
        ordeal.publish(&redis, 200);
        redis.kill();
        ordeal.expect_unready("disconnected");
        redis.start_again();
    }
    ordeal.publish(&redis, 100);
    ordeal.end(&redis);
}

fn connections_that_break_again_and_again_lose_nothing(binary: &Path) {
    let redis = RedisServer::start();
    let proxy = Proxy::to(([127, 0, 0, 1], redis.port()).into());
    let mut ordeal = Ordeal::begin(binary, &format!("redis://{}", proxy.addr()));
    for round in 0..25 {
        let before = ordeal.published;
        ordeal.publish(&redis, 100);
        // Early in the work and late in it, in turn.
        ordeal.wait_for_routed(&redis, before + 1 + 4 * round);
        proxy.cut();
    }
    ordeal.publish(&redis, 100);
    ordeal.end(&redis);
}

fn what_comes_after_flushall_arrives_once(binary: &Path) {
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    for _ in 0..3 {
        ordeal.publish(&redis, 100);
        ordeal.publish_then(&redis, 100, &[&["FLUSHALL"]]);
        wait_for_the_next_millisecond(&redis);
    }
    let kept = ordeal.published;
    ordeal.publish(&redis, 200);
    ordeal.end_with_loss(&redis, kept);
}

fn a_stream_that_is_deleted_is_read_again_when_it_is_back(binary: &Path) {
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    for _ in 0..3 {
        ordeal.publish_then(&redis, 100, &[&["DEL", EVENTS.stream, COMMANDS.stream]]);
    }
    let kept = ordeal.published;
    ordeal.publish(&redis, 200);
    ordeal.end_with_loss(&redis, kept);
}

fn a_group_that_is_destroyed_skips_nothing(binary: &Path) {
    let (redis, mut ordeal) = with_destroyed_groups(binary);
    let _events = ordeal.wait_for_all(&redis);
}

/// What several nodes had acknowledged out of order may come twice: nobody else knows of it. Of a node alone, nothing.
fn a_group_that_is_destroyed_repeats_nothing_of_a_node_alone(binary: &Path) {
    let redis = RedisServer::start();
    let gateway = Setup::new(binary).option("--redis", &redis.url()).config(&sources("50ms", "100ms")).start();
    let mut client = gateway.member("alice", ROOM);
    for round in 0..5 {
        let numbers = round * 200..round * 200 + 200;
        let mut pipeline = redis::pipe();
        EVENTS.add_to(&mut pipeline, numbers.clone());
        COMMANDS.add_to(&mut pipeline, numbers);
        for source in [EVENTS, COMMANDS] {
            pipeline.cmd("XGROUP").arg(&["DESTROY", source.stream, source.group]).ignore();
        }
        pipeline.exec(&mut redis.connect(0).expect("the server is there")).expect("Redis takes it");
    }
    assert_each_once(&receive(&mut client, 1_000), 1_000);
    assert!(poll_until(PATIENCE, || (redis.query::<usize>(&["XLEN", ROUTED]) >= 1_000).then_some(())).is_some());
    for source in [EVENTS, COMMANDS] {
        source.wait_for_nothing_pending(&redis);
    }
    assert_silent(&gateway, [&mut client]);
    assert_each_once(&routed(&redis, ROUTED), 1_000);
}

/// Something has been read and acknowledged, something is in hand, and something has not been read.
fn with_destroyed_groups(binary: &Path) -> (RedisServer, Ordeal) {
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    ordeal.publish(&redis, 200);
    ordeal.wait_for_routed(&redis, 100);
    let destroy = [EVENTS, COMMANDS].map(|source| ["XGROUP", "DESTROY", source.stream, source.group]);
    ordeal.publish_then(&redis, 200, &[&destroy[0], &destroy[1]]);
    ordeal.publish(&redis, 100);
    (redis, ordeal)
}

/// Of a dead consumer, and of one that lives and never saw them. What was deleted neither arrives nor becomes a dead letter.
fn entries_deleted_while_they_are_pending_hold_nothing_up(binary: &Path) {
    const DELETED: usize = 1_000_000;
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin(binary, &redis.url());
    for consumer in ["a", "dead"] {
        let kept = ordeal.published..ordeal.published + 20;
        let mut pipeline = redis::pipe();
        // In one step, so that no node reads any of them.
        pipeline.atomic();
        for source in [EVENTS, COMMANDS] {
            source.add_to(&mut pipeline, DELETED..DELETED + 10);
            source.add_to(&mut pipeline, kept.clone());
            let read = ["GROUP", source.group, consumer, "COUNT", "30", "STREAMS", source.stream, ">"];
            pipeline.cmd("XREADGROUP").arg(&read).ignore();
            pipeline.cmd("XTRIM").arg(&[source.stream, "MAXLEN", "20"]).ignore();
        }
        pipeline.exec(&mut redis.connect(0).expect("the server is there")).expect("the entries are added");
        ordeal.published = kept.end;
        // The next round trims what is left of this one.
        [EVENTS, COMMANDS].iter().for_each(|source| source.wait_for_nothing_pending(&redis));
    }
    ordeal.end(&redis);
}

/// A new log that began in the millisecond in which the old one ended would give identifiers once more.
fn wait_for_the_next_millisecond(redis: &RedisServer) {
    let clock = || {
        let (seconds, micros): (u64, u64) = redis.query(&["TIME"]);
        seconds * 1_000 + micros / 1_000
    };
    let now = clock();
    assert!(poll_until(PATIENCE, || (clock() > now).then_some(())).is_some());
}
