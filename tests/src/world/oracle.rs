//! The oracles: each line of the contract that applies so far, checked after every step and once more when all is healed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use roomcast_core::config::Config;
use roomcast_core::id::{ConnId, StreamId};
use roomcast_core::node::Node;
use roomcast_core::store::memory::Memory;
use roomcast_core::store::{Relayed, Stamp};
use serde_json::Value;

use super::commands::{self, Passed};
use super::{DEAD_LETTERS, SOURCE, World, jobs};

mod c10_fork;
mod c1_order;
mod c3_entries;
mod c5_fan_out;
mod c6_inbox;
mod c7_access;
mod c7_tokens;
mod c8_bounds;
mod presence;
mod requests;

pub(super) use c8_bounds::bounds;
pub(super) use presence::Event;

/// What the oracles know of the store: the truth that clients' views are held against.
#[derive(Debug, Default)]
pub(super) struct Oracles {
    /// The order of each room: the numbers of its messages as they stand in the relay logs.
    rooms: BTreeMap<String, Vec<u64>>,
    presence: presence::Presence,
    /// Every number that was ever relayed.
    relayed: BTreeSet<u64>,
    /// The commands in the streams of services, by their numbers.
    passed: BTreeMap<u64, Passed>,
    /// The entries that were dead-lettered, with their sources.
    dead: BTreeSet<(&'static str, StreamId)>,
    last_relayed: BTreeMap<u16, StreamId>,
    last_passed: BTreeMap<&'static str, StreamId>,
    last_dead: BTreeMap<&'static str, StreamId>,
    /// The last update of each job.
    last_updates: BTreeMap<String, StreamId>,
}

impl Oracles {
    /// Takes note of what is new in the store. A second copy of anything is a violation at once.
    pub(super) fn observe(&mut self, memory: &Memory, partitions: u16) {
        self.observe_relay(memory, partitions);
        self.observe_jobs(memory);
        self.observe_streams(memory);
    }

    fn observe_relay(&mut self, memory: &Memory, partitions: u16) {
        for partition in 0..partitions {
            let last = self.last_relayed.entry(partition).or_default();
            for (id, messages) in memory.relayed_after(partition, *last) {
                *last = id;
                for Relayed { room, stamp, payload } in messages {
                    if matches!(stamp, Stamp::Disconnect(_)) {
                        continue;
                    }
                    let room = String::from_utf8(room.to_vec()).expect("room names are text");
                    let envelope: Value = serde_json::from_slice(payload).expect("envelopes are JSON");
                    let number = match (Event::read(&envelope), stamp) {
                        (Some(event), Stamp::Others(user)) => {
                            self.presence.observe(&room, &event, str::from_utf8(user).expect("names are text"));
                            event.number
                        }
                        _ => envelope["data"]["n"].as_u64().expect("every message of the World has a number"),
                    };
                    assert!(self.relayed.insert(number), "C3: message {number} stands twice in the relay logs");
                    self.rooms.entry(room).or_default().push(number);
                }
            }
        }
    }

    fn observe_jobs(&mut self, memory: &Memory) {
        for (job, last) in &mut self.last_updates {
            for (id, fields) in memory.entries_after(&jobs::key(job), *last) {
                *last = id;
                let (_, update) = fields.first().expect("entries have fields");
                // What is no update is no message.
                let Ok(update) = serde_json::from_slice::<Value>(update) else { continue };
                let Some(number) = update["data"]["n"].as_u64() else { continue };
                assert!(self.relayed.insert(number), "C3: message {number} stands twice in the streams of jobs");
                self.rooms.entry(jobs::room(job)).or_default().push(number);
            }
        }
    }

    fn observe_streams(&mut self, memory: &Memory) {
        for service in commands::SERVICES {
            let last = self.last_passed.entry(service).or_default();
            let target = commands::target(service);
            for (id, fields) in memory.entries_after(&target, *last) {
                *last = id;
                let passed = Passed { target: target.clone(), fields: fields.clone() };
                let twice = self.passed.insert(passed.number(), passed);
                assert_eq!(twice, None, "C3: a command was routed twice");
            }
        }
        for (source, dead_letters) in [(SOURCE.0, DEAD_LETTERS), (commands::SOURCE.0, commands::DEAD_LETTERS)] {
            let last = self.last_dead.entry(source).or_default();
            for (id, fields) in memory.entries_after(dead_letters, *last) {
                *last = id;
                let (_, entry) =
                    fields.iter().find(|(name, _)| name.as_ref() == b"msg_id").expect("dead letters name their entry");
                let entry = str::from_utf8(entry).expect("it is text").parse().expect("it is an identifier");
                assert!(self.dead.insert((source, entry)), "C3: entry {entry} of {source} was dead-lettered twice");
            }
        }
    }

    /// The messages of a room that a user is told, and how many of them there were when the room's log had a length.
    ///
    /// Who comes and goes is said in no history. Where a room has one, it is left out: it need not keep its place among what is
    /// recovered.
    fn truth(&self, config: &Config, room: &str, user: Option<&str>, length: usize) -> (Cow<'_, [u64]>, usize) {
        let remembers = config.rule(room).is_some_and(|rule| rule.keep.is_some());
        let log = self.rooms.get(room).map_or(&[][..], Vec::as_slice);
        let is_left_out = |number: u64| remembers && Event::is_number(number);
        let told = |number: &&u64| self.presence.is_told(user, **number) && !is_left_out(**number);
        if log.iter().all(|number| told(&number)) {
            return (log.into(), length);
        }
        (log.iter().filter(told).copied().collect(), log.iter().take(length).filter(told).count())
    }

    /// Whether a message stands in a relay log.
    pub(super) fn has(&self, number: u64) -> bool {
        self.relayed.contains(&number)
    }

    /// How long each room's log is.
    pub(super) fn lengths(&self) -> BTreeMap<String, usize> {
        self.rooms.iter().map(|(room, messages)| (room.clone(), messages.len())).collect()
    }

    /// Another store has taken the place of the one that was watched. The numbers of the messages that it does not have.
    pub(super) fn fail_over(&mut self, memory: &Memory, partitions: u16) -> BTreeSet<u64> {
        let before = core::mem::take(&mut self.relayed);
        *self = Oracles {
            passed: core::mem::take(&mut self.passed),
            dead: core::mem::take(&mut self.dead),
            last_updates: core::mem::take(&mut self.last_updates),
            ..Oracles::default()
        };
        self.last_updates.values_mut().for_each(|last| *last = StreamId::ZERO);
        self.observe_relay(memory, partitions);
        self.observe_jobs(memory);
        before.difference(&self.relayed).copied().collect()
    }

    /// Everything in the store was deleted, and what comes next may have any identifier.
    pub(super) fn forget(&mut self) {
        self.last_relayed.clear();
        self.last_passed.clear();
        self.last_dead.clear();
        self.presence.forget();
        self.last_updates.values_mut().for_each(|last| *last = StreamId::ZERO);
    }

    /// There may be a stream of this job from now on.
    pub(super) fn watch_job(&mut self, job: &str) {
        self.last_updates.entry(job.to_owned()).or_default();
    }

    /// The stream of a job is deleted.
    pub(super) fn forget_job(&mut self, job: &str) {
        self.last_updates.insert(job.to_owned(), StreamId::ZERO);
    }
}

impl World {
    /// What a client has seen of a room and the truth can be held against.
    fn comparable(&self, room: &str, seen: &[u64]) -> Vec<u64> {
        let remembers = self.config.rule(room).is_some_and(|rule| rule.keep.is_some());
        let is_compared = |number: &u64| !(self.said.contains(number) || remembers && Event::is_number(*number));
        seen.iter().copied().filter(is_compared).collect()
    }
}

/// Checks what must hold at every moment.
pub(super) fn after_step(world: &World) {
    c1_order::check(world);
    c3_entries::check(world);
    c7_access::check(world);
    c7_tokens::check(world);
}

/// Checks what must hold once everything is healed and has had its time.
pub(super) fn converged(world: &World) {
    after_step(world);
    c3_entries::converged(world);
    c5_fan_out::converged(world);
    c6_inbox::converged(world);
    c7_tokens::converged(world);
    c10_fork::converged(world);
    c8_bounds::converged(world);
    presence::converged(world);
    requests::converged(world);
}
