//! WebSocket bytes in, messages out (RFC 6455, sections 5 to 7).
//!
//! Nearly every frame a client sends lies whole in what one read of its socket returns. Such a frame is unmasked where it
//! lies and handed on without a copy. Only a data frame that was cut, or a message sent in fragments, needs memory that
//! outlives the read: tungstenite collects it, in a box that is gone when the message is. So a connection that is open and
//! silent holds no buffer at all.
//!
//! A [`Wire`] decodes only. What a server sends is not masked and was encoded once, by
//! [`Frame`](roomcast_core::frame::Frame); pings and closes are answered by the hub, in the order of its other frames.

use core::fmt;
use core::ops::ControlFlow;
use std::io::{self, Cursor, Read, Write};

use roomcast_core::frame::Message;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// The longest message any limit can allow. A header alone makes the decoder reserve what it announces, so even an
/// embedder who asks for "no limit" gets one.
pub const MAX_LIMIT: usize = 64 << 20;

/// The longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL: usize = 125;

/// The longest header: two bytes, a length of eight and a mask of four (RFC 6455, section 5.2).
const MAX_HEADER: usize = 14;

/// What a cut message reads at a time, and the least it allocates.
const PARTIAL_BUFFER: usize = 512;

/// The receiving half of one client's WebSocket, after the handshake.
///
/// Any split of the same bytes gives the same messages and the same result, and no input makes it panic. A result is
/// final: after a close, an error or a `Break` nothing more is delivered, and further calls return the same.
///
/// ```
/// use std::ops::ControlFlow;
/// use roomcast_core::frame::Message;
/// use roomcast_shell::wire::{Wire, WireError};
///
/// let mut wire = Wire::new();
/// let mut heard = Vec::new();
/// // "Hello", masked: the example of RFC 6455, section 5.7, cut in two.
/// for chunk in [&b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f"[..], &b"\x4d\x51\x58"[..]] {
///     wire.feed(&mut chunk.to_vec(), 512, &mut |message| {
///         if let Message::Text(text) = message {
///             heard.push(text.to_owned());
///         }
///         ControlFlow::Continue(())
///     })?;
/// }
/// assert_eq!(heard, ["Hello"]);
/// # Ok::<(), WireError>(())
/// ```
#[derive(Debug, Default)]
pub struct Wire {
    state: State,
}

/// Who hears of messages: the closure of [`Wire::feed`].
type Each<'a> = &'a mut dyn FnMut(Message<'_>) -> ControlFlow<()>;

#[derive(Debug, Default)]
enum State {
    /// Between two messages, with nothing held: where an idle connection rests.
    #[default]
    Between,
    /// Inside a frame that was cut or a message in fragments.
    Within(Box<Partial>),
    /// No more is delivered, and this is what every further call returns.
    Ended(Result<(), WireError>),
}

impl Wire {
    /// A wire on which nothing has arrived yet.
    pub fn new() -> Wire {
        Wire::default()
    }

    /// Whether it has ended in an error, which every further call returns.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Ended(Err(_)))
    }

    /// Takes the next bytes from the socket and calls `each` for every message and control frame that they complete, in order.
    ///
    /// The bytes are unmasked in place, so the caller's buffer holds nothing of use afterwards. A message longer than
    /// `limit` bytes (at most [`MAX_LIMIT`]) fails as soon as a header announces it, before its payload is waited for; the
    /// fragments of a message count together, and control frames have their own bound. Each call may bring another limit,
    /// because what a client may send changes when it is authenticated; a header is judged by the one it came with. When
    /// `each` returns `Break`, the wire ends there: the rest is dropped.
    ///
    /// # Errors
    ///
    /// What the client did wrong, and with it the code to close with. The messages before the fault have been delivered.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        limit: usize,
        each: &mut dyn FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<(), WireError> {
        let limit = limit.min(MAX_LIMIT);
        let mut at = 0;
        loop {
            let rest = &mut input[at..];
            let step = match &mut self.state {
                State::Ended(outcome) => return *outcome,
                _ if rest.is_empty() => return Ok(()),
                State::Between => match Header::parse(rest, None, limit) {
                    Ok(Some(header)) if header.is_final && header.end() <= rest.len() => {
                        header.deliver(rest, each).map(|flow| (header.end(), flow))
                    }
                    Ok(_) => {
                        self.state = State::Within(Box::new(Partial::new()));
                        continue;
                    }
                    Err(error) => Err(error),
                },
                State::Within(partial) => {
                    let step = partial.feed(rest, limit, each);
                    if partial.is_done() {
                        self.state = State::Between;
                    }
                    step
                }
            };
            match step {
                Ok((taken, ControlFlow::Continue(()))) => at += taken,
                Ok((_, ControlFlow::Break(()))) => self.state = State::Ended(Ok(())),
                Err(error) => self.state = State::Ended(Err(error)),
            }
        }
    }
}

/// The header of a frame that is legal where it stands.
struct Header {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    /// Bytes of the header itself.
    size: usize,
    /// Bytes of the payload.
    len: usize,
}

impl Header {
    /// Reads a header, or `None` while it is cut. `message` is the length so far of the fragmented message that is open.
    ///
    /// tungstenite judges most of this when the payload is there. Here it is judged at once, so that nobody waits for, and
    /// holds, the payload of a frame that is refused anyhow, and both ways through this file judge alike.
    fn parse(bytes: &[u8], message: Option<usize>, limit: usize) -> Result<Option<Header>, WireError> {
        let mut cursor = Cursor::new(bytes);
        let Some((header, len)) = FrameHeader::parse(&mut cursor).map_err(fault)? else {
            return Ok(None);
        };
        let room = match (header.opcode, message) {
            (OpCode::Control(_), _) if !header.is_final || len > MAX_CONTROL as u64 => return Err(WireError::Protocol),
            (OpCode::Control(_), _) => MAX_CONTROL,
            (OpCode::Data(Data::Continue), Some(length)) => limit.saturating_sub(length),
            (OpCode::Data(Data::Text | Data::Binary), None) => limit,
            (OpCode::Data(_), _) => return Err(WireError::Protocol),
        };
        // Nothing gives the reserved bits a meaning here (section 5.2), and a client must mask (section 5.1).
        let (false, Some(mask)) = (header.rsv1 || header.rsv2 || header.rsv3, header.mask) else {
            return Err(WireError::Protocol);
        };
        let len = usize::try_from(len).ok().filter(|&len| len <= room).ok_or(WireError::TooLarge)?;
        Ok(Some(Header { opcode: header.opcode, is_final: header.is_final, mask, size: cursor.position() as usize, len }))
    }

    /// Where the frame ends, counted from its first byte.
    fn end(&self) -> usize {
        self.size + self.len
    }

    /// Unmasks and hands on the whole frame that `bytes` begin with. `Break` after a close, or when `each` says so.
    fn deliver(&self, bytes: &mut [u8], each: Each<'_>) -> Result<ControlFlow<()>, WireError> {
        let payload = &mut bytes[self.size..self.end()];
        unmask(payload, self.mask);
        let message = match self.opcode {
            OpCode::Data(Data::Text) => Message::Text(core::str::from_utf8(payload).map_err(|_| WireError::Utf8)?),
            OpCode::Data(_) => Message::Binary(payload),
            OpCode::Control(Control::Ping) => Message::Ping(payload),
            OpCode::Control(Control::Pong) => Message::Pong,
            OpCode::Control(_) => Message::Close(close_code(payload)?),
        };
        let closed = matches!(message, Message::Close(_));
        let flow = each(message);
        Ok(if closed { ControlFlow::Break(()) } else { flow })
    }
}

/// Takes the mask off, a word at a time, which the compiler widens further (RFC 6455, section 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// Reads a close frame: nothing, or a code that may be sent and a reason in UTF-8 (RFC 6455, sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, WireError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(WireError::Protocol) };
    };
    core::str::from_utf8(reason).map_err(|_| WireError::Utf8)?;
    let code = u16::from_be_bytes(*code);
    if CloseCode::from(code).is_allowed() { Ok(Some(code)) } else { Err(WireError::Protocol) }
}

/// A message under way: a frame that was cut, or fragments with control frames between them.
///
/// tungstenite is given data frames only, and never more than one of them at a time. Control frames are small enough to be
/// held here until they are whole, which also keeps apart what tungstenite does not: it reports an illegal close code as if
/// the client had sent 1002.
#[derive(Debug)]
struct Partial {
    context: WebSocketContext,
    /// The beginning of a header or of a control frame.
    held: [u8; MAX_HEADER + MAX_CONTROL],
    /// How many bytes of `held` are filled.
    have: usize,
    /// Payload bytes of the current data frame that are still to come.
    missing: usize,
    /// The length announced so far by the fragments of an open message.
    message: Option<usize>,
}

impl Partial {
    fn new() -> Partial {
        // Limits are judged by `Header::parse`, which knows more and sooner.
        let config = WebSocketConfig::default()
            .read_buffer_size(PARTIAL_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(None)
            .max_message_size(None);
        Partial {
            context: WebSocketContext::new(Role::Server, Some(config)),
            held: [0; MAX_HEADER + MAX_CONTROL],
            have: 0,
            missing: 0,
            message: None,
        }
    }

    /// Whether the last byte taken ended a message, so that nothing is held.
    fn is_done(&self) -> bool {
        self.have == 0 && self.missing == 0 && self.message.is_none()
    }

    /// Takes a piece of payload, a header or a control frame from `input`, which is not empty: how many bytes it took, and
    /// whether more is wanted.
    fn feed(&mut self, input: &[u8], limit: usize, each: Each<'_>) -> Result<(usize, ControlFlow<()>), WireError> {
        if self.missing > 0 {
            let piece = self.missing.min(input.len());
            self.missing -= piece;
            return Ok((piece, collect(&mut self.context, &input[..piece], each)?));
        }
        let before = self.have;
        let fits = input.len().min(self.held.len() - before);
        self.held[before..before + fits].copy_from_slice(&input[..fits]);
        self.have += fits;
        match Header::parse(&self.held[..self.have], self.message, limit)? {
            Some(header) if matches!(header.opcode, OpCode::Data(_)) => {
                self.have = 0;
                self.missing = header.len;
                // `Header::parse` keeps the sum within MAX_LIMIT.
                self.message = (!header.is_final).then_some(self.message.unwrap_or(0) + header.len);
                Ok((header.size - before, collect(&mut self.context, &self.held[..header.size], each)?))
            }
            Some(header) if header.end() <= self.have => {
                self.have = 0;
                Ok((header.end() - before, header.deliver(&mut self.held, each)?))
            }
            _ => Ok((fits, ControlFlow::Continue(()))),
        }
    }
}

/// Passes bytes of one data frame to tungstenite, and on what message they complete.
fn collect(context: &mut WebSocketContext, bytes: &[u8], each: Each<'_>) -> Result<ControlFlow<()>, WireError> {
    match context.read(&mut Pipe(bytes)) {
        Ok(tungstenite::Message::Text(text)) => Ok(each(Message::Text(&text))),
        Ok(tungstenite::Message::Binary(data)) => Ok(each(Message::Binary(&data))),
        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(ControlFlow::Continue(())),
        Ok(_) => Err(WireError::Protocol),
        Err(error) => Err(fault(error)),
    }
}

/// The bytes at hand, as the stream tungstenite wants. They may end anywhere, which is no end of the stream.
struct Pipe<'a>(&'a [u8]);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
    }
}

/// tungstenite answers pings and closes, of which it sees none here; the hub answers them.
impl Write for Pipe<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client did wrong. Only a peer causes these, so they end its connection and nothing else.
///
/// ```
/// use roomcast_shell::wire::WireError;
///
/// assert_eq!(WireError::Utf8.close_code(), 1007);
/// assert_eq!(WireError::TooLarge.to_string(), "message too large");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes are no legal WebSocket frames.
    Protocol,
    /// A text message, or the reason of a close, is not UTF-8.
    Utf8,
    /// A message is, or announces that it will be, longer than the limit.
    TooLarge,
}

impl WireError {
    /// The code to close the connection with (RFC 6455, section 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            WireError::Protocol => 1002,
            WireError::Utf8 => 1007,
            WireError::TooLarge => 1009,
        }
    }

    /// The fault in words, short enough for a close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            WireError::Protocol => "protocol error",
            WireError::Utf8 => "invalid UTF-8",
            WireError::TooLarge => "message too large",
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for WireError {}

/// tungstenite's errors, as the close codes tell them apart.
fn fault(error: tungstenite::Error) -> WireError {
    match error {
        tungstenite::Error::Utf8(_) => WireError::Utf8,
        tungstenite::Error::Capacity(_) => WireError::TooLarge,
        _ => WireError::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::weighted;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use roomcast_core::frame::Frame;
    use tungstenite::Message as Theirs;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    const LIMIT: usize = 600;

    /// The messages of some chunks, printed, and how they end.
    fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> (Vec<String>, Result<(), WireError>) {
        let (mut wire, mut heard, mut result) = (Wire::new(), Vec::new(), Ok(()));
        for chunk in chunks {
            result = wire.feed(&mut chunk.to_vec(), limit, &mut |message| {
                heard.push(format!("{message:?}"));
                ControlFlow::Continue(())
            });
        }
        (heard, result)
    }

    /// Both ways through the file: at once, and byte by byte.
    fn both(bytes: &[u8]) -> (Vec<String>, Result<(), WireError>) {
        let whole = run([bytes], LIMIT);
        assert_eq!(run(bytes.chunks(1), LIMIT), whole);
        whole
    }

    /// What a client would send for a frame of the core: the same, masked.
    fn masked(frame: &Frame, mask: [u8; 4]) -> Vec<u8> {
        let (header, payload) = frame.wire().split_at(frame.len() - frame.payload().len());
        let mut bytes = [header, &mask].concat();
        bytes[1] |= 0x80;
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Any frame of a client, by its first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = masked(&Frame::binary(payload), MASK);
        bytes[0] = first;
        bytes
    }

    #[test]
    fn an_idle_wire_holds_nothing() {
        assert!(size_of::<Wire>() <= 24);
        let mut wire = Wire::new();
        let mut bytes = [frame(0x81, b"whole"), frame(0x01, b"in "), frame(0x80, b"two")].concat();
        let (first, last) = bytes.split_at_mut(12);
        wire.feed(first, LIMIT, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(matches!(wire.state, State::Within(_)));
        wire.feed(last, LIMIT, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(matches!(wire.state, State::Between));
    }

    #[test]
    fn frames_may_be_unusual_and_legal() {
        let bytes = [frame(0x01, b"a"), frame(0x89, b"?"), frame(0x00, b""), frame(0x8a, b"!"), frame(0x80, b"b")];
        assert_eq!(both(&bytes.concat()).0, ["Ping([63])", "Pong", "Text(\"ab\")"]);
        let longest = [&[0x89, 0xff, 0, 0, 0, 0, 0, 0, 0, 125], &frame(0x89, &[7; 125])[2..]].concat();
        assert_eq!(both(&longest), (vec![format!("Ping({:?})", [7; 125])], Ok(())));
    }

    #[test]
    fn a_fault_is_told_as_soon_as_the_header_is_there() {
        let announced = |first: u8, second: u8, length: &[u8]| [&[first, second], length, &MASK].concat();
        let faults = [
            (announced(0x82, 0xff, &u64::MAX.to_be_bytes()), WireError::TooLarge),
            (announced(0x81, 0xfe, &601u16.to_be_bytes()), WireError::TooLarge),
            ([frame(0x02, &[0; 300]), frame(0x00, &[0; 300]), announced(0x00, 0x81, b"")].concat(), WireError::TooLarge),
            (announced(0x89, 0xfe, &126u16.to_be_bytes()), WireError::Protocol),
            (vec![0x81, 0x05], WireError::Protocol),
            ([frame(0x01, b"a"), announced(0x81, 0x85, b"")].concat(), WireError::Protocol),
            ([frame(0x01, b"\xc3"), frame(0x00, b"\xa9"), frame(0x00, b"\xff")].concat(), WireError::Utf8),
            (frame(0x81, b"\xed\xa0\x80"), WireError::Utf8),
        ];
        for (bytes, error) in faults {
            assert_eq!(both(&bytes).1, Err(error), "{bytes:x?}");
        }
        for first in [0xc1, 0xa1, 0x91, 0x83, 0x80, 0x09, 0x8b] {
            assert_eq!(both(&announced(first, 0x85, b"")), (vec![], Err(WireError::Protocol)), "{first:x}");
        }
        assert_eq!(both(&frame(0x82, &[0; LIMIT])).1, Ok(()));
        assert_eq!(run([&announced(0x82, 0xff, &(1u64 << 62).to_be_bytes())[..]], usize::MAX).1, Err(WireError::TooLarge));
    }

    #[test]
    fn closes_are_legal_or_errors() {
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1013, 3000, 4001, 4999] {
            let bytes = frame(0x88, &[&u16::to_be_bytes(code)[..], "später".as_bytes()].concat());
            assert_eq!(both(&bytes), (vec![format!("Close(Some({code}))")], Ok(())));
        }
        for code in [0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 5000, 65535] {
            assert_eq!(both(&frame(0x88, &u16::to_be_bytes(code))), (vec![], Err(WireError::Protocol)));
        }
        assert_eq!(both(&frame(0x88, b"")), (vec!["Close(None)".to_owned()], Ok(())));
        assert_eq!(both(&frame(0x88, b"\x03")).1, Err(WireError::Protocol));
        assert_eq!(both(&frame(0x88, b"\x03\xe8\xff")).1, Err(WireError::Utf8));
    }

    #[test]
    fn nothing_follows_an_end() {
        let after_close = [frame(0x01, b"a"), frame(0x88, b""), frame(0x80, b"b"), frame(0xff, b"")];
        assert_eq!(both(&after_close.concat()), (vec!["Close(None)".to_owned()], Ok(())));
        let (mut wire, mut count) = (Wire::new(), 0);
        for _ in 0..2 {
            let mut bytes = [frame(0x81, b"a"), frame(0x81, b"b")].concat();
            let result = wire.feed(&mut bytes, LIMIT, &mut |_| {
                count += 1;
                ControlFlow::Break(())
            });
            assert_eq!((result, count), (Ok(()), 1));
        }
        let mut wire = Wire::new();
        for mut bytes in [frame(0xff, b""), vec![], frame(0x81, b"a")] {
            assert_eq!(wire.feed(&mut bytes, LIMIT, &mut |_| unreachable!()), Err(WireError::Protocol));
        }
    }

    /// What plain tungstenite makes of the bytes: its messages, and its result unless it waits for more.
    fn oracle(bytes: &[u8]) -> (Vec<String>, Option<Result<(), WireError>>) {
        let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
        let mut context = WebSocketContext::new(Role::Server, Some(config));
        let (mut pipe, mut heard) = (Pipe(bytes), Vec::new());
        loop {
            let theirs = match context.read(&mut pipe) {
                Ok(Theirs::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                    return (heard, Some(Err(WireError::Protocol)));
                }
                Ok(message) => message,
                Err(tungstenite::Error::Io(_)) => return (heard, None),
                Err(error) => return (heard, Some(Err(fault(error)))),
            };
            let message = match &theirs {
                Theirs::Text(text) => Message::Text(text),
                Theirs::Binary(data) => Message::Binary(data),
                Theirs::Ping(data) => Message::Ping(data),
                Theirs::Pong(_) => Message::Pong,
                Theirs::Close(close) => Message::Close(close.as_ref().map(|close| close.code.into())),
                Theirs::Frame(_) => unreachable!(),
            };
            heard.push(format!("{message:?}"));
            if theirs.is_close() {
                return (heard, Some(Ok(())));
            }
        }
    }

    /// A few frames, most of them legal in their place.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop_oneof![
            4 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..130),
            1 => vec(Just(b'x'), 0..700),
        ];
        let code = prop_oneof![3 => 1000u16..1004, 1 => any::<u16>()].prop_map(u16::to_be_bytes);
        let piece = prop_oneof![
            6 => payload.clone().prop_map(|text| frame(0x81, &text)),
            3 => payload.clone().prop_map(|data| frame(0x82, &data)),
            // A text in fragments, cut anywhere, with a control frame inside.
            4 => (payload, any::<Index>(), 0x89..0x8bu8).prop_map(|(text, at, control)| {
                let (head, tail) = text.split_at(at.index(text.len() + 1));
                [frame(0x01, head), frame(control, b"beat"), frame(0x00, tail), frame(0x80, b"")].concat()
            }),
            2 => (0x89..0x8bu8, vec(any::<u8>(), 0..130)).prop_map(|(first, data)| frame(first, &data)),
            1 => (code, "[a-zé]{0,20}").prop_map(|(code, reason)| frame(0x88, &[&code, reason.as_bytes()].concat())),
            1 => any::<u8>().prop_map(|first| frame(first, b"odd")),
        ];
        vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    /// The same, with some bytes overwritten or cut off.
    fn corrupted() -> impl Strategy<Value = Vec<u8>> {
        let damage = vec((any::<Index>(), any::<u8>()), 0..3);
        (frames(), damage, weighted(0.2, any::<Index>())).prop_map(|(mut bytes, damage, cut)| {
            for (at, byte) in damage {
                let at = at.index(bytes.len() + 1);
                bytes[at..].iter_mut().take(1).for_each(|old| *old = byte);
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len() + 1)));
            bytes
        })
    }

    proptest! {
        #[test]
        fn splits_change_nothing(
            bytes in corrupted(), cuts in vec(any::<Index>(), 0..12), limit in prop_oneof![0..LIMIT, any::<usize>()]
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let whole = run([&bytes[..]], limit);
            prop_assert_eq!(&run(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]), limit), &whole);
            prop_assert_eq!(&run(bytes.chunks(1), limit), &whole);
        }

        #[test]
        fn tungstenite_agrees(bytes in corrupted()) {
            let (heard, result) = run([&bytes[..]], LIMIT);
            let (mut messages, mut end) = oracle(&bytes);
            if end.is_none() && result.is_err() {
                // tungstenite judges a frame when it is whole, the wire when its header is: complete it.
                (messages, end) = oracle(&[&bytes[..], &[0; LIMIT]].concat());
            }
            prop_assert_eq!(heard, messages);
            // But its length it judges before anything else about it.
            let excused = result == Err(WireError::Protocol) && end == Some(Err(WireError::TooLarge));
            prop_assert!(excused || result == end.unwrap_or(Ok(())), "{result:?}, {end:?}");
        }

        #[test]
        fn what_core_encodes_is_read_back(text in "\\PC{0,200}", data in vec(any::<u8>(), 0..70_000), mask: [u8; 4]) {
            let beat = &data[..data.len().min(125)];
            let exchange = [
                (Frame::text(text.as_bytes()), Message::Text(&text)),
                (Frame::binary(&data), Message::Binary(&data)),
                (Frame::ping(), Message::Ping(b"")),
                (Frame::pong(beat), Message::Pong),
                (Frame::close(Some(4001), &text), Message::Close(Some(4001))),
            ];
            let mut bytes: Vec<u8> = exchange.iter().flat_map(|(frame, _)| masked(frame, mask)).collect();
            let mut expected = exchange.iter().map(|(_, message)| message);
            let result = Wire::new().feed(&mut bytes, MAX_LIMIT, &mut |message| {
                assert_eq!(Some(&message), expected.next());
                ControlFlow::Continue(())
            });
            prop_assert_eq!((result, expected.next()), (Ok(()), None));
        }
    }
}
