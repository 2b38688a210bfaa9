//! Is the store there, does it take what it is given, and does this node hear what is said? Proven regularly, never assumed.
//!
//! In every round the node leaves a mark in a relay log that it reads, and says something to itself on a channel:
//!
//! ```text
//! the mark is confirmed      the store answers, and takes writes: it is not loading, read-only or out of memory
//! the mark is read           the relay logs are heard
//! the word is heard          channels are heard
//! ```
//!
//! What is confirmed and not heard in time was said to deaf ears: the connection that should have brought it is dropped, however
//! alive it seems.

use bytes::Bytes;

use super::questions::{Purpose, Wake};
use super::{BackplaneAction, Core};
use crate::report::Report;
use crate::store::{Answer, Lane, StoreError, StoreOp};
use crate::time::Time;

use core::time::Duration;
use std::sync::Arc;

const WHILE_FAILING: Duration = Duration::from_secs(1);

/// Proves the store, and the connections that should bring what is said.
#[derive(Debug)]
pub(super) struct Probe {
    unready: Option<String>,
    /// The number of the last round.
    round: u64,
    /// Whether an answer is awaited.
    asking: bool,
    /// When to ask again. A wake-up before that is left over from before a doubt.
    next: Time,
    relay: Echo,
    channels: Echo,
}

/// Something that was said, and should be heard.
#[derive(Debug)]
struct Echo {
    what: &'static str,
    lane: Lane,
    /// What was said, until it is heard.
    said: Option<Word>,
    /// Whether it was not heard in time, and nothing since.
    deaf: bool,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    round: u64,
    since: Time,
    /// Whether the store has passed it on. It may be heard before that is known.
    confirmed: bool,
}

/// What the store was asked in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To keep a mark.
    Mark { round: u64 },
    /// To pass a word on.
    Word { round: u64 },
}

impl Probe {
    pub(super) fn new() -> Probe {
        let echo = |what, lane| Echo { what, lane, said: None, deaf: false };
        Probe {
            unready: Some("the store has not answered yet".into()),
            round: 0,
            asking: false,
            next: Time::ZERO,
            relay: echo("the relay logs are", Lane::Relay),
            channels: echo("channels are", Lane::Channels),
        }
    }

    /// Begins a round. `log` is a relay log that the node reads, if it reads any; `ear` a channel that it listens to.
    pub(super) fn ask(&mut self, core: &mut Core, now: Time, log: Option<u16>, ear: Option<Arc<str>>) {
        (self.asking, self.round) = (true, self.round + 1);
        let (round, mark) = (self.round, mark(core, self.round));
        let op = StoreOp::Mark { partition: log.unwrap_or(0), mark: mark.clone() };
        core.ask(now, Lane::Command, Purpose::Probe(Asked::Mark { round }), op);
        if log.is_some() {
            self.relay.say(round, now);
        }
        if let Some(channel) = ear {
            self.channels.say(round, now);
            let op = StoreOp::Announce { channel, sharded: core.config.relay.cluster, payload: mark };
            core.ask(now, Lane::Command, Purpose::Probe(Asked::Word { round }), op);
        }
    }

    /// Whether the time for the next round has come. The wake-up may be left over.
    pub(super) fn is_due(&self, now: Time) -> bool {
        !self.asking && now >= self.next
    }

    /// Another question was lost: whether the store is to be proven at once. The connection that publishes use may have died as
    /// well without anyone noticing, and would fail the first publish long after the store is back.
    pub(super) fn doubts(&mut self, core: &mut Core) -> bool {
        let doubts = !self.asking && self.unready.is_none();
        if doubts {
            self.lose(core, "the connection to the store was lost".into());
        }
        doubts
    }

    /// The store has answered. Whether it is back.
    pub(super) fn answered(&mut self, core: &mut Core, now: Time, asked: Asked, answer: Result<Answer, StoreError>) -> bool {
        let was_away = core.away;
        match asked {
            // What is wrong with the store is known by the mark.
            Asked::Word { round } => self.channels.answered(core, round, answer.is_ok()),
            Asked::Mark { round } => {
                self.asking = false;
                self.relay.answered(core, round, answer.is_ok());
                let interval = match answer {
                    Ok(_) => {
                        if self.unready.take().is_some() {
                            core.away = false;
                            core.report(|| Report::StoreRecovered);
                        }
                        core.config.relay.probe
                    }
                    Err(error) => {
                        let answers = !matches!(error, StoreError::Disconnected(_) | StoreError::Timeout);
                        let what = if answers { "takes nothing" } else { "does not answer" };
                        self.lose(core, format!("the store {what}: {error}"));
                        WHILE_FAILING.min(core.config.relay.probe)
                    }
                };
                self.next = now + interval;
                core.questions.wake_at(self.next, Wake::Probe);
            }
        }
        was_away && !core.away
    }

    /// A mark was read from a relay log. It may be another node's.
    pub(super) fn read(&mut self, core: &mut Core, now: Time, mark: &[u8]) {
        if let Some(latency) = self.relay.hear(core, now, mark) {
            core.stats.relay_latency = latency.as_micros() as u64;
        }
    }

    /// A word was heard on the channel of this node.
    pub(super) fn heard(&mut self, core: &mut Core, now: Time, mark: &[u8]) {
        if let Some(latency) = self.channels.hear(core, now, mark) {
            core.stats.channel_latency = latency.as_micros() as u64;
        }
    }

    /// Channels are not listened to any more: what was said need not be heard.
    pub(super) fn forget_word(&mut self) {
        self.channels.said = None;
    }

    /// The time is over in which something should have been heard.
    pub(super) fn judge(&mut self, core: &mut Core, now: Time) {
        for echo in [&mut self.relay, &mut self.channels] {
            echo.judge(core, now);
        }
    }

    pub(super) fn unready(&self) -> impl Iterator<Item = String> {
        let deaf = [&self.relay, &self.channels].into_iter().filter(|echo| echo.deaf);
        self.unready.clone().into_iter().chain(deaf.map(|echo| format!("{} not heard: the connection is dead", echo.what)))
    }

    fn lose(&mut self, core: &mut Core, reason: String) {
        self.unready = Some(reason);
        core.away = true;
        // What was said to a store that is away need not be heard.
        (self.relay.said, self.channels.said) = (None, None);
    }
}

impl Echo {
    /// Something is said, unless something else was before and has not been heard yet.
    fn say(&mut self, round: u64, since: Time) {
        self.said.get_or_insert(Word { round, since, confirmed: false });
    }

    /// Whether it was passed on is known, or is not.
    fn answered(&mut self, core: &mut Core, round: u64, is_said: bool) {
        let Some(word) = self.said.as_mut().filter(|word| word.round == round) else { return };
        word.confirmed = is_said;
        match is_said {
            true => core.questions.wake_at(word.since + core.config.relay.timeout, Wake::Echo),
            false => self.said = None,
        }
    }

    /// How long it took, if this was waited for.
    fn hear(&mut self, core: &Core, now: Time, heard: &[u8]) -> Option<Duration> {
        let Word { round, since, .. } = self.said?;
        let heard = heard.strip_prefix(core.config.node.as_bytes())?.strip_prefix(b".")?;
        // What was said later is heard later: what was waited for has come, or never will.
        let heard: u64 = str::from_utf8(heard).ok()?.parse().ok()?;
        if heard < round {
            return None;
        }
        (self.said, self.deaf) = (None, false);
        (heard == round).then(|| now - since)
    }

    fn judge(&mut self, core: &mut Core, now: Time) {
        let timeout = core.config.relay.timeout;
        if self.said.is_some_and(|word| word.confirmed && word.since + timeout <= now) {
            (self.said, self.deaf) = (None, true);
            core.stats.deaf += 1;
            core.report(|| Report::Deaf { what: self.what });
            core.actions.push_back(BackplaneAction::Reset(self.lane));
        }
    }
}

/// What this node says in a round.
fn mark(core: &Core, round: u64) -> Bytes {
    format!("{}.{round}", core.config.node).into()
}
