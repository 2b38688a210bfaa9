//! Workers: processes without clients that publish and listen through Redis, on both runtimes, as a host would run them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use roomcast_core::config::Config;
use roomcast_core::door::PublishError;
use roomcast_core::message::{Json, Outgoing};
use roomcast_shell::gateway::{Gateway, Stored};
use roomcast_shell::options::{Options, StartError, Store};
use roomcast_shell::subscription::{Item, Subscription};
use roomcast_shell::transport::Transport;
use roomcast_tests::real::client::JsonClient;
use roomcast_tests::real::gateway::{self, binary};
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::Setup;
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::{Value, json};
use smol::future::poll_once;
use smol::{Executor, Timer, block_on};

/// A worker that runs, on any runtime.
struct Worker<T> {
    gateway: Arc<Gateway<T>>,
    stop: Box<dyn FnOnce()>,
}

/// Makes a test of each function, once for each runtime.
macro_rules! worker_tests {
    ($($test:ident),+ $(,)?) => {
        mod runtime_tokio {
            $(#[test] fn $test() { super::$test(super::on_tokio); })+
        }
        mod runtime_smol {
            $(#[test] fn $test() { super::$test(super::on_smol); })+
        }
    };
}

worker_tests!(
    it_reaches_the_clients_of_all_gateways,
    what_it_publishes_while_redis_is_away_arrives_once_and_in_order,
    a_full_buffer_is_a_clear_error,
    a_ping_says_whether_redis_answers,
    it_hears_what_is_said_in_rooms_and_to_users,
    it_hears_channels_and_patterns_as_long_as_it_wants_to,
    a_gap_in_listening_is_told,
    one_that_stops_leaves_nothing_unsent,
    one_that_cannot_store_ends_by_the_deadline,
    a_handle_of_one_that_has_stopped_says_so,
);

fn on_tokio(options: Options) -> Worker<impl Transport> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio starts");
    let worker = runtime.block_on(roomcast_tokio::worker(options)).expect("the worker starts");
    Worker { gateway: worker.gateway.clone(), stop: Box::new(move || runtime.block_on(worker.stop())) }
}

fn on_smol(options: Options) -> Worker<impl Transport> {
    let executor = Arc::new(Executor::new());
    let worker = block_on(roomcast_smol::worker(&executor, options)).expect("the worker starts");
    let gateway = worker.gateway.clone();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let running = thread::spawn(move || {
        block_on(executor.run(async move {
            let _ = stopped.recv().await;
            worker.stop().await;
        }));
    });
    let stop = move || {
        drop(stop);
        running.join().expect("the worker stops in good order");
    };
    Worker { gateway, stop: Box::new(stop) }
}

fn it_reaches_the_clients_of_all_gateways<T: Transport>(start: fn(Options) -> Worker<T>) {
    let redis = RedisServer::start();
    let gateways = [node(&redis), node(&redis)];
    let mut clients: Vec<JsonClient> = gateways.iter().map(|gateway| gateway.member("7", "task:1")).collect();
    for client in &mut clients {
        client.subscribe("project:1");
    }
    let worker = start(options(&redis));
    let gateway = &worker.gateway;
    let (message_id, stored) = publish(gateway, "task:1", 1);
    assert_eq!(block_on(stored), Ok(None), "the room remembers nothing");
    let (_, stored) = gateway.send_project_message("1", "project", &2).expect("it is JSON");
    let position = block_on(stored).expect("it is stored").expect("the room remembers");
    drop(gateway.send_direct_message("7", "direct", &3).expect("it is JSON"));
    drop(gateway.broadcast("all", &4).expect("it is JSON"));
    for client in &mut clients {
        let note = client.expect_type("note");
        assert_eq!((&note["data"]["n"], &note["message_id"]), (&json!(1), &json!(message_id)));
        // Rooms of different relay logs have no common order.
        let mut others: Vec<Value> = (0..3).map(|_| client.next(PATIENCE)).collect();
        others.sort_by_key(|frame| frame["data"].as_u64());
        assert_eq!(others[0]["position"], position.to_string());
        let told: Vec<_> = others.iter().map(|frame| (&frame["type"], &frame["data"], &frame["room"])).collect();
        assert_eq!(json!(told), json!([("project", 2, "project:1"), ("direct", 3, "user:7"), ("all", 4, "*")]));
    }
    assert_eq!(redis.query::<usize>(&["ZCARD", "rc:nodes"]), gateways.len(), "it is no node that has clients");
    (worker.stop)();
}

fn what_it_publishes_while_redis_is_away_arrives_once_and_in_order<T: Transport>(start: fn(Options) -> Worker<T>) {
    let mut redis = RedisServer::start_with(&["--appendonly", "yes"]);
    let mut gateway = node(&redis);
    let (mut project, mut task) = (gateway.member("1", "project:1"), gateway.member("2", "task:1"));
    let worker = start(options(&redis));
    assert!(block_on(publish(&worker.gateway, "project:1", 0).1).is_ok());
    assert!(block_on(publish(&worker.gateway, "task:1", 0).1).is_ok());
    redis.stop();
    let waiting: Vec<Stored> =
        (1..=50).flat_map(|n| ["project:1", "task:1"].map(|room| publish(&worker.gateway, room, n).1)).collect();
    redis.start_again();
    for stored in waiting {
        assert!(block_on(stored).is_ok());
    }
    gateway.wait_ready(PATIENCE);
    for room in ["project:1", "task:1"] {
        assert!(block_on(publish(&worker.gateway, room, 51).1).is_ok());
    }
    for client in [&mut project, &mut task] {
        let numbers: Vec<Value> = (0..=51).map(|_| client.wait_for_type("note", PATIENCE)["data"]["n"].take()).collect();
        assert_eq!(numbers, (0..=51).map(Value::from).collect::<Vec<_>>());
    }
    (worker.stop)();
}

fn a_full_buffer_is_a_clear_error<T: Transport>(start: fn(Options) -> Worker<T>) {
    let mut redis = RedisServer::start();
    redis.stop();
    for (messages, bytes) in [(10, 1 << 20), (10_000, 10 * 1_000)] {
        let mut options = options(&redis);
        (options.config.relay.publishes_in_flight, options.config.relay.publish_bytes) = (messages, bytes);
        let worker = start(options);
        let data = |n| format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(800));
        let mut waiting: Vec<Stored> = (0..12).map(|n| send(&worker.gateway, "task:1", &data(n)).1).collect();
        for refused in waiting.split_off(10) {
            assert_eq!(block_on(refused), Err(PublishError::Full), "of at most {messages} messages and {bytes} bytes");
        }
        // The others wait for Redis.
        assert!(waiting.iter_mut().all(|stored| block_on(poll_once(stored)).is_none()));
        assert_eq!(PublishError::Full.to_string(), "Too many messages wait for the store; this one was not taken");
        redis.start_again();
        for stored in waiting {
            assert_eq!(block_on(stored), Ok(None));
        }
        assert_eq!(block_on(publish(&worker.gateway, "task:1", 13).1), Ok(None), "there is room again");
        (worker.stop)();
        redis.stop();
    }
}

fn a_ping_says_whether_redis_answers<T: Transport>(start: fn(Options) -> Worker<T>) {
    let mut redis = RedisServer::start();
    let worker = start(options(&redis));
    let took = block_on(worker.gateway.ping()).expect("it answers");
    assert!(took < PATIENCE);
    redis.stop();
    let error = block_on(worker.gateway.ping()).expect_err("nobody answers");
    assert!(error.to_string().starts_with("disconnected: "), "{error}");
    redis.start_again();
    let answered = poll_until(PATIENCE, || block_on(worker.gateway.ping()).ok());
    assert!(answered.is_some());
    (worker.stop)();
}

fn it_hears_what_is_said_in_rooms_and_to_users<T: Transport>(start: fn(Options) -> Worker<T>) {
    let redis = RedisServer::start();
    let gateway = node(&redis);
    let worker = start(options(&redis));
    let mut subscriptions =
        [worker.gateway.subscribe("task:1"), worker.gateway.subscribe("project:1"), worker.gateway.subscribe_user("7")];
    for subscription in &mut subscriptions {
        assert!(block_on(subscription.ready()));
    }
    for n in 0..3 {
        for room in ["task:1", "project:1", "user:7"] {
            gateway.publish(room, "note", &json!({"n": n}));
        }
    }
    for (subscription, room) in subscriptions.iter_mut().zip(["task:1", "project:1", "user:7"]) {
        for n in 0..3 {
            let message = message(subscription);
            let envelope: Value = serde_json::from_slice(&message.payload).expect("it is an envelope");
            assert_eq!((&envelope["data"]["n"], &envelope["room"], &*message.name), (&json!(n), &json!(room), room));
            assert_eq!(message.position.map(|position| position.offset), (room != "task:1").then_some(n + 1));
        }
    }
    // The inbox is there for its user.
    let mut user = gateway.client("7");
    for n in 0..3 {
        assert_eq!(user.expect_type("note")["data"]["n"], n);
    }
    (worker.stop)();
    assert_eq!(block_on(subscriptions[0].next()), None, "it has ended");
}

fn it_hears_channels_and_patterns_as_long_as_it_wants_to<T: Transport>(start: fn(Options) -> Worker<T>) {
    let redis = RedisServer::start();
    let worker = start(options(&redis));
    let mut exact = worker.gateway.subscribe_channel("news:1");
    let mut again = worker.gateway.subscribe_channel("news:1");
    let mut all = worker.gateway.subscribe_pattern("news:*");
    for subscription in [&mut exact, &mut again, &mut all] {
        assert!(block_on(subscription.ready()));
    }
    assert_eq!(redis.query::<u64>(&["PUBLISH", "news:1", "one"]), 2, "two subscriptions to one channel are one");
    assert_eq!(redis.query::<u64>(&["PUBLISH", "news:2", "two"]), 1);
    for (subscription, expected) in [
        (&mut exact, &[("news:1", "one")][..]),
        (&mut again, &[("news:1", "one")]),
        (&mut all, &[("news:1", "one"), ("news:2", "two")]),
    ] {
        for (name, payload) in expected {
            let message = message(subscription);
            assert_eq!((&*message.name, &message.payload[..], message.position), (*name, payload.as_bytes(), None));
        }
    }
    drop(exact);
    assert_eq!(redis.query::<u64>(&["PUBLISH", "news:1", "three"]), 2);
    assert_eq!(message(&mut again).payload, "three");
    drop(again);
    let left = poll_until(PATIENCE, || (redis.query::<u64>(&["PUBLISH", "news:1", "nobody"]) == 1).then_some(()));
    assert!(left.is_some(), "the last one out ends the subscription");
    (worker.stop)();
}

fn a_gap_in_listening_is_told<T: Transport>(start: fn(Options) -> Worker<T>) {
    let redis = RedisServer::start();
    let mut options = options(&redis);
    // What is stored in the millisecond of the flush is noticed by the check.
    options.config.relay.check = Duration::from_millis(800);
    let worker = start(options);
    let mut news = worker.gateway.subscribe_channel("news");
    assert!(block_on(news.ready()));
    redis.command(&["PUBLISH", "news", "before"]);
    assert_eq!(message(&mut news).payload, "before");
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(next(&mut news), Some(Item::Lost));
    redis.command(&["PUBLISH", "news", "after"]);
    assert_eq!(message(&mut news).payload, "after");

    let mut room = worker.gateway.subscribe("project:1");
    assert!(block_on(room.ready()));
    assert!(block_on(publish(&worker.gateway, "project:1", 1).1).is_ok());
    message(&mut room);
    redis.command(&["FLUSHALL"]);
    assert!(block_on(publish(&worker.gateway, "project:1", 2).1).is_ok());
    assert_eq!(next(&mut room), Some(Item::Lost), "the room has another history");
    (worker.stop)();
}

fn one_that_stops_leaves_nothing_unsent<T: Transport>(start: fn(Options) -> Worker<T>) {
    const MESSAGES: u64 = 2_000;
    let redis = RedisServer::start();
    let gateway = node(&redis);
    let mut client = gateway.member("1", "task:1");
    let worker = start(options(&redis));
    for n in 0..MESSAGES {
        drop(publish(&worker.gateway, "task:1", n));
    }
    (worker.stop)();
    for n in 0..MESSAGES {
        assert_eq!(client.expect_type("note")["data"]["n"], n);
    }
}

fn one_that_cannot_store_ends_by_the_deadline<T: Transport>(start: fn(Options) -> Worker<T>) {
    let mut redis = RedisServer::start();
    redis.stop();
    let mut options = options(&redis);
    options.config.drain.deadline = Duration::from_millis(600);
    let worker = start(options);
    let (_, stored) = publish(&worker.gateway, "task:1", 1);
    let begin = Instant::now();
    (worker.stop)();
    assert!((Duration::from_millis(550)..PATIENCE).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(block_on(stored), Err(PublishError::Unavailable));
}

fn a_handle_of_one_that_has_stopped_says_so<T: Transport>(start: fn(Options) -> Worker<T>) {
    let redis = RedisServer::start();
    let Worker { gateway, stop } = start(options(&redis));
    let mut early = gateway.subscribe("task:1");
    stop();
    assert_eq!(block_on(publish(&gateway, "task:1", 1).1), Err(PublishError::Unavailable));
    assert!(block_on(gateway.ping()).is_err());
    assert_eq!(block_on(early.next()), None);
    let mut late = gateway.subscribe("task:1");
    assert!(!block_on(late.ready()));
    assert_eq!(block_on(late.next()), None);
}

#[test]
fn a_worker_without_redis_does_not_start() {
    let executor = Executor::new();
    let error = block_on(roomcast_smol::worker(&executor, Options::default())).expect_err("it could reach nobody");
    assert!(matches!(error, StartError::NoRedis));
    assert_eq!(error.to_string(), "a worker reaches others through Redis, and has none");
}

#[test]
fn a_gateway_listens_too_beside_its_clients() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio starts");
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() };
    let running = runtime.block_on(roomcast_tokio::start(options)).expect("the gateway starts");
    let mut room = running.gateway.subscribe("task:1");
    assert!(block_on(room.ready()));
    assert_eq!(block_on(publish(&running.gateway, "task:1", 1).1), Ok(None));
    let envelope: Value = serde_json::from_slice(&message(&mut room).payload).expect("it is an envelope");
    assert_eq!(envelope["data"]["n"], 1);
    runtime.block_on(running.stop());
    assert_eq!(block_on(room.next()), None);
}

/// A gateway of the usual configuration.
fn node(redis: &RedisServer) -> gateway::Gateway {
    Setup::new(&binary("roomcast")).option("--redis", &redis.url()).start()
}

fn options(redis: &RedisServer) -> Options {
    let store = Store::Redis(Box::new(redis.url().parse().expect("it is a URL")));
    Options { config: Config::default(), store, ..Options::default() }
}

fn publish<T: Transport>(gateway: &Gateway<T>, room: &str, n: u64) -> (Box<str>, Stored) {
    send(gateway, room, &format!(r#"{{"n":{n}}}"#))
}

fn send<T: Transport>(gateway: &Gateway<T>, room: &str, data: &str) -> (Box<str>, Stored) {
    let data = Json::parse(data).expect("it is JSON");
    gateway.publish(room, &Outgoing { kind: "note", data, timestamp: None, message_id: None })
}

/// The next item, which comes in time.
fn next(subscription: &mut Subscription) -> Option<Item> {
    block_on(smol::future::or(subscription.next(), async {
        Timer::after(PATIENCE).await;
        panic!("nothing comes")
    }))
}

fn message(subscription: &mut Subscription) -> roomcast_shell::subscription::Message {
    match next(subscription) {
        Some(Item::Message(message)) => message,
        other => panic!("not a message: {other:?}"),
    }
}
