//! Fan-out: frames on their way into the outboxes of connections.

use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Connection, Phase};
use super::outbox::Spares;
use super::room::Memory;
use super::{EVERYBODY, Hub, find};
use crate::config::Limits;
use crate::frame::{Frame, FrameKind};
use crate::id::ConnId;
use crate::message::RoomName;
use crate::position::Position;
use crate::report::Report;
use crate::time::Time;

impl Hub {
    /// Queues a frame for a connection; one that reads too slowly is closed.
    pub(super) fn push(&mut self, now: Time, id: ConnId, frame: Frame) {
        let Hub { conns, config, spares, dirty, pressed, .. } = self;
        let Some(conn) = find(conns, id) else { return };
        match enqueue(conn, frame, &config.limits, spares, dirty) {
            Fill::Roomy => {}
            Fill::Pressed => *pressed = true,
            Fill::Full => self.too_slow(now, id),
        }
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
        let mut memory = Memory::Nothing;
        if let (Some(last), Some(room)) = (positions.last(), index.and_then(|index| self.rooms.get_mut(index))) {
            room.position = *last;
            memory = room.memory;
            if let Some(catch_up) = &mut room.catch_up {
                let Limits { outbox_messages, outbox_bytes, .. } = self.config.limits;
                catch_up.keep(&payloads, positions, (outbox_messages / 4, outbox_bytes / 4));
            }
        }
        // Where nothing is remembered, there are no positions either.
        let frame = match memory {
            Memory::Nothing => Frame::texts(&payloads),
            memory => memory.frame(payloads.iter().zip(positions.iter().copied())),
        };
        let mut slow = Vec::new();
        let mut clients = 0;
        let Hub { conns, rooms, config, spares, dirty, pressed, .. } = self;
        let mut hand_over = |conn: &mut Connection| {
            if except.is_some() && conn.identity.as_ref().map(|identity| &*identity.user) == except {
                return;
            }
            clients += 1;
            match enqueue(conn, frame.clone(), &config.limits, spares, dirty) {
                Fill::Roomy => {}
                Fill::Pressed => *pressed = true,
                Fill::Full => return slow.push(conn.id),
            }
            if let (Memory::Inbox, Some(last), Some(queue)) = (memory, positions.last(), &mut conn.queue) {
                queue.mark(name.clone(), *last);
            }
        };
        if **name == *EVERYBODY {
            conns.iter_mut().map(|(_, conn)| conn).filter(|conn| conn.phase == Phase::Open).for_each(&mut hand_over);
        } else if let Some(room) = index.and_then(|index| rooms.get(index)) {
            for slot in &room.members {
                if let Some(conn) = conns.get_mut(*slot as usize) {
                    hand_over(conn);
                }
            }
        }
        slow.into_iter().for_each(|id| self.too_slow(now, id));
        self.stats.deliveries += (clients * frame.messages()) as u64;
        if clients > 0 {
            payloads.into_iter().for_each(|payload| self.report(|| Report::Broadcast { room: name.clone(), payload, clients }));
        }
    }

    /// An outbox has overflowed. What waits there is dropped, or the close frame would never be read.
    fn too_slow(&mut self, now: Time, id: ConnId) {
        let Some(queue) = self.get(id).and_then(|conn| conn.queue.as_mut()) else { return };
        queue.clear();
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
fn enqueue(conn: &mut Connection, frame: Frame, limits: &Limits, spares: &mut Spares, dirty: &mut VecDeque<ConnId>) -> Fill {
    if conn.is_closing() {
        return Fill::Roomy;
    }
    let queue = conn.queue.get_or_insert_with(|| spares.take());
    let (bytes, frames) = match frame.kind() {
        FrameKind::Close => (usize::MAX, usize::MAX),
        _ => (limits.outbox_bytes, limits.outbox_messages),
    };
    if !queue.push(frame, bytes, frames) {
        return Fill::Full;
    }
    if !conn.dirty {
        conn.dirty = true;
        dirty.push_back(conn.id);
    }
    if queue.is_pressed(limits.outbox_bytes, limits.outbox_messages) { Fill::Pressed } else { Fill::Roomy }
}
