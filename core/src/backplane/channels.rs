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

use std::sync::Arc;

use bytes::Bytes;

use super::outbound::Outbound;
use super::pause::Pause;
use super::probe::Probe;
use super::questions::{Purpose, Wake};
use super::reading::Reading;
use super::relay::Relay;
use super::{Core, Run};
use crate::channel::Mapped;
use crate::config::Config;
use crate::report::Report;
use crate::store::{Answer, Heard, Lane, Said, StoreError, StoreOp, Subscription};
use crate::time::Time;

mod mapping;

use mapping::Mapping;

/// The connections that listen. The first is to the node's own server.
#[derive(Debug)]
pub(super) struct Channels {
    ears: Vec<Ear>,
    /// The channel on which this node is spoken to, by itself too.
    own: Arc<str>,
    mapping: Mapping,
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
    /// Whether it listens now, as far as is known.
    listens: bool,
}

/// What hears of messages.
pub(super) struct Audience<'a> {
    pub(super) relay: &'a mut Relay,
    pub(super) outbound: &'a mut Outbound,
    pub(super) probe: &'a mut Probe,
}

impl Channels {
    pub(super) fn new(config: &Config, key: u64) -> Channels {
        let own: Arc<str> = format!("{}node:{}", config.relay.prefix, config.node).into();
        let subscription = match config.relay.cluster {
            true => Subscription::sharded(&own),
            false => Subscription::channel(&own),
        };
        let mapping = Mapping::new(config, key);
        let here = config.channels.iter().filter(|channel| channel.redis.is_none()).map(mapping::subscription);
        let mut ears = vec![Ear::new(Lane::Channels, core::iter::once(subscription).chain(here))];
        for (index, channel) in (0..).zip(&config.channels).filter(|(_, channel)| channel.redis.is_some()) {
            ears.push(Ear::new(channel.lane(index), [mapping::subscription(channel)]));
        }
        Channels { ears, own, mapping }
    }

    pub(super) fn start(&mut self, core: &mut Core, now: Time) {
        for (index, ear) in (0..).zip(&mut self.ears) {
            ear.listen(core, now, index);
        }
    }

    /// The channel of this node, while it is listened to.
    pub(super) fn own(&self) -> Option<Arc<str>> {
        self.ears.first().is_some_and(|ear| ear.listens).then(|| self.own.clone())
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
        let Some(ear) = self.ears.get_mut(usize::from(index)) else { return };
        ear.reading = Reading::No;
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
                if let Some(ear) = self.ears.get_mut(usize::from(index)) {
                    if begins && core::mem::replace(&mut ear.has_begun, true) {
                        ear.report_gap(core);
                        audience.relay.lose_fed();
                    }
                    ear.listen(core, now, index);
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
        for (index, ear) in (0..).zip(&mut self.ears) {
            if ear.reading == Reading::Paused && ear.pause.is_over(now) {
                ear.listen(core, now, index);
            }
        }
    }

    pub(super) fn unready(&self) -> impl Iterator<Item = String> {
        let failing = self.ears.iter().filter_map(|ear| ear.failing.as_ref());
        failing.map(|error| format!("channels cannot be listened to: {error}"))
    }

    fn hear(&mut self, core: &mut Core, now: Time, run: &mut Run, audience: &mut Audience<'_>, (lane, said): (Lane, &Said)) {
        if *said.channel == *self.own.as_bytes() {
            return audience.probe.heard(core, now, &said.payload);
        }
        core.stats.heard += 1;
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
    fn new(lane: Lane, subscriptions: impl IntoIterator<Item = Subscription>) -> Ear {
        let (reading, pause) = (Reading::No, Pause::default());
        Ear {
            lane,
            subscriptions: subscriptions.into_iter().collect(),
            reading,
            pause,
            failing: None,
            has_begun: false,
            listens: false,
        }
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

/// The beginning of a message, for people.
fn sample(payload: &Bytes) -> Box<str> {
    const LENGTH: usize = 200;
    String::from_utf8_lossy(payload.get(..LENGTH).unwrap_or(payload)).into()
}
