//! Intake: how entries come into the hand. New ones are read; pending ones are looked for and claimed.
//!
//! ```text
//! Look(own) ─▶ Read ⇄ Look(any): now and then        Look(own): when a failed entry is due
//!     ▲                 └▶ Claim, page by page
//!     └──── Pausing ◀── any error
//! ```
//!
//! Own entries come first. An own entry that is neither in hand nor known to have failed was lost on its way here: it counts as
//! delivered no further time; unless it was there before this process, as an earlier one of the same name may have died of it.
//! How long an entry has been left alone is measured by the store's own clock, which outlives any
//! process.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::rand_core::Rng as _;

use super::super::backoff::Backoff;
use super::super::questions::Wake;
use super::super::{BackplaneAction, Core};
use super::hand::{Delivered, Hand};
use super::{Errand, Place};
use crate::config::Source;
use crate::id::StreamId;
use crate::report::Report;
use crate::store::{Answer, Entry, Stale, StoreError, StoreOp, Whose};
use crate::time::Time;

/// What is read, and when.
#[derive(Debug)]
pub(super) struct Intake {
    step: Step,
    /// Entries to read or claim next time: grows under backlog, falls back without.
    count: usize,
    /// Own entries beyond this one may be those of an earlier process of the same name. Nothing where there are none left.
    earlier: Option<StreamId>,
    /// Own entries that failed, and are left pending until they are due; why.
    failed: BTreeMap<StreamId, Box<str>>,
    /// When the first of them is due.
    retry_at: Time,
    /// When to look for what others have left.
    look_at: Time,
    backoff: Backoff,
    error: Option<String>,
}

#[derive(Debug)]
enum Step {
    /// There is no group to read from.
    Closed,
    Idle(Next),
    Looking(Whose, StreamId),
    /// Entries are taken over: how often each has been delivered by then, and what follows.
    Claiming(Whose, BTreeMap<StreamId, u32>, Next),
    Reading,
    Pausing(Time),
}

/// What is to be asked next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Read,
    /// Look for pending entries beyond this one.
    Look(Whose, StreamId),
}

/// The group is gone.
#[derive(Debug)]
pub(super) struct NoGroup;

/// Bytes of one read beyond which the next one asks for fewer entries.
const READ_BYTES: usize = 8 << 20;
/// Entries that have failed and are not due, at the most: beyond it nothing is read or taken over.
const MOST_FAILED: usize = 10_000;
/// The longest time for which an entry is left alone.
const LONGEST: Duration = Duration::from_secs(3600);

impl Intake {
    pub(super) fn new(source: &Source) -> Intake {
        Intake {
            step: Step::Closed,
            count: source.count,
            earlier: Some(StreamId::ZERO),
            failed: BTreeMap::new(),
            retry_at: Time::NEVER,
            look_at: Time::ZERO,
            backoff: Backoff::default(),
            error: None,
        }
    }

    /// The group is open: what was delivered to this consumer before comes first.
    pub(super) fn start(&mut self) {
        match self.step {
            Step::Closed | Step::Idle(_) | Step::Pausing(_) => self.step = Step::Idle(Next::Look(Whose::Own, StreamId::ZERO)),
            // As soon as what is under way has been answered.
            Step::Looking(..) | Step::Claiming(..) | Step::Reading => self.retry_at = Time::ZERO,
        }
    }

    /// Why nothing can be read.
    pub(super) fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    /// An entry in hand was refused: it is left pending and comes again when it is due.
    pub(super) fn retry(&mut self, core: &mut Core, now: Time, place: &Place, entry: StreamId, why: Box<str>) {
        self.failed.insert(entry, why);
        self.retry_in(core, now, place, place.source.retry_after);
    }

    /// Asks what is to be asked next, if nothing is being asked.
    pub(super) fn go_on(&mut self, core: &mut Core, now: Time, place: &Place) {
        let Step::Idle(next) = self.step else { return };
        let is_full = self.failed.len() >= MOST_FAILED;
        match next {
            Next::Look(whose, after) if whose == Whose::Own || !is_full => self.look(core, now, place, whose, after),
            _ if self.retry_at <= now => self.look(core, now, place, Whose::Own, StreamId::ZERO),
            // Goes on when the first of them is due.
            _ if is_full => {}
            _ if self.look_at <= now => self.look(core, now, place, Whose::Any, StreamId::ZERO),
            _ => self.read(core, now, place),
        }
    }

    /// There is no reason any more for a pause.
    pub(super) fn hurry(&mut self) {
        if matches!(self.step, Step::Pausing(_)) {
            self.step = Step::Idle(Next::Look(Whose::Own, StreamId::ZERO));
        }
    }

    /// Time has passed.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time, place: &Place) {
        match self.step {
            Step::Pausing(until) if until <= now => self.step = Step::Idle(Next::Look(Whose::Own, StreamId::ZERO)),
            // It may have begun before anything had failed.
            Step::Reading if self.retry_at <= now => core.actions.push_back(BackplaneAction::Interrupt(place.lane())),
            _ => {}
        }
    }

    /// Nothing more is to be read: a read that waits for entries is answered at once.
    pub(super) fn end(&self, core: &mut Core, place: &Place) {
        if matches!(self.step, Step::Reading) {
            core.actions.push_back(BackplaneAction::Interrupt(place.lane()));
        }
    }

    pub(super) fn answered(
        &mut self,
        core: &mut Core,
        now: Time,
        place: &Place,
        hand: &mut Hand,
        answer: Result<Answer, StoreError>,
    ) -> Result<(), NoGroup> {
        if answer.is_ok() {
            self.backoff.reset();
            self.error = None;
        }
        match (core::mem::replace(&mut self.step, Step::Closed), answer) {
            (Step::Reading, Ok(Answer::Entries(entries))) => {
                self.adapt(place, &entries);
                core.stats.entries += entries.len() as u64;
                hand.take(entries.into_iter().map(|entry| Delivered::new(entry, 1, None)));
                self.step = Step::Idle(Next::Read);
            }
            (Step::Looking(whose, after), Ok(Answer::Stale(found))) => self.found(core, now, place, hand, whose, after, &found),
            (Step::Claiming(whose, deliveries, next), Ok(Answer::Claimed { entries, gone })) => {
                let counter = if whose == Whose::Own { &mut core.stats.retried } else { &mut core.stats.claimed };
                *counter += entries.len() as u64;
                self.adapt(place, &entries);
                self.claimed(core, place, hand, &deliveries, entries, gone);
                self.step = Step::Idle(next);
            }
            (step @ (Step::Closed | Step::Idle(_) | Step::Pausing(_)), _) => self.step = step,
            (_, Err(StoreError::NoGroup)) => {
                self.failed.clear();
                return Err(NoGroup);
            }
            (_, Err(error)) => self.pause(core, now, place, &error),
            (_, Ok(_)) => self.pause(core, now, place, &StoreError::Unexpected("the answer to another question".into())),
        }
        Ok(())
    }

    fn read(&mut self, core: &mut Core, now: Time, place: &Place) {
        self.step = Step::Reading;
        // The wait ends in time for the next look.
        let next = self.look_at.min(self.retry_at);
        let block = place.source.block.min(next - now).max(Duration::from_millis(1));
        let op = StoreOp::GroupRead { group: place.group.clone(), count: self.count, block };
        place.ask(core, now, Errand::Intake, op);
    }

    fn look(&mut self, core: &mut Core, now: Time, place: &Place, whose: Whose, after: StreamId) {
        if (whose, after) == (Whose::Own, StreamId::ZERO) {
            self.retry_at = Time::NEVER;
        }
        self.step = Step::Looking(whose, after);
        let idle = idle(place, whose);
        let op = StoreOp::GroupStale { group: place.group.clone(), whose, idle, after, count: place.source.most };
        place.ask(core, now, Errand::Intake, op);
    }

    #[expect(clippy::too_many_arguments, reason = "a page of a look, and where it belongs")]
    fn found(&mut self, core: &mut Core, now: Time, place: &Place, hand: &Hand, whose: Whose, after: StreamId, found: &[Stale]) {
        let in_hand = hand.ids();
        let mut due = BTreeMap::new();
        for stale in found.iter().filter(|stale| !in_hand.contains(&stale.id)) {
            let failed = self.failed.contains_key(&stale.id);
            let pause = match whose {
                Whose::Own if failed => pause(place, place.source.retry_after, stale.deliveries),
                Whose::Own => Duration::ZERO,
                Whose::Any => pause(place, place.source.claim_after, stale.deliveries),
            };
            if stale.idle >= pause {
                let lost = whose == Whose::Own && !failed && self.earlier.is_none_or(|earlier| stale.id <= earlier);
                due.insert(stale.id, if lost { stale.deliveries } else { stale.deliveries.saturating_add(1) });
            } else if whose == Whose::Own {
                self.retry_in(core, now, place, pause - stale.idle);
            }
        }
        // No more is claimed at once than is read at once: entries may be large.
        let rest = due.keys().nth(self.count).copied().map(|first| due.split_off(&first));
        let next = match (found.last(), due.last_key_value()) {
            (_, Some((last, _))) if rest.is_some() => Next::Look(whose, *last),
            (Some(last), _) if found.len() >= place.source.most => Next::Look(whose, last.id),
            _ => Next::Read,
        };
        match (whose, next) {
            // They are counted once, also where the answer to the claim is lost.
            (Whose::Own, Next::Look(_, last)) => self.earlier = self.earlier.map(|earlier| earlier.max(last)),
            (Whose::Own, Next::Read) => self.earlier = None,
            (Whose::Any, Next::Read) => self.look_at = now + jittered(core, place.source.claim_after / 4),
            (Whose::Any, Next::Look(..)) => {}
        }
        if whose == Whose::Own {
            self.forget_ended(after, next, found);
        }
        if due.is_empty() {
            self.step = Step::Idle(next);
            return;
        }
        let ids = due.iter().map(|(id, deliveries)| (*id, *deliveries)).collect();
        let op = StoreOp::GroupClaim { group: place.group.clone(), whose, idle: idle(place, whose), ids };
        self.step = Step::Claiming(whose, due, next);
        place.ask(core, now, Errand::Intake, op);
    }

    /// What failed and is pending with this consumer no longer, by the page that was found, another has brought to its end.
    fn forget_ended(&mut self, after: StreamId, next: Next, found: &[Stale]) {
        let pending: BTreeSet<StreamId> = found.iter().map(|stale| stale.id).collect();
        let seen = |id: StreamId| after < id && !matches!(next, Next::Look(_, last) if id > last);
        self.failed.retain(|id, _| !seen(*id) || pending.contains(id));
    }

    fn claimed(
        &mut self,
        core: &mut Core,
        place: &Place,
        hand: &mut Hand,
        deliveries: &BTreeMap<StreamId, u32>,
        entries: Vec<Entry>,
        gone: Vec<StreamId>,
    ) {
        core.stats.entries += entries.len() as u64;
        core.stats.gone += gone.len() as u64;
        for entry in gone {
            core.report(|| Report::Gone { stream: place.group.stream.clone(), entry });
        }
        hand.take(entries.into_iter().map(|entry| {
            let deliveries = deliveries.get(&entry.id).copied().unwrap_or(1);
            let failure = self.failed.remove(&entry.id);
            Delivered::new(entry, deliveries, failure)
        }));
        self.failed.retain(|id, _| !deliveries.contains_key(id));
    }

    fn adapt(&mut self, place: &Place, read: &[Entry]) {
        let bytes: usize = read.iter().map(Entry::bytes).sum();
        self.count = if bytes > READ_BYTES {
            (self.count / 2).max(1)
        } else if read.len() >= self.count {
            (self.count * 2).min(place.source.most)
        } else {
            place.source.count
        };
    }

    fn retry_in(&mut self, core: &mut Core, now: Time, place: &Place, pause: Duration) {
        let at = now + jittered(core, pause);
        if at < self.retry_at {
            self.retry_at = at;
            core.questions.wake_at(at, Wake::Source(place.index));
        }
    }

    fn pause(&mut self, core: &mut Core, now: Time, place: &Place, error: &StoreError) {
        self.error = Some(format!("cannot be read: {error}"));
        // It may have been too much to be answered in time.
        self.count = (self.count / 2).max(1);
        let until = now + self.backoff.pause(&mut core.rng);
        self.step = Step::Pausing(until);
        core.questions.wake_at(until, Wake::Source(place.index));
    }
}

/// How long an entry must have been left alone to be claimed at all: what is one's own may be claimed at once.
fn idle(place: &Place, whose: Whose) -> Duration {
    match whose {
        Whose::Own => Duration::ZERO,
        Whose::Any => place.source.claim_after,
    }
}

/// How long an entry is left alone that has been delivered so often: twice as long each time. One that was delivered for the
/// last time need not wait to be put away.
fn pause(place: &Place, first: Duration, deliveries: u32) -> Duration {
    let doublings = if deliveries < place.source.max_deliveries { deliveries.saturating_sub(1).min(16) } else { 0 };
    first.saturating_mul(1 << doublings).min(LONGEST.max(first))
}

/// Up to a quarter more, so that nodes do not all do the same at the same moment.
pub(super) fn jittered(core: &mut Core, pause: Duration) -> Duration {
    pause.saturating_add(pause.mul_f64(f64::from(core.rng.next_u32() % 256) / 1024.0))
}
