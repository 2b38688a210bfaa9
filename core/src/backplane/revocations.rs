//! Revoked tokens: kept in the store, so that every node refuses them whenever it comes, and told to all nodes at once.
//!
//! ```text
//! operator ──▶ asked node ──▶ the store ──▶ a survey of all nodes ──▶ each node's hubs close what is revoked
//! a node that starts, or hears of the store again ──▶ reads what is revoked
//! ```

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::pause::Pause;
use super::questions::{Purpose, Wake};
use super::{BackplaneAction, Core};
use crate::door::ReadId;
use crate::id::ShardId;
use crate::store::{Answer, Lane, RevocationOp, StoreError, StoreOp};
use crate::time::{Time, UnixMillis};
use crate::token::{Revocation, Revoked, Subject};

/// How far the clocks of nodes may differ: what was revoked so long ago is read again.
const SKEW: Duration = Duration::from_secs(300);

/// What is revoked, as far as this node knows.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    known: Revoked,
    /// The newest that was read, or none where all has to be read.
    newest: Option<UnixMillis>,
    /// What the store does not have yet.
    unsaved: BTreeMap<Subject, UnixMillis>,
    pause: Pause,
    /// When it is to be read again.
    read_at: Time,
}

/// What a revocation is waited for.
#[derive(Clone, Debug)]
pub(super) struct Revoking {
    pub(super) revocation: Revocation,
    /// Who wants to know what came of it, if anybody still does.
    pub(super) asker: Option<(ShardId, ReadId)>,
}

impl Revocations {
    /// Reads what is revoked, all of it or what is new.
    pub(super) fn read(&mut self, core: &mut Core, now: Time, all: bool) {
        let oldest = UnixMillis(core.wall.unix(now).0.saturating_sub(core.config.auth.revoked_for.as_millis() as u64));
        let newest = self.newest.filter(|_| !all).map(|at| UnixMillis(at.0.saturating_sub(SKEW.as_millis() as u64)));
        let since = newest.unwrap_or_default().max(oldest);
        core.ask(now, Lane::Command, Purpose::Revoked, StoreOp::Revocations(RevocationOp::Since(since)));
        self.read_at = now + core.config.relay.check;
        core.questions.wake_at(self.read_at, Wake::Revocations);
    }

    /// What is revoked was read.
    pub(super) fn have(&mut self, core: &mut Core, now: Time, answer: Result<Answer, StoreError>) {
        let Ok(Answer::Revoked(revoked)) = answer else { return };
        let unix = core.wall.unix(now);
        let mut is_new = self.known.forget(unix);
        for (subject, at) in revoked {
            self.newest = self.newest.max(Some(at));
            is_new |= self.known.add(Revocation::new(subject, at, core.config.auth.revoked_for));
        }
        // Nothing must stay unknown to those that were not there when it was said.
        self.newest = self.newest.or(Some(unix));
        if is_new {
            self.tell(core);
        }
    }

    /// Somebody revokes: the store is to know it first.
    pub(super) fn begin(&mut self, core: &mut Core, now: Time, revoking: Revoking) {
        let Revocation { subject, at, .. } = revoking.revocation.clone();
        let op = RevocationOp::Add { subject, at, ttl: core.config.auth.revoked_for };
        core.ask(now, Lane::Command, Purpose::Revoking(Box::new(revoking)), StoreOp::Revocations(op));
    }

    /// The store knows it, or does not. Whoever asked, and what is to be told to all nodes.
    pub(super) fn saved(
        &mut self,
        core: &mut Core,
        now: Time,
        revoking: Revoking,
        answer: &Result<Answer, StoreError>,
    ) -> Option<((ShardId, ReadId), Revocation)> {
        let Revoking { revocation, asker } = revoking;
        if answer.is_ok() {
            self.pause.reset();
        } else {
            self.unsaved.insert(revocation.subject.clone(), revocation.at);
            self.pause.begin(core, now, Wake::Revocations);
        }
        asker.map(|asker| (asker, revocation))
    }

    /// A node says what is revoked.
    pub(super) fn hear(&mut self, core: &mut Core, revocation: &Revocation) {
        if self.known.add(revocation.clone()) {
            self.tell(core);
        }
    }

    /// It is time to read again, and to save what is not saved.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        if !self.pause.is_over(now) {
            return;
        }
        for (subject, at) in core::mem::take(&mut self.unsaved) {
            let revocation = Revocation::new(subject, at, core.config.auth.revoked_for);
            self.begin(core, now, Revoking { revocation, asker: None });
        }
        if self.read_at <= now {
            self.read(core, now, false);
        }
    }

    /// The store is back, with who knows what.
    pub(super) fn hurry(&mut self, core: &mut Core, now: Time) {
        self.pause.end();
        (self.newest, self.read_at) = (None, now);
        self.wake(core, now);
    }

    fn tell(&self, core: &mut Core) {
        core.actions.push_back(BackplaneAction::Revoked(Arc::new(self.known.clone())));
    }
}
