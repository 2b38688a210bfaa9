//! Redis behind sentinels: a fail-over under load is noticed and healed, and what it loses is told.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{JsonClient, access_token};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::try_http;
use roomcast_tests::real::ordeal::lasts;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::sentinel::Watched;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::traffic::{EVENTS, ROOM, number, receive, sources};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::json;

const NOTES: &str = "project:1";

/// Both rooms have a history, and are soon checked.
const CONFIG: &str = r#"
[relay]
check = "400ms"
[[rooms]]
rooms = "*"
keep.history = { size = 100000, ttl = "1h" }
"#;

gateway_tests!(
    a_primary_that_is_killed_under_load_is_replaced_and_nobody_is_deceived,
    a_primary_that_freezes_under_load_is_left_as_soon_as_it_is_replaced,
    a_fail_over_in_good_order_under_load_deceives_nobody,
    a_gateway_that_is_started_while_the_primary_is_away_becomes_ready_with_the_next,
    one_sentinel_is_enough,
);

fn a_primary_that_is_killed_under_load_is_replaced_and_nobody_is_deceived(binary: &Path) {
    let mut redis = Watched::start();
    let mut ordeal = Ordeal::begin(binary, &redis);
    let (notes, events) = under_load(&mut ordeal.nodes, redis.ports(), |nodes| {
        redis.primary().kill();
        let begin = Instant::now();
        nodes.iter_mut().for_each(wait_unready);
        let noticed = begin.elapsed();
        redis.wait_for_fail_over();
        let replaced = begin.elapsed();
        nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
        println!("noticed after {noticed:?}, replaced after {replaced:?}, ready after {:?}", begin.elapsed());
    });
    ordeal.end(&mut redis, notes, events);
}

/// Its connections stay open, and nobody answers on them: without the sentinels' word the nodes would wait for their deadlines.
fn a_primary_that_freezes_under_load_is_left_as_soon_as_it_is_replaced(binary: &Path) {
    let mut redis = Watched::start();
    let mut ordeal = Ordeal::begin(binary, &redis);
    let (notes, events) = under_load(&mut ordeal.nodes, redis.ports(), |nodes| {
        let begin = Instant::now();
        redis.primary().pause();
        redis.wait_for_fail_over();
        let replaced = begin.elapsed();
        wait_for_readers(redis.primary());
        nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
        println!("replaced after {replaced:?}, ready after {:?}", begin.elapsed());
        // It does not know yet that it is the primary no more.
        redis.replica().resume();
    });
    ordeal.end(&mut redis, notes, events);
}

/// The old primary goes on for ten seconds as if nothing had happened: sentinels are in no hurry to tell it.
fn a_fail_over_in_good_order_under_load_deceives_nobody(binary: &Path) {
    let mut redis = Watched::start();
    let mut ordeal = Ordeal::begin(binary, &redis);
    let (notes, events) = under_load(&mut ordeal.nodes, redis.ports(), |nodes| {
        let begin = Instant::now();
        redis.fail_over();
        let replaced = begin.elapsed();
        wait_for_readers(redis.primary());
        let left = begin.elapsed();
        assert!(redis.replica().query::<String>(&["INFO", "replication"]).contains("role:master"), "it has not been told yet");
        nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
        println!("replaced after {replaced:?}, left after {left:?}, ready after {:?}", begin.elapsed());
    });
    ordeal.end(&mut redis, notes, events);
}

fn a_gateway_that_is_started_while_the_primary_is_away_becomes_ready_with_the_next(binary: &Path) {
    let mut redis = Watched::start();
    redis.primary().kill();
    let mut node = setup(binary, &redis, "a").launch();
    wait_unready(&mut node);
    redis.wait_for_fail_over();
    node.wait_ready(PATIENCE);
    let mut client = node.member("alice", NOTES);
    node.publish(NOTES, "note", &json!(1));
    client.expect_type("note");
}

fn one_sentinel_is_enough(binary: &Path) {
    let mut redis = Watched::start();
    // One that refuses connections, and one that takes them and says nothing.
    redis.sentinels[0].kill();
    redis.sentinels[1].pause();
    // The sources, too, find their Redis by them.
    let own = format!("[[sources]]\nredis = \"{}\"\n", redis.url());
    let config = config().replace("[[sources]]\n", &own);
    let node = Setup::new(binary).option("--redis", &redis.url()).config(&config).start();
    let mut client = node.member("alice", NOTES);
    node.publish(NOTES, "note", &json!(1));
    client.expect_type("note");
    client.subscribe(ROOM);
    EVENTS.publish(redis.primary(), 0..1);
    assert_eq!(receive(&mut client, 1), [0]);
}

/// Two nodes, with a client of each in both rooms.
struct Ordeal {
    nodes: [Gateway; 2],
    clients: [JsonClient; 2],
}

impl Ordeal {
    fn begin(binary: &Path, redis: &Watched) -> Self {
        let nodes = ["a", "b"].map(|name| setup(binary, redis, name).start());
        let clients = nodes.each_ref().map(|node| {
            let mut client = node.member("alice", NOTES);
            client.subscribe(ROOM);
            client
        });
        Self { nodes, clients }
    }

    /// So many notes and events have been confirmed. After what is published now each client has had all of them, each once
    /// and in one order for both, or it was told that something is lost.
    fn end(mut self, redis: &mut Watched, notes: usize, events: usize) {
        const MORE: usize = 20;
        let [one, other] = &self.nodes;
        (notes..notes + MORE).for_each(|number| assert!(note(one.addr(), number), "the store is back"));
        EVENTS.publish(redis.primary(), events..events + MORE);
        EVENTS.wait_for_nothing_pending(redis.primary());
        [NOTES, ROOM].iter().for_each(|room| other.publish(room, "end", &json!(null)));
        let seen = self.clients.each_mut().map(Seen::read);
        for (of_one, of_other, published) in [(&seen[0].notes, &seen[1].notes, notes), (&seen[0].events, &seen[1].events, events)]
        {
            for InRoom { numbers, told } in [of_one, of_other] {
                let distinct: BTreeSet<usize> = numbers.iter().copied().collect();
                let (missing, repeated) = (published + MORE - distinct.len(), numbers.len() - distinct.len());
                println!("{published} confirmed, {missing} missing, {repeated} repeated, told of a loss {told} times");
                assert!(*told > 0 || missing + repeated == 0, "not a word of it");
                let last = numbers.iter().filter(|number| **number >= published).count();
                assert_eq!(last, MORE, "when all is well again each comes once");
            }
            if of_one.told + of_other.told == 0 {
                assert_eq!(of_one.numbers, of_other.numbers, "both clients see one order");
            }
        }
    }
}

/// What a client was sent in the two rooms.
struct Seen {
    notes: InRoom,
    events: InRoom,
}

#[derive(Default)]
struct InRoom {
    numbers: Vec<usize>,
    /// How often the client was told that messages may be missing.
    told: usize,
}

impl Seen {
    /// Reads to the end of both rooms.
    fn read(client: &mut JsonClient) -> Self {
        let mut seen = Self { notes: InRoom::default(), events: InRoom::default() };
        let mut ends = 0;
        while ends < 2 {
            let frame = client.next(PATIENCE);
            match frame["type"].as_str() {
                Some("note") => seen.notes.numbers.extend(frame["data"].as_u64().map(|number| number as usize)),
                Some("file.changed") => seen.events.numbers.push(number(&frame)),
                Some("subscribed") => {
                    assert_eq!(frame["data"]["recovered"], false, "{frame}");
                    let room = if frame["data"]["room"] == NOTES { &mut seen.notes } else { &mut seen.events };
                    room.told += 1;
                }
                Some("end") => ends += 1,
                _ => panic!("nothing else is to come: {frame}"),
            }
        }
        seen
    }
}

/// Publishes notes by both nodes, and events, from before to after some trouble. Returns how many of each were confirmed.
fn under_load(nodes: &mut [Gateway; 2], ports: [u16; 2], trouble: impl FnOnce(&mut [Gateway; 2])) -> (usize, usize) {
    const BEFORE: usize = 100;
    let addresses = nodes.each_ref().map(|node| node.addr());
    let (is_under_way, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let count = |mut publish: Box<dyn FnMut(usize) -> bool>| {
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            assert!(poll_until(2 * PATIENCE, || publish(number).then_some(())).is_some(), "number {number} is never confirmed");
            number += 1;
            is_under_way.fetch_max(usize::from(number > BEFORE), Ordering::Relaxed);
            // The pace of a publisher.
            lasts(Duration::from_millis(2));
        }
        number
    };
    thread::scope(|scope| {
        let notes = scope.spawn(|| count(Box::new(|number| note(addresses[number % 2], number))));
        let events = scope.spawn(|| {
            let mut publisher = Publisher::new(ports);
            count(Box::new(move |number| publisher.publish(number)))
        });
        let begun = poll_until(PATIENCE, || (is_under_way.load(Ordering::Relaxed) == 1).then_some(()));
        assert!(begun.is_some(), "the publishers do not get on");
        trouble(nodes);
        is_over.store(true, Ordering::Relaxed);
        (notes.join().expect("the notes are published"), events.join().expect("the events are published"))
    })
}

/// Publishes a note under its own identifier; whether that is confirmed.
fn note(node: SocketAddr, number: usize) -> bool {
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
    let body = json!({"room": NOTES, "type": "note", "data": number, "message_id": format!("note-{number}")});
    let answer = try_http("POST", node, "/api/publish", &[("authorization", &bearer)], body.to_string().as_bytes());
    answer.is_ok_and(|answer| answer.status == 200)
}

/// A publisher of events who is sure that what is confirmed outlives the fail-over.
struct Publisher {
    /// The server that is the primary at first, and the one that will be.
    clients: [redis::Client; 2],
    connections: [Option<redis::Connection>; 2],
    /// The identifier of the first entry, in milliseconds.
    first: usize,
}

impl Publisher {
    fn new(ports: [u16; 2]) -> Self {
        let clients = ports.map(|port| redis::Client::open(("127.0.0.1", port)).expect("an address"));
        let mut connection = clients[0].get_connection().expect("the primary is there");
        let (seconds, _): (usize, usize) = redis::cmd("TIME").query(&mut connection).expect("it has a clock");
        Self { clients, connections: [Some(connection), None], first: seconds * 1000 }
    }

    /// Whether it is there, once, and stays.
    fn publish(&mut self, number: usize) -> bool {
        // What the second one takes, it takes as the primary that it will be to the end.
        self.add(1, number) || (self.add(0, number) && self.is_copied())
    }

    fn add(&mut self, server: usize, number: usize) -> bool {
        let (name, value) = (EVENTS.entry)(number);
        // The second time that it is tried, the identifier is too small.
        let id = format!("{}-1", self.first + number);
        let added: Option<redis::RedisResult<String>> = self.ask(server, &["XADD", EVENTS.stream, &id, name, &value]);
        match added {
            Some(Ok(_)) => true,
            Some(Err(refusal)) => refusal.to_string().contains("equal or smaller"),
            None => false,
        }
    }

    fn is_copied(&mut self) -> bool {
        matches!(self.ask::<usize>(0, &["WAIT", "1", "200"]), Some(Ok(1..)))
    }

    /// Asks a server; nothing if it is away.
    fn ask<T: redis::FromRedisValue>(&mut self, server: usize, words: &[&str]) -> Option<redis::RedisResult<T>> {
        let mut connection = match self.connections[server].take() {
            Some(connection) => connection,
            None => self.clients[server].get_connection_with_timeout(PATIENCE).ok()?,
        };
        // A frozen server says nothing.
        connection.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let answer = redis::cmd(words[0]).arg(&words[1..]).query(&mut connection);
        if answer.as_ref().err().is_some_and(|error| error.code().is_none()) {
            return None;
        }
        self.connections[server] = Some(connection);
        Some(answer)
    }
}

/// Waits until both nodes read both sources and their relay logs here.
fn wait_for_readers(server: &RedisServer) {
    let readers =
        || server.try_query::<String>(&["INFO", "clients"]).is_ok_and(|clients| clients.contains("blocked_clients:6\r"));
    assert!(poll_until(PATIENCE, || readers().then_some(())).is_some(), "not all of the nodes' lanes have come");
}

/// Waits until a node is unready for the store's sake, and says so.
fn wait_unready(node: &mut Gateway) {
    let told =
        poll_until(PATIENCE, || node.wait_unready(PATIENCE).text().contains("no sentinel leads to the master").then_some(()));
    assert!(told.is_some(), "the reason is not told: {}", node.wait_unready(PATIENCE).text());
}

fn setup(binary: &Path, redis: &Watched, name: &str) -> Setup {
    Setup::new(binary).option("--redis", &redis.url()).option("--node", name).config(&config())
}

fn config() -> String {
    format!("{CONFIG}{}", sources("500ms", "2s"))
}
