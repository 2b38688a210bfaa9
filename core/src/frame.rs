//! Frames: messages encoded once, shared by everyone who receives them.
//!
//! A server's WebSocket frames are not masked, so one encoding serves every recipient (RFC 6455, section 5.1).
//! A [`Frame`] keeps header and payload in one allocation: [`Frame::wire`] is what a raw socket is sent,
//! [`Frame::payload`] is what a server with its own WebSocket, or a polling transport, needs.

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::put_with_position;
use crate::position::Position;

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
    messages: u32,
    expendable: Option<Expendable>,
}

/// Why a frame may be dropped that waits for somebody who reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expendable {
    /// There are newer ones.
    Oldest,
    /// One with the same number takes its place.
    Latest(u64),
}

impl Frame {
    /// A text message. The payload must be UTF-8, which every JSON document of this crate is.
    pub fn text(payload: &[u8]) -> Frame {
        Frame::encode(FrameKind::Text, payload)
    }

    /// Several text messages, one frame after the other in one piece, for recipients that get all of them.
    ///
    /// ```
    /// use roomcast_core::frame::Frame;
    ///
    /// let frame = Frame::texts(&["a".into(), "b".into()]);
    /// assert_eq!(frame.wire().as_ref(), b"\x81\x01a\x81\x01b");
    /// assert_eq!(frame.payloads().collect::<Vec<_>>(), [b"a", b"b"]);
    /// ```
    pub fn texts<'a>(payloads: impl IntoIterator<Item = &'a Bytes, IntoIter: Clone>) -> Frame {
        let payloads = payloads.into_iter();
        let mut texts = Texts::with_capacity(payloads.clone().map(|payload| payload.len()));
        payloads.for_each(|payload| texts.put(payload));
        texts.finish()
    }

    /// The same of messages with a position each, which becomes the last field of the JSON object that each is.
    ///
    /// ```
    /// use roomcast_core::frame::Frame;
    /// use roomcast_core::position::Position;
    ///
    /// let frame = Frame::texts_at([(&b"{\"a\":1}"[..], Position { epoch: 1, offset: 2, tag: 3 })].into_iter());
    /// assert_eq!(frame.payload(), br#"{"a":1,"position":"1.2.3"}"#);
    /// ```
    pub fn texts_at<'a>(messages: impl Iterator<Item = (&'a [u8], Position)> + Clone) -> Frame {
        const LONGEST_FIELD: usize = 64;
        let mut texts = Texts::with_capacity(messages.clone().map(|(payload, _)| payload.len() + LONGEST_FIELD));
        let mut message = Vec::new();
        for (payload, position) in messages {
            message.clear();
            put_with_position(&mut message, payload, position);
            texts.put(&message);
        }
        texts.finish()
    }

    /// A binary message.
    pub fn binary(payload: &[u8]) -> Frame {
        Frame::encode(FrameKind::Binary, payload)
    }

    /// A text message, and the binary ones that belong to it and follow at once.
    pub(crate) fn packet(text: &[u8], attachments: &[Bytes]) -> Frame {
        let mut texts = Texts::with_capacity(attachments.iter().map(Bytes::len).chain([text.len()]));
        texts.put(text);
        attachments.iter().for_each(|bytes| texts.put_binary(bytes));
        texts.finish()
    }

    /// A ping without payload.
    pub fn ping() -> Frame {
        Frame { bytes: Bytes::from_static(b"\x89\x00"), header: 2, kind: FrameKind::Ping, messages: 1, expendable: None }
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
        Frame { bytes, header: 0, kind: FrameKind::Raw, messages: 1, expendable: None }
    }

    /// Header and payload, ready for the socket.
    pub fn wire(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload alone. Of [`Frame::texts`] it is the first one; see [`Frame::payloads`].
    pub fn payload(&self) -> &[u8] {
        self.payloads().next().unwrap_or_default()
    }

    /// The payload of each message.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        let whole = self.messages == 1;
        let mut next = move || {
            let header = if whole { usize::from(self.header) } else { header_length(rest) };
            let length = if whole { rest.len() - header } else { payload_length(rest) };
            let (frame, following) = rest.split_at_checked(header + length)?;
            rest = following;
            frame.get(header..)
        };
        (0..self.messages).map_while(move |_| next())
    }

    /// What follows so many bytes, which are whole messages of it.
    pub(crate) fn rest(&self, from: usize) -> Frame {
        let bytes = self.bytes.slice(from.min(self.bytes.len())..);
        let (header, messages) = (header_length(&bytes) as u8, split(&bytes).count() as u32);
        Frame { bytes, header, kind: self.kind, messages, expendable: self.expendable }
    }

    /// The same, to be dropped where it waits for too long.
    pub(crate) fn expendable_as(self, expendable: Option<Expendable>) -> Frame {
        Frame { expendable, ..self }
    }

    /// Whether and why it may be dropped.
    pub(crate) fn expendable(&self) -> Option<Expendable> {
        self.expendable
    }

    /// How many messages it carries.
    pub fn messages(&self) -> usize {
        self.messages as usize
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
        let mut bytes = BytesMut::with_capacity(payload.len() + LONGEST_HEADER);
        let header = put_frame(&mut bytes, kind, payload);
        Frame { bytes: bytes.freeze(), header, kind, messages: 1, expendable: None }
    }
}

/// Text messages that become one frame.
pub(crate) struct Texts {
    bytes: BytesMut,
    first: Option<u8>,
    count: u32,
}

impl Texts {
    /// Room for texts of these lengths.
    pub(crate) fn with_capacity(lengths: impl Iterator<Item = usize>) -> Texts {
        Texts { bytes: BytesMut::with_capacity(lengths.map(|length| length + LONGEST_HEADER).sum()), first: None, count: 0 }
    }

    /// Adds one, which must be UTF-8.
    pub(crate) fn put(&mut self, text: &[u8]) {
        let header = put_frame(&mut self.bytes, FrameKind::Text, text);
        self.first.get_or_insert(header);
        self.count += 1;
    }

    /// Adds a binary message.
    fn put_binary(&mut self, bytes: &[u8]) {
        put_frame(&mut self.bytes, FrameKind::Binary, bytes);
        self.count += 1;
    }

    pub(crate) fn finish(self) -> Frame {
        let header = self.first.unwrap_or(0);
        Frame { bytes: self.bytes.freeze(), header, kind: FrameKind::Text, messages: self.count, expendable: None }
    }
}

/// The frames at the beginning of bytes of our own: what each is, its payload, and its length with the header.
pub(crate) fn split(mut frames: &[u8]) -> impl Iterator<Item = (FrameKind, &[u8], usize)> {
    core::iter::from_fn(move || {
        let kind = match frames.first()? & 0xf {
            0x1 => FrameKind::Text,
            0x2 => FrameKind::Binary,
            0x8 => FrameKind::Close,
            0x9 => FrameKind::Ping,
            _ => FrameKind::Pong,
        };
        let header = header_length(frames);
        let (frame, rest) = frames.split_at_checked(header + payload_length(frames))?;
        frames = rest;
        Some((kind, frame.get(header..)?, frame.len()))
    })
}

const LONGEST_HEADER: usize = 10;

/// Appends a final, unmasked frame (RFC 6455, section 5.2). The length of its header.
fn put_frame(bytes: &mut BytesMut, kind: FrameKind, payload: &[u8]) -> u8 {
    let opcode = match kind {
        FrameKind::Text => 0x1,
        FrameKind::Binary => 0x2,
        FrameKind::Close => 0x8,
        FrameKind::Ping => 0x9,
        FrameKind::Pong | FrameKind::Raw => 0xA,
    };
    bytes.put_u8(0x80 | opcode);
    let header = match payload.len() {
        short @ 0..126 => {
            bytes.put_u8(short as u8);
            2
        }
        medium @ 126..0x1_0000 => {
            bytes.put_u8(126);
            bytes.put_u16(medium as u16);
            4
        }
        long => {
            bytes.put_u8(127);
            bytes.put_u64(long as u64);
            10
        }
    };
    bytes.put_slice(payload);
    header
}

/// The length of the header at the beginning of frames of our own.
fn header_length(frames: &[u8]) -> usize {
    match frames.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    }
}

/// The length of the payload behind it.
fn payload_length(frames: &[u8]) -> usize {
    let number = |bytes: Option<&[u8]>| bytes.unwrap_or_default().iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    match frames.get(1) {
        Some(126) => number(frames.get(2..4)),
        Some(127) => number(frames.get(2..10)),
        Some(short) => usize::from(*short),
        None => 0,
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
    fn several_messages_come_apart_again() {
        let payloads: Vec<Bytes> = [0, 1, 125, 126, 70_000, 3].map(|length| Bytes::from(vec![b'x'; length])).into();
        let frame = Frame::texts(&payloads);
        assert_eq!(frame.messages(), 6);
        assert!(frame.payloads().eq(payloads.iter().map(|payload| &payload[..])));
        let apart: Vec<u8> = payloads.iter().flat_map(|payload| Frame::text(payload).wire().to_vec()).collect();
        assert_eq!(frame.wire(), &apart);
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = Frame::close(Some(4001), &"é".repeat(100));
        assert_eq!(frame.payload().len(), 2 + 122);
        assert!(core::str::from_utf8(&frame.payload()[2..]).is_ok());
    }
}
