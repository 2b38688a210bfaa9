//! The reads of a source whose stream is in a cluster.

use std::sync::Arc;
use std::task::{Context, Waker};

use redis::Value;
use roomcast_core::id::Ticket;
use roomcast_core::store::{StoreError, StoreOp};
use roomcast_core::time::Time;
use tracing::warn;

use super::super::link::Link;
use super::super::redis::{UNBLOCK_AGAIN, UNBLOCK_LATER, UNBLOCK_TIMEOUT};
use super::super::server::Server;
use super::pipeline::{Pipeline, Replies};
use super::slot_map::Host;
use super::{Around, Numbers, Way};
use crate::backplane::Input;
use crate::mailbox::ReadyWaker;

/// The number of the connection that ends reads. That of the one that reads is 0.
const UNBLOCKER: u32 = 1;

/// A connection that reads, and one that ends a read. A read that was given up while the node still works on it would leave
/// entries pending that nobody has seen.
pub(super) struct Source {
    pipeline: Pipeline<Ticket>,
    /// The read is to be ended.
    interrupted: bool,
    unblocker: Option<Unblocker>,
    unblocker_waker: Arc<ReadyWaker<Input>>,
    /// When to ask next for its end, and by when the node must have answered.
    unblock_at: Option<Time>,
    unblock_until: Option<Time>,
    /// The node does not let us end reads: they end by themselves.
    cannot_unblock: bool,
}

/// A connection to the node at which the source is read.
struct Unblocker {
    host: Host,
    server: Server,
    link: Link<()>,
}

impl Source {
    pub(super) fn new(numbers: &Numbers) -> Source {
        Source {
            pipeline: Pipeline::new(numbers.waker(0)),
            interrupted: false,
            unblocker: None,
            unblocker_waker: numbers.waker(UNBLOCKER),
            unblock_at: None,
            unblock_until: None,
            cannot_unblock: false,
        }
    }

    fn answer(&mut self, around: &Around<'_>, replies: Replies<Ticket>) {
        self.interrupted &= replies.is_empty();
        replies.into_iter().for_each(|(ticket, answer)| around.answer(ticket, answer));
    }

    /// Asks for the end of the read, unless it is being asked for.
    fn unblock(&mut self, around: &Around<'_>) {
        self.unblock_at = None;
        if !self.interrupted || self.unblock_until.is_some() {
            return;
        }
        // It may be on its way to another node.
        let Some((host, client)) = self.pipeline.client() else {
            self.unblock_at = Some(around.now + UNBLOCK_AGAIN);
            return;
        };
        let unblocker = match self.unblocker.take().filter(|unblocker| unblocker.host == *host) {
            Some(unblocker) => unblocker,
            None => Unblocker { host: host.clone(), server: around.topology.server(host), link: Link::new() },
        };
        let unblocker = self.unblocker.insert(unblocker);
        unblocker.link.ask((), &[vec!["CLIENT", "UNBLOCK", &client.to_string()]]);
        self.unblock_until = Some(around.now + UNBLOCK_TIMEOUT);
        self.unblocker_waker.ready();
    }

    fn drive_unblocker(&mut self, around: &mut Around<'_>) {
        self.unblocker_waker.take();
        let Some(Unblocker { server, link, .. }) = &mut self.unblocker else { return };
        let mut answers = Vec::new();
        let waker = Waker::from(self.unblocker_waker.clone());
        link.drive(&mut Context::from_waker(&waker), server, around.buffer, &mut answers);
        for ((), answer) in answers {
            self.unblock_until = None;
            match answer {
                Ok(Value::ServerError(refusal)) => {
                    warn!(%refusal, "Redis does not let blocking reads be ended: they end by themselves");
                    self.cannot_unblock = true;
                    self.interrupted = false;
                }
                Ok(_) => self.unblock_at = Some(around.now + UNBLOCK_AGAIN),
                Err(_) => self.unblock_at = Some(around.now + UNBLOCK_LATER),
            }
        }
    }
}

impl Way for Source {
    fn submit(&mut self, around: &mut Around<'_>, ticket: Ticket, op: StoreOp) {
        let slot = around.redis.parts(&op).pop().and_then(|part| part.slot);
        self.pipeline.ask(around, ticket, op, slot);
    }

    fn interrupt(&mut self, around: &mut Around<'_>) {
        // What it was about may have been answered already.
        if self.pipeline.is_busy() && !self.cannot_unblock {
            self.interrupted = true;
            self.unblock(around);
        }
    }

    fn reset(&mut self, around: &mut Around<'_>) {
        let replies = self.pipeline.fail(&StoreError::Disconnected("the lane was reset".into()));
        self.answer(around, replies);
    }

    fn ready(&mut self, around: &mut Around<'_>, number: u32) {
        if number == UNBLOCKER {
            return self.drive_unblocker(around);
        }
        let replies = self.pipeline.drive(around);
        self.answer(around, replies);
    }

    fn mapped(&mut self, around: &mut Around<'_>, gone: &[Host]) {
        let replies = self.pipeline.mapped(around, gone);
        self.answer(around, replies);
    }

    fn tick(&mut self, around: &mut Around<'_>) {
        let replies = self.pipeline.tick(around);
        self.answer(around, replies);
        if self.unblock_until.is_some_and(|until| until <= around.now) {
            (self.unblocker, self.unblock_until) = (None, None);
            self.unblock_at = Some(around.now + UNBLOCK_LATER);
        }
        if self.unblock_at.is_some_and(|at| at <= around.now) {
            self.unblock(around);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.pipeline.next_deadline().into_iter().chain(self.unblock_at).chain(self.unblock_until).min()
    }
}
