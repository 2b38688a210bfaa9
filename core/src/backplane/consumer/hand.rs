//! Entries in hand: read, and not yet brought to their end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::dead_letter::Trail;
use crate::id::{StreamId, Ticket};
use crate::store::{Effect, Effects, Entry};

/// The entries of one consumer on their way from the read to the commit, in order.
#[derive(Debug, Default)]
pub(super) struct Hand {
    read: VecDeque<Delivered>,
    /// Bytes of the entries that were read.
    bytes: usize,
    /// What the host's code has, by the delivery: an earlier one of the same entry may still be at work.
    hosted: BTreeMap<Ticket, Delivered>,
    /// What goes with the next commit.
    prepared: Effects,
    /// What goes with the commit under way; shared with it.
    committing: Arc<Effects>,
    /// What was in hand when it was looked for what overstays.
    seen: BTreeSet<StreamId>,
}

/// An entry that was delivered.
#[derive(Debug)]
pub(in super::super) struct Delivered {
    pub(in super::super) entry: Entry,
    /// How often, this time included.
    pub(in super::super) deliveries: u32,
    /// Why it failed the last time, if this node knows.
    pub(in super::super) failure: Option<Box<str>>,
    /// What is known of its earlier lives; among its fields it stands no longer.
    pub(in super::super) trail: Trail,
}

/// Bytes of effects that are stored in one go, about: a store must be able to answer in time, and memory is bounded by it.
const COMMIT_BYTES: usize = 2 << 20;
/// Bytes of entries beyond which nothing is read.
const READ_BYTES: usize = 8 << 20;

impl Delivered {
    pub(super) fn new(mut entry: Entry, deliveries: u32, failure: Option<Box<str>>) -> Delivered {
        // All that follows sees the fields that the publisher wrote, and no others.
        let trail = Trail::take(&mut entry.fields);
        Delivered { entry, deliveries, failure, trail }
    }
}

impl Hand {
    /// Takes what was read. What is in hand already comes again where the group was made anew meanwhile: once is enough.
    pub(super) fn take(&mut self, entries: impl Iterator<Item = Delivered>) {
        let in_hand = self.ids();
        for delivered in entries.filter(|delivered| !in_hand.contains(&delivered.entry.id)) {
            self.bytes += delivered.entry.bytes();
            self.read.push_back(delivered);
        }
    }

    /// Whether so many entries more would be within the limits.
    pub(super) fn has_room(&self, count: usize, most: usize) -> bool {
        self.bytes < READ_BYTES && self.len() + count <= most
    }

    /// How many entries it holds.
    pub(super) fn len(&self) -> usize {
        self.read.len() + self.hosted.len() + self.prepared.len() + self.committing.len()
    }

    /// Whether a commit could begin.
    pub(super) fn is_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }

    /// Decides about the next entries, so many at the most.
    pub(super) fn prepare(&mut self, most: usize, mut effect: impl FnMut(Delivered) -> Effect) {
        let mut bytes = 0;
        while bytes < COMMIT_BYTES
            && self.prepared.len() < most
            && let Some(delivered) = self.next()
        {
            let id = delivered.entry.id;
            let effect = effect(delivered);
            bytes += effect.bytes();
            self.prepared.push((id, effect));
        }
    }

    /// Takes the next entry that was read.
    pub(super) fn next(&mut self) -> Option<Delivered> {
        let delivered = self.read.pop_front()?;
        self.bytes -= delivered.entry.bytes();
        Some(delivered)
    }

    /// Entries that the host's code has.
    pub(super) fn hosted(&self) -> usize {
        self.hosted.len()
    }

    /// The host's code has this entry now.
    pub(super) fn host(&mut self, ticket: Ticket, delivered: Delivered) {
        self.hosted.insert(ticket, delivered);
    }

    /// The host's code has dealt with an entry. Nothing where it is in hand no longer.
    pub(super) fn take_back(&mut self, ticket: Ticket) -> Option<Delivered> {
        self.hosted.remove(&ticket)
    }

    /// An effect that goes with the next commit.
    pub(super) fn add(&mut self, entry: StreamId, effect: Effect) {
        self.prepared.push((entry, effect));
    }

    /// Begins a commit, if there is anything to be committed.
    pub(super) fn commit(&mut self) -> Option<Arc<Effects>> {
        self.committing = Arc::new(core::mem::take(&mut self.prepared));
        (!self.committing.is_empty()).then(|| self.committing.clone())
    }

    /// Begins a commit of just these.
    pub(super) fn commit_these(&mut self, effects: Effects) -> Arc<Effects> {
        self.committing = Arc::new(effects);
        self.committing()
    }

    /// What goes with the commit under way.
    pub(super) fn committing(&self) -> Arc<Effects> {
        self.committing.clone()
    }

    /// Ends a commit: what it was about is in hand no longer.
    pub(super) fn committed(&mut self) -> Arc<Effects> {
        core::mem::take(&mut self.committing)
    }

    /// Ends a commit that failed as a whole.
    pub(super) fn recall(&mut self) {
        let committing = Arc::unwrap_or_clone(self.committed());
        self.put_back(committing);
    }

    /// To be committed again, before anything else.
    pub(super) fn put_back(&mut self, mut effects: Effects) {
        effects.append(&mut self.prepared);
        self.prepared = effects;
    }

    /// Lets go of what was read and nobody has begun to work on: it stays pending.
    pub(super) fn put_down(&mut self) {
        self.read.clear();
        self.bytes = 0;
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Hand::default();
    }

    /// The entries in hand.
    pub(super) fn ids(&self) -> BTreeSet<StreamId> {
        let effects = self.prepared.iter().chain(self.committing.iter());
        let delivered = self.read.iter().chain(self.hosted.values()).map(|delivered| delivered.entry.id);
        delivered.chain(effects.map(|(id, _)| *id)).collect()
    }

    /// The entries that were in hand already when this was asked last.
    pub(super) fn overstaying(&mut self) -> Vec<StreamId> {
        let now = self.ids();
        let overstaying = now.intersection(&self.seen).copied().collect();
        self.seen = now;
        overstaying
    }

    /// Of these, only those that are `held` are still ours.
    pub(super) fn let_go(&mut self, asked: &[StreamId], held: &[StreamId]) {
        let held: BTreeSet<StreamId> = held.iter().copied().collect();
        let lost: BTreeSet<StreamId> = asked.iter().copied().filter(|id| !held.contains(id)).collect();
        if !lost.is_empty() {
            self.read.retain(|delivered| !lost.contains(&delivered.entry.id));
            self.bytes = self.read.iter().map(|delivered| delivered.entry.bytes()).sum();
            self.hosted.retain(|_, delivered| !lost.contains(&delivered.entry.id));
            self.prepared.retain(|(id, _)| !lost.contains(id));
        }
    }
}
