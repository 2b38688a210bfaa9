//! Messages that nodes publish of their own, and what comes of them.

use roomcast_core::door::{PublishId, Published};
use roomcast_core::message::{Json, Outgoing};

use super::World;

/// What a word to disconnect a user carries in place of a number.
pub(super) const DISCONNECT: u64 = 0;

impl World {
    /// A node publishes a message to a room: the number that it carries.
    pub fn publish(&mut self, node: usize, room: &str) -> u64 {
        self.publish_as(node, room, false)
    }

    /// The same under an identifier: it may wait for a store that is away, and be given to it again.
    pub fn publish_once(&mut self, node: usize, room: &str) -> u64 {
        self.publish_as(node, room, true)
    }

    /// What came of a message, once that is known.
    pub fn publish_outcome(&self, number: u64) -> Option<Published> {
        self.outcomes.get(&number).copied()
    }

    fn publish_as(&mut self, node: usize, room: &str, named: bool) -> u64 {
        let number = self.next_number();
        let (data, name) = (format!(r#"{{"n":{number}}}"#), format!("m-{number}"));
        let now = self.now;
        if let Some(job) = room.strip_prefix("job:") {
            self.oracles.watch_job(job);
        }
        if let Some(running) = self.hosts[node].node() {
            let data = Json::parse(&data).expect("it is an object");
            let message_id = named.then_some(name.as_str());
            let id = running.publish(now, room, &Outgoing { kind: "note", data, timestamp: None, message_id });
            self.publishing.insert((node, id), (number, room.to_owned()));
        }
        self.pump(node);
        number
    }

    pub(super) fn published(&mut self, node: usize, id: PublishId, result: Published) {
        let (number, room) = self.publishing.remove(&(node, id)).expect("each publish ends once");
        self.oracles.observe(&self.memory, self.config.relay.partitions);
        // A room that goes on without the store has no log that could say so.
        let is_stored = number == DISCONNECT || self.oracles.has(number);
        assert!(result.is_err() || is_stored || self.config.is_local(&room), "C2: message {number} is confirmed and not stored");
        self.outcomes.insert(number, result);
    }
}
