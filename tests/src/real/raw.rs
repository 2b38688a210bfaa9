//! A client that speaks in bytes, for what no proper client does.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use super::http::{Response, parse};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The bit that says that a frame is the last of its message.
pub const FINAL: u8 = 0x80;
/// The opcodes of RFC 6455, section 5.2.
pub const CONTINUATION: u8 = 0;
/// See [`CONTINUATION`].
pub const TEXT: u8 = 1;
/// See [`CONTINUATION`].
pub const CLOSE: u8 = 8;
/// See [`CONTINUATION`].
pub const PING: u8 = 9;
/// See [`CONTINUATION`].
pub const PONG: u8 = 10;

/// A TCP connection on which HTTP answers and WebSocket frames are read one by one.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    /// Bytes that were read and not looked at yet.
    read: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// The first byte: [`FINAL`], the reserved bits and the opcode.
    pub first: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

impl RawClient {
    /// Connects, and sends nothing.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[must_use]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::connect_from(LOCALHOST, addr)
    }

    /// Connects from one of the machine's own addresses: on Linux, all that begin with 127 are.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[must_use]
    pub fn connect_from(source: Ipv4Addr, addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets left");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("it is an address of this machine");
        socket.connect_timeout(&addr.into(), PATIENCE).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("the socket is open");
        stream.set_write_timeout(Some(PATIENCE)).expect("the limit is not zero");
        Self { stream, read: Vec::new() }
    }

    /// Connects and completes the opening handshake of a WebSocket.
    ///
    /// # Panics
    ///
    /// When the server refuses it.
    #[must_use]
    pub fn upgraded(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut client = Self::connect(addr);
        client.send(&upgrade_request(path, headers));
        let answer = client.response();
        assert_eq!(answer.status, 101, "{}", answer.text());
        client
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends bytes as far as the server takes them: false once it does not.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The status of the next HTTP answer, if one comes before the connection ends.
    ///
    /// # Panics
    ///
    /// When neither comes in time.
    pub fn status(&mut self) -> Option<u16> {
        while self.read.len() < 12 {
            if !self.fill(PATIENCE) {
                return None;
            }
        }
        str::from_utf8(&self.read[9..12]).ok()?.parse().ok()
    }

    /// Reads on until the connection ends: the code of the close frame, if there was one.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn close_code(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(frame) = self.frame() {
            if frame.first == FINAL | CLOSE {
                code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                let _ = self.try_send(&masked_frame(FINAL | CLOSE, &frame.payload));
            }
        }
        code
    }

    /// The next HTTP answer, which has no body or says how long it is. What follows it stays to be read.
    ///
    /// # Panics
    ///
    /// When none comes, or it is cut.
    pub fn response(&mut self) -> Response {
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill(PATIENCE), "no answer but {:?}", String::from_utf8_lossy(&self.read));
        };
        let text = String::from_utf8_lossy(&self.read[..head]).to_ascii_lowercase();
        let announced = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = head + announced.map_or(0, |length| length.trim().parse::<usize>().expect("a length is a number"));
        while self.read.len() < length {
            assert!(self.fill(PATIENCE), "the body is cut");
        }
        let answer: Vec<u8> = self.read.drain(..length).collect();
        parse("GET", &answer, None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The next WebSocket frame, or `None` at the end of the connection.
    ///
    /// # Panics
    ///
    /// When nothing comes in time.
    pub fn frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some((frame, length)) = read_frame(&self.read) {
                self.read.drain(..length);
                return Some(frame);
            }
            if !self.fill(PATIENCE) {
                return None;
            }
        }
    }

    /// The text of the next frame that is no ping.
    ///
    /// # Panics
    ///
    /// When that is not a whole text message.
    pub fn text(&mut self) -> String {
        let mut frame = self.frame().expect("the connection is open");
        while frame.first == FINAL | PING {
            frame = self.frame().expect("the connection is open");
        }
        assert_eq!(frame.first, FINAL | TEXT, "{frame:?}");
        String::from_utf8(frame.payload).expect("text is UTF-8")
    }

    /// Whether the server closes the connection in time, and sends nothing more before that.
    pub fn is_closed(&mut self, within: Duration) -> bool {
        !self.fill(within) && self.read.is_empty()
    }

    /// Reads some more; false at the end of the connection.
    fn fill(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("the limit is not zero");
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    self.read.extend_from_slice(&buffer[..read]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came within {within:?}; unread: {:?}", String::from_utf8_lossy(&self.read));
                }
                Err(_) => return false,
            }
        }
    }
}

/// A proper opening handshake with more header fields.
#[must_use]
pub fn upgrade_request(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let proper = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    get_request(path, &[&proper, headers].concat())
}

/// A GET request with these header fields and `Host`.
#[must_use]
pub fn get_request(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nhost: gateway.example\r\n{fields}\r\n").into_bytes()
}

/// A frame as a client sends it: masked.
#[must_use]
pub fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The frame that `bytes` begin with, and its length on the wire; `None` while it is cut.
fn read_frame(bytes: &[u8]) -> Option<(RawFrame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert!(second & 0x80 == 0, "a server does not mask its frames");
    let (length, head) = match second {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let end = head + usize::try_from(length).ok()?;
    Some((RawFrame { first, payload: bytes.get(head..end)?.to_vec() }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_are_written_and_read() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut wire = masked_frame(FINAL | TEXT, &payload);
            let head = wire.len() - length - 4;
            wire[1] &= 0x7f;
            let mask: Vec<u8> = wire.drain(head..head + 4).collect();
            wire[head..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            let (frame, end) = read_frame(&wire).expect("the frame is whole");
            assert_eq!((frame.first, frame.payload.len(), end), (FINAL | TEXT, length, wire.len()));
            assert_eq!(frame.payload, payload);
            assert_eq!(read_frame(&wire[..wire.len() - 1]), None);
        }
    }
}
