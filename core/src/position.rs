//! Positions: how far a client, a node or a log has come in a room, with proof of the entry that is named (contract C10).

use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use bytes::BufMut;

/// A place in a room's history: `epoch.offset.tag`. Clients keep it as an opaque text and give it back to resume.
///
/// Within an epoch offsets count the messages of the room, without gaps. The tag proves the entry: after a fail-over that lost
/// writes the same offsets are given to other messages, under other tags. Position zero of an epoch is before its first message.
///
/// Rooms that are read from a publisher's stream use the parts of the stream's identifier as epoch and offset, and a hash of the
/// entry as tag.
///
/// ```
/// use roomcast_core::position::Position;
///
/// let position: Position = "1f.12.9a0c".parse().unwrap();
/// assert_eq!(position, Position { epoch: 0x1f, offset: 12, tag: 0x9a0c });
/// assert_eq!(position.to_string(), "1f.12.9a0c");
/// assert!("12".parse::<Position>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which life of the log it is about.
    pub epoch: u64,
    /// How many messages the room has had in this life, the one named included.
    pub offset: u64,
    /// Proves the message.
    pub tag: u32,
}

impl Position {
    /// The beginning of an epoch.
    pub fn start(epoch: u64) -> Position {
        Position { epoch, offset: 0, tag: 0 }
    }

    /// Whether this is behind `other`, for positions of one log.
    pub fn is_after(self, other: Position) -> bool {
        (self.epoch, self.offset).cmp(&(other.epoch, other.offset)) == Ordering::Greater
    }

    /// Appends the text.
    pub(crate) fn put(self, out: &mut impl BufMut) {
        put_hex(out, self.epoch);
        out.put_u8(b'.');
        out.put_slice(itoa::Buffer::new().format(self.offset).as_bytes());
        out.put_u8(b'.');
        put_hex(out, self.tag.into());
    }
}

fn put_hex(out: &mut impl BufMut, number: u64) {
    let digits = (16 - number.leading_zeros() / 4).max(1);
    (0..digits).rev().for_each(|digit| out.put_u8(b"0123456789abcdef"[(number >> (4 * digit)) as usize & 15]));
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}.{:x}", self.epoch, self.offset, self.tag)
    }
}

/// The text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPosition;

impl fmt::Display for InvalidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position has the form epoch.offset.tag")
    }
}

impl core::error::Error for InvalidPosition {}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Position, InvalidPosition> {
        let mut parts = text.split('.');
        let mut next = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())).ok_or(InvalidPosition);
        let (epoch, offset, tag) = (next()?, next()?, next()?);
        let position = Position {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| InvalidPosition)?,
            offset: offset.parse().map_err(|_| InvalidPosition)?,
            tag: u32::from_str_radix(tag, 16).map_err(|_| InvalidPosition)?,
        };
        if parts.next().is_none() { Ok(position) } else { Err(InvalidPosition) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(epoch: u64, offset: u64, tag: u32) {
            let position = Position { epoch, offset, tag };
            let mut put = Vec::new();
            position.put(&mut put);
            prop_assert_eq!(str::from_utf8(&put).unwrap(), position.to_string());
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn what_is_not_a_position_is_refused() {
        for text in ["", ".", "..", "1.2", "1.2.3.4", "1.-2.3", "+1.2.3", "1.2.g", "1.a.3", "1.2.100000000", "1.2.3 "] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}
