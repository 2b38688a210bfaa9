//! What operators do: nodes that end gently, users who are sent away.

use std::time::Duration;

use roomcast_core::message::EVERYBODY;
use roomcast_core::survey::{Question, Surveyed};

use super::World;
use super::publishing::DISCONNECT;

impl World {
    /// A node is told to end.
    pub fn drain(&mut self, node: usize) {
        let now = self.now;
        if let Some(running) = self.hosts[node].node() {
            running.drain(now);
        }
        self.pump(node);
    }

    /// Whether a node that was told to end has nothing left to do.
    pub fn is_drained(&self, node: usize) -> bool {
        self.hosts[node].peek().is_some_and(roomcast_core::node::Node::is_drained)
    }

    /// A node that has nothing left to do ends.
    ///
    /// # Panics
    ///
    /// When it has something left to do.
    pub fn retire(&mut self, node: usize) {
        assert!(self.is_drained(node), "node {node} is not drained");
        self.crash(node);
    }

    /// An administrator has a user disconnected, by way of a node.
    pub fn disconnect(&mut self, node: usize, user: &str) {
        let now = self.now;
        if let Some(running) = self.hosts[node].node() {
            let id = running.disconnect(now, user);
            self.publishing.insert((node, id), (DISCONNECT, EVERYBODY.to_owned()));
        }
        self.pump(node);
    }

    /// An operator asks a node what all nodes have, and waits for the answer.
    pub fn survey(&mut self, node: usize, question: Question) -> Surveyed {
        let now = self.now;
        if let Some(running) = self.hosts[node].node() {
            running.survey(now, question);
        }
        self.pump(node);
        self.run(Duration::from_secs(2));
        self.surveyed.take().expect("a survey always ends")
    }

    /// The nodes that are known to the store, alive or dead.
    pub fn nodes_known(&self) -> Vec<&str> {
        self.memory.nodes().collect()
    }
}
