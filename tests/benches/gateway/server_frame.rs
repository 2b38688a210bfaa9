//! Framing as the raw server needs it.

use crate::frame::{MASKED, push_head, split};

/// Appends a frame as a server sends it.
pub(crate) fn push_unmasked(frame: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_head(frame, opcode, payload.len(), 0);
    frame.extend_from_slice(payload);
}

/// Makes a client's frame the one with which a server sends its payload back, or returns `None` if it is not one whole frame.
///
/// Only the head moves, over the mask: that is zero, so there is nothing to unmask.
#[inline]
pub(crate) fn turn_back(bytes: &mut [u8]) -> Option<&[u8]> {
    const MASK: usize = 4;
    let head = match bytes.get(1)? & !MASKED {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    assert_eq!(bytes.get(head..head + MASK)?, [0; MASK], "the load generator masks with zeros");
    bytes.copy_within(..head, MASK);
    let answer = &mut bytes[MASK..];
    answer[1] &= !MASKED;
    split(answer)?.rest.is_empty().then_some(answer)
}
