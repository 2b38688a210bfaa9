//! Operators at work on the dead letters of the command stream.

use roomcast_core::config::Config;
use roomcast_core::dead_letter::{Interrupted, OperationId, Outcome, Request, Trail};
use roomcast_core::id::StreamId;

use super::{World, commands};

/// The command stream among the sources of a node.
const SOURCE: usize = 1;

impl World {
    /// An operator asks a node for something. Nothing comes of it while the node is dead.
    pub fn operate(&mut self, node: usize, request: Request) -> Option<(usize, OperationId)> {
        let now = self.now;
        let id = self.hosts[node].node().map(|running| running.operate(now, SOURCE, request));
        self.pump(node);
        Some((node, id?))
    }

    /// What came of it, once.
    pub fn outcome(&mut self, operation: Option<(usize, OperationId)>) -> Option<Result<Outcome, Interrupted>> {
        self.operated.remove(&operation?)
    }

    /// How many nodes there are, dead or alive.
    pub fn nodes(&self) -> usize {
        self.hosts.len()
    }

    /// Nodes that start from now on have another configuration.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// This command has to become a dead letter, for something is wrong that can be put right.
    pub fn doom_command(&mut self, entry: StreamId) {
        if let Some(expected) = self.commands.insert(entry, commands::Expected::DeadLettered) {
            self.doomed.insert(entry, expected);
        }
    }

    /// What was replayed so far: has it been put right, so that what was doomed has to be routed?
    pub fn expect_replayed(&mut self, right: bool) {
        for (id, fields) in self.memory.entries(commands::SOURCE.0) {
            let Some(first) = Trail::take(&mut fields.clone()).lives().first().map(|life| life.msg_id) else { continue };
            let routed = self.doomed.get(&first).filter(|_| right).cloned();
            self.commands.entry(id).or_insert(routed.unwrap_or(commands::Expected::DeadLettered));
        }
    }
}
