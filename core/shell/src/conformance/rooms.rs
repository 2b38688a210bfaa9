//! A gateway and its rooms: what is published reaches the members, whole and in order.

use bytes::Bytes;
use http::{Request, StatusCode};
use roomcast_core::config::{AccessRule, AuthMode, Config, Limits, Relay, Route, Who};
use roomcast_core::message::{Json, Outgoing};
use serde_json::Value;

use super::client::Client;
use super::patience::{Job, PATIENCE, wait};
use super::server::Server;
use super::{Started, Subject, Surroundings};
use crate::gateway::{Gateway, Stored};
use crate::options::{Options, Store};
use crate::tls::Stream;
use crate::transport::Transport;

cases!("gateway":
    what_is_published_reaches_every_member_in_order,
    a_reader_that_does_not_read_is_closed_and_holds_up_nobody,
    the_handle_serves_threads_that_the_runtime_does_not_know,
    two_gateways_on_one_redis_share_their_rooms,
);

fn what_is_published_reaches_every_member_in_order<S: Subject>(subject: &S, _: &Surroundings) {
    const MEMBERS: usize = 50;
    const MESSAGES: usize = 1_000;
    let gateway = start(subject, config());
    let members: Vec<Client> = (0..MEMBERS).map(|_| Client::member(gateway.address, "/ws", "room")).collect();
    for number in 0..MESSAGES {
        publish(&gateway.gateway, "room", &number.to_string());
    }
    for mut member in members {
        for number in 0..MESSAGES {
            assert_eq!(member.data(), number);
        }
    }
    stop(gateway);
}

fn a_reader_that_does_not_read_is_closed_and_holds_up_nobody<S: Subject>(subject: &S, _: &Surroundings) {
    const MEMBERS: usize = 5;
    const MESSAGES: usize = 4_096;
    let limits = Limits { outbox_bytes: 1 << 20, ..config().limits };
    let gateway = start(subject, Config { limits, ..config() });
    let stuck = Client::member(gateway.address, "/ws", "room");
    stuck.leave_it_to_the_gateway();
    let mut others: Vec<Client> = (0..MEMBERS).map(|_| Client::member(gateway.address, "/ws", "room")).collect();
    let is_closed = || gateway.gateway.view().stats.slow > 0;
    let published = (0..MESSAGES)
        .take_while(|number| {
            publish(&gateway.gateway, "room", &long(*number));
            others.iter_mut().for_each(|other| assert_eq!(number_of(&other.data()), *number));
            !is_closed()
        })
        .count();
    assert!(is_closed(), "{MESSAGES} messages wait for a reader that does not read");

    let (messages, code) = stuck.into_end();
    assert_eq!(code, 4008);
    assert!(messages.len() <= published, "it was closed while messages waited for it");
    assert!(messages.iter().map(number_of).eq(0..messages.len()), "what it has got is in order");
    drop(others);
    stop(gateway);
}

fn the_handle_serves_threads_that_the_runtime_does_not_know<S: Subject>(subject: &S, _: &Surroundings) {
    const THREADS: usize = 4;
    const MESSAGES: usize = 300;
    let gateway = start(subject, config());
    let mut listener = Client::member(gateway.address, "/ws", "all");
    let threads: Vec<Job<()>> = (0..THREADS)
        .map(|thread| {
            let (handle, address) = (gateway.gateway.clone(), gateway.address);
            Job::start(move || {
                let room = format!("room:{thread}");
                let mut member = Client::member(address, "/ws", &room);
                for number in 0..MESSAGES {
                    publish(&handle, "all", &(thread * MESSAGES + number).to_string());
                    let stored = store(&handle, &room, &number.to_string());
                    assert_eq!(wait("the store's answer", stored), Ok(None));
                    assert_eq!(member.data(), number);
                    assert!(handle.view().stats.connections > 0);
                }
                let request = Request::get("/healthz").body(Bytes::new()).expect("a request");
                assert_eq!(wait("the answer to a request", handle.respond(request)).status(), StatusCode::OK);
            })
        })
        .collect();
    let mut next: Vec<usize> = (0..THREADS).map(|thread| thread * MESSAGES).collect();
    for _ in 0..THREADS * MESSAGES {
        let number = number_of(&listener.data());
        let thread = number / MESSAGES;
        assert_eq!(number, next[thread], "the next message of thread {thread}");
        next[thread] += 1;
    }
    threads.into_iter().for_each(|thread| thread.end("a thread that publishes"));
    drop(listener);
    stop(gateway);
}

fn two_gateways_on_one_redis_share_their_rooms<S: Subject>(subject: &S, surroundings: &Surroundings) {
    const MESSAGES: usize = 200;
    let server = Server::new(&surroundings.redis);
    let node = |name: &str| Config { node: name.into(), relay: Relay { prefix: server.key(""), ..Relay::default() }, ..config() };
    let redis = || Store::Redis(Box::new(surroundings.redis.clone().try_into().expect("a server without TLS")));
    let (one, two) = (start_with(subject, node("one"), redis()), start_with(subject, node("two"), redis()));
    let mut members = [&one, &two].map(|gateway| Client::member(gateway.address, "/ws", "room"));
    for number in 0..MESSAGES {
        publish(&one.gateway, "room", &number.to_string());
    }
    members.iter_mut().for_each(|member| (0..MESSAGES).for_each(|number| assert_eq!(member.data(), number)));
    publish(&two.gateway, "room", "\"back\"");
    members.iter_mut().for_each(|member| assert_eq!(member.data(), "back"));
    drop(members);
    // Each waits for Redis in a blocking read.
    stop(one);
    stop(two);
    server.wait_until_nobody_blocks();
}

/// A gateway in which anybody may do anything, and nothing is ever too much: `/ws` speaks JSON, `/echo` echoes.
pub(super) fn config() -> Config {
    const PLENTY: u32 = 1_000_000;
    Config {
        routes: vec![Route::json("/ws", AuthMode::Optional), Route::echo("/echo")],
        access: vec![AccessRule::new("*", Who::Anyone, Who::Anyone)],
        limits: Limits {
            message_bytes: 16 << 20,
            outbox_bytes: 64 << 20,
            outbox_messages: 100_000,
            messages_per_second: PLENTY,
            burst: PLENTY,
            close_timeout: PATIENCE,
            join_timeout: PATIENCE,
            ..Limits::default()
        },
        sources: Vec::new(),
        ..Config::default()
    }
}

/// Starts a gateway with two shards on a free port, and the embedded store.
pub(super) fn start<S: Subject>(subject: &S, config: Config) -> Started<Stream<S::Socket>> {
    start_with(subject, config, Store::Memory)
}

fn start_with<S: Subject>(subject: &S, config: Config, store: Store) -> Started<Stream<S::Socket>> {
    let listen = ([127, 0, 0, 1], 0).into();
    subject.start(Options { config, listen, store, shards: 2, ..Options::default() }).expect("a gateway can be started")
}

/// Stops a gateway.
pub(super) fn stop<T>(gateway: Started<T>) {
    Job::start(gateway.stop).end("the stop of a gateway");
}

/// Publishes a message with the data given, whatever becomes of it.
pub(super) fn publish<T: Transport>(gateway: &Gateway<T>, room: &str, data: &str) {
    drop(store(gateway, room, data));
}

/// The same, with what the store says of it.
fn store<T: Transport>(gateway: &Gateway<T>, room: &str, data: &str) -> Stored {
    let data = Json::parse(data).expect("the data is JSON");
    gateway.publish(room, &Outgoing { kind: "number", data, timestamp: None, message_id: None }).1
}

/// Data of 16 KiB, with a number.
pub(super) fn long(number: usize) -> String {
    format!("[{number},\"{}\"]", "x".repeat(16 << 10))
}

/// The number of a message.
pub(super) fn number_of(data: &Value) -> usize {
    let number = data.as_u64().or_else(|| data[0].as_u64());
    number.unwrap_or_else(|| panic!("no number: {data}")) as usize
}
