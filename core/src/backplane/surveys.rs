//! Surveys of all nodes: the hubs of this one are asked directly, the other nodes on a channel that all listen to.
//!
//! ```text
//! operator ──▶ asked node ──question──▶ the channel of all nodes ──▶ each node ──▶ its hubs
//! operator ◀── joined ◀── its own hubs, and the channel of the asked node ◀──answer──┘
//! ```
//!
//! This is ephemeral by nature: what does not come within a second, and the time that the answering itself may take, is left out,
//! and said to be missing.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Core;
use super::questions::{Purpose, Wake};
use super::revocations::Revocations;
use crate::door::{ReadId, Tell};
use crate::id::ShardId;
use crate::store::{Answer, Lane, StoreError, StoreOp};
use crate::survey::{Question, Survey, Surveyed};
use crate::time::Time;

/// How long answers are waited for that take no time to be given.
const PATIENCE: Duration = Duration::from_secs(1);
/// Surveys under way at the most. More are answered with nothing.
const MOST: usize = 64;

/// The surveys under way.
#[derive(Debug)]
pub(super) struct Surveys {
    /// Hubs of this node.
    hubs: u8,
    under_way: BTreeMap<u64, UnderWay>,
    last: u64,
}

#[derive(Debug)]
struct UnderWay {
    asker: Asker,
    question: Question,
    survey: Survey,
    /// Hubs of this node that have not answered.
    hubs: u8,
    /// Other nodes that have answered, and how many were asked, once that is known.
    answered: u64,
    asked: Option<u64>,
    /// Whether it is not known yet how many nodes were asked.
    asking: bool,
    until: Time,
}

#[derive(Debug)]
enum Asker {
    /// Somebody in this process.
    Here(ShardId, ReadId),
    /// Another node, by its channel and its number for the survey.
    Node(Arc<str>, u64),
}

/// What nodes say to each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Question { from: Box<str>, number: u64, question: Question },
    Answer { number: u64, survey: Survey },
}

impl Surveys {
    pub(super) fn new() -> Surveys {
        Surveys { hubs: 1, under_way: BTreeMap::new(), last: 0 }
    }

    pub(super) fn set_hubs(&mut self, hubs: u8) {
        self.hubs = hubs;
    }

    /// Somebody in this process asks. `own` is the channel of this node, while it is listened to, and `all` that of all nodes.
    pub(super) fn begin(
        &mut self,
        core: &mut Core,
        now: Time,
        (shard, read): (ShardId, ReadId),
        (own, all): (Option<Arc<str>>, Arc<str>),
        question: Question,
    ) {
        let number = self.start(core, now, Asker::Here(shard, read), question.clone());
        match (number, own) {
            (Some(number), Some(from)) => {
                let purpose = Purpose::Survey(number);
                announce(core, now, all, purpose, &Word::Question { from: (*from).into(), number, question });
            }
            (Some(number), None) => self.asked(core, now, number, Err(StoreError::Disconnected("nothing is heard".into()))),
            (None, _) => {
                let result = Surveyed { survey: question.nothing(), answered: 0, asked: None };
                core.tell(shard, Tell::Surveyed { read, result });
            }
        }
    }

    /// It is known how many nodes were asked, this one included; or that they were not.
    pub(super) fn asked(&mut self, core: &mut Core, now: Time, number: u64, answer: Result<Answer, StoreError>) {
        let Some(under_way) = self.under_way.get_mut(&number) else { return };
        under_way.asking = false;
        under_way.asked = if let Ok(Answer::Count(count)) = answer { Some(count.max(1)) } else { None };
        self.end_if_complete(core, now, number);
    }

    /// A hub has answered.
    pub(super) fn answered(&mut self, core: &mut Core, now: Time, number: u64, survey: Survey) {
        let Some(under_way) = self.under_way.get_mut(&number) else { return };
        under_way.survey.join(survey, &under_way.question);
        under_way.hubs = under_way.hubs.saturating_sub(1);
        self.end_if_complete(core, now, number);
    }

    /// Another node, or this one, has said something. What is no word of a survey is left to others.
    pub(super) fn hear(&mut self, core: &mut Core, now: Time, revocations: &mut Revocations, (own, said): (&Arc<str>, &[u8])) {
        match serde_json::from_slice(said) {
            // This node has asked its own hubs already.
            Ok(Word::Question { from, number, question }) if *from != **own => {
                self.start(core, now, Asker::Node(from.into(), number), question.clone());
                if let Question::Revoke(revocation) = question {
                    revocations.hear(core, &revocation);
                }
            }
            Ok(Word::Answer { number, survey }) => {
                let Some(under_way) = self.under_way.get_mut(&number) else { return };
                under_way.survey.join(survey, &under_way.question);
                under_way.answered += 1;
                self.end_if_complete(core, now, number);
            }
            Ok(Word::Question { .. }) | Err(_) => {}
        }
    }

    /// The time of some of them is over.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) {
        let over: Vec<u64> = self.under_way.iter().filter(|(_, one)| one.until <= now).map(|(number, _)| *number).collect();
        over.into_iter().for_each(|number| self.end(core, now, number));
    }

    fn start(&mut self, core: &mut Core, now: Time, asker: Asker, question: Question) -> Option<u64> {
        if self.under_way.len() >= MOST {
            return None;
        }
        self.last += 1;
        let until = now + PATIENCE + question.takes();
        let asking = matches!(asker, Asker::Here(..));
        let survey = question.nothing();
        for shard in (0..self.hubs).map(ShardId) {
            core.tell(shard, Tell::Survey { number: self.last, question: question.clone() });
        }
        let under_way = UnderWay { asker, question, survey, hubs: self.hubs, answered: 0, asked: None, asking, until };
        self.under_way.insert(self.last, under_way);
        core.questions.wake_at(until, Wake::Survey);
        self.end_if_complete(core, now, self.last);
        Some(self.last)
    }

    fn end_if_complete(&mut self, core: &mut Core, now: Time, number: u64) {
        let is_complete = |one: &UnderWay| !one.asking && one.hubs == 0 && one.answered + 1 >= one.asked.unwrap_or(1);
        if self.under_way.get(&number).is_some_and(is_complete) {
            self.end(core, now, number);
        }
    }

    fn end(&mut self, core: &mut Core, now: Time, number: u64) {
        let Some(UnderWay { asker, survey, answered, asked, .. }) = self.under_way.remove(&number) else { return };
        match asker {
            Asker::Here(shard, read) => {
                let result = Surveyed { survey, answered: answered + 1, asked };
                core.tell(shard, Tell::Surveyed { read, result });
            }
            Asker::Node(channel, number) => announce(core, now, channel, Purpose::Told, &Word::Answer { number, survey }),
        }
    }
}

fn announce(core: &mut Core, now: Time, channel: Arc<str>, purpose: Purpose, word: &Word) {
    // Words are made of texts and numbers, which JSON can say.
    let payload = Bytes::from(serde_json::to_vec(word).unwrap_or_default());
    let op = StoreOp::Announce { channel, sharded: core.config.relay.cluster, payload };
    core.ask(now, Lane::Command, purpose, op);
}
