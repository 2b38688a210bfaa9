//! What is known of a cluster, and how that is found out.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use redis::RedisConnectionInfo;
use roomcast_core::store::StoreError;
use roomcast_core::time::Time;

use super::super::address;
use super::super::line::Line;
use super::super::server::{Connector, Server};
use super::slot_map::{Host, SlotMap};
use crate::backplane::{Input, Post};
use crate::mailbox::ReadyWaker;

/// How often it is asked where slots are, though nothing seems to have changed.
const EVERY: Duration = Duration::from_secs(10);
/// The same while somebody looks for what is not known, or not where it was.
const SOON: Duration = Duration::from_millis(100);
/// How long a node may take to answer, with the connection to it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// No more is read of an answer, in bytes. One that names every slot by itself has about two million.
const LONGEST_REPLY: usize = 8 << 20;

/// The slots of a cluster, asked for again and again: one node is asked at a time.
pub(super) struct Topology {
    map: SlotMap,
    seeds: Vec<Host>,
    settings: RedisConnectionInfo,
    connector: Connector,
    waker: Arc<ReadyWaker<Input>>,
    looking: Option<Looking>,
    /// Which of the known nodes is asked next, unless one was named that is said to know better.
    next: usize,
    named: Option<Host>,
    /// When somebody was asked last, and when to ask next.
    asked_at: Time,
    at: Option<Time>,
    /// Why the last one who was asked has not told.
    failure: Option<String>,
}

/// A node that is being asked.
struct Looking {
    host: Host,
    answer: Pin<Box<dyn Future<Output = io::Result<SlotMap>> + Send>>,
    until: Time,
    /// What it says may be older than what somebody needs to know.
    again: bool,
}

impl Topology {
    /// The cluster at an address. What goes on with it is posted under a number.
    pub(super) fn new(cluster: &address::Cluster, connector: Connector, number: u32, post: Arc<Post>) -> Topology {
        Topology {
            map: SlotMap::unknown(),
            seeds: cluster.seeds.iter().map(Host::from).collect(),
            settings: cluster.settings.clone(),
            connector,
            waker: ReadyWaker::new(number, post),
            looking: None,
            next: 0,
            named: None,
            asked_at: Time::ZERO,
            at: None,
            failure: None,
        }
    }

    /// Begins to ask, unless it has.
    pub(super) fn begin(&mut self, now: Time) {
        if self.at.is_none() && self.looking.is_none() {
            self.look(now);
        }
    }

    /// Somebody has found that something is not where it was.
    pub(super) fn look_soon(&mut self, now: Time) {
        match &mut self.looking {
            Some(looking) => looking.again = true,
            None => {
                let soon = now.max(self.asked_at + SOON);
                self.at = Some(self.at.map_or(soon, |at| at.min(soon)));
            }
        }
    }

    /// A slot has moved to a node, which is the one to know of more.
    pub(super) fn moved(&mut self, now: Time, slot: u16, to: &Host) {
        if self.map.primary(slot) != Some(to) {
            self.map.set(slot, to);
            self.named = Some(to.clone());
        }
        self.look_soon(now);
    }

    pub(super) fn primary(&self, slot: u16) -> Option<&Host> {
        self.map.primary(slot)
    }

    /// A primary, whichever.
    pub(super) fn any(&self) -> Option<&Host> {
        self.map.primaries().get(self.next % self.map.primaries().len().max(1))
    }

    /// How connections to a node are opened.
    pub(super) fn server(&self, host: &Host) -> Server {
        Server::fixed(host.address(), self.settings.clone(), self.connector.clone())
    }

    /// What is answered to those who have waited in vain for a primary.
    pub(super) fn down(&self) -> StoreError {
        let why = self
            .failure
            .as_ref()
            .map_or_else(|| "nobody serves the slot".into(), |failure| format!("where slots are is not known: {failure}"));
        StoreError::Busy(format!("CLUSTERDOWN {why}").into())
    }

    /// Goes on as far as possible. Where the map is a new one, the primaries that are none any more.
    pub(super) fn drive(&mut self, now: Time) -> Option<Vec<Host>> {
        self.waker.take();
        let looking = self.looking.as_mut()?;
        let waker = Waker::from(self.waker.clone());
        let Poll::Ready(answer) = looking.answer.as_mut().poll(&mut Context::from_waker(&waker)) else { return None };
        self.answered(now, answer)
    }

    /// Asks when it is time to, and gives up who does not answer.
    pub(super) fn tick(&mut self, now: Time) {
        if self.looking.as_ref().is_some_and(|looking| looking.until <= now) {
            self.answered(now, Err(io::ErrorKind::TimedOut.into()));
        }
        if self.at.is_some_and(|at| at <= now) {
            self.look(now);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.looking.as_ref().map(|looking| looking.until).or(self.at)
    }

    fn look(&mut self, now: Time) {
        let host = self.named.take().unwrap_or_else(|| self.next_host());
        let (server, settings, connector, asked) = (host.address(), self.settings.clone(), self.connector.clone(), host.clone());
        let answer = Box::pin(async move {
            let mut line = Line::open(&server, &settings, &connector, LONGEST_REPLY).await?;
            let slots = line.ask(&["CLUSTER", "SLOTS"]).await?;
            SlotMap::read(slots, &asked).ok_or_else(|| io::Error::other("its answer is not understood"))
        });
        (self.asked_at, self.at) = (now, None);
        self.looking = Some(Looking { host, answer, until: now + TIMEOUT, again: false });
        self.waker.ready();
    }

    fn next_host(&mut self) -> Host {
        let known: Vec<&Host> =
            self.map.hosts().chain(self.seeds.iter().filter(|seed| !self.map.hosts().any(|host| host == *seed))).collect();
        let host = known[self.next % known.len()].clone();
        self.next = self.next.wrapping_add(1);
        host
    }

    fn answered(&mut self, now: Time, answer: io::Result<SlotMap>) -> Option<Vec<Host>> {
        let Looking { host, again, .. } = self.looking.take()?;
        match answer {
            Ok(map) => {
                let before = std::mem::replace(&mut self.map, map);
                let is_settled = self.map.is_complete() && !again;
                self.at = Some(if is_settled { now + EVERY } else { self.asked_at + SOON });
                self.failure = None;
                let gone = before.primaries().iter().filter(|host| !self.map.primaries().contains(host));
                Some(gone.cloned().collect())
            }
            Err(error) => {
                self.failure = Some(format!("{host}: {error}"));
                self.at = Some(now.max(self.asked_at + SOON));
                None
            }
        }
    }
}
