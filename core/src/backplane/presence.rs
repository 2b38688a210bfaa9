//! Who is in which room: what this node has is told to the store, and what nodes had that died is taken away.
//!
//! ```text
//! hubs ──▶ members ──changed──▶ Set, several at once ──▶ taken: the store has it
//!             ▲                        └──▶ not taken, or unknown: told again, as it is then
//!             └── all of them, when the node goes on under a new name (see [`Lease`])
//! ```
//!
//! Only the newest count of each user in a room is kept. What the store may have is never forgotten before it is known to be
//! gone from there; what it cannot have is forgotten at once, so that nothing grows while the store is away. Operations are
//! numbered, and one that comes after its successor is not taken: whatever happens to connections, the last word stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::pause::Pause;
use super::questions::{Purpose, Wake};
use super::{Core, partition};
use crate::dialect::json::Object;
use crate::door::{ReadId, Tell, Unavailable};
use crate::id::ShardId;
use crate::message::{Json, Outgoing, RoomName};
use crate::store::{Answer, Change, Lane, PresenceAnswer, PresenceOp, StoreError, StoreOp};
use crate::time::Time;

mod lease;
mod sweep;

use lease::Lease;
use sweep::{Step, Sweep};

/// Changes that one operation tells at the most.
const MOST_CHANGES: usize = 128;
/// Operations under way, after which changes wait: about so many.
const MOST_IN_FLIGHT: usize = 64;
/// Users that an answer names at the most.
const MOST_NAMED: usize = 1_000;

/// This node's part of who is in which room.
#[derive(Debug)]
pub(super) struct Presence {
    partitions: u16,
    lease: Lease,
    sweep: Sweep,
    members: BTreeMap<Member, Held>,
    /// What the store has to be told, in the order in which it changed.
    changed: BTreeMap<u64, Member>,
    changes: u64,
    /// The number of the last operation.
    last: u64,
    in_flight: usize,
    pause: Pause,
    /// The node ends: nothing more is told.
    leaving: bool,
}

/// A user in a room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    room: RoomName,
    user: Arc<str>,
}

/// What is known of a user in a room.
#[derive(Debug)]
struct Held {
    /// Connections on each hub that has any.
    hubs: Vec<(ShardId, u32)>,
    /// Connections that the store has; nothing where that is not known.
    stored: Option<u32>,
    /// The operation under way that tells of it last.
    sent: Option<u64>,
    /// Its place among the changes.
    changed: Option<u64>,
}

/// What the store was asked for.
#[derive(Debug)]
pub(super) enum Errand {
    Beat,
    /// To be told of members, in a life of this node and under a number.
    Set {
        life: u64,
        number: u64,
        told: Vec<(Member, u32)>,
    },
    Sweep(Step),
    Who(ShardId, ReadId),
}

impl Presence {
    pub(super) fn new(core: &mut Core) -> Presence {
        Presence {
            partitions: core.config.relay.partitions,
            lease: Lease::new(core),
            sweep: Sweep::default(),
            members: BTreeMap::new(),
            changed: BTreeMap::new(),
            changes: 0,
            last: 0,
            in_flight: 0,
            pause: Pause::default(),
            leaving: false,
        }
    }

    /// Begins to say that the node lives, where there are rooms in which that makes a difference.
    pub(super) fn start(&mut self, core: &mut Core, now: Time) {
        if core.config.rooms.iter().any(|rule| rule.presence) {
            self.lease.beat(core, now);
        }
    }

    pub(super) fn wake_to_beat(&mut self, core: &mut Core, now: Time) {
        if !self.leaving {
            self.lease.wake(core, now);
        }
    }

    /// The node ends: it is taken for dead at once, so that nobody waits for that. What it has not told yet, or the store has not
    /// taken, is swept away as well.
    pub(super) fn leave(&mut self, core: &mut Core, now: Time) {
        self.leaving = true;
        self.sweep.stop();
        if self.lease.may_be_known() {
            self.sweep.begin(core, now, vec![self.lease.name().clone()]);
        }
    }

    /// Whether nothing is known of the node any more; or it could not be made so, and others will find out.
    pub(super) fn has_left(&self) -> bool {
        self.leaving && self.sweep.is_idle()
    }

    /// A hub has so many connections of a user in a room.
    pub(super) fn present(&mut self, shard: ShardId, room: RoomName, user: Arc<str>, connections: u32) {
        let member = Member { room, user };
        let held = self.members.entry(member.clone()).or_insert_with(Held::new);
        held.set(shard, connections);
        if held.is_nothing() {
            if let Some(place) = held.changed {
                self.changed.remove(&place);
            }
            self.members.remove(&member);
        } else {
            enlist(held, member, &mut self.changed, &mut self.changes);
        }
    }

    /// A hub asks who is in a room. What the node knows by now is told to the store first.
    pub(super) fn who(&mut self, core: &mut Core, now: Time, shard: ShardId, read: ReadId, room: RoomName) {
        self.flush(core, now);
        let op = PresenceOp::Who { partition: partition(&room, self.partitions), room, most: MOST_NAMED };
        ask(core, now, Errand::Who(shard, read), op);
    }

    /// Tells the store what has changed, unless the node does not live, or pauses after a failure.
    pub(super) fn flush(&mut self, core: &mut Core, now: Time) {
        if self.leaving || self.changed.is_empty() || !self.pause.is_over(now) || !self.lease.holds(now) {
            return;
        }
        let mut collected: BTreeMap<u16, Vec<(Member, u32)>> = BTreeMap::new();
        while self.in_flight < MOST_IN_FLIGHT
            && let Some((_, member)) = self.changed.pop_first()
        {
            let Some(held) = self.members.get_mut(&member) else { continue };
            held.changed = None;
            let connections = held.connections();
            if held.sent.is_none() && held.stored == Some(connections) {
                if held.is_nothing() {
                    self.members.remove(&member);
                }
                continue;
            }
            let number = partition(&member.room, self.partitions);
            let told = collected.entry(number).or_default();
            told.push((member, connections));
            if told.len() == MOST_CHANGES {
                let told = core::mem::take(told);
                self.tell(core, now, number, told);
            }
        }
        for (number, told) in collected.into_iter().filter(|(_, told)| !told.is_empty()) {
            self.tell(core, now, number, told);
        }
    }

    /// The store has answered.
    pub(super) fn answered(&mut self, core: &mut Core, now: Time, errand: Errand, answer: Result<Answer, StoreError>) {
        let answer = match answer {
            Ok(Answer::Presence(answer)) => Ok(answer),
            Ok(_) => Err(StoreError::Unexpected("nothing about presence".into())),
            Err(error) => Err(error),
        };
        match errand {
            Errand::Beat if !self.leaving => self.beaten(core, now, answer),
            Errand::Set { life, number, told } if !self.leaving && life == self.lease.life() => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.told(core, now, number, told, answer);
            }
            Errand::Beat | Errand::Set { .. } => {}
            Errand::Sweep(step) => self.sweep.answered(core, now, step, answer),
            Errand::Who(shard, read) => {
                let result = match answer {
                    Ok(PresenceAnswer::Here(here)) => Ok(here),
                    _ => Err(Unavailable),
                };
                core.tell(shard, Tell::Who { read, result });
            }
        }
    }

    fn beaten(&mut self, core: &mut Core, now: Time, answer: Result<PresenceAnswer, StoreError>) {
        match answer {
            Ok(PresenceAnswer::Beat { alive: true, dead }) => {
                self.lease.renewed(core, now);
                if self.lease.may_judge(core, now) {
                    self.sweep.begin(core, now, dead);
                }
            }
            Ok(PresenceAnswer::Beat { alive: false, .. }) => {
                self.begin_again(core);
                self.lease.beat(core, now);
            }
            _ => self.lease.failed(core, now),
        }
    }

    /// The node was thought dead, or the store has lost what it knew of it: it goes on under another name, and tells
    /// everything again. What it had before is swept like that of any dead node.
    fn begin_again(&mut self, core: &mut Core) {
        self.lease.rename(core);
        self.sweep.stop();
        self.in_flight = 0;
        self.changed.clear();
        self.members.retain(|_, held| held.connections() > 0);
        for (member, held) in &mut self.members {
            *held = Held { hubs: core::mem::take(&mut held.hubs), ..Held::new() };
            enlist(held, member.clone(), &mut self.changed, &mut self.changes);
        }
    }

    fn tell(&mut self, core: &mut Core, now: Time, partition: u16, told: Vec<(Member, u32)>) {
        self.last += 1;
        self.in_flight += 1;
        let mut changes = Vec::with_capacity(told.len());
        for (member, connections) in &told {
            if let Some(held) = self.members.get_mut(member) {
                held.sent = Some(self.last);
            }
            changes.push(change(core, now, member, *connections));
        }
        let (node, number) = (self.lease.name().clone(), Some(self.last));
        let errand = Errand::Set { life: self.lease.life(), number: self.last, told };
        ask(core, now, errand, PresenceOp::Set { partition, node, number, changes });
    }

    fn told(
        &mut self,
        core: &mut Core,
        now: Time,
        number: u64,
        told: Vec<(Member, u32)>,
        answer: Result<PresenceAnswer, StoreError>,
    ) {
        let taken = answer == Ok(PresenceAnswer::Taken(true));
        for (member, connections) in told {
            let Some(held) = self.members.get_mut(&member).filter(|held| held.sent == Some(number)) else { continue };
            held.sent = None;
            held.stored = taken.then_some(connections);
            if !taken {
                enlist(held, member, &mut self.changed, &mut self.changes);
            } else if held.is_nothing() && held.changed.is_none() {
                self.members.remove(&member);
            }
        }
        if taken {
            return self.pause.reset();
        }
        self.pause.begin(core, now, Wake::Presence);
        if answer.is_ok() {
            self.lease.doubt(core, now);
        }
    }
}

impl Held {
    /// A user of whom the store knows nothing.
    fn new() -> Held {
        Held { hubs: Vec::new(), stored: Some(0), sent: None, changed: None }
    }

    fn set(&mut self, shard: ShardId, connections: u32) {
        self.hubs.retain(|(other, _)| *other != shard);
        if connections > 0 {
            self.hubs.push((shard, connections));
        }
    }

    fn connections(&self) -> u32 {
        self.hubs.iter().fold(0, |sum, (_, connections)| sum.saturating_add(*connections))
    }

    /// Whether there is nothing to be said of it: it has no connections, and the store has none.
    fn is_nothing(&self) -> bool {
        self.hubs.is_empty() && self.sent.is_none() && self.stored == Some(0)
    }
}

/// Puts a member among those that have changed.
fn enlist(held: &mut Held, member: Member, changed: &mut BTreeMap<u64, Member>, changes: &mut u64) {
    if held.changed.is_none() {
        *changes += 1;
        held.changed = Some(*changes);
        changed.insert(*changes, member);
    }
}

/// A change as the store is told, with the event that may follow from it.
fn change(core: &mut Core, now: Time, Member { room, user }: &Member, connections: u32) -> Change {
    let (kind, action) = if connections > 0 { ("user_joined", "joined") } else { ("user_left", "left") };
    let mut data = Object::new().string("user_id", user).string("room", room);
    if let Some(project) = room.strip_prefix("project:") {
        data = data.string("project_id", project);
    }
    let data = data.string("action", action).finish();
    let message = Outgoing { kind, data: Json::trusted(&data), timestamp: None, message_id: None };
    let event: Bytes = core.composer.envelope(room, &message, core.wall.unix(now)).payload;
    Change { room: room.clone(), user: user.clone(), connections, event }
}

fn ask(core: &mut Core, now: Time, errand: Errand, op: PresenceOp) {
    core.ask(now, Lane::Command, Purpose::Presence(errand), StoreOp::Presence(op));
}
