//! A client's connection that never blocks.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use nix::errno::Errno;
use roomcast_tests::real::client::access_token;
use roomcast_tests::real::setup::SECRET;
use serde_json::json;
use socket2::{Domain, Protocol, Type};

use crate::frame::{self, Frame};

/// A close frame of RFC 6455, section 5.5.1.
const CLOSE: u8 = 8;

/// What has happened to a connection.
pub(crate) enum Event<'a> {
    /// It is a WebSocket now.
    Open,
    /// A text has come.
    Text(&'a [u8]),
    /// It is over, and why; it cannot be used any more.
    Lost(&'a str),
}

/// A WebSocket connection of a user, from the first packet on.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    stage: Stage,
    /// What was read and is not a whole frame yet.
    carry: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Open,
}

/// The request with which a user opens a connection.
pub(crate) fn request(user: usize) -> Vec<u8> {
    let token = access_token(SECRET, &format!("user-{user}"), &json!({"role": "admin"}));
    format!(
        "GET /ws HTTP/1.1\r\nhost: gateway.example\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

impl Socket {
    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&addr.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("a TCP socket has no delay");
        Ok(Self { stream, stage: Stage::Connecting, carry: Vec::new() })
    }

    /// Whether it waits for the peer to accept it.
    pub(crate) fn is_connecting(&self) -> bool {
        self.stage == Stage::Connecting
    }

    /// The peer has accepted or refused: asks it for a WebSocket.
    pub(crate) fn upgrade(&mut self, request: &[u8]) -> Result<(), String> {
        if let Some(error) = self.stream.take_error().expect("a socket tells its error") {
            return Err(error.kind().to_string());
        }
        self.stage = Stage::Upgrading;
        self.stream.write_all(request).map_err(|error| error.kind().to_string())
    }

    /// Sends a text: requests are small, and always fit into what the kernel takes. A connection that has just been lost takes
    /// nothing, which is told when it is read.
    pub(crate) fn send(&mut self, text: &str) {
        let mut wire = Vec::with_capacity(text.len() + 16);
        frame::push_masked(&mut wire, frame::TEXT, text.as_bytes());
        self.write(&wire);
    }

    /// Reads once what has come, and tells of it in order. Whether the connection goes on.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut Vec<u8>, mut on: impl FnMut(&mut Self, Instant, Event<'_>)) -> bool {
        let carry = std::mem::take(&mut self.carry);
        buffer[..carry.len()].copy_from_slice(&carry);
        let read = match self.stream.read(&mut buffer[carry.len()..]) {
            Ok(0) => Err("closed without a word".to_owned()),
            Ok(read) => Ok(read),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(error) => Err(error.kind().to_string()),
        };
        let now = Instant::now();
        let end = read.and_then(|read| self.understand(now, &buffer[..carry.len() + read], &mut on));
        if let Err(reason) = &end {
            on(self, now, Event::Lost(reason));
        }
        // A frame may be longer than the buffer.
        if self.carry.len() * 2 > buffer.len() {
            buffer.resize(self.carry.len() * 4, 0);
        }
        end.is_ok()
    }

    fn understand(
        &mut self,
        now: Instant,
        mut rest: &[u8],
        on: &mut impl FnMut(&mut Self, Instant, Event<'_>),
    ) -> Result<(), String> {
        if self.stage == Stage::Upgrading {
            const END: &[u8] = b"\r\n\r\n";
            if let Some(at) = rest.windows(END.len()).position(|window| window == END) {
                let (head, frames) = rest.split_at(at + END.len());
                if !head.starts_with(b"HTTP/1.1 101") {
                    return Err(String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned());
                }
                rest = frames;
                self.stage = Stage::Open;
                on(self, now, Event::Open);
            }
        }
        if self.stage == Stage::Open {
            while let Some(Frame { opcode, payload, rest: after }) = frame::split(rest) {
                rest = after;
                match opcode {
                    frame::TEXT => on(self, now, Event::Text(payload)),
                    frame::PING => {
                        let mut pong = Vec::new();
                        frame::push_masked(&mut pong, frame::PONG, payload);
                        self.write(&pong);
                    }
                    CLOSE => {
                        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                        return Err(format!("closed with {code:?}"));
                    }
                    other => return Err(format!("a frame of kind {other}")),
                }
            }
        }
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    fn write(&mut self, wire: &[u8]) {
        match self.stream.write(wire) {
            Ok(written) => assert_eq!(written, wire.len(), "the kernel takes a whole request"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the kernel takes no request"),
            Err(_) => {}
        }
    }
}
