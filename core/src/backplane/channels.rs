//! Pub/Sub: what publishers say on channels, heard by every node for its own clients.
//!
//! A connection to each server with channels is listened to, one question at a time, so that nothing is read that nobody takes:
//!
//! ```text
//! Listen ──▶ heard: messages, told to hubs, or stored once where their room remembers ──▶ Listen …
//!    └─▶ failed: pause ──▶ Listen; what was said meanwhile was not heard, and is told as a gap
//! ```
//!
//! A message for a room that remembers is given to the store by every node that has heard it, under its identifier: the first
//! one counts, and reaches all nodes as any other message of the room does.
//!
//! Callers inside the process may listen to further channels of the node's own server. Where that changes, the question that waits
//! is ended, and the next one asks for the new set. One that has asked for a new set itself is answered at once, and is left alone.

use std::sync::Arc;

use bytes::Bytes;

use super::outbound::Outbound;
use super::pause::Pause;
use super::probe::Probe;
use super::questions::{Purpose, Wake};
use super::reading::Reading;
use super::relay::Relay;
use super::revocations::Revocations;
use super::surveys::Surveys;
use super::{Core, Run};
use crate::channel::Mapped;
use crate::config::Config;
use crate::id::ShardId;
use crate::report::Report;
use crate::store::{Answer, Heard, Lane, Said, StoreError, StoreOp, Subscription};
use crate::time::Time;

mod listeners;
mod mapping;

use listeners::Listeners;
use mapping::Mapping;

/// The connections that listen. The first is to the node's own server.
#[derive(Debug)]
pub(super) struct Channels {
    ears: Vec<Ear>,
    /// The channel on which this node is spoken to, by itself too.
    own: Arc<str>,
    /// The channel on which all nodes are spoken to.
    all: Arc<str>,
    mapping: Mapping,
    /// What the first connection listens to in any case, and what beside.
    configured: Arc<[Subscription]>,
    listeners: Listeners,
}

#[derive(Debug)]
struct Ear {
    lane: Lane,
    subscriptions: Arc<[Subscription]>,
    /// Whether they are known to hold: a question for them was answered.
    settled: bool,
    reading: Reading,
    pause: Pause,
    failing: Option<StoreError>,
    /// Whether it has ever listened: before, nothing was missed.
    has_begun: bool,
    /// Whether it listens now, as far as is known.
    listens: bool,
}

/// What hears of messages.
pub(super) struct Audience<'a> {
    pub(super) relay: &'a mut Relay,
    pub(super) outbound: &'a mut Outbound,
    pub(super) probe: &'a mut Probe,
    pub(super) surveys: &'a mut Surveys,
    pub(super) revocations: &'a mut Revocations,
}

impl Channels {
    pub(super) fn new(config: &Config, key: u64) -> Channels {
        // In a cluster all of them are of one slot.
        let all: Arc<str> = format!("{}{{nodes}}", config.relay.prefix).into();
        let own: Arc<str> = format!("{all}:{}", config.node).into();
        let subscription = |name: &Arc<str>| match config.relay.cluster {
            true => Subscription::sharded(name),
            false => Subscription::channel(name),
        };
        let mapping = Mapping::new(config, key);
        let here = config.channels.iter().filter(|channel| channel.redis.is_none()).map(mapping::subscription);
        let configured: Arc<[Subscription]> = [&own, &all].map(subscription).into_iter().chain(here).collect();
        let mut ears = vec![Ear::new(Lane::Channels, configured.clone())];
        for (index, channel) in (0..).zip(&config.channels).filter(|(_, channel)| channel.redis.is_some()) {
            ears.push(Ear::new(channel.lane(index), [mapping::subscription(channel)].into()));
        }
        Channels { ears, own, all, mapping, configured, listeners: Listeners::default() }
    }

    pub(super) fn start(&mut self, core: &mut Core, now: Time) {
        (0..self.ears.len()).for_each(|index| self.listen(core, now, index));
    }

    /// Somebody in this process wants to hear what is said on a channel of the node's own server.
    pub(super) fn enter(&mut self, core: &mut Core, now: Time, shard: ShardId, subscription: Subscription) {
        if self.listeners.enter(core, shard, subscription) {
            self.renew(core, now);
        }
    }

    /// Somebody no longer wants to hear it.
    pub(super) fn leave(&mut self, core: &mut Core, now: Time, shard: ShardId, subscription: &Subscription) {
        if self.listeners.leave(shard, subscription) {
            self.renew(core, now);
        }
    }

    /// The channel of this node, while it is listened to.
    pub(super) fn own(&self) -> Option<Arc<str>> {
        self.ears.first().is_some_and(|ear| ear.listens).then(|| self.own.clone())
    }

    /// The channel of all nodes.
    pub(super) fn all(&self) -> Arc<str> {
        self.all.clone()
    }

    /// Something was heard, or nothing can be.
    pub(super) fn answered(
        &mut self,
        core: &mut Core,
        now: Time,
        index: u16,
        audience: &mut Audience<'_>,
        answer: Result<Answer, StoreError>,
    ) {
        let index = usize::from(index);
        let Some(ear) = self.ears.get_mut(index) else { return };
        let was_ended = core::mem::replace(&mut ear.reading, Reading::No) == Reading::Ending;
        match answer {
            Ok(Answer::Heard(Heard { begins, messages })) => {
                ear.pause.reset();
                (ear.failing, ear.listens) = (None, true);
                // What was heard last before the gap comes first.
                let mut run = Run::new(&core.config.limits);
                let lane = ear.lane;
                for said in messages {
                    self.hear(core, now, &mut run, audience, (lane, &said));
                }
                run.tell(core);
                if let Some(ear) = self.ears.get_mut(index) {
                    if begins && core::mem::replace(&mut ear.has_begun, true) {
                        ear.report_gap(core);
                        audience.relay.lose_fed(core, now);
                    }
                    ear.settled |= !was_ended;
                    if index == 0 && begins {
                        self.listeners.lose();
                    }
                    if index == 0 && !was_ended {
                        self.listeners.hold(core, &ear.subscriptions);
                    }
                    self.listen(core, now, index);
                }
            }
            other => {
                ear.failing = Some(other.err().unwrap_or(StoreError::Unexpected("nothing that was heard".into())));
                (ear.reading, ear.listens) = (Reading::Paused, false);
                if index == 0 {
                    audience.probe.forget_word();
                }
                ear.pause.begin(core, now, Wake::Channels);
            }
        }
    }

    /// The store is back: nothing waits any longer to be tried again.
    pub(super) fn hurry(&mut self, core: &mut Core, now: Time) {
        self.ears.iter_mut().for_each(|ear| ear.pause.end());
        self.wake(core, now);
    }

    /// A pause is over.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        for index in 0..self.ears.len() {
            if self.ears[index].reading == Reading::Paused && self.ears[index].pause.is_over(now) {
                self.listen(core, now, index);
            }
        }
    }

    pub(super) fn unready(&self) -> impl Iterator<Item = String> {
        let failing = self.ears.iter().filter_map(|ear| ear.failing.as_ref());
        failing.map(|error| format!("channels cannot be listened to: {error}"))
    }

    /// Other channels are to be listened to than before.
    fn renew(&mut self, core: &mut Core, now: Time) {
        if let Some(ear) = self.ears.first_mut()
            && ear.settled
            && ear.reading.renew(core, ear.lane)
        {
            self.listen(core, now, 0);
        }
    }

    fn listen(&mut self, core: &mut Core, now: Time, index: usize) {
        let Some(ear) = self.ears.get_mut(index) else { return };
        if index == 0
            && let Some(subscriptions) = self.listeners.renewed(&self.configured)
        {
            ear.settled &= ear.subscriptions == subscriptions;
            ear.subscriptions = subscriptions;
            if ear.settled {
                self.listeners.hold(core, &ear.subscriptions);
            }
        }
        ear.reading = Reading::Yes;
        let op = StoreOp::Listen { subscriptions: ear.subscriptions.clone(), block: core.config.relay.block };
        core.ask(now, ear.lane, Purpose::Heard(index as u16), op);
    }

    fn hear(&mut self, core: &mut Core, now: Time, run: &mut Run, audience: &mut Audience<'_>, (lane, said): (Lane, &Said)) {
        if [&self.own, &self.all].iter().any(|name| *said.channel == *name.as_bytes()) {
            audience.probe.heard(core, now, &said.payload);
            return audience.surveys.hear(core, now, audience.revocations, (&self.own, &said.payload));
        }
        core.stats.heard += 1;
        if lane == Lane::Channels {
            self.listeners.hear(core, said);
        }
        for Mapped { room, payload, message_id, .. } in self.mapping.map(core, now, lane, said) {
            if core.config.rule(&room).is_some_and(|rule| rule.keep.is_some()) {
                audience.relay.feed(&room);
                let posting = core.posting(now, room, payload, Some(message_id));
                audience.outbound.pass_on(core, now, posting);
            } else {
                audience.relay.pass_on(core, run, &room, payload);
            }
        }
    }
}

impl Ear {
    fn new(lane: Lane, subscriptions: Arc<[Subscription]>) -> Ear {
        let (reading, pause) = (Reading::No, Pause::default());
        Ear { lane, subscriptions, settled: false, reading, pause, failing: None, has_begun: false, listens: false }
    }

    fn report_gap(&self, core: &mut Core) {
        core.stats.channel_gaps += 1;
        let names = || self.subscriptions.iter().map(|one| &*one.name).collect::<Vec<_>>().join(", ");
        core.report(|| Report::ChannelGap { channels: names().into() });
    }
}

/// The beginning of a message, for people.
fn sample(payload: &Bytes) -> Box<str> {
    const LENGTH: usize = 200;
    String::from_utf8_lossy(payload.get(..LENGTH).unwrap_or(payload)).into()
}
