//! Does the store answer? Asked regularly, so that readiness is proven and never assumed.

use core::time::Duration;

use super::Core;
use super::questions::{Purpose, Wake};
use crate::report::Report;
use crate::store::{Answer, Lane, StoreError, StoreOp};
use crate::time::Time;

const INTERVAL: Duration = Duration::from_secs(5);
const WHILE_FAILING: Duration = Duration::from_secs(1);

/// Pings the store and remembers what came of it.
#[derive(Debug)]
pub(super) struct Probe {
    unready: Option<String>,
    /// Whether an answer is awaited.
    asking: bool,
    /// When to ask again. A wake-up before that is left over from before a doubt.
    next: Time,
}

impl Probe {
    pub(super) fn new() -> Probe {
        Probe { unready: Some("the store has not answered yet".into()), asking: false, next: Time::ZERO }
    }

    pub(super) fn ask(&mut self, core: &mut Core, now: Time) {
        self.asking = true;
        core.ask(now, Lane::Command, Purpose::Ping, StoreOp::Ping);
    }

    /// The time to ask again has come, unless somebody doubted in the meantime.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        if !self.asking && now >= self.next {
            self.ask(core, now);
        }
    }

    /// Another question was lost. The connection that publishes use may have died as well without anyone noticing, and
    /// would fail the first publish long after the store is back, so it is proven at once.
    pub(super) fn doubt(&mut self, core: &mut Core, now: Time) {
        if !self.asking && self.unready.is_none() {
            self.unready = Some("the connection to the store was lost".into());
            self.ask(core, now);
        }
    }

    pub(super) fn answered(&mut self, core: &mut Core, now: Time, answer: Result<Answer, StoreError>) {
        self.asking = false;
        let interval = match answer {
            Ok(_) => {
                if self.unready.take().is_some() {
                    core.report(|| Report::StoreRecovered);
                }
                INTERVAL
            }
            Err(error) => {
                self.unready = Some(format!("the store does not answer: {error}"));
                WHILE_FAILING
            }
        };
        self.next = now + interval;
        core.questions.wake_at(self.next, Wake::Probe);
    }

    pub(super) fn unready(&self) -> Option<String> {
        self.unready.clone()
    }
}
