//! Two gateways at work while something happens to their Redis.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::client::JsonClient;
use super::gateway::Gateway;
use super::redis::RedisServer;
use super::setup::Setup;
use super::traffic::{COMMANDS, EVENTS, ROOM, ROUTED, assert_each_once, assert_silent, number, receive, routed, sources};
use super::{PATIENCE, poll_until};

/// Short times, so that what does not answer is soon given up.
const RELAY: &str = r#"
[relay]
block = "500ms"
timeout = "500ms"
"#;

/// Longer than any time of the gateways, also than all retries of an entry with the pauses between them.
pub const LONG: Duration = Duration::from_millis(3_500);

/// Two nodes, `a` and `b`, with a client each, and as many events as commands for them to bring to their end.
#[derive(Debug)]
pub struct Ordeal {
    /// The nodes.
    pub nodes: [Gateway; 2],
    /// The next number to be published.
    pub published: usize,
    clients: [JsonClient; 2],
}

impl Ordeal {
    /// Starts the nodes on a Redis and waits until they are ready.
    ///
    /// # Panics
    ///
    /// When they do not become ready.
    #[must_use]
    pub fn begin(binary: &Path, url: &str) -> Self {
        let mut ordeal = Self::begin_unready(binary, url);
        ordeal.nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
        ordeal
    }

    /// Starts the nodes on a Redis that serves nothing but reads.
    ///
    /// # Panics
    ///
    /// When they do not start, or let no client join.
    #[must_use]
    pub fn begin_unready(binary: &Path, url: &str) -> Self {
        Self::launch(binary, url, &config(""))
    }

    /// Starts the nodes on a Redis, with sources that stand in another, and waits until they are ready.
    ///
    /// # Panics
    ///
    /// When they do not become ready.
    #[must_use]
    pub fn begin_apart(binary: &Path, url: &str, origin: &str) -> Self {
        let mut ordeal = Self::launch(binary, url, &apart(origin));
        ordeal.nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
        ordeal
    }

    fn launch(binary: &Path, url: &str, config: &str) -> Self {
        let node = |name| Setup::new(binary).option("--redis", url).option("--node", name).config(config).launch();
        let nodes = [node("a"), node("b")];
        let clients = [nodes[0].member("alice", ROOM), nodes[1].member("bob", ROOM)];
        Self { nodes, clients, published: 0 }
    }

    /// Publishes so many events and commands.
    pub fn publish(&mut self, redis: &RedisServer, count: usize) {
        self.publish_then(redis, count, &[]);
    }

    /// Publishes so many events and commands and then, with nothing in between, runs these commands of Redis.
    ///
    /// # Panics
    ///
    /// When Redis refuses.
    pub fn publish_then(&mut self, redis: &RedisServer, count: usize, commands: &[&[&str]]) {
        let numbers = self.published..self.published + count;
        let mut pipeline = redis::pipe();
        EVENTS.add_to(&mut pipeline, numbers.clone());
        COMMANDS.add_to(&mut pipeline, numbers);
        for command in commands {
            pipeline.cmd(command[0]).arg(&command[1..]).ignore();
        }
        let mut connection = redis.connect(0).expect("the server is there");
        pipeline.exec(&mut connection).expect("Redis takes it");
        self.published += count;
    }

    /// Waits until both nodes are unready and give a reason that contains `why`.
    ///
    /// # Panics
    ///
    /// When one does not.
    pub fn expect_unready(&mut self, why: &str) {
        for node in &self.nodes {
            let mut last = String::new();
            let told = poll_until(PATIENCE, || {
                let answer = node.http("GET", "/readyz", &[], b"");
                last = answer.text();
                (answer.status == 503 && last.contains(why)).then_some(())
            });
            assert!(told.is_some(), "the node is not unready for {why:?}; it says {last}");
        }
    }

    /// Waits until so many commands have been routed, which is a measure of how far the nodes have come.
    ///
    /// # Panics
    ///
    /// When they do not come so far.
    pub fn wait_for_routed(&self, redis: &RedisServer, count: usize) {
        let length = || redis.query::<usize>(&["XLEN", ROUTED]);
        let done = poll_until(PATIENCE, || (length() >= count).then_some(()));
        assert!(done.is_some(), "{} of {count} commands are routed", length());
    }

    /// Waits until everything published so far has arrived, and returns the events as they came to each client. Something may
    /// have come twice.
    ///
    /// # Panics
    ///
    /// When something does not.
    #[must_use]
    pub fn wait_for_all(&mut self, redis: &RedisServer) -> [Vec<usize>; 2] {
        self.wait_for_from(redis, 0)
    }

    /// Nothing was lost, repeated, given up or forgotten: each event reached each client once and in one order, and each
    /// command its target once. The nodes are ready again.
    ///
    /// # Panics
    ///
    /// When something was.
    pub fn end(mut self, redis: &RedisServer) {
        let published = self.published;
        let [seen_at_a, seen_at_b] = self.clients.each_mut().map(|client| receive(client, published));
        assert_each_once(&seen_at_a, published);
        assert_eq!(seen_at_a, seen_at_b, "both clients see one order");
        self.wait_for_routed(redis, published);
        self.settle(redis);
        assert_each_once(&routed(redis, ROUTED), published);
    }

    /// The same, where Redis lost everything that it held before `kept` was published: of that, nothing came twice.
    ///
    /// # Panics
    ///
    /// When something was lost later, repeated, given up or forgotten.
    pub fn end_with_loss(mut self, redis: &RedisServer, kept: usize) {
        let seen = self.wait_for_from(redis, kept);
        self.settle(redis);
        for numbers in [&seen[0], &seen[1], &routed(redis, ROUTED)] {
            let distinct: BTreeSet<&usize> = numbers.iter().collect();
            assert_eq!(distinct.len(), numbers.len(), "something came twice");
            assert!((kept..self.published).all(|number| distinct.contains(&number)), "something is missing");
        }
    }

    /// The nodes become ready, and nothing is on its way, pending or given up.
    ///
    /// # Panics
    ///
    /// When something is.
    pub fn settle(&mut self, redis: &RedisServer) {
        self.nodes.iter_mut().for_each(|node| node.wait_ready(PATIENCE));
        for source in [EVENTS, COMMANDS] {
            source.wait_for_nothing_pending(redis);
            assert_eq!(redis.query::<usize>(&["XLEN", source.dead_letters]), 0, "{} has dead letters", source.stream);
        }
        assert_silent(&self.nodes[0], &mut self.clients);
    }

    /// Receives until every event from a number on has come to each client and every command has been routed.
    fn wait_for_from(&mut self, redis: &RedisServer, first: usize) -> [Vec<usize>; 2] {
        let wanted: BTreeSet<usize> = (first..self.published).collect();
        let seen = self.clients.each_mut().map(|client| {
            let (mut missing, mut seen) = (wanted.clone(), Vec::new());
            while !missing.is_empty() {
                let number = number(&client.expect_type("file.changed"));
                missing.remove(&number);
                seen.push(number);
            }
            seen
        });
        let all_routed = || wanted.is_subset(&routed(redis, ROUTED).into_iter().collect());
        assert!(poll_until(PATIENCE, || all_routed().then_some(())).is_some(), "not all commands are routed");
        seen
    }
}

/// The configuration of a node whose sources stand in another Redis.
#[must_use]
pub fn apart(origin: &str) -> String {
    config(&format!("redis = \"{origin}\"\n"))
}

/// The configuration of a node; each source has something `more`.
fn config(more: &str) -> String {
    // What stays pending is soon tried again, too.
    let sources = sources("50ms", "100ms").replace("[[sources]]\n", &format!("[[sources]]\n{more}"));
    RELAY.to_owned() + &sources
}

/// Lets a fault last: its length is what is tested.
pub fn lasts(duration: Duration) {
    thread::sleep(duration);
}
