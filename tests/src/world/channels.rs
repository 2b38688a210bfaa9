//! Publishers that say something on Pub/Sub channels.

use bytes::Bytes;
use roomcast_core::store::Lane;

use super::World;

impl World {
    /// A publisher says something on a channel. How many nodes listen.
    pub fn say(&mut self, channel: &str, payload: &str) -> u64 {
        let heard = self.memory.announce(self.now, channel, false, &Bytes::copy_from_slice(payload.as_bytes()));
        self.after_store();
        heard
    }

    /// System B's publisher says something with a number to a room: a target such as `"project_id":"1"`, and the room that this is.
    pub fn broadcast(&mut self, target: &str, room: &str) -> u64 {
        let number = self.next_number();
        if self.config.rule(room).is_none_or(|rule| rule.keep.is_none()) {
            self.said.insert(number);
        }
        if let Some(job) = room.strip_prefix("job:") {
            self.oracles.watch_job(job);
        }
        let target = if target.is_empty() { String::new() } else { format!(",{target}") };
        self.say(
            "websocket:broadcast",
            &format!(r#"{{"type":"note","data":{{"n":{number}}}{target},"message_id":"b-{number}","source":"worker"}}"#),
        );
        number
    }

    /// The connection on which a node listens breaks.
    pub fn kill_subscription(&mut self, node: usize) {
        let store = self.hosts[node].store;
        self.memory.deafen(store, Lane::Channels);
        // The waiting question is answered with nothing, and the next one begins on a new connection.
        self.memory.interrupt(store, Lane::Channels);
        self.after_store();
    }
}
