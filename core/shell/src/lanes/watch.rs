//! Looks for a change of the master that nobody would notice otherwise.
//!
//! After a fail-over in good order the old master goes on for some ten seconds as if nothing had happened, until it is told that it
//! is a replica. Whatever is written to it then is lost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use roomcast_core::time::Time;

use super::sentinel::Watched;
use super::server::Connector;
use crate::backplane::{Input, Post};
use crate::mailbox::ReadyWaker;

/// How often one of the sentinels is asked, in turn. One that has not answered by the next time does not any more.
const EVERY: Duration = Duration::from_millis(500);

/// Asks the sentinels of some masters again and again.
pub(super) struct Watch {
    masters: Vec<(Arc<Watched>, Connector, Option<Looking>)>,
    waker: Arc<ReadyWaker<Input>>,
    /// When to ask next, once it has begun.
    at: Option<Time>,
}

/// A sentinel that is being asked.
type Looking = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Watch {
    /// Watches these masters. What goes on with it is posted under a number.
    pub(super) fn new(masters: impl Iterator<Item = (Arc<Watched>, Connector)>, number: u32, post: Arc<Post>) -> Watch {
        let masters = masters.map(|(master, connector)| (master, connector, None)).collect();
        Watch { masters, waker: ReadyWaker::new(number, post), at: None }
    }

    /// Begins, unless it has, or there is nothing to watch.
    pub(super) fn begin(&mut self, now: Time) {
        if self.at.is_none() && !self.masters.is_empty() {
            self.at = Some(now + EVERY);
        }
    }

    /// Asks when it is time to, and tells whether a master has changed.
    pub(super) fn tick(&mut self, now: Time) -> bool {
        if self.at.is_none_or(|at| at > now) {
            return false;
        }
        self.at = Some(now + EVERY);
        for (master, connector, looking) in &mut self.masters {
            let (master, connector) = (master.clone(), connector.clone());
            // Another sentinel knows it as well, if this one does not answer.
            *looking = Some(Box::pin(async move { drop(master.look(&connector).await) }));
        }
        self.drive()
    }

    /// Goes on as far as possible, and tells whether a master has changed.
    pub(super) fn drive(&mut self) -> bool {
        self.waker.take();
        let waker = Waker::from(self.waker.clone());
        let mut has_changed = false;
        for (master, _, looking) in &mut self.masters {
            let epoch = master.epoch();
            if looking.as_mut().is_some_and(|looking| looking.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()) {
                *looking = None;
            }
            has_changed |= master.epoch() != epoch;
        }
        has_changed
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.at
    }
}
