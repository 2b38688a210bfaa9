//! Packets of Engine.IO 4, and the bodies in which a polling client exchanges several of them.
//!
//! A packet of text begins with the digit of its type. One of bytes is a frame of its own on a WebSocket; where there is only
//! text, it is a `b` and base64.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;

use crate::dialect::json::Object;

/// Stands between the packets of a body. JSON text never has it.
const SEPARATOR: char = '\u{1e}';

/// A packet of Engine.IO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The server's handshake, a JSON object; no client sends it.
    Open(&'a str),
    /// The session ends.
    Close,
    /// The other side is to answer with a pong of the same text. The server's beat has none, a probe of a transport says `probe`.
    Ping(&'a str),
    /// The answer.
    Pong(&'a str),
    /// A message of text.
    Message(&'a str),
    /// A message of bytes.
    Binary(Cow<'a, [u8]>),
    /// The session goes on with the transport that has been probed.
    Upgrade,
    /// Nothing: it ends a poll.
    Noop,
}

/// What was received does not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a packet of the protocol")
    }
}

impl core::error::Error for Malformed {}

/// Reads one packet of text, such as a text message of a WebSocket.
///
/// ```
/// use roomcast_core::dialect::socketio::engine::{Malformed, Packet, parse};
///
/// assert_eq!(parse("4hello"), Ok(Packet::Message("hello")));
/// assert_eq!(parse("bAQID"), Ok(Packet::Binary(vec![1, 2, 3].into())));
/// assert_eq!(parse("7"), Err(Malformed));
/// ```
///
/// # Errors
/// No such type, text where the type has none, or bytes that are not base64 with its padding.
pub fn parse(text: &str) -> Result<Packet<'_>, Malformed> {
    let mut characters = text.chars();
    let kind = characters.next().ok_or(Malformed)?;
    let rest = characters.as_str();
    match kind {
        '0' => Ok(Packet::Open(rest)),
        '1' if rest.is_empty() => Ok(Packet::Close),
        '2' => Ok(Packet::Ping(rest)),
        '3' => Ok(Packet::Pong(rest)),
        '4' => Ok(Packet::Message(rest)),
        '5' if rest.is_empty() => Ok(Packet::Upgrade),
        '6' if rest.is_empty() => Ok(Packet::Noop),
        'b' => Ok(Packet::Binary(BASE64_STANDARD.decode(rest).map_err(|_| Malformed)?.into())),
        _ => Err(Malformed),
    }
}

/// Reads the body of a POST: at least one packet, and `most` at the most.
///
/// # Errors
/// More packets than that, one that is malformed (an empty one is), or a body that is not UTF-8.
pub fn parse_payload(body: &[u8], most: usize) -> Result<Vec<Packet<'_>>, Malformed> {
    let text = str::from_utf8(body).map_err(|_| Malformed)?;
    let mut packets = Vec::new();
    for packet in text.split(SEPARATOR) {
        if packets.len() >= most {
            return Err(Malformed);
        }
        packets.push(parse(packet)?);
    }
    Ok(packets)
}

/// Appends the body that answers a poll. A packet is text, which begins with its type, or the bytes (`true`) of a binary message.
///
/// ```
/// use roomcast_core::dialect::socketio::engine::put_payload;
///
/// let mut body = Vec::new();
/// put_payload(&mut body, [(false, &b"4hello"[..]), (true, &[1, 2, 3])].into_iter());
/// assert_eq!(body, b"4hello\x1ebAQID");
/// ```
pub fn put_payload<'a>(out: &mut Vec<u8>, packets: impl Iterator<Item = (bool, &'a [u8])>) {
    for (at, (binary, packet)) in packets.enumerate() {
        if at > 0 {
            out.push(SEPARATOR as u8);
        }
        if binary {
            // Writing into memory cannot fail.
            let _ = write!(out, "b{}", Base64Display::new(packet, &BASE64_STANDARD));
        } else {
            out.extend_from_slice(packet);
        }
    }
}

/// What the server says first in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The session's identifier.
    pub sid: &'a str,
    /// Whether the client may go on with a WebSocket.
    pub upgrades: bool,
    /// Time between the server's pings.
    pub ping_interval: Duration,
    /// Time that the client has to answer one.
    pub ping_timeout: Duration,
    /// Longest body or message that the client may send, in bytes.
    pub max_payload: usize,
}

impl Handshake<'_> {
    /// The open packet; times are whole milliseconds.
    pub fn packet(&self) -> String {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let object = Object::new()
            .string("sid", self.sid)
            .strings("upgrades", self.upgrades.then_some("websocket").into_iter())
            .number("pingInterval", millis(self.ping_interval))
            .number("pingTimeout", millis(self.ping_timeout))
            .number("maxPayload", self.max_payload as u64);
        format!("0{}", object.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(packets: &[(bool, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        put_payload(&mut body, packets.iter().map(|(binary, packet)| (*binary, packet.as_slice())));
        body
    }

    #[test]
    fn each_type_is_read() {
        for (text, packet) in [
            ("0{}", Packet::Open("{}")),
            ("1", Packet::Close),
            ("2", Packet::Ping("")),
            ("2probe", Packet::Ping("probe")),
            ("3probe", Packet::Pong("probe")),
            ("4", Packet::Message("")),
            ("4é€", Packet::Message("é€")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("b", Packet::Binary(vec![].into())),
            ("bAQIDBA==", Packet::Binary(vec![1, 2, 3, 4].into())),
        ] {
            assert_eq!(parse(text), Ok(packet), "{text}");
        }
        for text in ["", " 4", "7", "a", "1x", "5probe", "6 ", "é", "b?", "bAQIDBA", "bAQIDBB==", "bAQID\n"] {
            assert_eq!(parse(text), Err(Malformed), "{text:?}");
        }
    }

    #[test]
    fn a_body_is_read_as_a_whole_or_not_at_all() {
        let packets = vec![Packet::Message("a"), Packet::Binary(vec![1, 2, 3].into()), Packet::Pong("")];
        assert_eq!(parse_payload(b"4a\x1ebAQID\x1e3", 3), Ok(packets));
        for body in [&b""[..], b"\x1e", b"4a\x1e", b"\x1e4a", b"4a\x1e\x1e4b", b"4a\x1ex", b"4\xff", b"4a\x1ebAQI"] {
            assert_eq!(parse_payload(body, 3), Err(Malformed), "{body:?}");
        }
    }

    #[test]
    fn a_body_has_as_many_packets_as_it_may() {
        assert_eq!(parse_payload(b"4\x1e4\x1e4", 3).map(|packets| packets.len()), Ok(3));
        assert_eq!(parse_payload(b"4\x1e4\x1e4\x1e4", 3), Err(Malformed));
        assert_eq!(parse_payload(b"4", 0), Err(Malformed));
    }

    #[test]
    fn the_handshake_has_the_fields_of_the_protocol() {
        let mut handshake = Handshake {
            sid: "a\"b",
            upgrades: true,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_micros(1_500_999),
            max_payload: 1_000_000,
        };
        assert_eq!(
            handshake.packet(),
            r#"0{"sid":"a\"b","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":1500,"maxPayload":1000000}"#
        );
        handshake.upgrades = false;
        handshake.ping_interval = Duration::MAX;
        assert!(handshake.packet().contains(r#""upgrades":[],"pingInterval":18446744073709551615,"#));
    }

    proptest! {
        #[test]
        fn what_is_put_into_a_body_is_read_however_it_is_distributed(
            messages in prop::collection::vec(
                prop_oneof![
                    "[^\x1e]{0,20}".prop_map(|text| (false, format!("4{text}").into_bytes())),
                    prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| (true, bytes)),
                ],
                1..8,
            ),
            place: prop::sample::Index,
        ) {
            let sent: Vec<Packet<'_>> = messages.iter().map(|(binary, packet)| match binary {
                true => Packet::Binary(packet.into()),
                false => Packet::Message(str::from_utf8(&packet[1..]).unwrap()),
            }).collect();
            let whole = payload(&messages);
            prop_assert_eq!(parse_payload(&whole, messages.len()), Ok(sent.clone()));
            prop_assert_eq!(parse_payload(&whole, messages.len() - 1), Err(Malformed));

            let (one, other) = messages.split_at(1 + place.index(messages.len()));
            let (one, other) = (payload(one), payload(other));
            let mut read = parse_payload(&one, 8).unwrap();
            if !other.is_empty() {
                read.extend(parse_payload(&other, 8).unwrap());
                prop_assert_eq!([&one[..], b"\x1e", &other].concat(), whole);
            }
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn nothing_panics(text in "[0-7b\x1e=A-Z ]{0,20}", bytes in prop::collection::vec(any::<u8>(), 0..40), most in 0_usize..5) {
            let _ = parse(&text);
            for body in [text.as_bytes(), &bytes] {
                if let Ok(packets) = parse_payload(body, most) {
                    prop_assert!((1..=most).contains(&packets.len()));
                }
            }
        }
    }
}
