//! The reads of the relay logs in a cluster: each log is in a slot of its own, and is read by a connection of its own.
//!
//! A question is about many logs, and is answered as soon as one of them has something. The reads of the others go on, and what
//! comes of them is kept for the next question.

use std::collections::BTreeMap;
use std::time::Duration;

use roomcast_core::id::{StreamId, Ticket};
use roomcast_core::store::{Answer, RelayEntry, StoreError, StoreOp};
use roomcast_core::time::Time;

use super::pipeline::{Pipeline, Replies};
use super::slot_map::Host;
use super::{Around, Numbers, Way};

/// How soon a log is read again that could not be.
const AGAIN: Duration = Duration::from_millis(100);
/// How long some logs may be out of reach before that is said.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much longer than twice the time that it may block for a read may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The relay logs that are read.
pub(super) struct Relay {
    logs: BTreeMap<u16, Log>,
    waiting: Option<Waiting>,
    /// Whether it was said last that a log is out of reach, and nothing of the others since.
    has_failed: bool,
    numbers: Numbers,
}

/// The question that is to be answered.
struct Waiting {
    ticket: Ticket,
    partitions: Vec<u16>,
    count: usize,
    block: Duration,
    /// When to answer that there is nothing. Where it is asked whether the logs can be read, when all of them have been.
    until: Option<Time>,
}

/// A relay log.
struct Log {
    pipeline: Pipeline<()>,
    /// Beyond which entry it is read.
    cursor: StreamId,
    /// By when the read under way must be answered.
    until: Option<Time>,
    /// What was read, until somebody asks for it.
    entries: Vec<RelayEntry>,
    /// Since when it cannot be read, and why; and when to try again.
    failing: Option<(Time, StoreError)>,
    again_at: Option<Time>,
    /// Whether it has been read since the question came.
    is_proven: bool,
}

impl Relay {
    pub(super) fn new(numbers: Numbers) -> Relay {
        Relay { logs: BTreeMap::new(), waiting: None, has_failed: false, numbers }
    }

    /// Has every log read that the question is about and that is not.
    fn read_all(&mut self, around: &mut Around<'_>) {
        let Some(Waiting { partitions, count, block, .. }) = &self.waiting else { return };
        for partition in partitions {
            if let Some(log) = self.logs.get_mut(partition) {
                log.read(around, *partition, *count, *block);
            }
        }
    }

    /// Answers the question if there is something to be said.
    fn settle(&mut self, around: &mut Around<'_>) {
        self.read_all(around);
        let Some(waiting) = &self.waiting else { return };
        let logs = || waiting.partitions.iter().filter_map(|partition| self.logs.get(partition));
        let all_fail = logs().all(|log| log.again_at.is_some());
        // Where it is asked whether they can be read, what was before does not count.
        let counts = |log: &&Log| waiting.until.is_some() || log.again_at.is_some();
        let first = logs().filter(counts).filter_map(|log| log.failing.as_ref()).min_by_key(|(since, _)| *since);
        let fails = first.filter(|(since, _)| all_fail || *since + PATIENCE <= around.now);
        let has_entries = logs().any(|log| !log.entries.is_empty());
        match fails {
            // What can be read is not held up by what cannot.
            Some((_, error)) if !(has_entries && self.has_failed) => {
                let error = error.clone();
                self.has_failed = true;
                self.answer(around, Err(error));
            }
            _ if has_entries => {
                self.has_failed = false;
                self.answer_entries(around);
            }
            _ if waiting.until.map_or_else(|| logs().all(|log| log.is_proven), |until| until <= around.now) => {
                self.answer_entries(around);
            }
            _ => {}
        }
    }

    fn answer_entries(&mut self, around: &Around<'_>) {
        let Some(waiting) = &self.waiting else { return };
        let logs = &mut self.logs;
        let entries = |partition| logs.get_mut(partition).map(|log| std::mem::take(&mut log.entries)).unwrap_or_default();
        let entries = waiting.partitions.iter().flat_map(entries).collect();
        self.answer(around, Ok(Answer::Relayed(entries)));
    }

    fn answer(&mut self, around: &Around<'_>, answer: Result<Answer, StoreError>) {
        if let Some(Waiting { ticket, .. }) = self.waiting.take() {
            around.answer(ticket, answer);
        }
    }
}

impl Log {
    fn new(numbers: &Numbers, partition: u16) -> Log {
        Log {
            pipeline: Pipeline::new(numbers.waker(u32::from(partition))),
            cursor: StreamId::ZERO,
            until: None,
            entries: Vec::new(),
            failing: None,
            again_at: None,
            is_proven: false,
        }
    }

    /// Somebody asks for what is beyond this entry.
    fn ask(&mut self, cursor: StreamId, is_proof: bool) {
        // What is read beyond another one is not what is asked for.
        if self.cursor != cursor {
            self.entries.clear();
            self.drop_read();
            self.cursor = cursor;
        }
        if is_proof {
            // A read under way proves nothing.
            self.drop_read();
            (self.again_at, self.is_proven) = (None, false);
        }
    }

    fn read(&mut self, around: &mut Around<'_>, partition: u16, count: usize, block: Duration) {
        if self.until.is_some() || self.again_at.is_some() || !self.entries.is_empty() {
            return;
        }
        // After a failure the first read does not wait, so that it is known at once that the log can be read again.
        let block = if self.failing.is_some() { Duration::ZERO } else { block };
        let op = StoreOp::RelayRead { cursors: vec![(partition, self.cursor)], count, block };
        let slot = around.redis.parts(&op).pop().and_then(|part| part.slot);
        self.until = Some(around.now + if self.failing.is_some() { PATIENCE } else { block * 2 + TIMEOUT });
        self.pipeline.ask(around, (), op, slot);
    }

    fn take(&mut self, now: Time, replies: Replies<()>) {
        for ((), answer) in replies {
            self.until = None;
            match answer {
                Ok(Answer::Relayed(entries)) => {
                    self.entries = entries;
                    self.failing = None;
                    self.is_proven = true;
                }
                Ok(_) => self.fail(now, StoreError::Unexpected("not what was asked for".into())),
                Err(error) => self.fail(now, error),
            }
        }
    }

    fn fail(&mut self, now: Time, error: StoreError) {
        let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
        self.failing = Some((since, error));
        self.again_at = Some(now + AGAIN);
    }

    /// Ends the read that is under way, if there is one.
    fn drop_read(&mut self) {
        if self.until.take().is_some() {
            // Only its connection can be given up. Nobody waits for the answer.
            drop(self.pipeline.fail(&StoreError::Timeout));
        }
    }

    fn tick(&mut self, around: &mut Around<'_>) {
        let replies = self.pipeline.tick(around);
        self.take(around.now, replies);
        if self.until.is_some_and(|until| until <= around.now) {
            self.drop_read();
            around.topology.look_soon(around.now);
            self.fail(around.now, StoreError::Timeout);
        }
        if self.again_at.is_some_and(|at| at <= around.now) {
            self.again_at = None;
        }
    }
}

impl Way for Relay {
    fn submit(&mut self, around: &mut Around<'_>, ticket: Ticket, op: StoreOp) {
        let StoreOp::RelayRead { cursors, count, block } = op else {
            return around.answer(ticket, Err(StoreError::Unexpected("not a read of relay logs".into())));
        };
        let is_proof = block.is_zero();
        for (partition, cursor) in &cursors {
            let log = self.logs.entry(*partition).or_insert_with(|| Log::new(&self.numbers, *partition));
            log.ask(*cursor, is_proof);
        }
        let partitions: Vec<u16> = cursors.into_iter().map(|(partition, _)| partition).collect();
        self.logs.retain(|partition, _| partitions.contains(partition));
        self.waiting = Some(Waiting { ticket, partitions, count, block, until: (!is_proof).then_some(around.now + block) });
        self.settle(around);
    }

    fn interrupt(&mut self, around: &mut Around<'_>) {
        self.answer_entries(around);
    }

    fn reset(&mut self, around: &mut Around<'_>) {
        self.logs.clear();
        self.answer(around, Err(StoreError::Disconnected("the lane was reset".into())));
    }

    fn ready(&mut self, around: &mut Around<'_>, number: u32) {
        let log = u16::try_from(number).ok().and_then(|partition| self.logs.get_mut(&partition));
        if let Some(log) = log {
            let replies = log.pipeline.drive(around);
            log.take(around.now, replies);
            self.settle(around);
        }
    }

    fn mapped(&mut self, around: &mut Around<'_>, gone: &[Host]) {
        for log in self.logs.values_mut() {
            let replies = log.pipeline.mapped(around, gone);
            log.take(around.now, replies);
        }
        self.settle(around);
    }

    fn tick(&mut self, around: &mut Around<'_>) {
        self.logs.values_mut().for_each(|log| log.tick(around));
        self.settle(around);
    }

    fn next_deadline(&self) -> Option<Time> {
        let logs =
            self.logs.values().flat_map(|log| log.pipeline.next_deadline().into_iter().chain(log.until).chain(log.again_at));
        let until = self.waiting.as_ref().and_then(|waiting| waiting.until);
        logs.chain(until).min()
    }
}
