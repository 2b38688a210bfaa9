//! To which rooms messages of channels go, and what is said of those that go nowhere.

use core::hash::Hasher as _;
use core::time::Duration;
use std::collections::VecDeque;

use siphasher::sip::SipHasher13;

use super::super::Core;
use super::sample;
use crate::channel::{Heard, Mapped, Mapper};
use crate::config::{Channel, Config};
use crate::report::Report;
use crate::store::{Lane, Said, Subscription};
use crate::table::Table;
use crate::time::Time;

/// Of each channel, one message that goes nowhere is reported in this time.
const REPORTED: Duration = Duration::from_secs(10);
/// Messages without an identifier whose bytes are remembered at the most.
const MOST_REMEMBERED: usize = 100_000;

/// The mappers of all channels.
#[derive(Debug)]
pub(super) struct Mapping {
    channels: Vec<Tuned>,
    occurrences: Occurrences,
}

/// A channel, and how it is doing.
#[derive(Debug)]
struct Tuned {
    lane: Lane,
    by: Subscription,
    mapper: Mapper,
    /// Messages that went nowhere since one was reported, and when the next may be.
    broken: u64,
    report_at: Time,
}

/// How often the same bytes were heard on a channel, in messages without an identifier: all nodes that hear all of them count
/// the same, so that they give each the same identifier, and another one to the next.
///
/// What is heard again later than any node could store it begins anew. A node that has not heard all of them counts too few, and
/// gives a message the identifier of one before it: then that of another node counts.
#[derive(Debug)]
struct Occurrences {
    counts: Table<u64, (u64, Time)>,
    /// In the order in which they were heard. One that was heard again since is there again.
    heard: VecDeque<(Time, u64)>,
    window: Duration,
}

/// What is listened to for a channel.
pub(super) fn subscription(channel: &Channel) -> Subscription {
    match channel.channel {
        Some(_) if channel.sharded => Subscription::sharded(channel.name()),
        Some(_) => Subscription::channel(channel.name()),
        None => Subscription::pattern(channel.name()),
    }
}

impl Mapping {
    pub(super) fn new(config: &Config, key: u64) -> Mapping {
        let mapped = |(index, channel): (u16, &Channel)| Tuned {
            lane: channel.lane(index),
            by: subscription(channel),
            mapper: Mapper::new(channel, &config.limits),
            broken: 0,
            report_at: Time::ZERO,
        };
        let window = config.relay.once + config.relay.patience;
        let occurrences = Occurrences { counts: Table::new(key), heard: VecDeque::new(), window };
        Mapping { channels: (0..).zip(&config.channels).map(mapped).collect(), occurrences }
    }

    /// The messages for rooms that a message is; none where it is broken.
    pub(super) fn map(&mut self, core: &mut Core, now: Time, lane: Lane, said: &Said) -> Vec<Mapped> {
        let is_it = |channel: &&mut Tuned| channel.lane == lane && channel.by == said.by;
        let Some(channel) = self.channels.iter_mut().find(is_it) else { return Vec::new() };
        let at = core.wall.unix(now);
        let map = |occurrence| {
            let name = str::from_utf8(&said.channel).map_err(|_| "the name of the channel is no text".to_owned())?;
            let heard = Heard { channel: name, payload: &said.payload, occurrence, at };
            channel.mapper.map(&heard).map_err(|error| error.to_string())
        };
        let mapped = match map(0) {
            Ok(mapped) if mapped.iter().any(|message| message.derived) => match self.occurrences.count(now, said) {
                0 => Ok(mapped),
                occurrence => map(occurrence),
            },
            other => other,
        };
        mapped.unwrap_or_else(|reason| {
            channel.refuse(core, now, said, reason);
            Vec::new()
        })
    }
}

impl Tuned {
    fn refuse(&mut self, core: &mut Core, now: Time, said: &Said, reason: String) {
        core.stats.unheard += 1;
        self.broken += 1;
        if self.report_at <= now {
            self.report_at = now + REPORTED;
            let (count, channel) = (core::mem::take(&mut self.broken), String::from_utf8_lossy(&said.channel).into());
            core.report(|| Report::Unheard { channel, reason: reason.into(), sample: sample(&said.payload), count });
        }
    }
}

impl Occurrences {
    /// How often this was heard before.
    fn count(&mut self, now: Time, said: &Said) -> u64 {
        while let Some((last, hash)) = self.heard.front().copied()
            && (last + self.window <= now || self.heard.len() >= MOST_REMEMBERED)
        {
            self.heard.pop_front();
            if self.counts.get(&hash).is_some_and(|(_, heard)| *heard == last) {
                self.counts.remove(&hash);
            }
        }
        let mut hasher = SipHasher13::new();
        hasher.write(&(said.channel.len() as u64).to_le_bytes());
        hasher.write(&said.channel);
        hasher.write(&said.payload);
        let hash = hasher.finish();
        let before = self.counts.get(&hash).map_or(0, |(count, _)| *count);
        self.counts.insert(hash, (before + 1, now));
        self.heard.push_back((now, hash));
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const WINDOW: Duration = Duration::from_secs(60);

    fn occurrences() -> Occurrences {
        Occurrences { counts: Table::new(1), heard: VecDeque::new(), window: WINDOW }
    }

    fn said(channel: &'static str, payload: &str) -> Said {
        let channel_bytes = Bytes::from_static(channel.as_bytes());
        Said { by: Subscription::channel(channel), channel: channel_bytes, payload: Bytes::copy_from_slice(payload.as_bytes()) }
    }

    #[test]
    fn the_same_bytes_are_counted_until_nobody_can_store_them_any_more() {
        let (mut occurrences, begin) = (occurrences(), Time::from_micros(1));
        let mut count = |after: u32, channel, payload| occurrences.count(begin + WINDOW / 4 * after, &said(channel, payload));
        assert_eq!([count(0, "c", "x"), count(1, "c", "x"), count(1, "c", "y"), count(1, "d", "x")], [0, 1, 0, 0]);
        assert_eq!(count(4, "c", "x"), 2, "it was heard again since");
        assert_eq!(count(5, "c", "y"), 0);
        assert_eq!(count(8, "c", "x"), 0);
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let mut occurrences = occurrences();
        for number in 0..MOST_REMEMBERED + 10 {
            occurrences.count(Time::ZERO, &said("c", &number.to_string()));
        }
        assert_eq!((occurrences.counts.len(), occurrences.heard.len()), (MOST_REMEMBERED, MOST_REMEMBERED));
        assert_eq!(occurrences.count(Time::ZERO, &said("c", &MOST_REMEMBERED.to_string())), 1);
        assert_eq!(occurrences.count(Time::ZERO, &said("c", "0")), 0);
    }
}
