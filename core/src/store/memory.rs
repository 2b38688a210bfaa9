//! The store in memory: the embedded default, the fast path of the tests, and the model that Redis is compared with.
//!
//! It follows Redis where an operation can tell the difference: pending entries, claims by idle time, blocked readers served in
//! their order, trimmed logs. It is pure: time is an argument, and answers are polled.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{
    Answer, Committed, Effect, Entry, Fields, GroupRef, Lane, MOST_FIELDS, NewEntry, RelayEntry, Stale, StoreError, StoreOp,
};
use crate::id::{StreamId, Ticket};
use crate::message::RoomName;
use crate::time::Time;

mod dead_letters;

/// A store that lives in this process.
///
/// ```
/// use roomcast_core::id::Ticket;
/// use roomcast_core::store::{Answer, Lane, StoreOp, memory::Memory};
/// use roomcast_core::time::Time;
///
/// let mut store = Memory::new(1_000);
/// let node = store.connect("node-1");
/// let op = StoreOp::Append { partition: 0, messages: vec![("room".into(), "{}".into())] };
/// store.submit(Time::ZERO, node, Lane::Command, Ticket(1), op);
/// assert!(matches!(store.poll_answer(), Some((_, Ticket(1), Ok(Answer::Id(_))))));
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    streams: BTreeMap<Arc<str>, Stream>,
    clients: Vec<Arc<str>>,
    waiting: VecDeque<Waiting>,
    answers: VecDeque<(ClientId, Ticket, Result<Answer, StoreError>)>,
    relay_length: usize,
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
        Memory { streams: BTreeMap::new(), clients: Vec::new(), waiting: VecDeque::new(), answers: VecDeque::new(), relay_length }
    }

    /// A new client; its name is the consumer in every group it reads.
    pub fn connect(&mut self, consumer: &str) -> ClientId {
        self.clients.push(consumer.into());
        ClientId(self.clients.len() - 1)
    }

    /// Carries an operation out. Its answer is polled, now or, for a read that waits, later.
    pub fn submit(&mut self, now: Time, client: ClientId, lane: Lane, ticket: Ticket, op: StoreOp) {
        match self.perform(now, client, &op) {
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

    /// A client is gone: its reads wait no longer, and what was delivered to it stays pending.
    pub fn disconnect(&mut self, client: ClientId) {
        self.waiting.retain(|read| read.client != client);
        self.answers.retain(|(to, ..)| *to != client);
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

    /// The last entry that was delivered to any consumer of a group.
    pub fn last_delivered(&self, key: &str, group: &str) -> StreamId {
        let group = self.streams.get(key).and_then(|stream| stream.groups.get(group));
        group.map_or(StreamId::ZERO, |group| group.delivered)
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

    /// Deletes everything, groups included. Readers that wait on a group learn that it is gone.
    pub fn flush(&mut self) {
        self.streams.clear();
        let (ended, waiting) =
            core::mem::take(&mut self.waiting).into_iter().partition(|read| matches!(read.op, StoreOp::GroupRead { .. }));
        self.waiting = waiting;
        let ended: VecDeque<Waiting> = ended;
        self.answers.extend(ended.into_iter().map(|read| (read.client, read.ticket, Err(StoreError::NoGroup))));
    }

    /// The answer, or nothing where the operation has to wait.
    fn perform(&mut self, now: Time, client: ClientId, op: &StoreOp) -> Option<Result<Answer, StoreError>> {
        Some(match op {
            StoreOp::Append { partition, messages } => Ok(Answer::Id(self.append_relay(now, *partition, messages))),
            StoreOp::RelayTip { partition } => {
                Ok(Answer::Id(self.streams.get(&relay_key(*partition)).map_or(StreamId::ZERO, |stream| stream.last)))
            }
            StoreOp::RelayRead { cursors, count, .. } => {
                let read = self.read_relay(cursors, *count);
                if read.is_empty() {
                    return None;
                }
                Ok(Answer::Relayed(read))
            }
            StoreOp::GroupCreate(GroupRef { stream, group }) => {
                self.streams.entry(stream.clone()).or_default().groups.entry(group.clone()).or_default();
                Ok(Answer::Done)
            }
            StoreOp::GroupRead { group, count, .. } => match self.read_group(now, client, group, *count) {
                Ok(entries) if entries.is_empty() => return None,
                other => other.map(Answer::Entries),
            },
            StoreOp::GroupPending { group, after, count } => {
                self.read_pending(now, client, group, *after, *count).map(Answer::Entries)
            }
            StoreOp::GroupStale { group, idle, after, count } => self.stale(now, group, *idle, *after, *count).map(Answer::Stale),
            StoreOp::GroupClaim { group, idle, ids } => self.claim(now, client, group, *idle, ids).map(Answer::Entries),
            StoreOp::Commit { group, effects } => self.commit(now, group, effects),
            StoreOp::Ping => Ok(Answer::Done),
            StoreOp::Letters { stream, op } => Ok(self.work_on_letters(now, stream, op)),
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

    fn append_relay(&mut self, now: Time, partition: u16, messages: &[(RoomName, Bytes)]) -> StreamId {
        let key = relay_key(partition);
        let fields = messages.iter().map(|(room, payload)| (Bytes::copy_from_slice(room.as_bytes()), payload.clone())).collect();
        let id = self.append(now, &key, fields, Some(self.relay_length));
        self.wake(now, &key);
        id
    }

    fn read_relay(&self, cursors: &[(u16, StreamId)], count: usize) -> Vec<RelayEntry> {
        let mut read = Vec::new();
        for (partition, cursor) in cursors {
            let Some(stream) = self.streams.get(&relay_key(*partition)) else { continue };
            let new = stream.entries.range(cursor.next()..).take(count);
            read.extend(new.map(|(id, fields)| RelayEntry { partition: *partition, id: *id, messages: fields.clone() }));
        }
        read
    }

    fn read_group(&mut self, now: Time, client: ClientId, group: &GroupRef, count: usize) -> Result<Vec<Entry>, StoreError> {
        let consumer = self.consumer(client);
        let (entries, group) = self.group(group)?;
        let new = entries.range(group.delivered.next()..).take(count);
        let new: Vec<Entry> = new.map(|(id, fields)| Entry { id: *id, fields: fields.clone() }).collect();
        for entry in &new {
            group.delivered = entry.id;
            let pending = PendingEntry { consumer: consumer.clone(), since: now, deliveries: 1 };
            group.pending.insert(entry.id, pending);
        }
        Ok(new)
    }

    fn read_pending(
        &mut self,
        now: Time,
        client: ClientId,
        group: &GroupRef,
        after: StreamId,
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let consumer = self.consumer(client);
        let (entries, group) = self.group(group)?;
        let own = group.pending.range_mut(after.next()..).filter(|(_, pending)| pending.consumer == consumer);
        Ok(own
            .take(count)
            .map(|(id, pending)| {
                pending.since = now;
                pending.deliveries += 1;
                Entry { id: *id, fields: entries.get(id).cloned().unwrap_or_default() }
            })
            .collect())
    }

    /// As `XAUTOCLAIM`: walks the pending entries from the cursor, drops those whose content is gone, takes the idle ones.
    fn stale(
        &mut self,
        now: Time,
        group: &GroupRef,
        idle: Duration,
        after: StreamId,
        count: usize,
    ) -> Result<Vec<Stale>, StoreError> {
        let (_, group) = self.group(group)?;
        let old = group.pending.range(after.next()..).filter(|(_, pending)| now - pending.since >= idle).take(count);
        Ok(old.map(|(id, pending)| Stale { id: *id, idle: now - pending.since, deliveries: pending.deliveries }).collect())
    }

    fn claim(
        &mut self,
        now: Time,
        client: ClientId,
        group: &GroupRef,
        idle: Duration,
        ids: &[StreamId],
    ) -> Result<Vec<Entry>, StoreError> {
        let consumer = self.consumer(client);
        let (entries, group) = self.group(group)?;
        let mut claimed = Vec::new();
        for id in ids {
            let Some(pending) = group.pending.get_mut(id).filter(|pending| now - pending.since >= idle) else { continue };
            match entries.get(id) {
                Some(fields) => {
                    *pending = PendingEntry { consumer: consumer.clone(), since: now, deliveries: pending.deliveries + 1 };
                    claimed.push(Entry { id: *id, fields: fields.clone() });
                }
                None => drop(group.pending.remove(id)),
            }
        }
        Ok(claimed)
    }

    fn commit(&mut self, now: Time, group: &GroupRef, effects: &[(StreamId, Effect)]) -> Result<Answer, StoreError> {
        let mut outcomes = Vec::with_capacity(effects.len());
        for (id, effect) in effects {
            if self.group(group)?.1.pending.remove(id).is_none() {
                outcomes.push(Committed::NotPending);
                continue;
            }
            match effect {
                Effect::Relay(partitions) => {
                    for (partition, messages) in partitions {
                        self.append_relay(now, *partition, messages);
                    }
                }
                Effect::Route(entry) | Effect::DeadLetter(entry) => {
                    let NewEntry { stream, length, fields } = entry;
                    let fields = fields.iter().take(MOST_FIELDS).cloned().collect();
                    self.append(now, stream, fields, Some(*length as usize));
                    self.wake(now, stream);
                }
                Effect::Forget => {}
            }
            outcomes.push(Committed::Stored);
        }
        Ok(Answer::Committed(outcomes))
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
        for _ in 0..self.waiting.len() {
            let Some(read) = self.waiting.pop_front() else { return };
            let answer = if read.waits_for(key) { self.perform(now, read.client, &read.op) } else { None };
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
            let nothing = match read.op {
                StoreOp::RelayRead { .. } => Answer::Relayed(Vec::new()),
                _ => Answer::Entries(Vec::new()),
            };
            self.answers.push_back((read.client, read.ticket, Ok(nothing)));
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

impl Waiting {
    fn waits_for(&self, key: &str) -> bool {
        match &self.op {
            StoreOp::RelayRead { cursors, .. } => cursors.iter().any(|(partition, _)| *relay_key(*partition) == *key),
            StoreOp::GroupRead { group, .. } => *group.stream == *key,
            _ => false,
        }
    }
}

fn relay_key(partition: u16) -> Arc<str> {
    format!("relay:{partition}").into()
}
