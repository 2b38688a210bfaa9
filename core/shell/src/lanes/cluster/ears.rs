//! Channels of a cluster. A sharded one is heard at the primary of its slot, any other at whichever node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use roomcast_core::id::Ticket;
use roomcast_core::store::redis::slot;
use roomcast_core::store::{Answer, Heard, StoreError, StoreOp, Subscription, SubscriptionKind};
use roomcast_core::time::Time;

use super::super::listener::{Answered, Listener};
use super::super::server::Server;
use super::slot_map::Host;
use super::{Around, Numbers, OF_EACH, Way};
use crate::backplane::Input;
use crate::mailbox::ReadyWaker;

/// How long it is waited for a primary of a slot.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is followed from node to node for one question.
const MOST_REDIRECTIONS: u8 = 5;

/// The connections that listen: one for each slot with sharded channels, of which the first hears the other channels as well.
pub(super) struct Ears {
    wanted: Arc<[Subscription]>,
    /// Whether it is another choice of channels than that of the question before.
    is_renewed: bool,
    ears: Vec<Ear>,
    ticket: Option<Ticket>,
    /// What was heard and has not been told, and why something could not be heard.
    heard: Heard,
    failure: Option<StoreError>,
    numbers: Numbers,
}

struct Ear {
    number: u32,
    slot: Option<u16>,
    subscriptions: Arc<[Subscription]>,
    listener: Listener,
    /// The node that it listens at.
    at: Option<(Host, Server)>,
    waker: Arc<ReadyWaker<Input>>,
    state: State,
    redirections: u8,
    /// How long it listens before it answers that there was nothing.
    block: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody asks.
    Idle,
    /// It looks for a node that can be asked, until then.
    Seeking(Time),
    Asked,
}

impl Ears {
    pub(super) fn new(numbers: Numbers) -> Ears {
        Ears {
            wanted: Arc::default(),
            is_renewed: false,
            ears: Vec::new(),
            ticket: None,
            heard: Heard::default(),
            failure: None,
            numbers,
        }
    }

    /// Shares the channels out among connections, of which those that go on stay open.
    fn share_out(&mut self, wanted: Arc<[Subscription]>) {
        let is_sharded = |subscription: &&Subscription| subscription.kind == SubscriptionKind::Sharded;
        let slot = |subscription: &Subscription| slot(&subscription.name);
        let first = wanted.iter().find(is_sharded).map(slot);
        let mut by_slot: BTreeMap<Option<u16>, Vec<Subscription>> = BTreeMap::new();
        for subscription in wanted.iter() {
            let slot = if is_sharded(&subscription) { Some(slot(subscription)) } else { first };
            by_slot.entry(slot).or_default().push(subscription.clone());
        }
        self.ears.retain(|ear| by_slot.contains_key(&ear.slot));
        for (slot, all) in by_slot {
            match self.ears.iter_mut().find(|ear| ear.slot == slot) {
                Some(ear) => ear.subscriptions = all.into(),
                None => {
                    let is_free = |number: &u32| self.ears.iter().all(|ear| ear.number != *number);
                    let number = (0..OF_EACH).find(is_free).unwrap_or_default();
                    self.ears.push(Ear::new(slot, all, number, self.numbers.waker(number)));
                }
            }
        }
        (self.wanted, self.is_renewed) = (wanted, true);
    }

    /// Takes what an ear was answered.
    fn take(&mut self, around: &mut Around<'_>, index: usize, answered: Answered) {
        let (Some((ticket, answer)), Some(ear)) = (answered, self.ears.get_mut(index)) else { return };
        ear.state = State::Idle;
        match answer {
            Ok(Answer::Heard(Heard { begins, messages })) => {
                self.heard.begins |= begins;
                self.heard.messages.extend(messages);
            }
            Err(StoreError::Refused(text)) if ear.follows(around, &text) => {
                ear.redirections += 1;
                ear.seek(around, ticket);
            }
            other => {
                around.topology.look_soon(around.now);
                ear.at = None;
                self.failure = Some(other.err().unwrap_or(StoreError::Unexpected("nothing that was heard".into())));
            }
        }
    }

    /// Answers the question if there is something to be said.
    fn settle(&mut self, around: &mut Around<'_>) {
        let is_settling = |ear: &Ear| ear.state != State::Idle && !ear.holds();
        let has_news = self.heard.begins || !self.heard.messages.is_empty();
        let is_in_vain = self.ears.iter().all(|ear| ear.state == State::Idle);
        if self.failure.is_some() || is_in_vain || ((has_news || self.is_renewed) && !self.ears.iter().any(is_settling)) {
            self.answer(around);
        }
    }

    /// Answers with what there is.
    fn answer(&mut self, around: &mut Around<'_>) {
        let Some(ticket) = self.ticket.take() else { return };
        self.is_renewed = false;
        for index in 0..self.ears.len() {
            let answered = self.ears.get_mut(index).and_then(|ear| ear.stop());
            self.take(around, index, answered);
        }
        // What was heard is told first, and at the next question what was not.
        let answer = match self.failure.take_if(|_| self.heard.messages.is_empty()) {
            Some(failure) => Err(failure),
            None => Ok(Answer::Heard(std::mem::take(&mut self.heard))),
        };
        around.answer(ticket, answer);
    }

    /// Asks those who found nobody to ask.
    fn seek(&mut self, around: &mut Around<'_>) {
        let Some(ticket) = self.ticket else { return };
        for ear in &mut self.ears {
            let State::Seeking(until) = ear.state else { continue };
            ear.seek(around, ticket);
            if until <= around.now && ear.state != State::Asked {
                ear.state = State::Idle;
                self.failure = Some(around.topology.down());
            }
        }
    }
}

impl Ear {
    fn new(slot: Option<u16>, subscriptions: Vec<Subscription>, number: u32, waker: Arc<ReadyWaker<Input>>) -> Ear {
        Ear {
            number,
            slot,
            subscriptions: subscriptions.into(),
            listener: Listener::new(),
            at: None,
            waker,
            state: State::Idle,
            redirections: 0,
            block: Duration::ZERO,
        }
    }

    /// Asks what is said, unless it is being asked.
    fn listen(&mut self, around: &mut Around<'_>, ticket: Ticket, block: Duration) {
        self.block = block;
        if self.state == State::Idle {
            (self.state, self.redirections) = (State::Seeking(around.now + PATIENCE), 0);
            self.seek(around, ticket);
        }
    }

    /// Asks a node, if one is known that can be asked.
    fn seek(&mut self, around: &mut Around<'_>, ticket: Ticket) {
        let primary = match (self.slot, &self.at) {
            (Some(slot), _) => around.topology.primary(slot),
            (None, Some((host, _))) => Some(host),
            (None, None) => around.topology.any(),
        };
        let Some(primary) = primary.cloned() else { return around.topology.look_soon(around.now) };
        if self.at.as_ref().is_none_or(|(host, _)| *host != primary) {
            drop(self.listener.fail(&StoreError::Timeout));
            let server = around.topology.server(&primary);
            self.at = Some((primary, server));
        }
        self.listener.listen(around.now, ticket, self.subscriptions.clone(), self.block);
        self.state = State::Asked;
        self.waker.ready();
    }

    fn drive(&mut self, around: &mut Around<'_>) -> Answered {
        self.waker.take();
        let (_, server) = self.at.as_ref()?;
        let waker = Waker::from(self.waker.clone());
        self.listener.drive(&mut Context::from_waker(&waker), server, around.buffer)
    }

    /// Ends the question, with what was heard.
    fn stop(&mut self) -> Answered {
        self.state = State::Idle;
        self.listener.answer()
    }

    fn holds(&self) -> bool {
        self.state == State::Asked && self.listener.holds()
    }

    /// Whether a refusal leads to another node.
    fn follows(&self, around: &mut Around<'_>, refusal: &str) -> bool {
        let Some((host, _)) = self.at.as_ref().filter(|_| self.redirections < MOST_REDIRECTIONS) else { return false };
        let moved = refusal.strip_prefix("MOVED ").and_then(|details| around.moved(details, host));
        moved.is_some()
    }
}

impl Way for Ears {
    fn submit(&mut self, around: &mut Around<'_>, ticket: Ticket, op: StoreOp) {
        let StoreOp::Listen { subscriptions, block } = op else {
            return around.answer(ticket, Err(StoreError::Unexpected("nothing to listen to".into())));
        };
        if self.wanted != subscriptions {
            self.share_out(subscriptions);
        }
        self.ticket = Some(ticket);
        if self.failure.is_none() {
            self.ears.iter_mut().for_each(|ear| ear.listen(around, ticket, block));
        }
        self.settle(around);
    }

    fn interrupt(&mut self, around: &mut Around<'_>) {
        self.answer(around);
    }

    fn reset(&mut self, around: &mut Around<'_>) {
        let error = StoreError::Disconnected("the lane was reset".into());
        for ear in &mut self.ears {
            (ear.state, ear.at) = (State::Idle, None);
            drop(ear.listener.fail(&error));
        }
        if let Some(ticket) = self.ticket.take() {
            around.answer(ticket, Err(error));
        }
    }

    fn ready(&mut self, around: &mut Around<'_>, number: u32) {
        let Some(index) = self.ears.iter().position(|ear| ear.number == number) else { return };
        let answered = self.ears.get_mut(index).and_then(|ear| ear.drive(around));
        self.take(around, index, answered);
        self.settle(around);
    }

    fn mapped(&mut self, around: &mut Around<'_>, gone: &[Host]) {
        let error = StoreError::Disconnected("another node is the primary now".into());
        for index in 0..self.ears.len() {
            let Some(ear) = self.ears.get_mut(index) else { continue };
            let at = ear.at.as_ref().map(|(host, _)| host);
            let has_moved = ear.slot.is_some_and(|slot| at != around.topology.primary(slot));
            if at.is_some_and(|host| has_moved || gone.contains(host)) {
                ear.at = None;
                let answered = ear.listener.fail(&error);
                self.take(around, index, answered);
            }
        }
        self.seek(around);
        self.settle(around);
    }

    fn tick(&mut self, around: &mut Around<'_>) {
        for ear in &mut self.ears {
            if ear.listener.tick(around.now) {
                ear.waker.ready();
            }
        }
        self.seek(around);
        self.settle(around);
    }

    fn next_deadline(&self) -> Option<Time> {
        let seeking = |ear: &Ear| if let State::Seeking(until) = ear.state { Some(until) } else { None };
        self.ears.iter().filter_map(|ear| seeking(ear).or_else(|| ear.listener.next_deadline())).min()
    }
}
