//! Frames: messages encoded once, shared by everyone who receives them.
//!
//! A server's WebSocket frames are not masked, so one encoding serves every recipient (RFC 6455, section 5.1).
//! A [`Frame`] keeps header and payload in one allocation: [`Frame::wire`] is what a raw socket is sent,
//! [`Frame::payload`] is what a server with its own WebSocket, or a polling transport, needs.

use bytes::{BufMut, Bytes, BytesMut};

/// What a frame says at the WebSocket level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A whole text message.
    Text,
    /// A whole binary message.
    Binary,
    /// A close frame; nothing follows it.
    Close,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// Bytes that are not a WebSocket frame: the answer to an upgrade request.
    Raw,
}

/// One encoded message. Cloning it copies a reference count, never the bytes.
///
/// ```
/// use roomcast_core::frame::{Frame, FrameKind};
///
/// let frame = Frame::text(b"hello");
/// assert_eq!(frame.wire().as_ref(), b"\x81\x05hello");
/// assert_eq!(frame.payload(), b"hello");
/// assert_eq!(frame.kind(), FrameKind::Text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    header: u8,
    kind: FrameKind,
}

impl Frame {
    /// A text message. The payload must be UTF-8, which every JSON document of this crate is.
    pub fn text(payload: &[u8]) -> Frame {
        Frame::encode(FrameKind::Text, payload)
    }

    /// A binary message.
    pub fn binary(payload: &[u8]) -> Frame {
        Frame::encode(FrameKind::Binary, payload)
    }

    /// A ping without payload.
    pub fn ping() -> Frame {
        Frame { bytes: Bytes::from_static(b"\x89\x00"), header: 2, kind: FrameKind::Ping }
    }

    /// The answer to a ping. More than 125 bytes cannot come from a legal ping; the rest is cut off.
    pub fn pong(payload: &[u8]) -> Frame {
        Frame::encode(FrameKind::Pong, &payload[..payload.len().min(125)])
    }

    /// A close frame, with code and reason where there is a code. The reason is cut to the 123 bytes a control frame can carry.
    pub fn close(code: Option<u16>, reason: &str) -> Frame {
        let mut payload = Vec::with_capacity(2 + reason.len().min(123));
        if let Some(code) = code {
            payload.put_u16(code);
            let end = (0..=reason.len().min(123)).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
            payload.put_slice(&reason.as_bytes()[..end]);
        }
        Frame::encode(FrameKind::Close, &payload)
    }

    /// Bytes that travel as they are, in the order of the other frames.
    pub fn raw(bytes: Bytes) -> Frame {
        Frame { bytes, header: 0, kind: FrameKind::Raw }
    }

    /// Header and payload, ready for the socket.
    pub fn wire(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..]
    }

    /// What the frame is.
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// Bytes on the wire, header included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to write. Only an empty [`Frame::raw`] is.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn encode(kind: FrameKind, payload: &[u8]) -> Frame {
        let opcode = match kind {
            FrameKind::Text => 0x1,
            FrameKind::Binary => 0x2,
            FrameKind::Close => 0x8,
            FrameKind::Ping => 0x9,
            FrameKind::Pong | FrameKind::Raw => 0xA,
        };
        let mut bytes = BytesMut::with_capacity(payload.len() + 10);
        bytes.put_u8(0x80 | opcode);
        match payload.len() {
            short @ 0..126 => bytes.put_u8(short as u8),
            medium @ 126..0x1_0000 => {
                bytes.put_u8(126);
                bytes.put_u16(medium as u16);
            }
            long => {
                bytes.put_u8(127);
                bytes.put_u64(long as u64);
            }
        }
        let header = bytes.len() as u8;
        bytes.put_slice(payload);
        Frame { bytes: bytes.freeze(), header, kind }
    }
}

/// One message as it came from a client, whole and checked: text is UTF-8, control frames are legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; its payload is to be sent back.
    Ping(&'a [u8]),
    /// A pong: the peer is alive.
    Pong,
    /// The peer closes, with its code where it gave one.
    Close(Option<u16>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_use_the_shortest_header() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::binary(&vec![7; len]);
            assert_eq!(frame.len(), len + header);
            assert_eq!(frame.payload().len(), len);
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = Frame::close(Some(4001), &"é".repeat(100));
        assert_eq!(frame.payload().len(), 2 + 122);
        assert!(core::str::from_utf8(&frame.payload()[2..]).is_ok());
    }
}
