//! Sources whose streams stand in another Redis than the node's: nothing can be one atomic step, and nothing is lost or repeated.

use std::path::Path;

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::ordeal::{LONG, Ordeal, apart, lasts};
use roomcast_tests::real::proxy::Proxy;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{ConfigFile, Setup, clean_command};
use roomcast_tests::real::traffic::{COMMANDS, EVENTS};

gateway_tests!(
    what_stands_in_another_redis_arrives_once,
    databases_of_one_server_are_two_as_well,
    the_redis_of_the_node_may_be_away,
    the_redis_of_the_sources_may_be_away,
    connections_to_both_may_break_again_and_again,
    what_a_node_that_died_had_in_hand_arrives_once,
    a_node_without_a_redis_of_its_own_refuses_such_a_source,
);

fn what_stands_in_another_redis_arrives_once(binary: &Path) {
    let (redis, origin) = (RedisServer::start(), RedisServer::start());
    let mut ordeal = Ordeal::begin_apart(binary, &redis.url(), &origin.url());
    ordeal.publish(&origin, 500);
    let nodes = ordeal.nodes.each_ref().map(Gateway::sources);
    assert!(nodes.iter().all(|sources| sources[0]["stream"] == EVENTS.stream && sources[1]["stream"] == COMMANDS.stream));
    ordeal.end(&origin);
    assert!(redis.query::<Vec<String>>(&["KEYS", "stream:*"]).is_empty(), "the streams stand where they stood");
    assert!(origin.query::<Vec<String>>(&["KEYS", "rc:relay:*"]).is_empty(), "the relay logs stand with the node");
}

fn databases_of_one_server_are_two_as_well(binary: &Path) {
    let redis = RedisServer::start();
    let mut ordeal = Ordeal::begin_apart(binary, &redis.url_of_database(3), &redis.url());
    ordeal.publish(&redis, 200);
    ordeal.end(&redis);
}

fn the_redis_of_the_node_may_be_away(binary: &Path) {
    let (mut redis, origin) = (RedisServer::start(), RedisServer::start());
    let mut ordeal = Ordeal::begin_apart(binary, &redis.url(), &origin.url());
    ordeal.publish(&origin, 100);
    redis.pause();
    ordeal.publish(&origin, 100);
    lasts(LONG);
    redis.resume();
    ordeal.publish(&origin, 100);
    ordeal.end(&origin);
}

fn the_redis_of_the_sources_may_be_away(binary: &Path) {
    let (redis, mut origin) = (RedisServer::start(), RedisServer::start_with(&["--appendonly", "yes"]));
    let mut ordeal = Ordeal::begin_apart(binary, &redis.url(), &origin.url());
    ordeal.publish(&origin, 100);
    ordeal.wait_for_routed(&origin, 50);
    origin.stop();
    ordeal.expect_unready("source stream:file-events");
    origin.start_again();
    ordeal.publish(&origin, 100);
    origin.pause();
    lasts(LONG);
    origin.resume();
    ordeal.publish(&origin, 100);
    ordeal.end(&origin);
}

fn connections_to_both_may_break_again_and_again(binary: &Path) {
    let (redis, origin) = (RedisServer::start(), RedisServer::start());
    let proxies = [&redis, &origin].map(|server| Proxy::to(([127, 0, 0, 1], server.port()).into()));
    let [near, far] = proxies.each_ref().map(|proxy| format!("redis://{}", proxy.addr()));
    let mut ordeal = Ordeal::begin_apart(binary, &near, &far);
    for round in 1..=20 {
        ordeal.publish(&origin, 50);
        ordeal.wait_for_routed(&origin, round * 20);
        proxies[round % 2].cut();
    }
    ordeal.publish(&origin, 100);
    ordeal.end(&origin);
}

fn what_a_node_that_died_had_in_hand_arrives_once(binary: &Path) {
    let (redis, origin) = (RedisServer::start(), RedisServer::start());
    let mut ordeal = Ordeal::begin_apart(binary, &redis.url(), &origin.url());
    let doomed = Setup::new(binary).option("--redis", &redis.url()).option("--node", "doomed").config(&apart(&origin.url()));
    let mut doomed = doomed.start();
    for _ in 0..10 {
        ordeal.publish(&origin, 100);
        doomed.signal(Signal::SIGSTOP);
        ordeal.publish(&origin, 100);
        doomed.signal(Signal::SIGCONT);
    }
    doomed.kill();
    ordeal.end(&origin);
}

fn a_node_without_a_redis_of_its_own_refuses_such_a_source(binary: &Path) {
    let file = ConfigFile::new(&apart("redis://127.0.0.1:1"));
    let mut command = clean_command(binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--jwt-secret", "s", "--config", file.path()]);
    let output = command.output().expect("it runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("a source or a channel names a Redis of its own, so the node needs one too"), "{text}");
}
