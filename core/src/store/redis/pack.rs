//! How messages stand in an entry of a relay log: one field, whose value is a row of netstrings (`<length>:<bytes>,`), three for
//! each message: its room, what else is to be known of it, and its envelope.
//!
//! What else is to be known is nothing, or `epoch.offset.tag.previous` (all but the offset hexadecimal; the last is the tag of the
//! message before), or `-` and the user who is not told, or `!` and the user whose connections are to be
//! closed.
//!
//! A field for each message would cost several times as much: every word of a command is parsed, kept and written by itself.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::message::EVERYBODY;
use crate::store::{Posting, Relayed, Stamp};

/// The name of the field.
pub(super) const FIELD: &str = "m";
/// The name of the field of an entry that is a mark, and has no messages.
pub(super) const MARK: &str = "p";

/// Messages that no room remembers as one value. Values may be joined.
pub(super) fn pack<'a>(messages: impl Iterator<Item = &'a Posting> + Clone) -> Bytes {
    // No length has more than 20 digits.
    let bytes = messages.clone().map(|message| message.room.len() + message.payload.len() + 48).sum();
    let mut packed = BytesMut::with_capacity(bytes);
    for message in messages {
        put(&mut packed, message.room.as_bytes());
        put(&mut packed, b"");
        put(&mut packed, &message.payload);
    }
    packed.freeze()
}

/// The word that every connection of a user is to be closed.
pub(super) fn disconnect(user: &str) -> Bytes {
    let mut packed = BytesMut::with_capacity(user.len() + 48);
    put(&mut packed, EVERYBODY.as_bytes());
    put(&mut packed, format!("!{user}").as_bytes());
    put(&mut packed, b"");
    packed.freeze()
}

/// One netstring.
pub(super) fn netstring(bytes: &[u8]) -> Bytes {
    let mut packed = BytesMut::with_capacity(bytes.len() + 22);
    put(&mut packed, bytes);
    packed.freeze()
}

/// The messages of a value, without copies. What follows something malformed is left out.
pub(super) fn unpack(mut packed: Bytes) -> Vec<Relayed> {
    let mut messages = Vec::new();
    let mut next = || {
        let (room, stamp, payload) = (take(&mut packed)?, take(&mut packed)?, take(&mut packed)?);
        Some(Relayed { room, stamp: read_stamp(stamp)?, payload })
    };
    messages.extend(core::iter::from_fn(&mut next));
    messages
}

/// The netstrings of a value that holds so many and nothing else.
pub(super) fn unpack_all<const N: usize>(mut packed: Bytes) -> Option<[Bytes; N]> {
    let mut values = [const { Bytes::new() }; N];
    for value in &mut values {
        *value = take(&mut packed)?;
    }
    packed.is_empty().then_some(values)
}

fn put(packed: &mut BytesMut, bytes: &[u8]) {
    packed.put_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
    packed.put_u8(b':');
    packed.put_slice(bytes);
    packed.put_u8(b',');
}

/// The first netstring of a value, which is left without it.
pub(super) fn take(packed: &mut Bytes) -> Option<Bytes> {
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

fn read_stamp(stamp: Bytes) -> Option<Stamp> {
    if stamp.is_empty() {
        return Some(Stamp::Plain);
    }
    match stamp[0] {
        b'-' => return Some(Stamp::Others(stamp.slice(1..))),
        b'!' => return Some(Stamp::Disconnect(stamp.slice(1..))),
        _ => {}
    }
    let (position, previous) = str::from_utf8(&stamp).ok()?.rsplit_once('.')?;
    Some(Stamp::At { position: position.parse().ok()?, previous: u32::from_str_radix(previous, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;
    use proptest::prelude::*;

    fn message(room: &str, payload: &'static str) -> Posting {
        Posting::plain(room.into(), Bytes::from(payload))
    }

    #[test]
    fn messages_stand_one_behind_the_other() {
        assert_eq!(pack([message("a:1", "{}"), message("", "x,")].iter()), "3:a:1,0:,2:{},0:,0:,2:x,,");
        assert_eq!(netstring(b"a:1"), "3:a:1,");
        assert_eq!(unpack_all(netstring(b"a:1")), Some([Bytes::from("a:1")]));
        assert_eq!(unpack_all(Bytes::from("1:a,1:b,")), Some(["a", "b"].map(Bytes::from)));
        assert_eq!(unpack_all::<1>(Bytes::from("1:a,1:b,")), None);
        assert_eq!(unpack_all::<2>(Bytes::from("1:a,")), None);
    }

    #[test]
    fn a_message_says_where_it_stands_or_who_is_not_told() {
        let stamps: Vec<_> =
            unpack(Bytes::from("1:r,9:1f.2.a0.b,1:x,1:r,2:-7,1:y,")).into_iter().map(|message| message.stamp).collect();
        let position = Position { epoch: 0x1f, offset: 2, tag: 0xa0 };
        assert_eq!(stamps, [Stamp::At { position, previous: 0xb }, Stamp::Others("7".into())]);
    }

    #[test]
    fn whose_connections_are_to_be_closed_is_no_message() {
        assert_eq!(disconnect("7"), "1:*,2:!7,0:,");
        for user in ["7", "", "a,b:\u{fc}"] {
            assert_eq!(unpack(disconnect(user)), [Relayed::disconnect(user)]);
        }
    }

    #[test]
    fn what_is_malformed_is_left_out_with_all_that_follows() {
        for broken in [
            "",
            "3",
            "3:",
            "3:abc",
            "3:abc;0:,1:x,",
            "-1:,0:,1:x,",
            "99999999999999999999:a,0:,1:x,",
            "1:a,0:,",
            "1:a,1:x,1:b,",
            "1:a,5:1.2.3,1:b,",
        ] {
            assert_eq!(unpack(Bytes::from_static(broken.as_bytes())), [], "{broken}");
        }
        let first = Relayed { room: "a".into(), stamp: Stamp::Plain, payload: "b".into() };
        assert_eq!(unpack(Bytes::from_static(b"1:a,0:,1:b,1:c,0:,9:d,")), [first]);
    }

    proptest! {
        #[test]
        fn packed_values_can_be_joined_and_unpacked(all in prop::collection::vec(prop::collection::vec((".{0,8}", ".{0,300}"), 0..5), 0..4)) {
            let all: Vec<Vec<Posting>> = all
                .into_iter()
                .map(|messages| messages.into_iter().map(|(room, payload)| Posting::plain(room.as_str().into(), Bytes::from(payload))).collect())
                .collect();
            let joined: Vec<u8> = all.iter().flat_map(|messages| pack(messages.iter())).collect();
            let relayed = |message: &Posting| Relayed {
                room: Bytes::copy_from_slice(message.room.as_bytes()),
                stamp: Stamp::Plain,
                payload: message.payload.clone(),
            };
            let expected: Vec<Relayed> = all.iter().flatten().map(relayed).collect();
            prop_assert_eq!(unpack(joined.into()), expected);
        }

        #[test]
        fn anything_can_be_unpacked(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            unpack(bytes.into());
        }
    }
}
