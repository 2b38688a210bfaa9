//! Pauses after failures, shared by all that fail together.

use super::Core;
use super::backoff::Backoff;
use super::questions::Wake;
use crate::time::Time;

/// The pause after a failure. What fails before it is over shares it: many things that fail together are one failure.
#[derive(Debug, Default)]
pub(super) struct Pause {
    backoff: Backoff,
    until: Time,
}

impl Pause {
    /// Something failed: whoever asks is woken when the pause is over.
    pub(super) fn begin(&mut self, core: &mut Core, now: Time, wake: Wake) {
        if self.is_over(now) {
            self.until = now + self.backoff.pause(&mut core.rng);
        }
        core.questions.wake_at(self.until, wake);
    }

    /// It worked: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
    }

    /// There is no reason any more to wait: the store is back.
    pub(super) fn end(&mut self) {
        *self = Pause::default();
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        self.until <= now
    }
}
