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
}

impl Probe {
    pub(super) fn new() -> Probe {
        Probe { unready: Some("the store has not answered yet".into()) }
    }

    pub(super) fn ask(&mut self, core: &mut Core, now: Time) {
        core.ask(now, Lane::Command, Purpose::Ping, StoreOp::Ping);
    }

    pub(super) fn answered(&mut self, core: &mut Core, now: Time, answer: Result<Answer, StoreError>) {
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
        core.questions.wake_at(now + interval, Wake::Probe);
    }

    pub(super) fn unready(&self) -> Option<String> {
        self.unready.clone()
    }
}
