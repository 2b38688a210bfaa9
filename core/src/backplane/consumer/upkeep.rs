//! Upkeep: what is done for a group now and then, beside its entries.

use core::time::Duration;

use super::super::Core;
use super::super::questions::Wake;
use super::hand::Hand;
use super::intake::jittered;
use super::{Errand, Place};
use crate::id::StreamId;
use crate::report::Report;
use crate::store::{Answer, GroupHealth, LetterOp, StoreError, StoreOp};
use crate::time::{Time, UnixMillis};

/// When each thing is to be done next.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    hold_at: Time,
    /// The entries that are being touched.
    holding: Option<Vec<StreamId>>,
    measure_at: Time,
    health: Option<(UnixMillis, GroupHealth)>,
    letters: u64,
    tidy_at: Time,
}

/// How often the health of a group is looked at.
const MEASURE_EVERY: Duration = Duration::from_secs(2);

impl Upkeep {
    /// The group is open.
    pub(super) fn start(&mut self, core: &mut Core, now: Time, place: &Place) {
        (self.measure_at, self.tidy_at) = (now, now + jittered(core, place.source.forget_after / 4));
        if self.hold_at == Time::ZERO {
            self.hold_later(core, now, place);
        }
        core.questions.wake_at(self.tidy_at, Wake::Source(place.index));
    }

    /// How the group was doing, and when.
    pub(super) fn health(&self) -> Option<(UnixMillis, GroupHealth)> {
        self.health
    }

    /// Asks for what is due.
    pub(super) fn go_on(&mut self, core: &mut Core, now: Time, place: &Place, hand: &mut Hand) {
        let group = || place.group.clone();
        if self.hold_at <= now {
            self.hold_later(core, now, place);
            let ids = hand.overstaying();
            if self.holding.is_none() && !ids.is_empty() {
                place.ask(core, now, Errand::Hold, StoreOp::GroupHold { group: group(), ids: ids.clone() });
                self.holding = Some(ids);
            }
        }
        if self.measure_at <= now {
            self.measure_at = now + jittered(core, MEASURE_EVERY);
            core.questions.wake_at(self.measure_at, Wake::Source(place.index));
            let stream = place.source.dead_letter.as_str().into();
            place.ask(core, now, Errand::CountLetters, StoreOp::Letters { stream, op: LetterOp::Count });
            place.ask(core, now, Errand::Measure, StoreOp::GroupHealth { group: group() });
        }
        if self.tidy_at <= now {
            let idle = place.source.forget_after;
            self.tidy_at = now + jittered(core, idle / 4);
            core.questions.wake_at(self.tidy_at, Wake::Source(place.index));
            place.ask(core, now, Errand::Tidy, StoreOp::GroupTidy { group: group(), idle });
        }
    }

    /// What is in hand was touched: what has been lost to others is let go.
    pub(super) fn held(&mut self, hand: &mut Hand, answer: Result<Answer, StoreError>) {
        let asked = self.holding.take().unwrap_or_default();
        if let Ok(Answer::Held(held)) = answer {
            hand.let_go(&asked, &held);
        }
    }

    pub(super) fn measured(&mut self, core: &mut Core, now: Time, answer: Result<Answer, StoreError>) {
        if let Ok(Answer::Health(health)) = answer {
            self.health = Some((core.wall.unix(now), GroupHealth { dead_letters: self.letters, ..health }));
        }
    }

    /// The dead letters were counted. Where something else stands in the place of their stream, there are none.
    pub(super) fn counted(&mut self, answer: Result<Answer, StoreError>) {
        match answer {
            Ok(Answer::Count(letters)) => self.letters = letters,
            Err(StoreError::Refused(_)) => self.letters = 0,
            _ => {}
        }
    }

    pub(super) fn tidied(&self, core: &mut Core, place: &Place, answer: Result<Answer, StoreError>) {
        let Ok(Answer::Removed(consumers)) = answer else { return };
        core.stats.consumers_removed += consumers.len() as u64;
        for consumer in consumers {
            core.report(|| Report::ConsumerRemoved { stream: place.group.stream.clone(), consumer });
        }
    }

    /// Twice before anybody might take an entry over.
    fn hold_later(&mut self, core: &mut Core, now: Time, place: &Place) {
        self.hold_at = now + (place.source.claim_after / 3).max(Duration::from_millis(1));
        core.questions.wake_at(self.hold_at, Wake::Source(place.index));
    }
}
