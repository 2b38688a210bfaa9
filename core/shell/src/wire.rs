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
/// use roomcast_shell::wire::{Limit, Wire, WireError};
///
/// let limit = Limit { bytes: 512, fragments: 8 };
/// let mut wire = Wire::new();
/// let mut heard = Vec::new();
/// // "Hello", masked: the example of RFC 6455, section 5.7, cut in two.
/// for chunk in [&b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f"[..], &b"\x4d\x51\x58"[..]] {
///     wire.feed(&mut chunk.to_vec(), limit, &mut |message| {
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

/// What one message may be.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The bytes of its payload, at most [`MAX_LIMIT`].
    pub bytes: usize,
    /// The frames that it is made of. Those without payload count: a message might have them without end.
    pub fragments: usize,
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
    /// The bytes are unmasked in place, so the caller's buffer holds nothing of use afterwards. A message beyond
    /// `limit` fails as soon as a header announces it, before its payload is waited for; the fragments of a message count
    /// together, and control frames have their own bound. Each call may bring another limit,
    /// because what a client may send changes when it is authenticated; a header is judged by the one it came with. When
    /// `each` returns `Break`, the wire ends there: the rest is dropped.
    ///
    /// # Errors
    ///
    /// What the client did wrong, and with it the code to close with. The messages before the fault have been delivered.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        limit: Limit,
        each: &mut dyn FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<(), WireError> {
        let limit = Limit { bytes: limit.bytes.min(MAX_LIMIT), ..limit };
        let mut at = 0;
        loop {
            let rest = &mut input[at..];
            let step = match &mut self.state {
                State::Ended(outcome) => return *outcome,
                _ if rest.is_empty() => return Ok(()),
                State::Between => match Header::parse(rest, None, limit.bytes) {
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
    /// The frames it has so far.
    fragments: usize,
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
            fragments: 0,
        }
    }

    /// Whether the last byte taken ended a message, so that nothing is held.
    fn is_done(&self) -> bool {
        self.have == 0 && self.missing == 0 && self.message.is_none()
    }

    /// Takes a piece of payload, a header or a control frame from `input`, which is not empty: how many bytes it took, and
    /// whether more is wanted.
    fn feed(&mut self, input: &[u8], limit: Limit, each: Each<'_>) -> Result<(usize, ControlFlow<()>), WireError> {
        if self.missing > 0 {
            let piece = self.missing.min(input.len());
            self.missing -= piece;
            return Ok((piece, collect(&mut self.context, &input[..piece], each)?));
        }
        let before = self.have;
        let fits = input.len().min(self.held.len() - before);
        self.held[before..before + fits].copy_from_slice(&input[..fits]);
        self.have += fits;
        match Header::parse(&self.held[..self.have], self.message, limit.bytes)? {
            Some(header) if matches!(header.opcode, OpCode::Data(_)) => {
                self.fragments += 1;
                if self.fragments > limit.fragments {
                    return Err(WireError::TooManyFragments);
                }
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
    /// A message has more fragments than the limit.
    TooManyFragments,
}

impl WireError {
    /// The code to close the connection with (RFC 6455, section 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            WireError::Protocol => 1002,
            WireError::Utf8 => 1007,
            WireError::TooLarge => 1009,
            WireError::TooManyFragments => 1008,
        }
    }

    /// The fault in words, short enough for a close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            WireError::Protocol => "protocol error",
            WireError::Utf8 => "invalid UTF-8",
            WireError::TooLarge => "message too large",
            WireError::TooManyFragments => "too many fragments",
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
mod tests;
