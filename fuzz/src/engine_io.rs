//! Packets of Engine.IO: a body is what its packets are one by one, and what is read can be written and read again.

use std::borrow::Cow;

use roomcast_core::dialect::socketio::engine::{Malformed, Packet, parse, parse_payload, put_payload};

/// Packets of one body.
const MOST: usize = 20;

/// Separates packets.
const SEPARATOR: u8 = 0x1e;

/// Input: the body of a POST.
///
/// # Panics
///
/// When the body is not the same as its parts, or as what is written of it.
pub fn run(data: &[u8]) {
    let one_by_one: Result<Vec<Packet<'_>>, Malformed> =
        data.split(|&byte| byte == SEPARATOR).map(|part| parse(str::from_utf8(part).map_err(|_| Malformed)?)).collect();
    let read = parse_payload(data, MOST);
    assert_eq!(read, one_by_one.and_then(|packets| if packets.len() > MOST { Err(Malformed) } else { Ok(packets) }));
    let Ok(packets) = read else { return };
    assert_eq!(parse_payload(data, packets.len()).as_ref(), Ok(&packets));
    assert_eq!(parse_payload(data, packets.len() - 1), Err(Malformed));

    let written: Vec<(bool, Cow<'_, [u8]>)> = packets.iter().map(write).collect();
    let put = |packets: &[(bool, Cow<'_, [u8]>)]| {
        let mut body = Vec::new();
        put_payload(&mut body, packets.iter().map(|(binary, packet)| (*binary, packet.as_ref())));
        body
    };
    // There is only one way to write a packet.
    assert_eq!(put(&written), data);
    for place in 1..written.len() {
        let (one, other) = written.split_at(place);
        assert_eq!([&put(one)[..], &[SEPARATOR], &put(other)].concat(), data);
    }
}

/// A packet as it is handed over to be sent.
fn write<'a>(packet: &'a Packet<'_>) -> (bool, Cow<'a, [u8]>) {
    let text = |kind: &str, rest: &str| (false, Cow::Owned([kind, rest].concat().into_bytes()));
    match packet {
        Packet::Open(rest) => text("0", rest),
        Packet::Close => text("1", ""),
        Packet::Ping(rest) => text("2", rest),
        Packet::Pong(rest) => text("3", rest),
        Packet::Message(rest) => text("4", rest),
        Packet::Upgrade => text("5", ""),
        Packet::Noop => text("6", ""),
        Packet::Binary(bytes) => (true, Cow::Borrowed(bytes)),
    }
}
