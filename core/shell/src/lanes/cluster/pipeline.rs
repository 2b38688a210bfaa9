//! Operations on their way to the primaries of their slots.
//!
//! ```text
//! ask ──▶ queue of its slot ──▶ link to the slot's primary ──▶ reply
//!              ▲──MOVED, ASK: in front of those that were asked later──┘
//! ```
//!
//! The operations of a slot keep their order: none is sent to a node while others of its slot are under way to another one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use redis::{ServerError, Value};
use roomcast_core::store::redis::Words;
use roomcast_core::store::{Answer, StoreError, StoreOp};
use roomcast_core::time::Time;

use super::super::link::{Answers, Link};
use super::super::redis::{CONNECT_TIMEOUT, is_of_demoted, read};
use super::super::server::Server;
use super::Around;
use super::slot_map::Host;
use crate::backplane::Input;
use crate::mailbox::ReadyWaker;

/// How long an operation waits for a primary of its slot.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often an operation is sent on.
const MOST_REDIRECTIONS: u8 = 5;

/// Operations, each with a question by which the asker knows it again.
pub(super) struct Pipeline<Q> {
    nodes: BTreeMap<Host, Node<Q>>,
    /// Slots with operations under way. Those that may be carried out anywhere have one of their own.
    slots: BTreeMap<Option<u16>, Slot<Q>>,
    waker: Arc<ReadyWaker<Input>>,
}

/// The connection to a node.
struct Node<Q> {
    link: Link<Asked<Q>>,
    server: Server,
    /// By when it must be open, while it is being opened.
    open_until: Option<Time>,
}

/// What is under way of a slot.
struct Slot<Q> {
    /// Who was sent how many operations that are not answered.
    at: Option<Host>,
    under_way: usize,
    /// What is to be sent, and how many of it, at the front, were sent before.
    queue: VecDeque<Asked<Q>>,
    returned: usize,
}

struct Asked<Q> {
    question: Q,
    op: StoreOp,
    slot: Option<u16>,
    /// How long it waits for a primary.
    until: Time,
    redirections: u8,
    /// Whom it was sent to, or where it was redirected to.
    at: Option<Target>,
}

#[derive(Clone)]
struct Target {
    host: Host,
    /// The slot is on its way there, and has to be asked for.
    asking: bool,
}

/// Replies to questions.
pub(super) type Replies<Q> = Vec<(Q, Result<Answer, StoreError>)>;

impl<Q> Pipeline<Q> {
    pub(super) fn new(waker: Arc<ReadyWaker<Input>>) -> Pipeline<Q> {
        Pipeline { nodes: BTreeMap::new(), slots: BTreeMap::new(), waker }
    }

    /// Asks something whose keys are all in one slot, or which any node can answer. It is sent with the next
    /// [`Pipeline::drive`].
    pub(super) fn ask(&mut self, around: &mut Around<'_>, question: Q, op: StoreOp, slot: Option<u16>) {
        let asked = Asked { question, op, slot, until: around.now + PATIENCE, redirections: 0, at: None };
        self.slots.entry(slot).or_insert_with(Slot::new).queue.push_back(asked);
        self.send(around, slot);
    }

    /// Whether answers are awaited.
    pub(super) fn is_busy(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The node that an answer is awaited from, and its identifier of the connection, once that is known.
    pub(super) fn client(&self) -> Option<(&Host, i64)> {
        self.nodes.iter().find(|(_, node)| node.link.is_busy()).and_then(|(host, node)| Some((host, node.link.client()?)))
    }

    /// Goes on as far as possible.
    pub(super) fn drive(&mut self, around: &mut Around<'_>) -> Replies<Q> {
        self.waker.take();
        let waker = Waker::from(self.waker.clone());
        let mut answers = Vec::new();
        for Node { link, server, open_until } in self.nodes.values_mut() {
            link.drive(&mut Context::from_waker(&waker), server, around.buffer, &mut answers);
            *open_until = link.is_connecting().then(|| open_until.unwrap_or(around.now + CONNECT_TIMEOUT));
        }
        self.settle(around, answers)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, around: &mut Around<'_>) -> Replies<Q> {
        let late = StoreError::Disconnected("no connection in time".into());
        let answers = self.close(&late, |_, node| node.open_until.is_some_and(|until| until <= around.now));
        let mut replies = self.settle(around, answers);
        self.send_all(around);
        for slot in self.slots.values_mut().filter(|slot| slot.under_way == 0) {
            while slot.queue.front().is_some_and(|asked| asked.until <= around.now) {
                replies.extend(slot.take().map(|asked| (asked.question, Err(around.topology.down()))));
            }
        }
        self.slots.retain(|_, slot| !slot.is_idle());
        replies
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let opening = self.nodes.values().filter_map(|node| node.open_until);
        // There it is not known whom to send it to.
        let fronts = self.slots.values().filter(|slot| slot.under_way == 0).filter_map(|slot| slot.queue.front());
        opening.chain(fronts.map(|asked| asked.until)).min()
    }

    /// There is a new map, in which these are primaries no more.
    pub(super) fn mapped(&mut self, around: &mut Around<'_>, gone: &[Host]) -> Replies<Q> {
        let replaced = StoreError::Disconnected("another node is the primary now".into());
        let answers = self.close(&replaced, |host, _| gone.contains(host));
        let replies = self.settle(around, answers);
        self.send_all(around);
        replies
    }

    /// Drops all connections and answers everything with an error.
    pub(super) fn fail(&mut self, error: &StoreError) -> Replies<Q> {
        let sent = self.close(error, |_, _| true).into_iter().map(|(asked, _)| asked);
        let queued = std::mem::take(&mut self.slots).into_values().flat_map(|slot| slot.queue);
        sent.chain(queued).map(|asked| (asked.question, Err(error.clone()))).collect()
    }

    /// Drops connections.
    fn close(&mut self, error: &StoreError, which: impl Fn(&Host, &Node<Q>) -> bool) -> Answers<Asked<Q>> {
        let mut answers = Vec::new();
        self.nodes.retain(|host, node| {
            let is_closed = which(host, node);
            if is_closed {
                node.link.fail(error, &mut answers);
            }
            !is_closed
        });
        answers
    }

    fn send_all(&mut self, around: &mut Around<'_>) {
        let slots: Vec<_> = self.slots.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.send(around, slot));
    }

    /// Sends what may be sent of a slot's operations.
    fn send(&mut self, around: &mut Around<'_>, number: Option<u16>) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        while let Some(front) = slot.queue.front() {
            let Some(target) = around.target(front, number) else {
                around.topology.look_soon(around.now);
                break;
            };
            if slot.under_way > 0 && slot.at.as_ref() != Some(&target.host) {
                break;
            }
            let Some(mut asked) = slot.take() else { break };
            let mut commands: Vec<Words> = around.redis.commands(&asked.op);
            if target.asking {
                commands.insert(0, vec![Bytes::from_static(b"ASKING")]);
            }
            let node = self.nodes.entry(target.host.clone()).or_insert_with(|| Node {
                link: Link::new(),
                server: around.topology.server(&target.host),
                open_until: None,
            });
            slot.under_way += 1;
            slot.at = Some(target.host.clone());
            asked.at = Some(target);
            node.link.ask(asked, &commands);
            // Driven once for all that is asked in this round: a whole batch leaves in one write.
            self.waker.ready();
        }
        if slot.is_idle() {
            self.slots.remove(&number);
        }
    }

    /// Tells answers from redirections, and sends on what is redirected.
    fn settle(&mut self, around: &mut Around<'_>, mut answers: Answers<Asked<Q>>) -> Replies<Q> {
        let (mut replies, mut slots) = (Vec::new(), Vec::new());
        while !answers.is_empty() {
            let mut demoted = Vec::new();
            for (mut asked, value) in answers.drain(..) {
                let slot = self.slots.entry(asked.slot).or_insert_with(Slot::new);
                slot.under_way = slot.under_way.saturating_sub(1);
                slots.push(asked.slot);
                let host = asked.at.take().map(|target| target.host);
                let refusal = if let Ok(Value::ServerError(refusal)) = &value { Some(refusal) } else { None };
                if let Some((host, refusal)) = host.as_ref().zip(refusal).filter(|(_, refusal)| redirects(refusal)) {
                    asked.redirections += 1;
                    if asked.redirections <= MOST_REDIRECTIONS {
                        asked.at = around.redirected(refusal, host);
                        asked.until = around.now + PATIENCE;
                        slot.queue.insert(slot.returned, asked);
                        slot.returned += 1;
                    } else {
                        let lost = format!("CLUSTERDOWN redirected again and again, the last time by {refusal}");
                        replies.push((asked.question, Err(StoreError::Busy(lost.into()))));
                    }
                    continue;
                }
                let answer = value.and_then(|value| read(around.redis, &asked.op, value));
                match &answer {
                    Err(StoreError::Busy(_)) if is_of_demoted(&answer) => demoted.extend(host),
                    Err(StoreError::Busy(text)) if text.starts_with("CLUSTERDOWN") => around.topology.look_soon(around.now),
                    Err(StoreError::Disconnected(_)) => around.topology.look_soon(around.now),
                    _ => {}
                }
                replies.push((asked.question, answer));
            }
            if !demoted.is_empty() {
                around.topology.look_soon(around.now);
                let error = StoreError::Disconnected("the server is not the one to write to".into());
                answers = self.close(&error, |host, _| demoted.contains(host));
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots.into_iter().for_each(|slot| self.send(around, slot));
        replies
    }
}

impl<Q> Slot<Q> {
    fn new() -> Slot<Q> {
        Slot { at: None, under_way: 0, queue: VecDeque::new(), returned: 0 }
    }

    fn take(&mut self) -> Option<Asked<Q>> {
        self.returned = self.returned.saturating_sub(1);
        self.queue.pop_front()
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0 && self.queue.is_empty()
    }
}

impl Around<'_> {
    /// Where an operation is to be sent.
    fn target<Q>(&self, asked: &Asked<Q>, slot: Option<u16>) -> Option<Target> {
        let primary = || match slot {
            Some(slot) => self.topology.primary(slot),
            None => self.topology.any(),
        };
        asked.at.clone().or_else(|| Some(Target { host: primary()?.clone(), asking: false }))
    }

    /// Learns from a redirection. Where it names no node, the map has to tell.
    fn redirected(&mut self, refusal: &ServerError, said_by: &Host) -> Option<Target> {
        let details = refusal.details().unwrap_or_default();
        match refusal.code() {
            "ASK" => Some(Target { host: redirection(details, said_by)?.1, asking: true }),
            _ => Some(Target { host: self.moved(details, said_by)?, asking: false }),
        }
    }

    /// A node has said that a slot has moved, and where to.
    pub(super) fn moved(&mut self, details: &str, said_by: &Host) -> Option<Host> {
        let moved = redirection(details, said_by);
        match &moved {
            Some((slot, host)) => self.topology.moved(self.now, *slot, host),
            None => self.topology.look_soon(self.now),
        }
        moved.map(|(_, host)| host)
    }
}

/// The slot that a redirection is about, and where it leads.
fn redirection(details: &str, said_by: &Host) -> Option<(u16, Host)> {
    let (slot, address) = details.split_once(' ')?;
    Some((slot.parse().ok()?, Host::read(address, said_by)?))
}

/// Whether an error says that another node is to be asked.
fn redirects(refusal: &ServerError) -> bool {
    matches!(refusal.code(), "MOVED" | "ASK")
}
