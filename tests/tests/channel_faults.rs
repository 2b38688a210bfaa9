//! Pub/Sub channels where not every node hears everything: a room that remembers has each message once all the same, and who may
//! have missed something is told.

use std::path::Path;

use nix::sys::signal::Signal;
use roomcast_tests::gateway_tests;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::{JsonClient, access_token};
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::redis::RedisServer;
use roomcast_tests::real::setup::{SECRET, Setup};
use serde_json::{Value, json};

/// A room that is fed by a channel, and one that is not.
const NEWS: &str = "news:sport";
const CHAT: &str = "chat:1";

const CONFIG: &str = r#"
[[channels]]
pattern = "news:*"
to = ["news:{match}"]
[[channels]]
channel = "task_updates"
to = ["task:{task_id}"]
[[access]]
rooms = "*"
subscribe = "authenticated"
[[rooms]]
rooms = "news:*"
keep.history = { size = 10000, ttl = "1h" }
[[rooms]]
rooms = "chat:*"
keep.history = { size = 10000, ttl = "1h" }
[limits]
outbox_messages = 100000
"#;

gateway_tests!(
    a_pattern_feeds_a_room_from_which_one_recovers,
    the_same_bytes_twice_are_two_messages,
    what_one_node_cannot_hear_reaches_its_clients,
    what_was_said_while_a_node_was_frozen_comes_once,
    a_subscriber_that_is_too_slow_loses_nothing_that_a_room_remembers,
);

fn a_pattern_feeds_a_room_from_which_one_recovers(binary: &Path) {
    let trial = Trial::begin(binary);
    let [mut alice, mut bob] = trial.members(NEWS);
    let mut elsewhere = trial.nodes[1].member("carol", "news:tennis");
    (0..40).for_each(|number| trial.say(number, 2));
    let seen = notes(&mut alice, 40);
    assert_eq!(numbers(&seen), (0..40).collect::<Vec<_>>());
    assert_eq!(notes(&mut bob, 40), seen, "with the same identifiers and positions");

    alice.close();
    (40..60).for_each(|number| trial.say(number, 2));
    let mut alice = trial.nodes[1].client("alice");
    alice.send(&json!({"type": "subscribe", "room": NEWS, "recover": seen[9]["position"]}));
    assert_eq!(alice.expect_type("subscribed")["data"]["recovered"], true);
    trial.say(60, 2);
    assert_eq!(numbers(&notes(&mut alice, 51)), (10..61).collect::<Vec<_>>());
    assert_eq!(numbers(&trial.history()), (0..61).collect::<Vec<_>>(), "each is stored once");
    trial.say_last(NEWS, [&mut alice]);
    trial.say_last("news:tennis", [&mut elsewhere]);
}

fn the_same_bytes_twice_are_two_messages(binary: &Path) {
    let trial = Trial::begin(binary);
    let mut members = trial.members(NEWS);
    (0..3).for_each(|_| trial.say(7, 2));
    // Under a name of its own, a message that is said again is a copy.
    let named = r#"{"type":"note","data":8,"message_id":"m-8"}"#;
    (0..3).for_each(|_| assert_eq!(trial.redis.query::<u64>(&["PUBLISH", NEWS, named]), 2));
    for member in &mut members {
        let seen = notes(member, 4);
        assert_eq!(numbers(&seen), [7, 7, 7, 8]);
        let mut ids: Vec<&str> = seen.iter().filter_map(|note| note["message_id"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4, "{ids:?}");
    }
    assert_eq!(numbers(&trial.history()), [7, 7, 7, 8]);
    trial.say_last(NEWS, &mut members);
}

fn what_one_node_cannot_hear_reaches_its_clients(binary: &Path) {
    let mut trial = Trial::begin(binary);
    let mut members = trial.members(NEWS);
    trial.say(0, 2);
    // Its subscription is taken from it, and it gets no other.
    trial.redis.command(&["ACL", "SETUSER", "b", "-subscribe", "-psubscribe"]);
    trial.kill_subscription_of_b();
    let reasons = trial.nodes[1].wait_unready(PATIENCE).text();
    assert!(reasons.contains("channels cannot be listened to"), "{reasons}");
    (1..20).for_each(|number| trial.say(number, 1));
    let expected: Vec<u64> = (0..20).collect();
    members.iter_mut().for_each(|member| assert_eq!(numbers(&notes(member, 20)), expected));

    trial.redis.command(&["ACL", "SETUSER", "b", "+subscribe", "+psubscribe"]);
    trial.nodes[1].wait_ready(PATIENCE);
    // Nobody can know that the other node heard it all.
    assert_eq!(members[1].expect_type("subscribed")["data"]["recovered"], false);
    assert_eq!(trial.gaps(), [0, 1]);
    trial.say(20, 2);
    members.iter_mut().for_each(|member| assert_eq!(numbers(&notes(member, 1)), [20]));
    trial.say_last(NEWS, &mut members);
}

fn what_was_said_while_a_node_was_frozen_comes_once(binary: &Path) {
    let mut trial = Trial::begin(binary);
    let mut members = trial.members(NEWS);
    trial.say(0, 2);
    trial.nodes[1].signal(Signal::SIGSTOP);
    // This it will find in its socket.
    (1..20).for_each(|number| trial.say(number, 2));
    assert_eq!(numbers(&notes(&mut members[0], 20)), (0..20).collect::<Vec<_>>());
    // And this not any more.
    trial.kill_subscription_of_b();
    (20..30).for_each(|number| trial.say(number, 1));
    assert_eq!(numbers(&notes(&mut members[0], 10)), (20..30).collect::<Vec<_>>());
    trial.nodes[1].signal(Signal::SIGCONT);
    let (seen, told) = notes_and_gaps(&mut members[1], 30);
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
    if told == 0 {
        assert_eq!(members[1].expect_type("subscribed")["data"]["recovered"], false);
    }
    assert_eq!(trial.gaps(), [0, 1]);
    assert_eq!(numbers(&trial.history()), (0..30).collect::<Vec<_>>());
    trial.say_last(NEWS, &mut members);
}

fn a_subscriber_that_is_too_slow_loses_nothing_that_a_room_remembers(binary: &Path) {
    /// More than the buffers of both ends of a connection hold.
    const FLOOD: usize = 40 << 20;
    let mut trial = Trial::begin(binary);
    trial.redis.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 512kb 1"]);
    let (mut news, mut chat) = (trial.members(NEWS), trial.members(CHAT));
    trial.say(0, 2);
    trial.nodes[1].signal(Signal::SIGSTOP);
    let large = format!(r#"{{"type":"task_update","task_id":"nobody","data":"{}"}}"#, "x".repeat(200_000));
    // Redis notices at any time between two messages that nobody reads them.
    let hears = |channel: &str, payload: &str| trial.redis.query::<u64>(&["PUBLISH", channel, payload]);
    let mut last = 0;
    let is_dropped = (0..FLOOD / large.len()).any(|_| {
        last += 1;
        hears(NEWS, &format!(r#"{{"type":"note","data":{last}}}"#));
        trial.nodes[0].publish(CHAT, "note", &json!(last));
        hears("task_updates", &large) == 1
    });
    assert!(is_dropped, "Redis drops who does not read");
    last += 1;
    trial.say(last, 1);
    trial.nodes[0].publish(CHAT, "note", &json!(last));
    trial.nodes[1].signal(Signal::SIGCONT);
    for (index, (news, chat)) in news.iter_mut().zip(&mut chat).enumerate() {
        assert_eq!(
            numbers(&notes(chat, last as usize)),
            (1..=last).collect::<Vec<_>>(),
            "in order, and nobody is told of a loss"
        );
        let (seen, told) = notes_and_gaps(news, last as usize + 1);
        assert_eq!(seen, (0..=last).collect::<Vec<_>>());
        if index == 1 && told == 0 {
            assert_eq!(news.expect_type("subscribed")["data"]["recovered"], false);
        }
    }
    assert_eq!(trial.gaps(), [0, 1]);
    trial.nodes[1].wait_ready(PATIENCE);
    trial.say_last(CHAT, &mut chat);
    trial.say_last(NEWS, &mut news);
}

/// Two nodes on one Redis, of which the second is known there as user `b`.
struct Trial {
    redis: RedisServer,
    nodes: [Gateway; 2],
}

impl Trial {
    fn begin(binary: &Path) -> Trial {
        let redis = RedisServer::start();
        redis.command(&["ACL", "SETUSER", "b", "on", ">secret", "~*", "&*", "+@all"]);
        let urls = [("a", redis.url()), ("b", format!("redis://b:secret@127.0.0.1:{}", redis.port()))];
        let nodes =
            urls.map(|(name, url)| Setup::new(binary).option("--redis", &url).option("--node", name).config(CONFIG).start());
        Trial { redis, nodes }
    }

    /// A member of a room on each node.
    fn members(&self, room: &str) -> [JsonClient; 2] {
        [self.nodes[0].member("alice", room), self.nodes[1].member("bob", room)]
    }

    /// Publishes a number as news, without an identifier, and so many nodes hear it.
    fn say(&self, number: u64, heard: u64) {
        let payload = format!(r#"{{"type":"note","data":{number}}}"#);
        assert_eq!(self.redis.query::<u64>(&["PUBLISH", NEWS, &payload]), heard, "of message {number}");
    }

    /// Nothing was on its way to these clients: what is said in the room now is the next that they get.
    fn say_last<'a>(&self, room: &str, clients: impl IntoIterator<Item = &'a mut JsonClient>) {
        self.nodes[0].publish(room, "last", &json!(null));
        for client in clients {
            client.expect_type("last");
        }
    }

    fn kill_subscription_of_b(&self) {
        assert_eq!(self.redis.query::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub", "USER", "b"]), 1);
    }

    fn gaps(&self) -> [u64; 2] {
        self.nodes.each_ref().map(|node| node.metric("roomcast_channel_gaps_total"))
    }

    /// All that the room of the news remembers.
    fn history(&self) -> Vec<Value> {
        let bearer = format!("Bearer {}", access_token(SECRET, "operator", &json!({"role": "admin"})));
        let path = format!("/api/rooms/{}/history?limit=1000", NEWS.replace(':', "%3A"));
        let answer = self.nodes[0].http("GET", &path, &[("authorization", &bearer)], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["messages"].as_array().expect("a list").clone()
    }
}

/// The next messages; nothing else may come between them.
fn notes(client: &mut JsonClient, count: usize) -> Vec<Value> {
    (0..count).map(|_| client.expect_type("note")).collect()
}

/// The numbers of the next messages, and how often it was told between them that some may be lost.
fn notes_and_gaps(client: &mut JsonClient, count: usize) -> (Vec<u64>, usize) {
    let (mut seen, mut told) = (Vec::new(), 0);
    while seen.len() < count {
        let frame = client.next(PATIENCE);
        match frame["type"].as_str() {
            Some("note") => seen.extend(numbers(&[frame])),
            _ => {
                assert_eq!((&frame["type"], &frame["data"]["recovered"]), (&json!("subscribed"), &json!(false)));
                told += 1;
            }
        }
    }
    (seen, told)
}

fn numbers(notes: &[Value]) -> Vec<u64> {
    notes.iter().map(|note| note["data"].as_u64().expect("a number")).collect()
}
