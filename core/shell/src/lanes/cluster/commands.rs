//! Pipelined commands to a cluster.

use std::collections::BTreeMap;

use roomcast_core::id::Ticket;
use roomcast_core::store::redis::Part;
use roomcast_core::store::{Answer, StoreError, StoreOp};
use roomcast_core::time::Time;

use super::gathering::Gathering;
use super::pipeline::{Pipeline, Replies};
use super::slot_map::Host;
use super::{Around, Numbers, Way};

/// Operations, of which those whose keys are in several slots are asked in parts.
pub(super) struct Commands {
    pipeline: Pipeline<Piece>,
    /// Operations in parts, by numbers of their own.
    gathering: BTreeMap<u64, (Ticket, Gathering)>,
    next: u64,
}

/// What a reply is a part of.
enum Piece {
    Whole(Ticket),
    Part(u64, usize),
}

impl Commands {
    pub(super) fn new(numbers: &Numbers) -> Commands {
        Commands { pipeline: Pipeline::new(numbers.waker(0)), gathering: BTreeMap::new(), next: 0 }
    }

    fn answer(&mut self, around: &Around<'_>, replies: Replies<Piece>) {
        for (piece, answer) in replies {
            match piece {
                Piece::Whole(ticket) => around.answer(ticket, answer),
                Piece::Part(number, index) => self.gather(around, number, index, answer),
            }
        }
    }

    fn gather(&mut self, around: &Around<'_>, number: u64, index: usize, answer: Result<Answer, StoreError>) {
        // Nothing more is to come of one that has failed.
        let Some((ticket, gathering)) = self.gathering.get_mut(&number) else { return };
        if let Some(outcome) = gathering.take(around.redis, index, answer) {
            around.answer(*ticket, outcome);
            self.gathering.remove(&number);
        }
    }
}

impl Way for Commands {
    fn submit(&mut self, around: &mut Around<'_>, ticket: Ticket, op: StoreOp) {
        let mut parts = around.redis.parts(&op);
        if parts.len() <= 1 {
            let slot = parts.pop().and_then(|part| part.slot);
            return self.pipeline.ask(around, Piece::Whole(ticket), op, slot);
        }
        self.next += 1;
        self.gathering.insert(self.next, (ticket, Gathering::new(op, parts.len())));
        for (index, Part { op, slot }) in parts.into_iter().enumerate() {
            self.pipeline.ask(around, Piece::Part(self.next, index), op, slot);
        }
    }

    fn reset(&mut self, around: &mut Around<'_>) {
        let replies = self.pipeline.fail(&StoreError::Disconnected("the lane was reset".into()));
        self.answer(around, replies);
    }

    fn ready(&mut self, around: &mut Around<'_>, _number: u32) {
        let replies = self.pipeline.drive(around);
        self.answer(around, replies);
    }

    fn mapped(&mut self, around: &mut Around<'_>, gone: &[Host]) {
        let replies = self.pipeline.mapped(around, gone);
        self.answer(around, replies);
    }

    fn tick(&mut self, around: &mut Around<'_>) {
        let replies = self.pipeline.tick(around);
        self.answer(around, replies);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.pipeline.next_deadline()
    }
}
