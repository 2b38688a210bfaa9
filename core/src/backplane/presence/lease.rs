//! The node's life among the nodes: a name that is good as long as it is renewed in time.

use std::sync::Arc;

use rand_chacha::rand_core::Rng as _;

use super::super::Core;
use super::super::backoff::Backoff;
use super::super::questions::Wake;
use super::{Errand, ask};
use crate::store::PresenceOp;
use crate::time::Time;

/// The name under which the node tells who is there, and until when it may.
///
/// A name that was not renewed in time is dead for ever: others take its users out of their rooms, however long that takes, and
/// a process that goes on takes another name. So neither can be in the other's way.
#[derive(Debug)]
pub(super) struct Lease {
    name: Arc<str>,
    /// How many names there were before.
    life: u64,
    /// Since when the store knows the name, if it does.
    since: Option<Time>,
    /// Until when it lives at least.
    until: Time,
    /// When the beat that is under way was sent.
    asked: Option<Time>,
    /// When to beat again. A wake-up before that is left over.
    next: Time,
    backoff: Backoff,
}

impl Lease {
    pub(super) fn new(core: &mut Core) -> Lease {
        Lease {
            name: name(core),
            life: 0,
            since: None,
            until: Time::ZERO,
            asked: None,
            next: Time::ZERO,
            backoff: Backoff::default(),
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// Whether the store may have heard the name.
    pub(super) fn may_be_known(&self) -> bool {
        self.since.is_some() || self.asked.is_some()
    }

    /// Whether the node lives for sure.
    pub(super) fn holds(&self, now: Time) -> bool {
        now < self.until
    }

    /// Whether the node has lived for long enough to take others for dead: where the store was away, all must have had the time
    /// to come back, or the first one to do so would send everybody's users away.
    pub(super) fn may_judge(&self, core: &Core, now: Time) -> bool {
        self.since.is_some_and(|since| now >= since + core.config.relay.dead_after)
    }

    pub(super) fn beat(&mut self, core: &mut Core, now: Time) {
        self.asked = Some(now);
        let (node, new, lasts) = (self.name.clone(), self.since.is_none(), core.config.relay.dead_after);
        ask(core, now, Errand::Beat, PresenceOp::Beat { node, new, lasts });
    }

    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        if self.asked.is_none() && now >= self.next {
            self.beat(core, now);
        }
    }

    /// The store does not take what the node says: it may be dead.
    pub(super) fn doubt(&mut self, core: &mut Core, now: Time) {
        if self.asked.is_none() {
            self.beat(core, now);
        }
    }

    pub(super) fn renewed(&mut self, core: &mut Core, now: Time) {
        let Some(asked) = self.asked.take() else { return };
        self.since.get_or_insert(asked);
        self.until = asked + core.config.relay.dead_after;
        self.backoff.reset();
        self.wake_at(core, now + core.config.relay.beat);
    }

    /// Whether the beat was heard is unknown. A name that is new must not be said to be so twice, so another is taken.
    pub(super) fn failed(&mut self, core: &mut Core, now: Time) {
        self.asked = None;
        if self.since.is_none() {
            self.name = name(core);
        }
        let pause = self.backoff.pause(&mut core.rng).min(core.config.relay.beat);
        self.wake_at(core, now + pause);
    }

    pub(super) fn rename(&mut self, core: &mut Core) {
        *self = Lease { life: self.life + 1, ..Lease::new(core) };
    }

    fn wake_at(&mut self, core: &mut Core, at: Time) {
        self.next = at;
        core.questions.wake_at(at, Wake::Beat);
    }
}

/// A name that no life of any process had before, whatever their configuration.
fn name(core: &mut Core) -> Arc<str> {
    format!("{}~{:08x}", core.config.node, core.rng.next_u32()).into()
}
