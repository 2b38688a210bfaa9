//! The ways to Redis Clusters: each lane asks the primaries of the slots that its operations are about.

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_core::id::Ticket;
use roomcast_core::store::redis::Redis;
use roomcast_core::store::{Answer, Lane, StoreError, StoreOp};
use roomcast_core::time::Time;

use super::Lanes;
use super::address::{Address, Place};
use super::redis::{READ_BUFFER, RedisLanes, Servers, WATCH, channel, origin};
use super::server::Connector;
use crate::backplane::{Input, Post};
use crate::mailbox::ReadyWaker;

mod commands;
mod ears;
mod gathering;
mod pipeline;
mod relay;
mod slot_map;
mod source;
mod tail;
mod topology;

use commands::Commands;
use ears::Ears;
use relay::Relay;
use slot_map::Host;
use source::Source;
use tail::Tail;
use topology::Topology;

/// The numbers of the clusters; those of the lanes to servers are lower, or the highest of all.
const TOPOLOGIES: u32 = 1 << 17;
/// The numbers of lanes to clusters, of which each has several.
const LANES: u32 = 1 << 18;
const OF_EACH: u32 = 1 << 11;

/// Lanes of a node whose Redis, or that of one of its sources or channels, is a cluster. Those that lead to single servers are
/// [`RedisLanes`].
pub struct ClusterLanes {
    servers: RedisLanes,
    /// The clusters, and which of them is the node's, or that of a source or a channel.
    clusters: Vec<Topology>,
    node: Option<usize>,
    origins: BTreeMap<u16, usize>,
    channels: BTreeMap<u16, usize>,
    /// Sources and channels that have a server of their own.
    apart: Vec<Lane>,
    ways: Vec<Open>,
    numbers: BTreeMap<Lane, usize>,
    redis: Redis,
    post: Arc<Post>,
    buffer: Box<[u8]>,
}

/// A lane to a cluster.
struct Open {
    cluster: usize,
    way: Box<dyn Way>,
}

/// How a lane asks a cluster.
trait Way: Send {
    /// See [`Lanes::submit`].
    fn submit(&mut self, around: &mut Around<'_>, ticket: Ticket, op: StoreOp);

    /// See [`Lanes::interrupt`].
    fn interrupt(&mut self, _around: &mut Around<'_>) {}

    /// See [`Lanes::reset`].
    fn reset(&mut self, around: &mut Around<'_>);

    /// A connection can go on: one of those that were given this number by [`Numbers::waker`].
    fn ready(&mut self, around: &mut Around<'_>, number: u32);

    /// There is a new map, in which these are primaries no more.
    fn mapped(&mut self, around: &mut Around<'_>, gone: &[Host]);

    /// Time has passed.
    fn tick(&mut self, around: &mut Around<'_>);

    /// When [`Way::tick`] has something to do.
    fn next_deadline(&self) -> Option<Time>;
}

/// What is around a lane.
struct Around<'a> {
    now: Time,
    topology: &'a mut Topology,
    redis: &'a Redis,
    post: &'a Post,
    buffer: &'a mut [u8],
}

/// The numbers of a lane.
struct Numbers {
    first: u32,
    post: Arc<Post>,
}

impl ClusterLanes {
    /// Lanes to servers and clusters, which answer to a mailbox. Nothing is connected before the first operation.
    pub fn new(servers: Servers, connector: &Connector, redis: Redis, post: Arc<Post>) -> ClusterLanes {
        let mut clusters: Vec<Topology> = Vec::new();
        let mut topology = |address: &Address| match &address.place {
            Place::Cluster(cluster) => {
                let number = TOPOLOGIES + clusters.len() as u32;
                clusters.push(Topology::new(cluster, connector.to(address), number, post.clone()));
                Some(clusters.len() - 1)
            }
            Place::Server(_) | Place::Sentinels(_) => None,
        };
        let node = topology(&servers.node);
        let mut all = |addresses: &BTreeMap<u16, Address>| -> BTreeMap<u16, usize> {
            addresses.iter().filter_map(|(index, address)| Some((*index, topology(address)?))).collect()
        };
        let (origins, channels) = (all(&servers.origins), all(&servers.channels));
        let sources = servers.origins.keys().flat_map(|source| [Lane::Source(*source), Lane::Origin(*source)]);
        let apart = sources.chain(servers.channels.keys().map(|channel| Lane::Channel(*channel))).collect();
        ClusterLanes {
            servers: RedisLanes::new(servers, connector, redis.clone(), post.clone()),
            clusters,
            node,
            origins,
            channels,
            apart,
            ways: Vec::new(),
            numbers: BTreeMap::new(),
            redis,
            post,
            buffer: vec![0; READ_BUFFER].into(),
        }
    }

    /// The cluster that a lane leads to, if it is one.
    fn cluster(&self, lane: Lane) -> Option<usize> {
        let own = origin(lane).and_then(|source| self.origins.get(&source));
        let own = own.or_else(|| channel(lane).and_then(|channel| self.channels.get(&channel)));
        own.copied().or_else(|| self.node.filter(|_| !self.apart.contains(&lane)))
    }

    /// Runs a lane of a cluster; nothing if it leads to a server.
    fn run<T>(&mut self, now: Time, lane: Lane, run: impl FnOnce(&mut dyn Way, &mut Around<'_>) -> T) -> Option<T> {
        let cluster = self.cluster(lane)?;
        let ClusterLanes { ways, numbers, post, .. } = self;
        let index = *numbers.entry(lane).or_insert_with(|| {
            let numbers = Numbers { first: LANES + ways.len() as u32 * OF_EACH, post: post.clone() };
            ways.push(Open { cluster, way: way(lane, numbers) });
            ways.len() - 1
        });
        self.run_at(now, index, run)
    }

    fn run_at<T>(&mut self, now: Time, index: usize, run: impl FnOnce(&mut dyn Way, &mut Around<'_>) -> T) -> Option<T> {
        let ClusterLanes { clusters, ways, redis, post, buffer, .. } = self;
        let Open { cluster, way } = ways.get_mut(index)?;
        let topology = clusters.get_mut(*cluster)?;
        Some(run(way.as_mut(), &mut Around { now, topology, redis, post, buffer }))
    }

    fn drive_topology(&mut self, now: Time, number: usize) {
        let Some(gone) = self.clusters.get_mut(number).and_then(|topology| topology.drive(now)) else { return };
        for index in 0..self.ways.len() {
            if self.ways.get(index).is_some_and(|open| open.cluster == number) {
                self.run_at(now, index, |way, around| way.mapped(around, &gone));
            }
        }
    }
}

impl Lanes for ClusterLanes {
    fn submit(&mut self, now: Time, lane: Lane, ticket: Ticket, op: StoreOp) {
        if self.cluster(lane).is_none() {
            return self.servers.submit(now, lane, ticket, op);
        }
        self.run(now, lane, |way, around| {
            around.topology.begin(now);
            way.submit(around, ticket, op);
        });
    }

    fn interrupt(&mut self, now: Time, lane: Lane) {
        if self.run(now, lane, |way, around| way.interrupt(around)).is_none() {
            self.servers.interrupt(now, lane);
        }
    }

    fn reset(&mut self, now: Time, lane: Lane) {
        let reset = |way: &mut dyn Way, around: &mut Around<'_>| {
            // What does not answer may have been replaced.
            around.topology.look_soon(now);
            way.reset(around);
        };
        if self.run(now, lane, reset).is_none() {
            self.servers.reset(now, lane);
        }
    }

    fn ready(&mut self, now: Time, number: u32) {
        match number {
            ..TOPOLOGIES | WATCH => self.servers.ready(now, number),
            TOPOLOGIES..LANES => self.drive_topology(now, (number - TOPOLOGIES) as usize),
            LANES.. => {
                let number = number - LANES;
                self.run_at(now, (number / OF_EACH) as usize, |way, around| way.ready(around, number % OF_EACH));
            }
        }
    }

    fn tick(&mut self, now: Time) {
        self.servers.tick(now);
        self.clusters.iter_mut().for_each(|topology| topology.tick(now));
        for index in 0..self.ways.len() {
            self.run_at(now, index, |way, around| way.tick(around));
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let clusters = self.clusters.iter().filter_map(Topology::next_deadline);
        let ways = self.ways.iter().filter_map(|open| open.way.next_deadline());
        clusters.chain(ways).chain(self.servers.next_deadline()).min()
    }
}

impl Around<'_> {
    fn answer(&self, ticket: Ticket, answer: Result<Answer, StoreError>) {
        self.post.post(Input::Answer(ticket, answer));
    }
}

impl Numbers {
    /// A waker for connections of the lane, under a number of theirs.
    fn waker(&self, number: u32) -> Arc<ReadyWaker<Input>> {
        ReadyWaker::new(self.first + number, self.post.clone())
    }
}

fn way(lane: Lane, numbers: Numbers) -> Box<dyn Way> {
    match lane {
        Lane::Command | Lane::Origin(_) => Box::new(Commands::new(&numbers)),
        Lane::Source(_) => Box::new(Source::new(&numbers)),
        Lane::Relay => Box::new(Relay::new(numbers)),
        Lane::Tail => Box::new(Tail::new(&numbers)),
        Lane::Channels | Lane::Channel(_) => Box::new(Ears::new(numbers)),
    }
}

#[cfg(test)]
mod tests;
