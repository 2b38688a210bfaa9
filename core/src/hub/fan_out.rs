//! Fan-out: frames on their way into the outboxes of connections.

use bytes::Bytes;
use slab::Slab;

use super::connection::{Connection, Phase};
use super::outbox::{Queue, Spares, Unflushed};
use super::room::Memory;
use super::wire::Framed;
use super::{EVERYBODY, Hub, find};
use crate::config::Limits;
use crate::frame::{Frame, FrameKind};
use crate::id::ConnId;
use crate::message::RoomName;
use crate::position::Position;
use crate::report::Report;
use crate::stats::Stats;
use crate::time::Time;

impl Hub {
    /// Queues a frame for a connection; one that reads too slowly is closed.
    pub(super) fn push(&mut self, now: Time, id: ConnId, frame: Frame) {
        let Hub { conns, config, spares, unflushed, pressed, stats, .. } = self;
        let id = find(conns, id).and_then(|conn| conn.carrier()).unwrap_or(id);
        let Some(conn) = find(conns, id) else { return };
        match enqueue(conn, frame, &config.limits, spares, unflushed, stats) {
            Fill::Roomy => {}
            Fill::Pressed => *pressed = true,
            Fill::Full => self.too_slow(now, id),
        }
    }

    /// Queues what was queued for another connection, whose place this one takes.
    pub(super) fn inherit(&mut self, id: ConnId, queue: Queue) {
        let Hub { conns, spares, unflushed, .. } = self;
        let Some(conn) = find(conns, id) else { return };
        conn.queue.get_or_insert_with(|| spares.take()).append(queue);
        unflushed.note(conn);
    }

    /// Hands messages to the members of a room, but not to those of one user if that is said: framed once, shared by all.
    pub(super) fn deliver(
        &mut self,
        now: Time,
        name: &RoomName,
        payloads: Vec<Bytes>,
        positions: &[Position],
        except: Option<&str>,
    ) {
        let index = self.rooms.find(name);
        let slow = index.and_then(|index| self.rooms.get(index)?.slow).filter(|_| except.is_none());
        if slow.is_some() && payloads.len() > 1 {
            // Each may be dropped for itself.
            return payloads.into_iter().for_each(|payload| self.deliver(now, name, vec![payload], positions, None));
        }
        let expendable = slow.zip(payloads.first()).and_then(|(slow, payload)| self.expendable(slow, name, payload));
        let mut memory = Memory::Nothing;
        if let (Some(last), Some(room)) = (positions.last(), index.and_then(|index| self.rooms.get_mut(index))) {
            room.position = *last;
            memory = room.memory;
            if let Some(catch_up) = &mut room.catch_up {
                let Limits { outbox_messages, outbox_bytes, .. } = self.config.limits;
                catch_up.keep(&payloads, positions, (outbox_messages / 4, outbox_bytes / 4));
            }
        }
        let (mut slow, mut unproven) = (Vec::new(), Vec::new());
        let mut clients = 0;
        let Hub { conns, rooms, config, spares, unflushed, pressed, stats, .. } = self;
        let mut framed = Framed { config, memory, payloads: &payloads, positions, contents: Vec::new() };
        let mut hand_over = |conns: &mut Slab<Connection>, slot: u32| {
            let Some(conn) = conns.get_mut(slot as usize) else { return };
            if except.is_some() && conn.identity.as_ref().map(|identity| &*identity.user) == except {
                return;
            }
            clients += 1;
            let frame = framed.by(conn.wire()).frame(name, conn.session.as_deref_mut()).expendable_as(expendable);
            if memory == Memory::Inbox && conn.recovers() {
                unproven.push(conn.id);
            }
            let is_proven = !conn.recovers();
            let conn = match conn.carrier() {
                None => conn,
                Some(carrier) => match find(conns, carrier) {
                    Some(carrier) => carrier,
                    None => return,
                },
            };
            match enqueue(conn, frame, &config.limits, spares, unflushed, stats) {
                Fill::Roomy => {}
                Fill::Pressed => *pressed = true,
                Fill::Full => return slow.push(conn.id),
            }
            if let (Memory::Inbox, Some(last), Some(queue), true) = (memory, positions.last(), &mut conn.queue, is_proven) {
                queue.mark(name.clone(), *last);
            }
        };
        if **name == *EVERYBODY {
            let open = conns.iter().filter(|(_, conn)| conn.phase == Phase::Open && conn.is_client());
            let open: Vec<u32> = open.map(|(slot, _)| slot as u32).collect();
            open.into_iter().for_each(|slot| hand_over(conns, slot));
        } else if let Some(room) = index.and_then(|index| rooms.get(index)) {
            room.members.iter().for_each(|slot| hand_over(conns, *slot));
        }
        unproven.into_iter().for_each(|id| self.prove_soon(now, id));
        slow.into_iter().for_each(|id| self.too_slow(now, id));
        self.stats.deliveries += (clients * payloads.len()) as u64;
        if clients > 0 {
            payloads.into_iter().for_each(|payload| self.report(|| Report::Broadcast { room: name.clone(), payload, clients }));
        }
    }

    /// An outbox has overflowed. What waits there is dropped, or the close frame would never be read.
    fn too_slow(&mut self, now: Time, id: ConnId) {
        // Two namespaces of one session may have found it full.
        let Some(conn) = self.get(id).filter(|conn| !conn.is_closing()) else { return };
        let Some(queue) = &mut conn.queue else { return };
        queue.clear();
        if queue.is_empty() {
            // A poll is not to be answered with nothing.
            conn.queue = None;
        }
        self.stats.slow += 1;
        self.close(now, id, 4008, "slow consumer");
    }
}

/// How full an outbox is.
enum Fill {
    Roomy,
    /// A flush should not be put off.
    Pressed,
    /// The frame was not taken.
    Full,
}

/// Queues a frame for a connection that is not closing. A close frame is always taken.
fn enqueue(
    conn: &mut Connection,
    frame: Frame,
    limits: &Limits,
    spares: &mut Spares,
    unflushed: &mut Unflushed,
    stats: &mut Stats,
) -> Fill {
    if conn.is_closing() {
        return Fill::Roomy;
    }
    let queue = conn.queue.get_or_insert_with(|| spares.take());
    let (bytes, frames) = match frame.kind() {
        FrameKind::Close => (usize::MAX, usize::MAX),
        _ => (limits.outbox_bytes, limits.outbox_messages),
    };
    let fits = queue.push(frame, bytes, frames);
    stats.slow_dropped += queue.take_dropped() as u64;
    if !fits {
        return Fill::Full;
    }
    let is_pressed = queue.is_pressed(limits.outbox_bytes, limits.outbox_messages);
    unflushed.note(conn);
    if is_pressed { Fill::Pressed } else { Fill::Roomy }
}
