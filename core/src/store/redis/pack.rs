//! How messages stand in an entry of a relay log: one field, whose value is a row of netstrings (`<length>:<bytes>,`), a room and
//! an envelope in turn.
//!
//! A field for each message would cost several times as much: every word of a command is parsed, kept and written by itself.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::message::RoomName;
use crate::store::Fields;

/// The name of the field.
pub(super) const FIELD: &str = "m";

/// Messages as one value. Values may be joined.
pub(super) fn pack<'a>(messages: impl Iterator<Item = &'a (RoomName, Bytes)> + Clone) -> Bytes {
    // No length has more than 20 digits.
    let bytes = messages.clone().map(|(room, payload)| room.len() + payload.len() + 44).sum();
    let mut packed = BytesMut::with_capacity(bytes);
    for (room, payload) in messages {
        put(&mut packed, room.as_bytes());
        put(&mut packed, payload);
    }
    packed.freeze()
}

/// The messages of a value, without copies. What follows something malformed is left out.
pub(super) fn unpack(mut packed: Bytes) -> Fields {
    let mut messages = Vec::new();
    while let Some((room, payload)) = take(&mut packed).and_then(|room| Some((room, take(&mut packed)?))) {
        messages.push((room, payload));
    }
    messages
}

fn put(packed: &mut BytesMut, bytes: &[u8]) {
    packed.put_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
    packed.put_u8(b':');
    packed.put_slice(bytes);
    packed.put_u8(b',');
}

fn take(packed: &mut Bytes) -> Option<Bytes> {
    let colon = packed.iter().take(20).position(|byte| *byte == b':')?;
    let length: usize = str::from_utf8(packed.get(..colon)?).ok()?.parse().ok()?;
    let (from, to) = (colon + 1, colon.checked_add(1)?.checked_add(length)?);
    if packed.get(to) != Some(&b',') {
        return None;
    }
    let bytes = packed.slice(from..to);
    *packed = packed.slice(to + 1..);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(room: &str, payload: &'static str) -> (RoomName, Bytes) {
        (room.into(), Bytes::from(payload))
    }

    #[test]
    fn messages_stand_one_behind_the_other() {
        assert_eq!(pack([message("a:1", "{}"), message("", "x,")].iter()), "3:a:1,2:{},0:,2:x,,");
    }

    #[test]
    fn what_is_malformed_is_left_out_with_all_that_follows() {
        for broken in
            ["", "3", "3:", "3:abc", "3:abc;1:x,", "-1:,1:x,", "99999999999999999999:a,1:x,", "1:a,", "1:a,2:x,1:b,1:c,"]
        {
            assert_eq!(unpack(Bytes::from_static(broken.as_bytes())), [], "{broken}");
        }
        assert_eq!(unpack(Bytes::from_static(b"1:a,1:b,1:c,9:d,")), [(Bytes::from("a"), Bytes::from("b"))]);
    }

    proptest! {
        #[test]
        fn packed_values_can_be_joined_and_unpacked(all in prop::collection::vec(prop::collection::vec((".{0,8}", ".{0,300}"), 0..5), 0..4)) {
            let all: Vec<Vec<(RoomName, Bytes)>> = all
                .into_iter()
                .map(|messages| messages.into_iter().map(|(room, payload)| (room.as_str().into(), Bytes::from(payload))).collect())
                .collect();
            let joined: Vec<u8> = all.iter().flat_map(|messages| pack(messages.iter())).collect();
            let expected: Fields =
                all.iter().flatten().map(|(room, payload)| (Bytes::copy_from_slice(room.as_bytes()), payload.clone())).collect();
            prop_assert_eq!(unpack(joined.into()), expected);
        }

        #[test]
        fn anything_can_be_unpacked(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            unpack(bytes.into());
        }
    }
}
