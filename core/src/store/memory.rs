//! The store in memory: the embedded default, the fast path of the tests, and the model that Redis is compared with.
//!
//! It follows Redis where an operation can tell the difference: pending entries, claims by idle time, blocked readers served in
//! their order, trimmed logs. It is pure: time is an argument, and answers are polled.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{
    APPLIED, Answer, Committed, Effect, Entry, Fields, GroupHealth, GroupRef, Lane, MOST_FIELDS, NewEntry, Relayed, Replayed,
    RevocationOp, Share, Stale, StoreError, StoreOp, TailOp, Whose,
};
use crate::id::{StreamId, Ticket};
use crate::time::Time;
use crate::token::Revoked;

mod dead_letters;
mod presence;
mod pubsub;
mod revocations;
mod rooms;
mod sessions;
mod tail;

/// A store that lives in this process.
///
/// ```
/// use roomcast_core::id::Ticket;
/// use roomcast_core::store::{Answer, Lane, Posting, StoreOp, memory::Memory};
/// use roomcast_core::time::Time;
///
/// let mut store = Memory::new(1_000);
/// let node = store.connect("node-1");
/// let op = StoreOp::Append { partition: 0, messages: vec![Posting::plain("room".into(), "{}".into())] };
/// store.submit(Time::ZERO, node, Lane::Command, Ticket(1), op);
/// assert!(matches!(store.poll_answer(), Some((_, Ticket(1), Ok(Answer::Appended(_))))));
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    streams: BTreeMap<Arc<str>, Stream>,
    rooms: rooms::Rooms,
    sessions: sessions::Sessions,
    /// What is revoked, and since when.
    revoked: Revoked,
    presence: presence::Presence,
    tails: tail::Tails,
    ears: pubsub::Ears,
    /// Up to where all entries of a stream's group have been acknowledged. It outlives the group.
    marks: BTreeMap<GroupKey, StreamId>,
    /// The entries of a stream's group whose messages were applied last.
    /// In each place, with what they are there where it is a stream.
    applied: BTreeMap<(GroupKey, Applied), BTreeMap<StreamId, StreamId>>,
    clients: Vec<Arc<str>>,
    waiting: VecDeque<Waiting>,
    answers: VecDeque<(ClientId, Ticket, Result<Answer, StoreError>)>,
    relay_length: usize,
    is_full: bool,
    refused: BTreeSet<Arc<str>>,
}

/// A stream and its group.
type GroupKey = (Arc<str>, Arc<str>);

/// Where a share of the effects of entries stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Applied {
    Partition(u16),
    Stream(Arc<str>),
}

/// A node that uses the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(usize);

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// Who holds it.
    pub consumer: Arc<str>,
    /// Since when.
    pub since: Time,
    /// How often it was delivered.
    pub deliveries: u32,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    entries: BTreeMap<StreamId, Fields>,
    last: StreamId,
    groups: BTreeMap<Arc<str>, Group>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    delivered: StreamId,
    pending: BTreeMap<StreamId, PendingEntry>,
    /// When each consumer was seen last.
    consumers: BTreeMap<Arc<str>, Time>,
}

#[derive(Clone, Debug)]
struct Waiting {
    client: ClientId,
    lane: Lane,
    ticket: Ticket,
    op: StoreOp,
    until: Time,
}

impl Memory {
    /// An empty store whose relay logs keep `relay_length` entries.
    pub fn new(relay_length: usize) -> Memory {
        Memory {
            streams: BTreeMap::new(),
            rooms: rooms::Rooms::default(),
            sessions: BTreeMap::new(),
            revoked: Revoked::default(),
            presence: presence::Presence::default(),
            tails: tail::Tails::default(),
            ears: pubsub::Ears::default(),
            marks: BTreeMap::new(),
            applied: BTreeMap::new(),
            clients: Vec::new(),
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            relay_length,
            is_full: false,
            refused: BTreeSet::new(),
        }
    }

    /// A new client; its name is the consumer in every group it reads.
    pub fn connect(&mut self, consumer: &str) -> ClientId {
        self.clients.push(consumer.into());
        ClientId(self.clients.len() - 1)
    }

    /// Carries an operation out. Its answer is polled, now or, for a read that waits, later.
    pub fn submit(&mut self, now: Time, client: ClientId, lane: Lane, ticket: Ticket, op: StoreOp) {
        self.rooms.expire(now);
        match self.perform(now, client, lane, &op) {
            Some(answer) => self.answers.push_back((client, ticket, answer)),
            None => {
                let until = now + op.blocks_for();
                self.waiting.push_back(Waiting { client, lane, ticket, op, until });
            }
        }
    }

    /// Ends the wait of a lane's reads: they are answered with nothing.
    pub fn interrupt(&mut self, client: ClientId, lane: Lane) {
        self.end_waits(|read| read.client == client && read.lane == lane);
    }

    /// The connection of a lane dies without a sound: what waits on it is never answered.
    pub fn go_silent(&mut self, client: ClientId, lane: Lane) {
        self.deafen(client, lane);
        self.waiting.retain(|read| (read.client, read.lane) != (client, lane));
    }

    /// A client is gone: its reads wait no longer, and what was delivered to it stays pending.
    pub fn disconnect(&mut self, client: ClientId) {
        self.waiting.retain(|read| read.client != client);
        self.answers.retain(|(to, ..)| *to != client);
        self.forget_ears(client);
    }

    /// Ends waits whose time is over.
    pub fn tick(&mut self, now: Time) {
        self.end_waits(|read| read.until <= now);
    }

    /// When the next wait ends.
    pub fn next_deadline(&self) -> Option<Time> {
        self.waiting.iter().map(|read| read.until).min()
    }

    /// The next answer and whom it is for.
    pub fn poll_answer(&mut self) -> Option<(ClientId, Ticket, Result<Answer, StoreError>)> {
        self.answers.pop_front()
    }

    /// Adds an entry as any publisher would.
    pub fn add(&mut self, now: Time, key: &str, fields: Fields) -> StreamId {
        let id = self.append(now, key, fields, None);
        self.wake(now, key);
        id
    }

    /// The entries of a stream, oldest first.
    pub fn entries(&self, key: &str) -> impl Iterator<Item = (StreamId, &Fields)> {
        self.streams.get(key).into_iter().flat_map(|stream| stream.entries.iter().map(|(id, fields)| (*id, fields)))
    }

    /// The entries of a stream after an identifier, oldest first.
    pub fn entries_after(&self, key: &str, after: StreamId) -> impl Iterator<Item = (StreamId, &Fields)> {
        let stream = self.streams.get(key).into_iter();
        stream.flat_map(move |stream| stream.entries.range(after.next()..).map(|(id, fields)| (*id, fields)))
    }

    /// The last entry that was delivered to any consumer of a group, if there is such a group.
    pub fn last_delivered(&self, key: &str, group: &str) -> Option<StreamId> {
        Some(self.streams.get(key)?.groups.get(group)?.delivered)
    }

    /// The pending entries of a group, oldest first.
    pub fn pending(&self, key: &str, group: &str) -> impl Iterator<Item = (StreamId, &PendingEntry)> {
        let group = self.streams.get(key).and_then(|stream| stream.groups.get(group));
        group.into_iter().flat_map(|group| group.pending.iter().map(|(id, pending)| (*id, pending)))
    }

    /// Deletes entries, as a publisher's trimming does. Pending entries stay pending, without content.
    pub fn trim(&mut self, key: &str, keep: usize) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.trim(keep);
        }
    }

    /// Whether everything that would be added is refused for the moment, as by a store that is out of memory.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Whether everything that would be added to one stream is refused, as where another type of value stands in its place.
    pub fn set_refused(&mut self, key: &str, is_refused: bool) {
        if is_refused {
            self.refused.insert(key.into());
        } else {
            self.refused.remove(key);
        }
    }

    /// Another server takes this one's place, with what it knew. Whoever waits for an answer waits in vain.
    pub fn fail_over(&mut self, replica: Memory) {
        let clients = core::mem::take(&mut self.clients);
        *self = Memory { clients, waiting: VecDeque::new(), answers: VecDeque::new(), ears: pubsub::Ears::default(), ..replica };
    }

    /// Deletes everything, groups included. Readers that wait on a group learn that it is gone.
    pub fn flush(&mut self) {
        self.streams.clear();
        self.rooms.clear();
        self.sessions.clear();
        self.revoked = Revoked::default();
        self.presence = presence::Presence::default();
        self.tails = tail::Tails::default();
        self.marks.clear();
        self.applied.clear();
        self.end_group_reads(|_| true);
    }

    /// Deletes a group, and with it the knowledge of what is pending. Its readers learn that it is gone.
    pub fn destroy_group(&mut self, key: &str, group: &str) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.groups.remove(group);
        }
        self.end_group_reads(|read| *read.stream == *key && *read.group == *group);
    }

    fn end_group_reads(&mut self, ends: impl Fn(&GroupRef) -> bool) {
        let (ended, waiting): (VecDeque<Waiting>, VecDeque<Waiting>) = core::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|read| matches!(&read.op, StoreOp::GroupRead { group, .. } if ends(group)));
        self.waiting = waiting;
        self.answers.extend(ended.into_iter().map(|read| (read.client, read.ticket, Err(StoreError::NoGroup))));
    }

    /// The answer, or nothing where the operation has to wait.
    fn perform(&mut self, now: Time, client: ClientId, lane: Lane, op: &StoreOp) -> Option<Result<Answer, StoreError>> {
        Some(match op {
            StoreOp::Append { .. } | StoreOp::Disconnect { .. } if self.is_full => Err(full()),
            StoreOp::Append { partition, messages } => Ok(Answer::Appended(self.post(now, *partition, messages))),
            StoreOp::Positions { .. } if self.is_full => Err(full()),
            StoreOp::Positions { rooms, epoch, .. } => Ok(Answer::Positions(self.rooms.positions(now, rooms, *epoch))),
            StoreOp::Page { room, place, query, since, count } => Ok(self.page(room, *place, *query, *since, *count)),
            StoreOp::Delivered { room, upto } => Ok(self.delivered(room, *upto)),
            StoreOp::Disconnect { partition, user } => {
                self.append_relay(now, *partition, vec![Relayed::disconnect(user)]);
                Ok(Answer::Appended(vec![None]))
            }
            StoreOp::RelayTip { partition } => Ok(Answer::Id(self.relay_tip(*partition))),
            StoreOp::RelayRead { cursors, count, .. } => {
                let read = self.read_relay(cursors, *count);
                if read.is_empty() {
                    return None;
                }
                Ok(Answer::Relayed(read))
            }
            StoreOp::Mark { .. } if self.is_full => Err(full()),
            StoreOp::Mark { partition, mark } => Ok(Answer::Id(self.append_mark(now, *partition, mark.clone()))),
            StoreOp::Listen { subscriptions, .. } => return self.listen(client, lane, subscriptions).map(Ok),
            StoreOp::Announce { channel, sharded, payload } => Ok(Answer::Count(self.announce(now, channel, *sharded, payload))),
            StoreOp::GroupOpen(group) => Ok(Answer::Opened(self.open_group(group))),
            StoreOp::GroupRead { group, count, .. } => match self.read_group(now, client, group, *count) {
                Ok(entries) if entries.is_empty() => return None,
                other => other.map(Answer::Entries),
            },
            StoreOp::GroupStale { group, whose, idle, after, count } => {
                self.stale(now, client, group, *whose, *idle, *after, *count).map(Answer::Stale)
            }
            StoreOp::GroupClaim { group, whose, idle, ids } => self.claim(now, client, group, *whose, *idle, ids),
            StoreOp::GroupHold { group, ids } => self.hold(now, client, group, ids).map(Answer::Held),
            StoreOp::GroupHealth { group } => self.health(now, group).map(Answer::Health),
            StoreOp::GroupTidy { group, idle } => self.tidy(now, client, group, *idle).map(Answer::Removed),
            StoreOp::Apply { .. } if self.is_full => Err(full()),
            StoreOp::Apply { group, share } => Ok(self.apply(now, group, share)),
            StoreOp::Commit { group, effects, together } => self.commit(now, client, group, effects, *together),
            StoreOp::Session { .. } if self.is_full => Err(full()),
            StoreOp::Session { token, op } => Ok(self.work_on_sessions(now, client, token, op)),
            StoreOp::Revocations(RevocationOp::Add { .. }) if self.is_full => Err(full()),
            StoreOp::Revocations(op) => Ok(self.work_on_revocations(op)),
            StoreOp::Ping => Ok(Answer::Done),
            StoreOp::Letters { stream, op } => Ok(self.work_on_letters(now, stream, op)),
            StoreOp::Presence(op) => self.work_on_presence(now, op).map(Answer::Presence),
            StoreOp::Tail(op) => return self.tail(now, op),
        })
    }

    fn append(&mut self, now: Time, key: &str, fields: Fields, keep: Option<usize>) -> StreamId {
        let stream = match self.streams.get_mut(key) {
            Some(stream) => stream,
            None => self.streams.entry(key.into()).or_default(),
        };
        let id = StreamId { millis: now.as_micros() / 1000, sequence: 0 }.max(stream.last.next());
        stream.last = id;
        stream.entries.insert(id, fields);
        if let Some(keep) = keep {
            stream.trim(keep);
        }
        id
    }

    fn read_group(&mut self, now: Time, client: ClientId, group: &GroupRef, count: usize) -> Result<Vec<Entry>, StoreError> {
        let consumer = self.consumer(client);
        let (entries, group) = self.group(group)?;
        group.consumers.insert(consumer.clone(), now);
        let new = entries.range(group.delivered.next()..).take(count);
        let new: Vec<Entry> = new.map(|(id, fields)| Entry { id: *id, fields: fields.clone() }).collect();
        for entry in &new {
            group.delivered = entry.id;
            let pending = PendingEntry { consumer: consumer.clone(), since: now, deliveries: 1 };
            group.pending.insert(entry.id, pending);
        }
        Ok(new)
    }

    fn open_group(&mut self, GroupRef { stream: key, group }: &GroupRef) -> Option<StreamId> {
        let stream = self.streams.entry(key.clone()).or_default();
        if stream.groups.contains_key(group) {
            return None;
        }
        let mark = self.marks.get(&(key.clone(), group.clone())).copied().unwrap_or_default();
        // A mark beyond the last entry is of another stream that had this key before.
        let delivered = if mark <= stream.last { mark } else { StreamId::ZERO };
        stream.groups.insert(group.clone(), Group { delivered, ..Group::default() });
        Some(delivered)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the words of one command")]
    fn stale(
        &mut self,
        now: Time,
        client: ClientId,
        group: &GroupRef,
        whose: Whose,
        idle: Duration,
        after: StreamId,
        count: usize,
    ) -> Result<Vec<Stale>, StoreError> {
        let consumer = self.consumer(client);
        let (_, group) = self.group(group)?;
        let old = group
            .pending
            .range(after.next()..)
            .filter(|(_, pending)| now - pending.since >= idle && (whose == Whose::Any || pending.consumer == consumer));
        let stale = |(id, pending): (&StreamId, &PendingEntry)| Stale {
            id: *id,
            idle: now - pending.since,
            deliveries: pending.deliveries,
        };
        Ok(old.take(count).map(stale).collect())
    }

    fn claim(
        &mut self,
        now: Time,
        client: ClientId,
        group: &GroupRef,
        whose: Whose,
        idle: Duration,
        ids: &[(StreamId, u32)],
    ) -> Result<Answer, StoreError> {
        let consumer = self.consumer(client);
        let (entries, group) = self.group(group)?;
        let (mut claimed, mut gone) = (Vec::new(), Vec::new());
        for (id, deliveries) in ids {
            let Some(pending) = group.pending.get_mut(id) else { continue };
            if now - pending.since < idle || (whose == Whose::Own && pending.consumer != consumer) {
                continue;
            }
            match entries.get(id) {
                Some(fields) => {
                    *pending = PendingEntry { consumer: consumer.clone(), since: now, deliveries: *deliveries };
                    claimed.push(Entry { id: *id, fields: fields.clone() });
                }
                None => {
                    group.pending.remove(id);
                    gone.push(*id);
                }
            }
        }
        Ok(Answer::Claimed { entries: claimed, gone })
    }

    fn hold(&mut self, now: Time, client: ClientId, group: &GroupRef, ids: &[StreamId]) -> Result<Vec<StreamId>, StoreError> {
        let consumer = self.consumer(client);
        let (entries, group) = self.group(group)?;
        let mut held = Vec::new();
        for id in ids {
            let Some(pending) = group.pending.get_mut(id).filter(|pending| pending.consumer == consumer) else { continue };
            // What was trimmed cannot be claimed any more, as in Redis.
            if entries.contains_key(id) {
                pending.since = now;
            }
            held.push(*id);
        }
        Ok(held)
    }

    fn health(&mut self, now: Time, group: &GroupRef) -> Result<GroupHealth, StoreError> {
        let (entries, group) = self.group(group)?;
        let age = |id: &StreamId| Duration::from_millis((now.as_micros() / 1000).saturating_sub(id.millis));
        let mut unread = entries.range(group.delivered.next()..).map(|(id, _)| id).peekable();
        Ok(GroupHealth {
            length: entries.len() as u64,
            oldest_unread: unread.peek().map(|id| age(id)),
            lag: unread.count() as u64,
            lag_exact: true,
            pending: group.pending.len() as u64,
            oldest_pending: group.pending.keys().next().map(age),
            most_deliveries: group.pending.values().map(|pending| pending.deliveries).max().unwrap_or_default(),
            // Nobody trims the streams of this process but itself.
            trimmed_unread: 0,
            consumers: group.consumers.len() as u64,
            dead_letters: 0,
        })
    }

    fn tidy(&mut self, now: Time, client: ClientId, group: &GroupRef, idle: Duration) -> Result<Vec<Box<str>>, StoreError> {
        let own = self.consumer(client);
        let (_, Group { pending, consumers, .. }) = self.group(group)?;
        let has_pending = |name: &Arc<str>| pending.values().any(|entry| entry.consumer == *name);
        let stale = |(name, seen): &(&Arc<str>, &Time)| **name != own && now - **seen >= idle && !has_pending(name);
        let removed: Vec<Arc<str>> = consumers.iter().filter(stale).map(|(name, _)| name.clone()).collect();
        consumers.retain(|name, _| !removed.contains(name));
        Ok(removed.iter().map(|name| (**name).into()).collect())
    }

    fn apply(&mut self, now: Time, group: &GroupRef, share: &Share) -> Answer {
        let key = (group.stream.clone(), group.group.clone());
        match share {
            Share::Relay { partition, entries } => {
                for (id, messages) in entries {
                    let applied = self.applied.entry((key.clone(), Applied::Partition(*partition))).or_default();
                    if !applied.contains_key(id) {
                        remember(applied, *id, StreamId::ZERO);
                        self.post(now, *partition, messages);
                    }
                }
                Answer::Committed(vec![Committed::Stored; entries.len()])
            }
            Share::Stream { stream, length, entries } => {
                let outcomes = entries.iter().map(|(id, fields)| {
                    if self.refused.contains(stream) {
                        return Replayed::Failed(StoreError::Refused("WRONGTYPE".into()));
                    }
                    let key = (key.clone(), Applied::Stream(stream.clone()));
                    if let Some(known) = self.applied.get(&key).and_then(|applied| applied.get(id)) {
                        return Replayed::Added(*known);
                    }
                    let fields = fields.iter().take(MOST_FIELDS).cloned().collect();
                    let added = self.append(now, stream, fields, Some(*length as usize));
                    remember(self.applied.entry(key).or_default(), *id, added);
                    Replayed::Added(added)
                });
                let outcomes = outcomes.collect();
                self.wake(now, stream);
                Answer::Replayed(outcomes)
            }
        }
    }

    fn commit(
        &mut self,
        now: Time,
        client: ClientId,
        group: &GroupRef,
        effects: &[(StreamId, Effect)],
        together: bool,
    ) -> Result<Answer, StoreError> {
        if together && !self.can_commit_together(client, group, effects)? {
            return Ok(Answer::Declined);
        }
        let mut outcomes = Vec::with_capacity(effects.len());
        for (id, effect) in effects {
            if !self.group(group)?.1.pending.contains_key(id) {
                outcomes.push(Committed::NotPending);
                continue;
            }
            if let Some(refusal) = self.refusal(effect) {
                outcomes.push(Committed::Failed(refusal));
                continue;
            }
            self.group(group)?.1.pending.remove(id);
            match effect {
                Effect::Relay(partitions) => {
                    for (partition, messages) in partitions {
                        self.post(now, *partition, messages);
                    }
                }
                Effect::Route(entry) | Effect::DeadLetter(entry) => {
                    let NewEntry { stream, length, fields } = entry;
                    let fields = fields.iter().take(MOST_FIELDS).cloned().collect();
                    self.append(now, stream, fields, Some(*length as usize));
                    self.wake(now, stream);
                }
                Effect::Nothing => {}
            }
            outcomes.push(Committed::Stored);
        }
        if outcomes.contains(&Committed::Stored) {
            let (_, state) = self.group(group)?;
            let oldest = state.pending.first_key_value();
            let mark = oldest.map_or(state.delivered, |(id, _)| id.previous());
            self.marks.insert((group.stream.clone(), group.group.clone()), mark);
        }
        Ok(Answer::Committed(outcomes))
    }

    fn can_commit_together(
        &mut self,
        client: ClientId,
        group: &GroupRef,
        effects: &[(StreamId, Effect)],
    ) -> Result<bool, StoreError> {
        if self.is_full {
            return Err(full());
        }
        let consumer = self.consumer(client);
        let pending = &self.group(group)?.1.pending;
        let is_own = |id| pending.get(id).is_some_and(|pending| pending.consumer == consumer);
        let mut seen = BTreeSet::new();
        // One that stands there twice would no longer be pending when its turn comes again.
        let mut is_own_once = |id| is_own(id) && seen.insert(id);
        Ok(effects.iter().all(|(id, effect)| is_own_once(id) && matches!(effect, Effect::Relay(_) | Effect::Nothing)))
    }

    fn refusal(&self, effect: &Effect) -> Option<StoreError> {
        match effect {
            Effect::Nothing => None,
            _ if self.is_full => Some(full()),
            Effect::Route(entry) | Effect::DeadLetter(entry) if self.refused.contains(&entry.stream) => {
                Some(StoreError::Refused("WRONGTYPE".into()))
            }
            Effect::Relay(_) | Effect::Route(_) | Effect::DeadLetter(_) => None,
        }
    }

    fn group(&mut self, group: &GroupRef) -> Result<(&BTreeMap<StreamId, Fields>, &mut Group), StoreError> {
        let stream = self.streams.get_mut(&group.stream).ok_or(StoreError::NoGroup)?;
        Ok((&stream.entries, stream.groups.get_mut(&group.group).ok_or(StoreError::NoGroup)?))
    }

    fn consumer(&self, client: ClientId) -> Arc<str> {
        self.clients.get(client.0).cloned().unwrap_or_else(|| "".into())
    }

    /// Serves the readers that wait for a stream, in the order in which they came.
    fn wake(&mut self, now: Time, key: &str) {
        self.wake_if(now, |op| waits_for(op, key));
    }

    /// The same of readers by what they wait for.
    fn wake_if(&mut self, now: Time, waits: impl Fn(&StoreOp) -> bool) {
        for _ in 0..self.waiting.len() {
            let Some(read) = self.waiting.pop_front() else { return };
            let answer = if waits(&read.op) { self.perform(now, read.client, read.lane, &read.op) } else { None };
            match answer {
                Some(answer) => self.answers.push_back((read.client, read.ticket, answer)),
                None => self.waiting.push_back(read),
            }
        }
    }

    fn end_waits(&mut self, ends: impl Fn(&Waiting) -> bool) {
        for _ in 0..self.waiting.len() {
            let Some(read) = self.waiting.pop_front() else { return };
            if !ends(&read) {
                self.waiting.push_back(read);
                continue;
            }
            self.answers.push_back((read.client, read.ticket, Ok(read.op.nothing())));
        }
    }
}

impl Stream {
    fn trim(&mut self, keep: usize) {
        while self.entries.len() > keep {
            self.entries.pop_first();
        }
    }
}

/// Whether a read waits for a stream.
fn waits_for(read: &StoreOp, key: &str) -> bool {
    match read {
        StoreOp::RelayRead { cursors, .. } => cursors.iter().any(|(partition, _)| *relay_key(*partition) == *key),
        StoreOp::GroupRead { group, .. } => *group.stream == *key,
        StoreOp::Tail(TailOp::Read { cursors, .. }) => cursors.iter().any(|(other, _)| **other == *key),
        _ => false,
    }
}

/// Remembers an entry as one that was stored, and not too many.
fn remember(applied: &mut BTreeMap<StreamId, StreamId>, id: StreamId, added: StreamId) {
    applied.insert(id, added);
    if applied.len() > APPLIED {
        applied.pop_first();
    }
}

fn full() -> StoreError {
    StoreError::Busy("OOM".into())
}

fn relay_key(partition: u16) -> Arc<str> {
    format!("relay:{partition}").into()
}
