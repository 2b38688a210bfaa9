//! The reads of publishers' streams in a cluster, each of which may be in a slot of its own. There may be thousands: none is
//! waited for by itself, but all are looked at again and again.

use std::time::Duration;

use roomcast_core::id::Ticket;
use roomcast_core::store::redis::Part;
use roomcast_core::store::{Answer, StoreError, StoreOp, TailAnswer, TailOp};
use roomcast_core::time::Time;

use super::gathering::Gathering;
use super::pipeline::{Pipeline, Replies};
use super::slot_map::Host;
use super::{Around, Numbers, Way};

/// How soon the streams are looked at again.
const EVERY: Duration = Duration::from_millis(50);
/// The primaries have so much more time for others than it takes them.
const LEISURE: u32 = 4;

/// The streams that are read.
pub(super) struct Tail {
    pipeline: Pipeline<(u64, usize)>,
    reading: Option<Reading>,
    /// How often the streams have been looked at.
    rounds: u64,
}

/// The question that is to be answered.
struct Reading {
    ticket: Ticket,
    /// The same without any waiting.
    op: StoreOp,
    until: Time,
    round: Round,
}

enum Round {
    /// What was asked at this time.
    Asked(Time, Gathering),
    /// The next one is to come.
    At(Time),
}

impl Tail {
    pub(super) fn new(numbers: &Numbers) -> Tail {
        Tail { pipeline: Pipeline::new(numbers.waker(0)), reading: None, rounds: 0 }
    }

    /// Looks at all streams.
    fn look(&mut self, around: &mut Around<'_>) {
        let Some(reading) = &mut self.reading else { return };
        let parts = around.redis.parts(&reading.op);
        self.rounds += 1;
        reading.round = Round::Asked(around.now, Gathering::new(reading.op.clone(), parts.len()));
        for (index, Part { op, slot }) in parts.into_iter().enumerate() {
            self.pipeline.ask(around, (self.rounds, index), op, slot);
        }
    }

    fn take(&mut self, around: &mut Around<'_>, replies: Replies<(u64, usize)>) {
        for ((round, index), answer) in replies {
            // What was asked for a question that has been answered is not awaited any more.
            let Some(reading) = self.reading.as_mut().filter(|_| round == self.rounds) else { continue };
            let Round::Asked(asked_at, gathering) = &mut reading.round else { continue };
            let Some(outcome) = gathering.take(around.redis, index, answer) else { continue };
            let is_in_vain = matches!(&outcome, Ok(Answer::Tail(TailAnswer::Entries(streams))) if streams.is_empty());
            if is_in_vain && reading.until > around.now {
                let pause = EVERY.max((around.now - *asked_at) * LEISURE);
                reading.round = Round::At(reading.until.min(around.now + pause));
            } else {
                self.answer(around, outcome);
            }
        }
    }

    fn answer(&mut self, around: &Around<'_>, answer: Result<Answer, StoreError>) {
        if let Some(Reading { ticket, .. }) = self.reading.take() {
            around.answer(ticket, answer);
        }
    }
}

impl Way for Tail {
    fn submit(&mut self, around: &mut Around<'_>, ticket: Ticket, op: StoreOp) {
        let StoreOp::Tail(TailOp::Read { cursors, count, block }) = op else {
            return around.answer(ticket, Err(StoreError::Unexpected("not a read of streams".into())));
        };
        let op = StoreOp::Tail(TailOp::Read { cursors, count, block: Duration::ZERO });
        self.reading = Some(Reading { ticket, op, until: around.now + block, round: Round::At(around.now) });
        self.look(around);
    }

    fn interrupt(&mut self, around: &mut Around<'_>) {
        if let Some(Reading { op, .. }) = &self.reading {
            let nothing = op.nothing();
            self.answer(around, Ok(nothing));
        }
    }

    fn reset(&mut self, around: &mut Around<'_>) {
        let error = StoreError::Disconnected("the lane was reset".into());
        drop(self.pipeline.fail(&error));
        self.answer(around, Err(error));
    }

    fn ready(&mut self, around: &mut Around<'_>, _number: u32) {
        let replies = self.pipeline.drive(around);
        self.take(around, replies);
    }

    fn mapped(&mut self, around: &mut Around<'_>, gone: &[Host]) {
        let replies = self.pipeline.mapped(around, gone);
        self.take(around, replies);
    }

    fn tick(&mut self, around: &mut Around<'_>) {
        let replies = self.pipeline.tick(around);
        self.take(around, replies);
        if matches!(&self.reading, Some(Reading { round: Round::At(at), .. }) if *at <= around.now) {
            self.look(around);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let at = self.reading.as_ref().and_then(|reading| if let Round::At(at) = reading.round { Some(at) } else { None });
        at.into_iter().chain(self.pipeline.next_deadline()).min()
    }
}
