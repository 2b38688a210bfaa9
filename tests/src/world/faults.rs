//! What breaks in the World, and what mends it.

use roomcast_core::config::{Config, Keep};
use roomcast_core::id::StreamId;
use roomcast_core::store::{Lane, StoreError};
use roomcast_core::time::UnixMillis;

use super::host::Peer;
use super::{Happening, World, batches, commands};

impl World {
    /// The test will see to it that this entry is never brought to its end: it has to become a dead letter.
    pub fn doom(&mut self, entry: StreamId) {
        self.added.insert(entry, batches::Expected::DeadLettered);
    }

    /// A node dies at once. What it was doing with the store may have been carried out or not.
    pub fn crash(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if host.node().is_none() {
            return;
        }
        let (peers, store) = (host.crash(), host.store);
        for peer in peers {
            if let Peer::Client(client) = peer {
                self.clients[client].disconnect();
            }
        }
        self.end_sessions_of(node);
        self.memory.disconnect(store);
        self.publishing.retain(|(other, _), _| *other != node);
    }

    /// A node that died starts again, as a new process with a new name.
    pub fn restart(&mut self, node: usize) {
        if self.hosts[node].node().is_none() {
            let boot = self.hosts[node].boot + 1;
            self.hosts[node] = self.boot(node, boot);
            self.pump(node);
        }
    }

    /// The connection between a node and the store is cut: everything under way fails, whether it was carried out or not, and
    /// everything new fails until it is healed.
    pub fn cut_store(&mut self, node: usize) {
        self.hosts[node].cut = true;
        let error = || Err(StoreError::Disconnected("cut".into()));
        for ticket in self.hosts[node].drop_in_flight(None) {
            let boot = self.hosts[node].boot;
            self.schedule(self.now, Happening::Answer { node, boot, ticket, answer: error() });
        }
        self.end_reads(node);
    }

    /// The connection works again.
    pub fn heal_store(&mut self, node: usize) {
        self.hosts[node].cut = false;
    }

    /// A connection of a node dies without a sound: what waits on it is never answered, and nothing is heard on it.
    pub fn go_silent(&mut self, node: usize, lane: Lane) {
        self.memory.go_silent(self.hosts[node].store, lane);
    }

    /// The answers that are under way to a node are lost without a sound.
    pub fn lose_answers(&mut self, node: usize) {
        self.hosts[node].drop_in_flight(None);
    }

    /// A publisher deletes everything in Redis. What was pending or not yet read is gone.
    pub fn flush_all(&mut self) {
        self.memory.flush();
        // What was not yet routed can no longer be asked for.
        self.added.clear();
        self.commands.clear();
        self.oracles.forget();
        self.after_store();
    }

    /// A replica of the store follows up to here, and no further.
    pub fn replicate(&mut self) {
        self.replica = Some(self.memory.clone());
    }

    /// The store fails, and its replica takes its place: what was written since it followed last is lost.
    pub fn fail_over(&mut self) {
        for node in 0..self.hosts.len() {
            self.cut_store(node);
        }
        let replica = self.replica.take().expect("there is a replica");
        self.memory.fail_over(replica);
        let lost = self.oracles.fail_over(&self.memory, self.config.relay.partitions);
        let lengths = self.oracles.lengths();
        for client in &mut self.clients {
            client.lose(&lost, self.events_made, &lengths, |room| remembers(&self.config, room));
        }
        self.added.clear();
        self.commands.clear();
        for node in 0..self.hosts.len() {
            self.heal_store(node);
        }
    }

    /// Relay logs keep so few entries from now on that nodes may miss some.
    pub fn trim_relay(&mut self, keep: usize) {
        (0..self.config.relay.partitions).for_each(|partition| self.memory.trim_relay(partition, keep));
    }

    /// What a room remembers is trimmed to its newest messages.
    pub fn trim_room(&mut self, room: &str, keep: usize) {
        self.memory.trim_room(room, keep);
    }

    /// The store evicts what it knows of a room.
    pub fn forget_room(&mut self, room: &str) {
        self.memory.forget_room(room);
    }

    /// The wall clock of a node steps.
    pub fn step_wall_clock(&mut self, node: usize, unix: UnixMillis) {
        let now = self.now;
        self.hosts[node].wall_clock = (now, unix);
        if let Some(running) = self.hosts[node].node() {
            running.set_wall_clock(now, unix);
        }
        self.pump(node);
    }

    /// Somebody deletes the consumer group of the file events.
    pub fn destroy_group(&mut self) {
        self.memory.destroy_group(super::SOURCE.0, super::SOURCE.1);
        self.after_store();
    }

    /// A publisher's trimming leaves so many file events in their stream. Nobody can ask for the others any more.
    pub fn trim(&mut self, keep: usize) {
        self.memory.trim(super::SOURCE.0, keep);
        let first = self.memory.entries(super::SOURCE.0).next().map(|(id, _)| id);
        self.added.retain(|id, _| first.is_some_and(|first| *id >= first));
    }

    /// The store runs out of memory, or has memory again.
    pub fn set_full(&mut self, is_full: bool) {
        self.memory.set_full(is_full);
    }

    /// Another type of value stands in the place of a service's stream, or does no longer.
    pub fn set_refused(&mut self, service: &str, is_refused: bool) {
        self.memory.set_refused(&commands::target(service), is_refused);
    }

    fn end_reads(&mut self, node: usize) {
        let store = self.hosts[node].store;
        let sources = [Lane::Source(0), Lane::Source(1), Lane::Source(2), Lane::Origin(0)];
        for lane in [Lane::Command, Lane::Relay, Lane::Tail, Lane::Channels].into_iter().chain(sources) {
            self.memory.deafen(store, lane);
            self.memory.interrupt(store, lane);
        }
        self.after_store();
    }
}

/// Whether clients of a room are told positions.
fn remembers(config: &Config, room: &str) -> bool {
    matches!(config.rule(room).and_then(|rule| rule.keep.as_ref()), Some(Keep::History(_) | Keep::Stream(_)))
}
