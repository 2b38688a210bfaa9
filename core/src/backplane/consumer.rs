//! A source: one stream read in a consumer group, each entry taken to its end (contracts C3 and C4).
//!
//! ```text
//!           ┌──────── Intake ────────┐   ┌──────────── Hand ────────────┐   ┌──── Work ────┐
//! store ──▶ │ look, claim, read      │─▶ │ read ─▶ prepared ─▶ committing│─▶ │ open, commit │ ──▶ store
//!           └───────── lane: source ─┘   └──────────────────────────────┘   └ lane: command ┘
//! ```
//!
//! The two sides overlap: while the store carries out one commit, the next entries are read and prepared. No more is read than
//! may be in hand. There is one commit at a time, so entries keep their order. What a commit could not store for the moment is
//! committed again from the hand; what was refused is left pending, and claimed again once it is due. What stays in hand for
//! long is touched, so that no other node takes it over; should one do so all the same, the guard of the commit makes the
//! second commit do nothing.
//!
//! Where effects stand in another Redis than the source's stream, or in another slot of a cluster, nothing can be atomic: they are
//! applied first, by the entry's identifier, and acknowledged then. Whatever happens between, they are applied once.

use super::backoff::Backoff;
use super::questions::{Purpose, Wake};
use super::router::Router;
use std::sync::Arc;

use super::{BackplaneAction, Core};
use crate::config::{Config, Host, Source};
use crate::health::{LastError, SourceHealth};
use crate::id::{StreamId, Ticket};
use crate::processor::{Delivery, Verdict};
use crate::report::Report;
use crate::store::{Answer, Committed, Effect, Effects, Entry, GroupRef, Lane, StoreError, StoreOp};
use crate::time::Time;

mod hand;
mod intake;
mod shares;
mod upkeep;

pub(super) use hand::Delivered;
use hand::Hand;
use intake::Intake;
use shares::{Applied, Applying};
use upkeep::Upkeep;

/// The consumer of one source.
#[derive(Debug)]
pub(super) struct Consumer {
    place: Place,
    router: Router,
    hand: Hand,
    intake: Intake,
    work: Work,
    /// How often effects were given to the store.
    attempts: u32,
    /// Whether the group exists, as far as is known.
    open: bool,
    backoff: Backoff,
    /// Why nothing can be committed.
    error: Option<String>,
    upkeep: Upkeep,
    last_error: Option<LastError>,
    /// The node is about to end.
    draining: bool,
}

/// Where a consumer works.
#[derive(Debug)]
struct Place {
    index: u16,
    source: Source,
    group: GroupRef,
}

/// What a consumer has asked the store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Entries.
    Intake,
    /// The group to be opened, or a commit.
    Work,
    /// To store a share of the effects, in an attempt and under a number.
    Share(u32, u16),
    /// What is in hand to be touched.
    Hold,
    /// An entry to be touched that has failed.
    Touch,
    /// How the group is doing.
    Measure,
    /// How many dead letters there are.
    CountLetters,
    /// Consumers to be removed that are gone.
    Tidy,
}

/// What is done about the entries in hand.
#[derive(Debug)]
enum Work {
    Idle,
    Opening,
    Applying(Applying),
    Committing,
    Pausing(Time),
}

impl Consumer {
    pub(super) fn new(index: u16, source: Source, config: &Config) -> Consumer {
        let group = GroupRef { stream: source.stream.as_str().into(), group: source.group.as_str().into() };
        Consumer {
            router: Router::new(&source, config),
            hand: Hand::default(),
            intake: Intake::new(&source),
            place: Place { index, source, group },
            work: Work::Idle,
            attempts: 0,
            open: false,
            backoff: Backoff::default(),
            error: Some("is being opened".into()),
            upkeep: Upkeep::default(),
            last_error: None,
            draining: false,
        }
    }

    pub(super) fn start(&mut self, core: &mut Core, now: Time) {
        self.go_on(core, now);
    }

    pub(super) fn answered(&mut self, core: &mut Core, now: Time, errand: Errand, answer: Result<Answer, StoreError>) {
        if let Err(error) = &answer {
            self.remember(core, now, error);
        }
        match errand {
            Errand::Intake => {
                if self.intake.answered(core, now, &self.place, &mut self.hand, answer).is_err() {
                    self.lose_group(core, now);
                }
                self.go_on(core, now);
                // While the store is at work on other entries, these are made ready.
                self.prepare(core, now);
            }
            Errand::Work => {
                self.worked(core, now, answer);
                self.go_on(core, now);
            }
            Errand::Share(attempt, number) => {
                self.shared(core, now, (attempt, number), answer);
                self.go_on(core, now);
            }
            Errand::Hold => self.upkeep.held(&mut self.hand, answer),
            Errand::Touch => {}
            Errand::Measure => {
                self.upkeep.measured(core, now, answer);
                core.sources_changed = true;
            }
            Errand::CountLetters => self.upkeep.counted(answer),
            Errand::Tidy => self.upkeep.tidied(core, &self.place, answer),
        }
    }

    /// The host's code has dealt with an entry, or had its time.
    pub(super) fn processed(&mut self, core: &mut Core, now: Time, ticket: Ticket, verdict: Verdict) {
        let Some(delivered) = self.hand.take_back(ticket) else { return };
        let entry = delivered.entry.id;
        match verdict {
            Verdict::Done => self.hand.add(entry, Effect::Nothing),
            Verdict::Reject(reason) => {
                let effect = self.router.rejected(core, now, delivered, &reason);
                self.hand.add(entry, effect);
            }
            Verdict::Retry(reason) => {
                // The pause begins now, and not when the entry was delivered.
                let op = StoreOp::GroupHold { group: self.place.group.clone(), ids: vec![entry] };
                self.place.ask(core, now, Errand::Touch, op);
                self.failed(core, now, entry, reason);
            }
        }
        self.go_on(core, now);
    }

    /// Time has passed.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        if matches!(self.work, Work::Pausing(until) if until <= now) {
            self.work = Work::Idle;
        }
        self.intake.wake(core, now, &self.place);
        self.go_on(core, now);
    }

    /// The store is back: nothing waits any longer to be tried again.
    pub(super) fn hurry(&mut self, core: &mut Core, now: Time) {
        if matches!(self.work, Work::Pausing(_)) {
            self.work = Work::Idle;
        }
        self.intake.hurry();
        self.go_on(core, now);
    }

    /// Nothing more is read.
    pub(super) fn drain(&mut self, core: &mut Core, now: Time) {
        if !self.draining {
            self.draining = true;
            self.intake.end(core, &self.place);
            self.go_on(core, now);
        }
    }

    /// Whether nothing is left in hand.
    pub(super) fn is_drained(&self) -> bool {
        self.hand.len() == 0
    }

    pub(super) fn unready(&self) -> Option<String> {
        let reason = self.error.as_ref().or(self.intake.error());
        reason.map(|reason| format!("source {} {reason}", self.place.source.stream))
    }

    /// How the source is doing.
    pub(super) fn health(&self) -> SourceHealth {
        let Source { stream, group, dead_letter, .. } = &self.place.source;
        SourceHealth {
            stream: stream.as_str().into(),
            group: group.as_str().into(),
            dead_letter: dead_letter.as_str().into(),
            in_hand: self.hand.len(),
            unready: self.error.as_ref().or(self.intake.error()).map(|reason| reason.as_str().into()),
            last_error: self.last_error.clone(),
            measured: self.upkeep.health(),
        }
    }

    /// Begins whatever can be begun.
    fn go_on(&mut self, core: &mut Core, now: Time) {
        let is_idle = matches!(self.work, Work::Idle);
        if !self.open {
            if is_idle {
                self.hand.clear();
                if !self.draining {
                    self.open(core, now);
                }
            }
            return;
        }
        if is_idle && !self.hand.is_prepared() {
            // Nothing is left of what could not be stored.
            self.error = None;
        }
        if self.draining && self.router.host().is_some() {
            // What takes long is not begun any more.
            self.hand.put_down();
        } else if self.error.is_none() {
            self.hand_over(core, now);
        }
        if is_idle {
            self.prepare(core, now);
            self.commit(core, now);
        }
        self.upkeep.go_on(core, now, &self.place, &mut self.hand);
        let Source { most, in_hand, .. } = self.place.source;
        // Where nothing can be stored, more in hand would be of no use.
        if !self.draining && self.error.is_none() && self.hand.has_room(most, in_hand) {
            self.intake.go_on(core, now, &self.place);
        }
    }

    fn open(&mut self, core: &mut Core, now: Time) {
        self.work = Work::Opening;
        self.place.ask(core, now, Errand::Work, StoreOp::GroupOpen(self.place.group.clone()));
    }

    /// Decides about the next entries, as many as go at once, unless others are ready to go.
    fn prepare(&mut self, core: &mut Core, now: Time) {
        if self.open && self.error.is_none() && !self.hand.is_prepared() && self.router.host().is_none() {
            let router = &mut self.router;
            let effect = |delivered| router.effect(core, now, delivered);
            self.hand.prepare(self.place.source.most, effect);
        }
    }

    /// Hands entries to the host's code, as many as it can have at once.
    fn hand_over(&mut self, core: &mut Core, now: Time) {
        let Some(host) = self.router.host() else { return };
        let (Host { at_once, .. }, deadline) = (host, now + host.deadline);
        while self.hand.hosted() < *at_once
            && let Some(delivered) = self.hand.next()
        {
            let Entry { id: entry, .. } = delivered.entry;
            match self.router.exhausted(core, now, delivered) {
                Ok(effect) => self.hand.add(entry, effect),
                Err(delivered) => {
                    let ticket = core.questions.ask_until(deadline, Lane::Command, Purpose::Process(self.place.index));
                    let (source, deliveries, fields) = (self.place.index, delivered.deliveries, delivered.entry.fields.clone());
                    let delivery = Delivery { ticket, source, entry, fields, deliveries, deadline };
                    core.actions.push_back(BackplaneAction::Process(delivery));
                    self.hand.host(ticket, delivered);
                }
            }
        }
    }

    fn commit(&mut self, core: &mut Core, now: Time) {
        let Some(effects) = self.hand.commit() else { return };
        self.attempts = self.attempts.wrapping_add(1);
        match Applying::begin(core, now, &self.place, self.attempts, &effects) {
            Some(applying) => self.work = Work::Applying(applying),
            None => self.ask_to_commit(core, now, effects),
        }
    }

    fn ask_to_commit(&mut self, core: &mut Core, now: Time, effects: Arc<Effects>) {
        let goes_together = |effect: &Effect| matches!(effect, Effect::Relay(_) | Effect::Nothing) || self.place.is_apart(effect);
        let together = effects.iter().all(|(_, effect)| goes_together(effect));
        self.ask_to_commit_so(core, now, effects, together);
    }

    fn ask_to_commit_so(&mut self, core: &mut Core, now: Time, effects: Arc<Effects>, together: bool) {
        self.work = Work::Committing;
        // What stands elsewhere is stored already.
        let is_left =
            |(id, effect): &(StreamId, Effect)| (*id, if self.place.is_apart(effect) { Effect::Nothing } else { effect.clone() });
        let effects = match effects.iter().any(|(_, effect)| self.place.is_apart(effect)) {
            true => Arc::new(effects.iter().map(is_left).collect()),
            false => effects,
        };
        let op = StoreOp::Commit { group: self.place.group.clone(), effects, together };
        self.place.ask(core, now, Errand::Work, op);
    }

    fn worked(&mut self, core: &mut Core, now: Time, answer: Result<Answer, StoreError>) {
        match (core::mem::replace(&mut self.work, Work::Idle), answer) {
            (Work::Opening, Ok(Answer::Opened(created))) => self.opened(core, now, created),
            (Work::Committing, Ok(Answer::Committed(outcomes))) => self.committed(core, now, outcomes),
            (Work::Committing, Ok(Answer::Declined)) => self.ask_to_commit_so(core, now, self.hand.committing(), false),
            // The group is gone, and with it the proof that these entries are pending. They are read again once it is back.
            (Work::Committing, Err(StoreError::NoGroup)) => self.lose_group(core, now),
            (Work::Opening | Work::Committing, Err(error)) => {
                self.hand.recall();
                self.pause(core, now, &error);
            }
            (Work::Opening | Work::Committing, Ok(_)) => {
                self.hand.recall();
                self.pause(core, now, &StoreError::Unexpected("the answer to another question".into()));
            }
            (work @ (Work::Idle | Work::Applying(_) | Work::Pausing(_)), _) => self.work = work,
        }
    }

    fn opened(&mut self, core: &mut Core, now: Time, created: Option<StreamId>) {
        if let Some(after) = created {
            let GroupRef { stream, group } = self.place.group.clone();
            core.report(|| Report::GroupCreated { stream, group, after });
        }
        self.open = true;
        self.succeed();
        self.intake.start();
        self.upkeep.start(core, now, &self.place);
    }

    /// A share of the effects is stored, or is not. When all are, their entries are acknowledged, with the effects of the others.
    fn shared(&mut self, core: &mut Core, now: Time, (attempt, number): (u32, u16), answer: Result<Answer, StoreError>) {
        let Work::Applying(applying) = &mut self.work else { return };
        match applying.answered(attempt, number, answer) {
            Applied::NotYet => {}
            Applied::Failed(error) => {
                self.hand.recall();
                core.failed(Lane::Command, "apply an entry", &error);
                self.pause(core, now, &error);
            }
            Applied::Done(refused) => {
                self.work = Work::Idle;
                let mut effects = Arc::unwrap_or_clone(self.hand.committed());
                effects.retain(|(id, _)| !refused.contains_key(id));
                refused.iter().for_each(|(id, why)| self.refused(core, now, *id, why));
                if !effects.is_empty() {
                    let effects = self.hand.commit_these(effects);
                    self.ask_to_commit(core, now, effects);
                }
            }
        }
    }

    fn committed(&mut self, core: &mut Core, now: Time, outcomes: Vec<Committed>) {
        let mut busy = None;
        let committing = self.hand.committed();
        let mut again = Vec::new();
        for ((id, effect), outcome) in committing.iter().zip(outcomes) {
            match outcome {
                Committed::Stored => self.place.report_end(core, *id, effect),
                Committed::NotPending => {}
                Committed::Failed(why @ StoreError::Busy(_)) => {
                    self.remember(core, now, &why);
                    busy = Some(why);
                    again.push((*id, effect.clone()));
                }
                Committed::Failed(why) => self.refused(core, now, *id, &why),
            }
        }
        self.hand.put_back(again);
        match busy {
            Some(error) => {
                core.failed(self.place.command_lane(), "commit an entry", &error);
                self.pause(core, now, &error);
            }
            None => self.succeed(),
        }
    }

    /// An entry is left pending: it is claimed and tried again when it is due.
    fn refused(&mut self, core: &mut Core, now: Time, entry: StreamId, why: &StoreError) {
        self.remember(core, now, why);
        core.stats.store_errors += 1;
        self.failed(core, now, entry, why.to_string().into());
    }

    fn failed(&mut self, core: &mut Core, now: Time, entry: StreamId, reason: Box<str>) {
        core.report(|| Report::Failed { stream: self.place.group.stream.clone(), entry, reason: reason.clone() });
        self.intake.retry(core, now, &self.place, entry, reason);
    }

    fn succeed(&mut self) {
        self.backoff.reset();
        self.error = None;
    }

    fn pause(&mut self, core: &mut Core, now: Time, error: &StoreError) {
        self.error = Some(format!("cannot be worked on: {error}"));
        self.rest(core, now);
    }

    fn rest(&mut self, core: &mut Core, now: Time) {
        let until = now + self.backoff.pause(&mut core.rng);
        self.work = Work::Pausing(until);
        core.questions.wake_at(until, Wake::Source(self.place.index));
    }

    fn remember(&mut self, core: &mut Core, now: Time, error: &StoreError) {
        self.last_error = Some((core.wall.unix(now), error.to_string().into()));
        core.sources_changed = true;
    }

    fn lose_group(&mut self, core: &mut Core, now: Time) {
        if core::mem::replace(&mut self.open, false) {
            core.stats.groups_lost += 1;
            let GroupRef { stream, group } = self.place.group.clone();
            core.report(|| Report::GroupLost { stream, group });
        }
        if matches!(self.work, Work::Idle) {
            // It may be lost again and again, as where a publisher deletes the stream whenever it sees it.
            self.rest(core, now);
        }
        self.error = Some("has lost its consumer group".into());
    }
}

impl Place {
    fn ask(&self, core: &mut Core, now: Time, errand: Errand, op: StoreOp) {
        let lane = match errand {
            Errand::Intake => self.lane(),
            Errand::Work
            | Errand::Share(..)
            | Errand::Hold
            | Errand::Touch
            | Errand::Measure
            | Errand::CountLetters
            | Errand::Tidy => self.command_lane(),
        };
        core.ask(now, lane, Purpose::Source(self.index, errand), op);
    }

    fn lane(&self) -> Lane {
        Lane::Source(self.index)
    }

    fn command_lane(&self) -> Lane {
        self.source.lane(self.index)
    }

    /// An entry has reached its end.
    fn report_end(&self, core: &mut Core, entry: StreamId, effect: &Effect) {
        let stream = self.group.stream.clone();
        match effect {
            Effect::Relay(_) | Effect::Nothing => {
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
        }
    }
}
