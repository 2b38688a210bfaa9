//! What to write next: several small frames in one piece, built once for all connections that wait for the same frames.

use roomcast_core::frame::Frame;
use roomcast_core::hub::Outbox;

/// Bytes that are joined into one write at the most. Copying them costs far less than a second system call.
const MOST: usize = 64 * 1024;

/// Joins the frames of an outbox.
///
/// When a room's messages are flushed, its members' outboxes hold the very same frames. The joined bytes of the last outbox
/// are kept and used again as long as that is so.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    joined: Vec<u8>,
    /// The frames whose bytes are joined, held so that their memory cannot become another frame's.
    frames: Vec<Frame>,
}

impl Flusher {
    /// The next bytes to write of an outbox; none where it is empty.
    pub(crate) fn next<'a>(&'a mut self, outbox: &Outbox<'a>) -> &'a [u8] {
        let mut pieces = outbox.pieces();
        let Some(first) = pieces.next() else { return &[] };
        if outbox.len() == 1 || first.len() >= MOST {
            return first;
        }
        let fresh = outbox.offset() == 0;
        if fresh && self.is_joined(outbox) {
            return &self.joined;
        }
        self.forget();
        self.joined.extend_from_slice(first);
        for piece in pieces {
            if self.joined.len() + piece.len() > MOST {
                break;
            }
            self.joined.extend_from_slice(piece);
        }
        if fresh && self.joined.len() == outbox.bytes() {
            self.frames.extend(outbox.frames().cloned());
        }
        &self.joined
    }

    /// Lets the frames go.
    pub(crate) fn forget(&mut self) {
        self.joined.clear();
        self.frames.clear();
    }

    fn is_joined(&self, outbox: &Outbox<'_>) -> bool {
        let same = |(known, frame): (&Frame, &Frame)| {
            known.len() == frame.len() && std::ptr::eq(known.wire().as_ptr(), frame.wire().as_ptr())
        };
        self.frames.len() == outbox.len() && self.frames.iter().zip(outbox.frames()).all(same)
    }
}
