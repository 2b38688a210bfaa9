//! Offsets: where a client stands in each of its rooms, as it keeps it with the last event and gives it back.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::position::Position;

/// The most rooms an offset has. It comes with each event, at about 20 bytes for each room.
pub(super) const MOST_ROOMS: usize = 32;

/// Stands for the name of a room.
pub(super) type Mark = [u8; 4];

pub(super) fn mark(room: &str) -> Mark {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(room));
    [a, b, c, d]
}

/// Writes an offset: text without anything that JSON would escape.
pub(super) fn write(places: impl Iterator<Item = (Mark, Position)>) -> String {
    let mut bytes = Vec::new();
    for (mark, Position { epoch, offset, tag }) in places {
        bytes.extend_from_slice(&mark);
        put_number(&mut bytes, epoch);
        put_number(&mut bytes, offset);
        bytes.extend_from_slice(&tag.to_be_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads an offset; nothing where it is none.
pub(super) fn read(text: &str) -> Option<Vec<(Mark, Position)>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (mut rest, mut places) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let mark = take(&mut rest)?;
        let (epoch, offset) = (take_number(&mut rest)?, take_number(&mut rest)?);
        let tag = u32::from_be_bytes(take(&mut rest)?);
        places.push((mark, Position { epoch, offset, tag }));
        if places.len() > MOST_ROOMS {
            return None;
        }
    }
    Some(places)
}

/// Seven bits in each byte, the lowest first; all but the last have the eighth.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest)?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(places in proptest::collection::vec((any::<Mark>(), any::<(u64, u64, u32)>()), 0..=MOST_ROOMS)) {
            let places = places.into_iter().map(|(mark, (epoch, offset, tag))| (mark, Position { epoch, offset, tag }));
            let places: Vec<(Mark, Position)> = places.collect();
            let text = write(places.iter().copied());
            prop_assert_eq!(read(&text), Some(places));
        }

        #[test]
        fn anything_can_be_read(text: String, bytes: Vec<u8>) {
            let _ = (read(&text), read(&BASE64_URL_SAFE_NO_PAD.encode(bytes)));
        }
    }
}
