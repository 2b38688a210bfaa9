//! As much of WebSocket framing as a load generator needs.

/// Text frames carry messages.
pub(crate) const TEXT: u8 = 1;
/// A ping must be answered, or the server drops the connection.
pub(crate) const PING: u8 = 9;
/// The answer to a ping.
pub(crate) const PONG: u8 = 10;

const FINAL: u8 = 0x80;
/// The bit that says that a mask follows the length.
pub(crate) const MASKED: u8 = 0x80;

/// A whole frame at the start of some bytes.
pub(crate) struct Frame<'a> {
    /// What kind of frame it is.
    pub(crate) opcode: u8,
    /// What it carries.
    pub(crate) payload: &'a [u8],
    /// The bytes after it.
    pub(crate) rest: &'a [u8],
}

/// Splits off the first frame of a server, or returns `None` if it is not whole yet.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        short => (usize::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some(Frame { opcode: first & 0x0f, payload, rest })
}

/// Appends a frame as a client sends it. The mask is zero: the server has the same work with it, and the
/// load generator has none.
pub(crate) fn push_masked(frame: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_head(frame, opcode, payload.len(), MASKED);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
}

/// Appends the head of a final frame, without a mask; `masked` says whether one follows.
pub(crate) fn push_head(frame: &mut Vec<u8>, opcode: u8, length: usize, masked: u8) {
    frame.push(FINAL | opcode);
    match length {
        0..126 => frame.push(masked | length as u8),
        126..65_536 => {
            frame.push(masked | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
