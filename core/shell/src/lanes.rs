//! The ways to the store: connections to Redis, or the embedded memory engine.

use std::sync::Arc;

use roomcast_core::config::Config;
use roomcast_core::id::Ticket;
use roomcast_core::store::memory::{ClientId, Memory};
use roomcast_core::store::{Lane, StoreOp};
use roomcast_core::time::Time;

use crate::backplane::{Input, Post};

mod address;
mod cluster;
mod line;
mod link;
mod listener;
mod redis;
mod sentinel;
mod server;
mod watch;

pub use self::address::{Address, AddressError};
pub use self::cluster::ClusterLanes;
pub use self::redis::{RedisLanes, Servers};
pub use self::server::{Connect, Connecting, Connector};

/// Carries operations to the store. Answers come back as [`Input::Answer`], posted to the backplane's mailbox.
pub trait Lanes: Send {
    /// Carries an operation out on a lane, after those given to the lane before.
    fn submit(&mut self, now: Time, lane: Lane, ticket: Ticket, op: StoreOp);

    /// Ends the blocking read of a lane, so that it is answered soon.
    fn interrupt(&mut self, now: Time, lane: Lane);

    /// Drops a lane's connection; the next operation makes a new one.
    fn reset(&mut self, now: Time, lane: Lane);

    /// A connection can go on: one that said so with [`Input::Ready`] in the mailbox.
    fn ready(&mut self, _now: Time, _number: u32) {}

    /// Time has passed.
    fn tick(&mut self, _now: Time) {}

    /// When [`Lanes::tick`] has something to do.
    fn next_deadline(&self) -> Option<Time> {
        None
    }
}

/// The embedded store: everything stays in this process, and nothing can fail.
#[derive(Debug)]
pub struct MemoryLanes {
    memory: Memory,
    client: ClientId,
    post: Arc<Post>,
}

/// Entries that a relay log of the embedded store keeps at the most.
const MOST_ENTRIES: usize = 1_000;

impl MemoryLanes {
    /// A store of its own for one node.
    pub fn new(config: &Config, post: Arc<Post>) -> MemoryLanes {
        // The only reader is this process, which keeps up: long logs would be memory for nothing.
        let mut memory = Memory::new((config.relay.length as usize).min(MOST_ENTRIES));
        let client = memory.connect(&config.node);
        MemoryLanes { memory, client, post }
    }

    fn post_answers(&mut self) {
        while let Some((_, ticket, answer)) = self.memory.poll_answer() {
            self.post.post(Input::Answer(ticket, answer));
        }
    }
}

impl Lanes for MemoryLanes {
    fn submit(&mut self, now: Time, lane: Lane, ticket: Ticket, op: StoreOp) {
        self.memory.submit(now, self.client, lane, ticket, op);
        self.post_answers();
    }

    fn interrupt(&mut self, _now: Time, lane: Lane) {
        self.memory.interrupt(self.client, lane);
        self.post_answers();
    }

    fn reset(&mut self, now: Time, lane: Lane) {
        // There is no connection that could be dropped, only a read that waits.
        self.interrupt(now, lane);
    }

    fn tick(&mut self, now: Time) {
        self.memory.tick(now);
        self.post_answers();
    }

    fn next_deadline(&self) -> Option<Time> {
        self.memory.next_deadline()
    }
}
