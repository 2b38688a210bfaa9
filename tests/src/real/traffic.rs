//! Numbered entries for the streams of publishers, and what must come of them: each number arrives once.

use std::collections::BTreeSet;
use std::ops::Range;

use nix::sys::signal::Signal;
use redis::Pipeline;
use serde_json::{Value, json};

use super::client::JsonClient;
use super::gateway::Gateway;
use super::redis::RedisServer;
use super::{PATIENCE, poll_until};

/// The room of every numbered event.
pub const ROOM: &str = "workspace:w";
/// The stream of the service of every numbered command.
pub const ROUTED: &str = "stream:claude-commands";

/// A stream as its publisher sees it. The numbers of its entries are what tells them apart.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Key of the stream.
    pub stream: &'static str,
    /// Its consumer group.
    pub group: &'static str,
    /// Where entries end that cannot be brought to their end.
    pub dead_letters: &'static str,
    /// The one field of the entry of a number: its name and its value.
    pub entry: fn(usize) -> (&'static str, String),
}

/// File events; each entry is a batch of one event in [`ROOM`].
pub const EVENTS: Source = Source {
    stream: "stream:file-events",
    group: "websocket-consumers",
    dead_letters: "stream:file-events-dlq",
    entry: |number| {
        let event = json!({
            "event_id": number.to_string(),
            "timestamp": "2025-10-06T01:00:00Z",
            "workspace": {"id": "w"},
            "file": {"path": "a", "event_type": "modify"},
            "change": {"type": "diff"},
        });
        let batch = json!({"batch_id": number.to_string(), "timestamp": "t", "batch_count": 1, "events": [event]});
        ("data", batch.to_string())
    },
};

/// Commands; each entry is to be routed to [`ROUTED`].
pub const COMMANDS: Source = Source {
    stream: "stream:ai-commands",
    group: "websocket-router",
    dead_letters: "stream:ai-commands-dlq",
    entry: |number| ("payload", command("claude", &number.to_string())),
};

impl Source {
    /// Adds the entries of these numbers, all in one go.
    ///
    /// # Panics
    ///
    /// When the server does not take them.
    pub fn publish(&self, redis: &RedisServer, numbers: Range<usize>) {
        let mut pipeline = redis::pipe();
        self.add_to(&mut pipeline, numbers);
        let mut connection = redis.connect(0).expect("the server is there");
        pipeline.exec(&mut connection).expect("the entries are added");
    }

    /// The same as commands of a pipeline, whose answers are ignored.
    pub fn add_to(&self, pipeline: &mut Pipeline, numbers: Range<usize>) {
        for number in numbers {
            let (name, value) = (self.entry)(number);
            pipeline.cmd("XADD").arg(&[self.stream, "*", name, &value]).ignore();
        }
    }

    /// Reads so many entries as a consumer of the group would who dies before it does anything with them.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn read_and_die(&self, redis: &RedisServer, consumer: &str, count: usize) {
        let _: Result<String, _> = redis.try_query(&["XGROUP", "CREATE", self.stream, self.group, "0", "MKSTREAM"]);
        let count_text = count.to_string();
        redis.command(&["XREADGROUP", "GROUP", self.group, consumer, "COUNT", &count_text, "STREAMS", self.stream, ">"]);
        assert_eq!(self.pending_of(redis, consumer), count as u64);
    }

    /// Entries that a consumer was handed and that are not acknowledged.
    ///
    /// # Panics
    ///
    /// When there is no such group.
    #[must_use]
    pub fn pending_of(&self, redis: &RedisServer, consumer: &str) -> u64 {
        let entries: Vec<redis::Value> = redis.query(&["XPENDING", self.stream, self.group, "-", "+", "100000", consumer]);
        entries.len() as u64
    }

    /// Waits until every entry that was handed to any consumer is acknowledged.
    ///
    /// # Panics
    ///
    /// When some stay pending.
    pub fn wait_for_nothing_pending(&self, redis: &RedisServer) {
        let pending = || redis.pending(0, self.stream, self.group);
        let done = poll_until(PATIENCE, || (pending() == 0).then_some(()));
        assert!(done.is_some(), "{} entries of {} stay pending", pending(), self.stream);
    }

    /// Freezes a node in the middle of a read and publishes until Redis has handed it entries, which it cannot process then.
    /// Returns how many were published, and how many of them it holds.
    ///
    /// # Panics
    ///
    /// When it is handed none.
    pub fn freeze_with_entries(&self, node: &mut Gateway, name: &str, redis: &RedisServer) -> (usize, u64) {
        let mut published = 0;
        let held = poll_until(PATIENCE, || {
            // It may have been frozen between two reads, or its read may have ended before there was an entry.
            node.signal(Signal::SIGCONT);
            node.signal(Signal::SIGSTOP);
            self.publish(redis, published..published + 2);
            published += 2;
            Some(self.pending_of(redis, name)).filter(|held| *held > 0)
        });
        (published, held.expect("the frozen node is handed entries"))
    }
}

/// The configuration of both sources, with these times, and of outboxes and targets that hold whatever a test publishes.
#[must_use]
pub fn sources(block: &str, claim_after: &str) -> String {
    format!(
        r#"
[limits]
outbox_messages = 100000
outbox_bytes = 67108864

[[sources]]
stream = "{}"
group = "{}"
dead_letter = "{}"
to.events = {{ room = "workspace:{{id}}", type = "file.changed" }}
block = "{block}"
claim_after = "{claim_after}"

[[sources]]
stream = "{}"
group = "{}"
dead_letter = "{}"
to.commands = {{ length = 1000000 }}
block = "{block}"
claim_after = "{claim_after}"
"#,
        EVENTS.stream, EVENTS.group, EVENTS.dead_letters, COMMANDS.stream, COMMANDS.group, COMMANDS.dead_letters
    )
}

/// A command for a service, as its publisher writes it.
#[must_use]
pub fn command(service: &str, message: &str) -> String {
    format!(
        r#"{{"service": "{service}", "session_id": "session-123", "workspace_path": "/workspaces/w", "message": "{message}"}}"#
    )
}

/// The numbers of the commands in the stream of a service, oldest first.
///
/// # Panics
///
/// When something else stands in it.
#[must_use]
pub fn routed(redis: &RedisServer, stream: &str) -> Vec<usize> {
    let entries: Vec<(String, Vec<String>)> = redis.query(&["XRANGE", stream, "-", "+"]);
    let number = |(_, fields): &(String, Vec<String>)| {
        let payload: Value = serde_json::from_str(&fields[1]).expect("the payload is JSON");
        payload["message"].as_str().and_then(|number| number.parse().ok()).expect("the message is a number")
    };
    entries.iter().map(number).collect()
}

/// The numbers of the next events.
///
/// # Panics
///
/// When a frame does not come in time or is no numbered event.
pub fn receive(client: &mut JsonClient, count: usize) -> Vec<usize> {
    (0..count).map(|_| number(&client.expect_type("file.changed"))).collect()
}

/// The number of an event in a frame.
///
/// # Panics
///
/// When it has none.
#[must_use]
pub fn number(frame: &Value) -> usize {
    frame["data"]["event_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no number in {frame}"))
}

/// All numbers below `count` have come, and each once.
///
/// # Panics
///
/// When that is not so.
pub fn assert_each_once(numbers: &[usize], count: usize) {
    let distinct: BTreeSet<usize> = numbers.iter().copied().collect();
    let missing: Vec<usize> = (0..count).filter(|number| !distinct.contains(number)).take(10).collect();
    assert!(missing.is_empty(), "{} of {count} arrived; missing are {missing:?} and so on", distinct.len());
    assert_eq!((distinct.len(), numbers.len()), (count, count), "(different numbers, numbers) of {count}: some came twice");
}

/// Nothing was on its way to these clients: what is sent to everybody now is the next they get.
///
/// # Panics
///
/// When it is not.
pub fn assert_silent<'a>(gateway: &Gateway, clients: impl IntoIterator<Item = &'a mut JsonClient>) {
    let answer = gateway.post(&json!({"broadcast": true, "type": "last", "data": null}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    clients.into_iter().for_each(|client| drop(client.expect_type("last")));
}
