//! Pub/Sub: what publishers say on channels, heard by every node for its own clients.
//!
//! A connection to each server with channels is listened to, one question at a time, so that nothing is read that nobody takes:
//!
//! ```text
//! Listen ──▶ heard: messages, told to hubs, or stored once where their room remembers ──▶ Listen …
//!    └─▶ failed: pause ──▶ Listen; what was said meanwhile was not heard, and is told as a gap
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::Core;
use super::pause::Pause;
use super::questions::{Purpose, Wake};
use super::reading::Reading;
use crate::config::Config;
use crate::report::Report;
use crate::store::{Answer, Heard, Lane, Said, StoreError, StoreOp, Subscription};
use crate::time::Time;

/// The connections that listen. The first is to the node's own server.
#[derive(Debug)]
pub(super) struct Channels {
    ears: Vec<Ear>,
    /// The channel on which this node is spoken to, by itself too.
    own: Arc<str>,
}

#[derive(Debug)]
struct Ear {
    lane: Lane,
    subscriptions: Arc<[Subscription]>,
    reading: Reading,
    pause: Pause,
    failing: Option<StoreError>,
    /// Whether it has ever listened: before, nothing was missed.
    has_begun: bool,
}

impl Channels {
    pub(super) fn new(config: &Config) -> Channels {
        let own: Arc<str> = format!("{}node:{}", config.relay.prefix, config.node).into();
        let subscription = match config.relay.cluster {
            true => Subscription::sharded(&own),
            false => Subscription::channel(&own),
        };
        Channels { ears: vec![Ear::new(Lane::Channels, vec![subscription])], own }
    }

    pub(super) fn start(&mut self, core: &mut Core, now: Time) {
        for (index, ear) in (0..).zip(&mut self.ears) {
            ear.listen(core, now, index);
        }
    }

    /// The channel of this node, while it is listened to.
    pub(super) fn own(&self) -> Option<Arc<str>> {
        let listens = self.ears.first().is_some_and(|ear| ear.has_begun && ear.reading == Reading::Yes);
        listens.then(|| self.own.clone())
    }

    /// What was heard, if the answer holds anything.
    pub(super) fn answered(&mut self, core: &mut Core, now: Time, index: u16, answer: Result<Answer, StoreError>) -> Vec<Said> {
        let Some(ear) = self.ears.get_mut(usize::from(index)) else { return Vec::new() };
        ear.reading = Reading::No;
        match answer {
            Ok(Answer::Heard(Heard { begins, messages })) => {
                ear.pause.reset();
                ear.failing = None;
                if begins && core::mem::replace(&mut ear.has_begun, true) {
                    ear.report_gap(core);
                }
                messages
            }
            other => {
                ear.failing = Some(other.err().unwrap_or(StoreError::Unexpected("nothing that was heard".into())));
                ear.reading = Reading::Paused;
                ear.pause.begin(core, now, Wake::Channels);
                Vec::new()
            }
        }
    }

    /// Goes on listening, once what was heard is dealt with.
    pub(super) fn go_on(&mut self, core: &mut Core, now: Time, index: u16) {
        if let Some(ear) = self.ears.get_mut(usize::from(index)).filter(|ear| ear.reading == Reading::No) {
            ear.listen(core, now, index);
        }
    }

    /// The store is back: nothing waits any longer to be tried again.
    pub(super) fn hurry(&mut self, core: &mut Core, now: Time) {
        self.ears.iter_mut().for_each(|ear| ear.pause.end());
        self.wake(core, now);
    }

    /// A pause is over.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        for (index, ear) in (0..).zip(&mut self.ears) {
            if ear.reading == Reading::Paused && ear.pause.is_over(now) {
                ear.listen(core, now, index);
            }
        }
    }

    /// Whether somebody speaks to this node.
    pub(super) fn is_own(&self, channel: &Bytes) -> bool {
        **channel == *self.own.as_bytes()
    }

    pub(super) fn unready(&self) -> impl Iterator<Item = String> {
        let failing = self.ears.iter().filter_map(|ear| ear.failing.as_ref());
        failing.map(|error| format!("channels cannot be listened to: {error}"))
    }
}

impl Ear {
    fn new(lane: Lane, subscriptions: Vec<Subscription>) -> Ear {
        let (reading, pause) = (Reading::No, Pause::default());
        Ear { lane, subscriptions: subscriptions.into(), reading, pause, failing: None, has_begun: false }
    }

    fn listen(&mut self, core: &mut Core, now: Time, index: u16) {
        self.reading = Reading::Yes;
        let op = StoreOp::Listen { subscriptions: self.subscriptions.clone(), block: core.config.relay.block };
        core.ask(now, self.lane, Purpose::Heard(index), op);
    }

    fn report_gap(&self, core: &mut Core) {
        core.stats.channel_gaps += 1;
        let names = || self.subscriptions.iter().map(|one| &*one.name).collect::<Vec<_>>().join(", ");
        core.report(|| Report::ChannelGap { channels: names().into() });
    }
}
