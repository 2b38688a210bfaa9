//! Outboxes: what waits to be written to a connection, in order and bounded.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::connection::Connection;
use crate::frame::{Expendable, Frame, FrameKind};
use crate::id::ConnId;
use crate::message::RoomName;
use crate::position::Position;

/// The frames that wait for one connection.
///
/// A connection without anything to write has none; boxes go back to the hub's [`Spares`].
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    messages: usize,
    /// Bytes of the first frame that are written already.
    written: usize,
    /// Messages and bytes that were added since the connection was last flushed.
    fresh: (usize, usize),
    /// What has to be told once it is written: how many bytes must be written until then, and whose message it is.
    marks: VecDeque<(usize, RoomName, Position)>,
    /// It has overflowed, and something of it waits still: of frames that replace each other, only the newest is kept.
    crowded: bool,
    /// Messages that were dropped, until they are counted.
    dropped: usize,
}

/// What is to be written to a connection now: shared frames, already encoded.
#[derive(Clone, Copy, Debug)]
pub struct Outbox<'a> {
    queue: &'a Queue,
}

impl<'a> Outbox<'a> {
    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.queue.frames.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.frames.is_empty()
    }

    /// How many messages wait: a frame may carry several.
    pub fn messages(&self) -> usize {
        self.queue.messages
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.queue.bytes
    }

    /// Bytes of the first frame that have been written already.
    pub fn offset(&self) -> usize {
        self.queue.written
    }

    /// The frames that wait, the first one whole even when part of it is written.
    pub fn frames(&self) -> impl Iterator<Item = &'a Frame> + Clone {
        self.queue.frames.iter()
    }

    /// The bytes that wait, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut skip = self.queue.written;
        self.queue.frames.iter().map(move |frame| &frame.wire()[core::mem::take(&mut skip)..])
    }
}

impl Queue {
    pub(super) fn outbox(&self) -> Outbox<'_> {
        Outbox { queue: self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Appends a frame; whether it keeps to the bounds, if need be after what may be dropped has been. A single frame is always within
    /// them.
    pub(super) fn push(&mut self, frame: Frame, most_bytes: usize, most_messages: usize) -> bool {
        let bounds = (most_bytes, most_messages);
        if self.crowded {
            self.replace(&frame);
        }
        let fits = self.has_room_for(&frame, bounds) || {
            self.make_room_for(&frame, bounds);
            self.has_room_for(&frame, bounds)
        };
        if fits {
            self.bytes += frame.len();
            self.messages += frame.messages();
            self.fresh = (self.fresh.0 + frame.messages(), self.fresh.1 + frame.len());
            self.frames.push_back(frame);
        }
        fits
    }

    fn has_room_for(&self, frame: &Frame, (bytes, messages): (usize, usize)) -> bool {
        self.frames.is_empty() || (self.bytes + frame.len() <= bytes && self.messages + frame.messages() <= messages)
    }

    /// Drops what may be dropped: all that something newer has replaced, then the oldest, as many as need be.
    fn make_room_for(&mut self, frame: &Frame, (bytes, messages): (usize, usize)) {
        if !self.crowded {
            self.crowded = true;
            let newest: BTreeMap<u64, usize> =
                (0..).zip(&self.frames).filter_map(|(at, frame)| Some((number(frame)?, at))).collect();
            let mut at = usize::from(self.written > 0)..;
            self.drop_where(|frame| {
                let at = at.next();
                number(frame).is_some_and(|number| newest.get(&number).copied() != at)
            });
            self.replace(frame);
        }
        let mut excess_bytes = (self.bytes + frame.len()).saturating_sub(bytes);
        let mut excess = (self.messages + frame.messages()).saturating_sub(messages);
        self.drop_where(|frame| {
            let drops = (excess_bytes > 0 || excess > 0) && frame.expendable() == Some(Expendable::Oldest);
            if drops {
                excess_bytes = excess_bytes.saturating_sub(frame.len());
                excess = excess.saturating_sub(frame.messages());
            }
            drops
        });
    }

    /// Drops what a frame replaces.
    fn replace(&mut self, by: &Frame) {
        if let Some(new) = number(by) {
            self.drop_where(|frame| number(frame) == Some(new));
        }
    }

    /// Drops frames, which are shown in their order, but for one that is partly written.
    fn drop_where(&mut self, mut is_dropped: impl FnMut(&Frame) -> bool) {
        let Queue { frames, written, marks, bytes, messages, dropped, .. } = self;
        let (mut end, mut begun, mut gaps) = (0, *written, Vec::new());
        frames.retain(|frame| {
            end += frame.len() - begun;
            let drops = begun == 0 && is_dropped(frame);
            begun = 0;
            if drops {
                gaps.push((end, frame.len()));
                *bytes -= frame.len();
                *messages -= frame.messages();
                *dropped += frame.messages();
            }
            !drops
        });
        for (left, ..) in marks {
            *left -= gaps.iter().take_while(|(end, _)| *end <= *left).map(|(_, length)| length).sum::<usize>();
        }
    }

    /// How many messages were dropped since this was asked last.
    pub(super) fn take_dropped(&mut self) -> usize {
        core::mem::take(&mut self.dropped)
    }

    /// Whether so much was added since the last flush that another one should not be put off: half of what may wait.
    pub(super) fn is_pressed(&self, most_bytes: usize, most_messages: usize) -> bool {
        self.fresh.0 > most_messages / 2 || self.fresh.1 > most_bytes / 2
    }

    /// The connection is flushed now.
    pub(super) fn flushed(&mut self) {
        self.fresh = (0, 0);
    }

    /// Puts bytes before everything else. Only for a queue of which nothing is written yet.
    pub(super) fn push_front(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.messages += 1;
        self.frames.push_front(Frame::raw(bytes));
    }

    /// Notes that all that waits now ends with a message of an inbox.
    pub(super) fn mark(&mut self, room: RoomName, upto: Position) {
        self.marks.push_back((self.bytes, room, upto));
    }

    /// A message of an inbox that is written, with all of the inbox before it.
    pub(super) fn delivered(&mut self) -> Option<(RoomName, Position)> {
        self.marks.pop_front_if(|(left, ..)| *left == 0).map(|(_, room, upto)| (room, upto))
    }

    /// Appends all that waits in another one, which is none of a socket: of a frame that is partly written, whole messages are.
    pub(super) fn append(&mut self, mut other: Queue) {
        if let Some(first) = other.frames.front_mut().filter(|_| other.written > 0) {
            let rest = first.rest(other.written);
            other.messages -= first.messages() - rest.messages();
            *first = rest;
        }
        let before = self.bytes;
        self.marks.extend(other.marks.drain(..).map(|(left, room, upto)| (before + left, room, upto)));
        self.frames.append(&mut other.frames);
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.crowded |= other.crowded;
    }

    /// Drops what waits, but for the rest of a frame that is partly written and the answer to the upgrade request: the peer
    /// could not make sense of what follows.
    pub(super) fn clear(&mut self) {
        let answer = self.frames.front().is_some_and(|first| first.kind() == FrameKind::Raw);
        self.frames.truncate(usize::from(self.written > 0 || answer));
        self.marks.clear();
        self.bytes = self.frames.front().map_or(0, |frame| frame.len() - self.written);
        self.messages = self.frames.front().map_or(0, Frame::messages);
    }

    /// So many bytes left.
    pub(super) fn written(&mut self, bytes: usize) {
        let mut bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.marks.iter_mut().for_each(|(left, ..)| *left = left.saturating_sub(bytes));
        bytes += self.written;
        while let Some(first) = self.frames.front() {
            if bytes < first.len() {
                break;
            }
            bytes -= first.len();
            self.messages -= first.messages();
            self.frames.pop_front();
        }
        self.written = bytes;
        self.crowded &= !self.frames.is_empty();
    }
}

/// The number of a frame that newer ones with the same replace.
fn number(frame: &Frame) -> Option<u64> {
    match frame.expendable()? {
        Expendable::Latest(number) => Some(number),
        Expendable::Oldest => None,
    }
}

/// The connections with something new to write: those with a socket, and those that poll.
#[derive(Debug, Default)]
pub(super) struct Unflushed {
    pub(super) sockets: VecDeque<ConnId>,
    pub(super) polls: VecDeque<ConnId>,
}

impl Unflushed {
    /// Notes that a connection has something new to write, once until it is flushed.
    pub(super) fn note(&mut self, conn: &mut Connection) {
        if core::mem::replace(&mut conn.dirty, true) {
            return;
        }
        if conn.polls() { &mut self.polls } else { &mut self.sockets }.push_back(conn.id);
    }
}

/// Empty queues, kept for the next connection that has something to write.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "the boxes are what is kept: connections hold a thin pointer")]
pub(super) struct Spares(Vec<Box<Queue>>);

impl Spares {
    /// Queues kept at the most, and frames of capacity each may keep: a burst must not hold memory for ever.
    const MOST: usize = 16_384;
    const MOST_FRAMES: usize = 256;

    pub(super) fn take(&mut self) -> Box<Queue> {
        self.0.pop().unwrap_or_default()
    }

    pub(super) fn give_back(&mut self, mut queue: Box<Queue>) {
        queue.flushed();
        queue.crowded = false;
        if self.0.len() < Spares::MOST && queue.frames.capacity() <= Spares::MOST_FRAMES {
            self.0.push(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(frames: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for frame in frames {
            assert!(queue.push(Frame::text(frame.as_bytes()), 1000, 1000));
        }
        queue
    }

    fn waiting(queue: &Queue) -> Vec<u8> {
        queue.outbox().pieces().collect::<Vec<_>>().concat()
    }

    #[test]
    fn what_is_written_leaves_byte_by_byte() {
        let all = waiting(&queue(&["one", "", "three"]));
        for cut in 0..=all.len() {
            let mut queue = queue(&["one", "", "three"]);
            queue.written(cut);
            assert_eq!(waiting(&queue), &all[cut..]);
            assert_eq!(queue.outbox().bytes(), all.len() - cut);
            queue.written(usize::MAX);
            assert!(queue.is_empty() && queue.outbox().bytes() == 0);
        }
    }

    #[test]
    fn what_was_partly_polled_goes_on_behind_what_waits_already() {
        let texts = ["one", "two", "three"].map(|text| Bytes::from_static(text.as_bytes()));
        let mut polled = Queue::default();
        assert!(polled.push(Frame::texts(&texts), 1000, 1000) && polled.push(Frame::text(b"four"), 1000, 1000));
        polled.written(Frame::text(b"one").len());
        let mut taken_over = queue(&["probe"]);
        taken_over.append(polled);
        assert_eq!(waiting(&taken_over), waiting(&queue(&["probe", "two", "three", "four"])));
        assert_eq!((taken_over.outbox().bytes(), taken_over.outbox().messages()), (waiting(&taken_over).len(), 4));
        taken_over.written(usize::MAX);
        assert!(taken_over.is_empty() && taken_over.outbox().messages() == 0);
    }

    #[test]
    fn clearing_keeps_the_rest_of_a_frame_that_has_begun() {
        let mut begun = queue(&["one", "two"]);
        begun.written(2);
        begun.clear();
        assert_eq!(waiting(&begun), b"one");
        let mut fresh = queue(&["one", "two"]);
        fresh.clear();
        assert!(fresh.is_empty());
        let mut answered = queue(&["one", "two"]);
        answered.push_front("101".into());
        answered.clear();
        assert_eq!(waiting(&answered), b"101");
    }

    #[test]
    fn what_is_left_of_several_messages_moves_to_another_queue() {
        let several = Frame::texts(&["one".into(), "two".into(), "three".into()]);
        let (mut polled, mut socket) = (Queue::default(), queue(&["probe"]));
        assert!(polled.push(several, 1000, 1000) && polled.push(Frame::text(b"four"), 1000, 1000));
        polled.written(Frame::text(b"one").len());
        let expected = [waiting(&socket), waiting(&polled)].concat();
        socket.append(polled);
        assert_eq!(waiting(&socket), expected);
        assert_eq!((socket.outbox().bytes(), socket.outbox().messages()), (expected.len(), 4));
        socket.written(usize::MAX);
        assert!(socket.is_empty() && socket.messages == 0);
    }

    fn expendable(text: &str, why: Expendable) -> Frame {
        Frame::text(text.as_bytes()).expendable_as(Some(why))
    }

    #[test]
    fn the_oldest_that_may_are_dropped_and_no_more_than_need_be() {
        let mut queue = queue(&["keep"]);
        for text in ["a", "b", "c"] {
            assert!(queue.push(expendable(text, Expendable::Oldest), 1000, 4));
        }
        queue.mark(RoomName::from("user:7"), Position::default());
        assert!(queue.push(Frame::text(b"reply"), 1000, 4));
        assert_eq!(waiting(&queue), [&b"\x81\x04keep\x81\x01b\x81\x01c"[..], b"\x81\x05reply"].concat());
        assert_eq!((queue.outbox().messages(), queue.outbox().bytes(), queue.take_dropped()), (4, 19, 1));
        queue.written(12);
        assert!(queue.delivered().is_some(), "what was dropped before it need not be written");
        assert!(queue.push(Frame::text(b"x"), 1000, 2) && !queue.push(Frame::text(b"y"), 1000, 2));
    }

    #[test]
    fn what_is_partly_written_is_not_dropped() {
        let mut queue = Queue::default();
        for text in ["one", "two", "three"] {
            assert!(queue.push(expendable(text, Expendable::Oldest), 1000, 3));
        }
        queue.written(1);
        assert!(queue.push(expendable("four", Expendable::Oldest), 1000, 3));
        assert_eq!(waiting(&queue), b"\x03one\x81\x05three\x81\x04four");
        assert_eq!(queue.outbox().bytes(), waiting(&queue).len());
    }

    #[test]
    fn of_those_that_replace_each_other_the_newest_is_left_once_there_were_too_many() {
        let mut queue = Queue::default();
        for (text, number) in [("a1", 1), ("b1", 2), ("a2", 1), ("b2", 2)] {
            assert!(queue.push(expendable(text, Expendable::Latest(number)), 1000, 4));
        }
        assert_eq!(queue.outbox().messages(), 4, "all are kept as long as they fit");
        assert!(queue.push(expendable("a3", Expendable::Latest(1)), 1000, 4));
        assert_eq!(waiting(&queue), b"\x81\x02b2\x81\x02a3");
        assert!(queue.push(expendable("b3", Expendable::Latest(2)), 1000, 4));
        assert_eq!((waiting(&queue), queue.take_dropped()), (b"\x81\x02a3\x81\x02b3".to_vec(), 4));
        queue.written(usize::MAX);
        for _ in 0..2 {
            assert!(queue.push(expendable("a4", Expendable::Latest(1)), 1000, 4));
        }
        assert_eq!(queue.outbox().messages(), 2, "it begins anew when all is written");
    }

    #[test]
    fn bounds_hold_but_a_first_frame_always_fits() {
        let mut queue = Queue::default();
        assert!(queue.push(Frame::text(&[b'x'; 100]), 10, 2));
        assert!(!queue.push(Frame::text(b"y"), 10, 2));
        queue.written(usize::MAX);
        assert!(queue.push(Frame::text(b"y"), 10, 2));
        assert!(queue.push(Frame::text(b"y"), 10, 2));
        assert!(!queue.push(Frame::text(b""), 10, 2), "two messages are the most");
    }
}
