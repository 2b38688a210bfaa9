//! A Redis Cluster: two gateways do on it what they do on one server, while slots move and a primary is replaced.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::{Credential, JsonClient, access_token};
use roomcast_tests::real::cluster::Cluster;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::http::try_http;
use roomcast_tests::real::ordeal::lasts;
use roomcast_tests::real::setup::{SECRET, Setup};
use roomcast_tests::real::traffic::{COMMANDS, EVENTS, ROOM, ROUTED, Source, number, receive, sources};
use roomcast_tests::real::{PATIENCE, poll_until};
use serde_json::json;

const NOTES: &str = "project:1";

/// Every room has a history, and is soon checked.
const CONFIG: &str = r#"
[relay]
check = "400ms"
[[rooms]]
rooms = "*"
keep.history = { size = 100000, ttl = "1h" }
"#;

gateway_tests!(
    events_and_commands_come_to_their_ends_once,
    rooms_are_one_on_both_nodes,
    what_else_nodes_share_they_share_across_slots,
    slots_move_under_load_and_nothing_is_lost,
    a_primary_that_is_killed_under_load_is_replaced_and_nobody_is_deceived,
);

fn events_and_commands_come_to_their_ends_once(binary: &Path) {
    const COUNT: usize = 50;
    let cluster = Cluster::start();
    let nodes = start(binary, &cluster);
    let mut clients = nodes.each_ref().map(|node| node.member("alice", ROOM));
    for number in 0..COUNT {
        add(&cluster, &EVENTS, number);
        add(&cluster, &COMMANDS, number);
    }
    cluster.query::<String>(&["XADD", COMMANDS.stream, "*", "payload", "nonsense"]);
    for client in &mut clients {
        assert_eq!(receive(client, COUNT), (0..COUNT).collect::<Vec<_>>());
    }
    let lengths = || [ROUTED, COMMANDS.dead_letters].map(|stream| cluster.query::<usize>(&["XLEN", stream]));
    assert_eq!(poll_until(PATIENCE, || (lengths() == [COUNT, 1]).then_some(())), Some(()), "{:?}", lengths());
    [EVENTS, COMMANDS].iter().for_each(|source| wait_for_nothing_pending(&cluster, source));
    assert_eq!(lengths(), [COUNT, 1]);
    for node in &nodes {
        assert!(poll_until(PATIENCE, || (node.metric("roomcast_relay_latency_microseconds") > 0).then_some(())).is_some());
    }
}

fn rooms_are_one_on_both_nodes(binary: &Path) {
    let cluster = Cluster::start();
    let [one, other] = start(binary, &cluster);
    let mut client = one.member("alice", NOTES);
    one.publish(NOTES, "note", &json!(1));
    other.publish(NOTES, "note", &json!(2));
    let notes = [client.expect_type("note"), client.expect_type("note")];
    assert_eq!(notes.each_ref().map(|note| note["data"].clone()), [json!(1), json!(2)]);
    // What it missed it is given by the other node.
    client.close();
    one.publish(NOTES, "note", &json!(3));
    let mut client = other.client("alice");
    client.send(&json!({"type": "subscribe", "room": NOTES, "recover": notes[1]["position"]}));
    assert_eq!(client.wait_for_type("note", PATIENCE)["data"], 3);
}

fn what_else_nodes_share_they_share_across_slots(binary: &Path) {
    const SHARED: &str = r#"
[[rooms]]
rooms = "project:*"
keep.history = {}
presence = true
[[rooms]]
rooms = "user:*"
keep.inbox = {}
[[rooms]]
rooms = "job:*"
keep.stream = {}
[[routes]]
path = "/ws"
[[routes]]
path = "/ws/jobs/{id}"
room = "job:{id}"
[[routes]]
path = "/ws/connect"
restore = "60s"
"#;
    let cluster = Cluster::start();
    let start = |name| Setup::new(binary).option("--redis", &cluster.url()).option("--node", name).config(SHARED).start();
    let [one, other] = ["a", "b"].map(start);
    let connect = |node: &Gateway, path: &str, user: &str| {
        let token = access_token(SECRET, user, &json!({}));
        let mut client = JsonClient::connect(node.addr(), path, Credential::Query(&token));
        client.expect_type("auth_success");
        client
    };
    // The rooms of a connection, who is there, and what waits for a user.
    let mut alice = connect(&one, "/ws/connect", "alice");
    alice.subscribe(NOTES);
    let bob = other.member("bob", NOTES);
    assert_eq!(alice.expect_type("user_joined")["data"]["user_id"], "bob");
    bob.close();
    alice.expect_type("user_left");
    (0..3).for_each(|number| {
        assert_eq!(one.post(&json!({"user_id": "bob", "type": "note", "data": number})).status, 200);
    });
    let mut bob = other.client("bob");
    (0..3).for_each(|number| assert_eq!(bob.expect_type("note")["data"], number));
    alice.close();
    let mut alice = connect(&other, "/ws/connect", "alice");
    assert_eq!(alice.expect_type("subscribed")["data"]["room"], NOTES);
    // Channels of publishers are heard on whichever node they speak.
    for number in 0..3 {
        let said = json!({"type": "said", "room": NOTES, "data": number, "message_id": format!("said-{number}")});
        cluster.query::<usize>(&["PUBLISH", "websocket:broadcast", &said.to_string()]);
        assert_eq!(alice.expect_type("said")["data"], number);
    }
    // Streams of publishers, of more slots than one.
    let jobs = [1, 2, 3, 4].map(|job| (format!("job:updates:{job}"), connect(&one, &format!("/ws/jobs/{job}"), "carol")));
    for (key, mut client) in jobs {
        for number in 0..3 {
            let update = json!({"timestamp": "2025-07-14T15:54:56.123456", "type": "progress", "data": {"n": number}});
            cluster.query::<String>(&["XADD", &key, "*", "message", &update.to_string()]);
        }
        (0..3).for_each(|number| assert_eq!(client.expect_type("progress")["data"]["n"], number));
    }
}

fn slots_move_under_load_and_nothing_is_lost(binary: &Path) {
    let mut cluster = Cluster::start();
    let mut ordeal = Ordeal::begin(binary, &cluster);
    let published = under_load(&mut ordeal.nodes, &mut cluster, |cluster, _| {
        let begin = Instant::now();
        let logs = (0..16).map(|partition| format!("rc:relay:{{{partition}}}"));
        let keys: Vec<String> = logs.chain([EVENTS.stream, EVENTS.stream].map(str::to_owned)).collect();
        for key in &keys {
            let slot = cluster.slot(key);
            let from = cluster.owner(slot);
            cluster.move_slot(slot, from, (from + 1) % 3);
            assert_eq!(cluster.owner(slot), (from + 1) % 3);
        }
        println!("{} slots moved in {:?}", keys.len(), begin.elapsed());
    });
    assert_eq!(ordeal.end(&cluster, published), 0, "moving loses nothing");
}

fn a_primary_that_is_killed_under_load_is_replaced_and_nobody_is_deceived(binary: &Path) {
    let mut cluster = Cluster::start();
    let mut ordeal = Ordeal::begin(binary, &cluster);
    let published = under_load(&mut ordeal.nodes, &mut cluster, |cluster, nodes| {
        let victim = cluster.owner(cluster.slot(EVENTS.stream));
        let begin = Instant::now();
        cluster.node(victim).kill();
        let why = nodes.iter_mut().map(|node| node.wait_unready(PATIENCE).text()).collect::<Vec<_>>();
        let noticed = begin.elapsed();
        cluster.wait_for_primary(victim + 3);
        let replaced = begin.elapsed();
        nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
        println!("noticed after {noticed:?}, replaced after {replaced:?}, ready after {:?}: {}", begin.elapsed(), why[0]);
    });
    let told = ordeal.end(&cluster, published);
    println!("clients were told of a loss {told} times");
}

/// How many notes and events were confirmed.
type Published = [usize; 2];

/// Two nodes, with a client of each in both rooms.
struct Ordeal {
    nodes: [Gateway; 2],
    clients: [JsonClient; 2],
}

impl Ordeal {
    fn begin(binary: &Path, cluster: &Cluster) -> Self {
        let nodes = start(binary, cluster);
        let clients = nodes.each_ref().map(|node| {
            let mut client = node.member("alice", NOTES);
            client.subscribe(ROOM);
            client
        });
        Self { nodes, clients }
    }

    /// After what is published now each client has had all that was confirmed, each once and in one order for both, or it was
    /// told that something is lost. Returns how often it was.
    fn end(mut self, cluster: &Cluster, [notes, events]: Published) -> usize {
        const MORE: usize = 20;
        let [one, other] = &self.nodes;
        for number in notes..notes + MORE {
            assert!(poll_until(PATIENCE, || note(one.addr(), number).then_some(())).is_some(), "the store is back");
        }
        (events..events + MORE).for_each(|number| add(cluster, &EVENTS, number));
        wait_for_nothing_pending(cluster, &EVENTS);
        [NOTES, ROOM].iter().for_each(|room| other.publish(room, "end", &json!(null)));
        let seen = self.clients.each_mut().map(Seen::read);
        for (room, published) in [(0, notes), (1, events)] {
            for Seen { numbers, told } in &seen {
                let distinct: BTreeSet<usize> = numbers[room].iter().copied().collect();
                let (missing, repeated) = (published + MORE - distinct.len(), numbers[room].len() - distinct.len());
                println!("{published} confirmed, {missing} missing, {repeated} repeated, told of a loss {} times", told[room]);
                assert!(told[room] > 0 || missing + repeated == 0, "not a word of it");
                let last = numbers[room].iter().filter(|number| **number >= published).count();
                assert_eq!(last, MORE, "when all is well again each comes once");
            }
            if seen.iter().all(|seen| seen.told[room] == 0) {
                assert_eq!(seen[0].numbers[room], seen[1].numbers[room], "both clients see one order");
            }
        }
        seen.iter().flat_map(|seen| seen.told).sum()
    }
}

/// What a client was sent in the two rooms, and how often it was told that messages may be missing.
#[derive(Default)]
struct Seen {
    numbers: [Vec<usize>; 2],
    told: [usize; 2],
}

impl Seen {
    /// Reads to the end of both rooms.
    fn read(client: &mut JsonClient) -> Self {
        let mut seen = Self::default();
        let mut ends = 0;
        while ends < 2 {
            let frame = client.next(PATIENCE);
            match frame["type"].as_str() {
                Some("note") => seen.numbers[0].extend(frame["data"].as_u64().map(|number| number as usize)),
                Some("file.changed") => seen.numbers[1].push(number(&frame)),
                Some("subscribed") => {
                    assert_eq!(frame["data"]["recovered"], false, "{frame}");
                    seen.told[usize::from(frame["data"]["room"] != NOTES)] += 1;
                }
                Some("end") => ends += 1,
                _ => panic!("nothing else is to come: {frame}"),
            }
        }
        seen
    }
}

/// Publishes notes by both nodes, and events, from before to after some trouble.
fn under_load(
    nodes: &mut [Gateway; 2],
    cluster: &mut Cluster,
    trouble: impl FnOnce(&mut Cluster, &mut [Gateway; 2]),
) -> Published {
    const BEFORE: usize = 100;
    let addresses = nodes.each_ref().map(|node| node.addr());
    let mut publisher = Publisher::new(cluster);
    let (is_under_way, is_over) = ([const { AtomicUsize::new(0) }; 2], AtomicBool::new(false));
    let count = |which: usize, mut publish: Box<dyn FnMut(usize) -> bool>| {
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            assert!(poll_until(2 * PATIENCE, || publish(number).then_some(())).is_some(), "number {number} is never confirmed");
            number += 1;
            is_under_way[which].store(number, Ordering::Relaxed);
            // The pace of a publisher.
            lasts(Duration::from_millis(2));
        }
        number
    };
    thread::scope(|scope| {
        let notes = scope.spawn(|| count(0, Box::new(|number| note(addresses[number % 2], number))));
        let events = scope.spawn(|| count(1, Box::new(move |number| publisher.publish(number))));
        let are_under_way = || is_under_way.iter().all(|number| number.load(Ordering::Relaxed) > BEFORE);
        assert!(poll_until(PATIENCE, || are_under_way().then_some(())).is_some(), "the publishers do not get on");
        trouble(cluster, nodes);
        is_over.store(true, Ordering::Relaxed);
        [notes.join().expect("the notes are published"), events.join().expect("the events are published")]
    })
}

/// Publishes a note under its own identifier; whether that is confirmed.
fn note(node: SocketAddr, number: usize) -> bool {
    let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
    let body = json!({"room": NOTES, "type": "note", "data": number, "message_id": format!("note-{number}")});
    let answer = try_http("POST", node, "/api/publish", &[("authorization", &bearer)], body.to_string().as_bytes());
    answer.is_ok_and(|answer| answer.status == 200)
}

/// A publisher of events who follows the cluster, and is sure that what is confirmed outlives a fail-over.
struct Publisher {
    ports: Vec<u16>,
    /// The node that is asked, by its index, and the connection to it.
    at: usize,
    connection: Option<redis::Connection>,
    /// The identifier of the first entry, in milliseconds.
    first: usize,
}

impl Publisher {
    fn new(cluster: &mut Cluster) -> Self {
        let ports = (0..6).map(|number| cluster.node(number).port()).collect();
        let (seconds, _): (usize, usize) = cluster.node(0).query(&["TIME"]);
        Self { ports, at: 0, connection: None, first: seconds * 1000 }
    }

    /// Whether it is there, once, and stays.
    fn publish(&mut self, number: usize) -> bool {
        let (name, value) = (EVENTS.entry)(number);
        // The second time that it is tried, the identifier is too small.
        let id = format!("{}-1", self.first + number);
        let is_added = match self.ask::<String>(&["XADD", EVENTS.stream, &id, name, &value]) {
            Some(Ok(_)) => true,
            Some(Err(refusal)) => refusal.to_string().contains("equal or smaller"),
            None => false,
        };
        // What a former replica has taken it has taken as the primary that it will be to the end.
        is_added && (self.at >= 3 || self.is_copied())
    }

    fn is_copied(&mut self) -> bool {
        matches!(self.ask::<usize>(&["WAIT", "1", "200"]), Some(Ok(1..)))
    }

    /// Asks the node where the stream was last; nothing if it is to be asked again.
    fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> Option<redis::RedisResult<T>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let client = redis::Client::open(("127.0.0.1", self.ports[self.at])).ok()?;
                match client.get_connection_with_timeout(PATIENCE) {
                    Ok(connection) => connection,
                    Err(_) => {
                        self.at = (self.at + 1) % self.ports.len();
                        return None;
                    }
                }
            }
        };
        connection.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let answer = redis::cmd(words[0]).arg(&words[1..]).query(&mut connection);
        match answer.as_ref().err().map(|error| (error.code(), error.detail())) {
            Some((Some("MOVED"), Some(detail))) => {
                let port: Option<u16> = detail.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                self.at = self.ports.iter().position(|own| Some(*own) == port).expect("it leads to one of the nodes");
                None
            }
            // On its way, or the node is away: the next attempt sees where it is.
            Some((None | Some("ASK" | "TRYAGAIN" | "CLUSTERDOWN"), _)) => None,
            _ => {
                self.connection = Some(connection);
                Some(answer)
            }
        }
    }
}

fn add(cluster: &Cluster, source: &Source, number: usize) {
    let (name, value) = (source.entry)(number);
    cluster.query::<String>(&["XADD", source.stream, "*", name, &value]);
}

fn wait_for_nothing_pending(cluster: &Cluster, source: &Source) {
    let unfinished = || {
        let groups: Vec<std::collections::BTreeMap<String, redis::Value>> = cluster.query(&["XINFO", "GROUPS", source.stream]);
        groups.iter().any(|group| ["pending", "lag"].iter().any(|figure| group[*figure] != redis::Value::Int(0)))
    };
    assert!(poll_until(PATIENCE, || (!unfinished()).then_some(())).is_some(), "entries of {} stay pending", source.stream);
}

fn start(binary: &Path, cluster: &Cluster) -> [Gateway; 2] {
    let config = format!("{CONFIG}{}", sources("500ms", "2s"));
    ["a", "b"].map(|name| Setup::new(binary).option("--redis", &cluster.url()).option("--node", name).config(&config).start())
}
