//! A source: one stream read in a consumer group, each entry taken to its end (contract C3).
//!
//! ```text
//! Creating ─▶ Recovering ─▶ Reading ⇄ Committing        Looking ─▶ Claiming, now and then, before a read
//!     ▲            any error ─▶ Pausing ─▶ Creating      a failed commit ─▶ Pausing ─▶ the same commit again
//! ```
//!
//! One thing happens at a time, so nothing read is ever in two hands of this process; what another node may claim meanwhile is
//! protected by the guard of the commit. After any failed read the own pending entries are read
//! again first: a read that was lost on its way back has left entries pending that this process has never seen.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use rand_chacha::rand_core::Rng as _;

use super::Core;
use super::backoff::Backoff;
use super::questions::{Purpose, Wake};
use super::router::Router;
use crate::config::{Config, Source};
use crate::id::StreamId;
use crate::report::Report;
use crate::store::{Answer, Committed, Effect, Entry, GroupRef, Lane, Stale, StoreError, StoreOp};
use crate::time::Time;

/// The consumer of one source.
#[derive(Debug)]
pub(super) struct Consumer {
    index: u16,
    source: Source,
    group: GroupRef,
    router: Router,
    step: Step,
    /// Entries to read next time: grows under backlog, falls back without.
    count: usize,
    claim_at: Time,
    backoff: Backoff,
    unready: Option<String>,
}

#[derive(Debug)]
enum Step {
    Creating,
    /// Own pending entries are read.
    Recovering,
    /// Entries that have been held for long are looked for.
    Looking,
    /// They are taken over: how often each had been delivered, and what follows.
    Claiming(BTreeMap<StreamId, u32>, Next),
    Reading,
    Committing(Commit),
    Pausing(Then),
}

/// What follows a pause.
#[derive(Debug)]
enum Then {
    Create,
    Commit(Commit),
}

/// Entries on their way to their end: those whose effects are being stored, and those that come after them.
#[derive(Debug)]
struct Commit {
    effects: Vec<(StreamId, Effect)>,
    rest: VecDeque<Delivered>,
    next: Next,
}

/// An entry, and how often it has been delivered, this time included.
type Delivered = (Entry, u32);

/// Bytes of effects that are stored in one go, about: a store must be able to answer in time, and memory is bounded by it.
const COMMIT_BYTES: usize = 2 << 20;
/// Bytes of one read beyond which the next one asks for fewer entries.
const READ_BYTES: usize = 8 << 20;

/// The longest time for which an entry that failed is left alone.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// What follows a commit.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Read on.
    Read,
    /// Read own pending entries beyond this one.
    Recover(StreamId),
    /// Look for entries to claim beyond this one.
    Claim(StreamId),
}

impl Consumer {
    pub(super) fn new(index: u16, source: Source, config: &Config) -> Consumer {
        Consumer {
            index,
            group: GroupRef { stream: source.stream.as_str().into(), group: source.group.as_str().into() },
            router: Router::new(&source, config),
            step: Step::Creating,
            count: source.count,
            claim_at: Time::ZERO,
            backoff: Backoff::default(),
            unready: Some("is being opened".into()),
            source,
        }
    }

    pub(super) fn start(&mut self, core: &mut Core, now: Time) {
        self.step = Step::Creating;
        self.ask(core, now, StoreOp::GroupCreate(self.group.clone()));
    }

    pub(super) fn answered(&mut self, core: &mut Core, now: Time, answer: Result<Answer, StoreError>) {
        let step = core::mem::replace(&mut self.step, Step::Creating);
        match (step, answer) {
            (Step::Committing(commit), Ok(Answer::Committed(outcomes))) => self.committed(core, now, commit, outcomes),
            // The group is gone, and with it the proof that these entries are pending. They are read again once it is back.
            (Step::Committing(_), Err(StoreError::NoGroup)) => self.start(core, now),
            (Step::Committing(commit), Err(error)) => {
                // What was lost on a broken connection may have left entries that were never seen.
                let next = Next::Recover(StreamId::ZERO);
                self.pause(core, now, &error, Then::Commit(Commit { next, ..commit }));
            }
            (Step::Creating, Ok(Answer::Done)) => self.recover(core, now, StreamId::ZERO),
            (Step::Recovering, Ok(Answer::Entries(entries))) => match entries.last().map(|entry| entry.id) {
                // They were delivered to this process before, at least once.
                Some(last) => self.process(core, now, entries.into_iter().map(|entry| (entry, 2)), Next::Recover(last)),
                None => self.read(core, now),
            },
            (Step::Reading, Ok(Answer::Entries(entries))) => {
                self.adapt(&entries);
                self.process(core, now, entries.into_iter().map(|entry| (entry, 1)), Next::Read);
            }
            (Step::Looking, Ok(Answer::Stale(found))) => self.found(core, now, &found),
            (Step::Claiming(deliveries, next), Ok(Answer::Entries(entries))) => {
                core.stats.claimed += entries.len() as u64;
                let count = |entry: Entry| {
                    let before = deliveries.get(&entry.id).copied().unwrap_or_default();
                    (entry, before.saturating_add(1))
                };
                self.process(core, now, entries.into_iter().map(count), next);
            }
            (step @ Step::Pausing(_), _) => self.step = step,
            (_, Err(error)) => self.pause(core, now, &error, Then::Create),
            (_, Ok(_)) => self.pause(core, now, &StoreError::Unexpected("the answer to another question".into()), Then::Create),
        }
    }

    /// A pause is over.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        match core::mem::replace(&mut self.step, Step::Creating) {
            Step::Pausing(Then::Create) => self.start(core, now),
            Step::Pausing(Then::Commit(commit)) => self.commit(core, now, commit),
            other => self.step = other,
        }
    }

    pub(super) fn unready(&self) -> Option<String> {
        self.unready.as_ref().map(|reason| format!("source {} {reason}", self.source.stream))
    }

    fn recover(&mut self, core: &mut Core, now: Time, after: StreamId) {
        self.step = Step::Recovering;
        let op = StoreOp::GroupPending { group: self.group.clone(), after, count: self.source.most };
        self.ask(core, now, op);
    }

    fn read(&mut self, core: &mut Core, now: Time) {
        self.backoff.reset();
        self.unready = None;
        if now >= self.claim_at {
            return self.look(core, now, StreamId::ZERO);
        }
        self.step = Step::Reading;
        // The wait ends in time for the next claim.
        let block = self.source.block.min(self.claim_at - now).max(Duration::from_millis(1));
        let op = StoreOp::GroupRead { group: self.group.clone(), count: self.count, block };
        self.ask(core, now, op);
    }

    /// Looks for entries that a consumer has held for long: it has died, or could not bring them to their end.
    fn look(&mut self, core: &mut Core, now: Time, after: StreamId) {
        self.step = Step::Looking;
        let (group, idle) = (self.group.clone(), self.source.claim_after);
        self.ask(core, now, StoreOp::GroupStale { group, idle, after, count: self.source.most });
    }

    fn found(&mut self, core: &mut Core, now: Time, found: &[Stale]) {
        let next = match found.last() {
            Some(last) if found.len() >= self.source.most => Next::Claim(last.id),
            _ => {
                self.claim_at = now + self.claim_pause(core);
                Next::Read
            }
        };
        // The store's own clock says how long ago the last attempt was: that outlives any process.
        let due = found.iter().filter(|stale| stale.idle >= self.retry_after(stale.deliveries));
        let deliveries: BTreeMap<StreamId, u32> = due.map(|stale| (stale.id, stale.deliveries)).collect();
        if deliveries.is_empty() {
            return self.proceed(core, now, next);
        }
        let (group, idle, ids) = (self.group.clone(), self.source.claim_after, deliveries.keys().copied().collect());
        self.step = Step::Claiming(deliveries, next);
        self.ask(core, now, StoreOp::GroupClaim { group, idle, ids });
    }

    /// How long an entry is left alone that has been delivered so often: twice as long each time.
    fn retry_after(&self, deliveries: u32) -> Duration {
        let doublings = deliveries.saturating_sub(1).min(16);
        self.source.claim_after.saturating_mul(1 << doublings).min(LONGEST_RETRY.max(self.source.claim_after))
    }

    /// A quarter of the idle time, jittered, so that abandoned entries wait not much longer than they must.
    fn claim_pause(&self, core: &mut Core) -> Duration {
        let quarter = self.source.claim_after / 4;
        quarter + quarter.mul_f64((core.rng.next_u32() % 256) as f64 / 1024.0)
    }

    fn adapt(&mut self, read: &[Entry]) {
        let bytes: usize = read.iter().map(Entry::bytes).sum();
        self.count = if bytes > READ_BYTES {
            (self.count / 2).max(1)
        } else if read.len() >= self.count {
            (self.count * 2).min(self.source.most)
        } else {
            self.source.count
        };
    }

    fn process(&mut self, core: &mut Core, now: Time, entries: impl Iterator<Item = Delivered>, next: Next) {
        let rest: VecDeque<Delivered> = entries.collect();
        core.stats.entries += rest.len() as u64;
        self.commit(core, now, Commit { effects: Vec::new(), rest, next });
    }

    /// Stores the effects at hand; where there are none, those of the next entries, as many as go at once.
    fn commit(&mut self, core: &mut Core, now: Time, mut commit: Commit) {
        let mut bytes = 0;
        if commit.effects.is_empty() {
            while bytes < COMMIT_BYTES
                && let Some((entry, deliveries)) = commit.rest.pop_front()
            {
                let id = entry.id;
                let effect = self.router.effect(core, now, entry, deliveries);
                bytes += effect.bytes();
                commit.effects.push((id, effect));
            }
        }
        if commit.effects.is_empty() {
            return self.proceed(core, now, commit.next);
        }
        let op = StoreOp::Commit { group: self.group.clone(), effects: commit.effects.clone() };
        self.step = Step::Committing(commit);
        self.ask(core, now, op);
    }

    fn committed(&mut self, core: &mut Core, now: Time, mut commit: Commit, outcomes: Vec<Committed>) {
        let (mut busy, mut error) = (Vec::new(), None);
        for ((id, effect), outcome) in core::mem::take(&mut commit.effects).into_iter().zip(outcomes) {
            match outcome {
                Committed::Stored => self.report_end(core, id, &effect),
                Committed::NotPending => {}
                Committed::Failed(why @ StoreError::Busy(_)) => {
                    error = Some(why);
                    busy.push((id, effect));
                }
                // Left pending: it is claimed and tried again once it has been idle for long enough.
                Committed::Failed(why) => core.failed(self.lane(), "commit an entry", &why),
            }
        }
        let commit = Commit { effects: busy, ..commit };
        match error {
            Some(error) => {
                core.failed(self.lane(), "commit an entry", &error);
                self.pause(core, now, &error, Then::Commit(commit));
            }
            None => self.commit(core, now, commit),
        }
    }

    fn proceed(&mut self, core: &mut Core, now: Time, next: Next) {
        match next {
            Next::Read => self.read(core, now),
            Next::Recover(after) => self.recover(core, now, after),
            Next::Claim(after) => self.look(core, now, after),
        }
    }

    fn pause(&mut self, core: &mut Core, now: Time, error: &StoreError, then: Then) {
        self.unready = Some(format!("cannot be read: {error}"));
        self.step = Step::Pausing(then);
        let pause = match error {
            // Nothing to wait for: creating the group is the remedy.
            StoreError::NoGroup => Duration::ZERO,
            _ => self.backoff.pause(&mut core.rng),
        };
        core.questions.wake_at(now + pause, Wake::Source(self.index));
    }

    fn ask(&self, core: &mut Core, now: Time, op: StoreOp) {
        core.ask(now, self.lane(), Purpose::Source(self.index), op);
    }

    fn lane(&self) -> Lane {
        Lane::Source(self.index)
    }

    /// An entry has reached its end.
    fn report_end(&self, core: &mut Core, entry: StreamId, effect: &Effect) {
        let stream = self.group.stream.clone();
        match effect {
            Effect::Relay(_) => {
                core.stats.acked += 1;
                core.report(|| Report::Acked { stream, entry });
            }
            Effect::Route(to) => {
                core.stats.acked += 1;
                core.stats.commands += 1;
                core.report(|| Report::Routed { stream, entry, target: to.stream.clone() });
            }
            Effect::DeadLetter(letter) => {
                core.stats.dead_lettered += 1;
                let error = letter.fields.iter().find(|(name, _)| name.as_ref() == b"error");
                let reason = error.map(|(_, reason)| String::from_utf8_lossy(reason)).unwrap_or_default();
                core.report(|| Report::DeadLettered { stream, entry, reason: reason.into() });
            }
            Effect::Forget => {}
        }
    }
}
