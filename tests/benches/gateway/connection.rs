//! A client's connection, and waiting for many of them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use serde_json::json;

use crate::frame::{self, Frame};

/// Connections that take a step of their setup together: quick, and within the backlog of any listener.
pub(crate) const TOGETHER: usize = 100;

/// Connects many. With a secret each is a user of its own, else they are anonymous.
pub(crate) fn connect(addr: SocketAddr, path: &str, secret: Option<&str>, users: Range<usize>) -> Vec<Connection> {
    let mut connections = Vec::with_capacity(users.len());
    let users: Vec<usize> = users.collect();
    for group in users.chunks(TOGETHER) {
        let first = connections.len();
        connections.extend(group.iter().map(|user| Connection::start(addr, path, secret, *user)));
        for connection in &mut connections[first..] {
            connection.finish_handshake();
        }
    }
    connections
}

/// A WebSocket connection.
pub(crate) struct Connection {
    /// Blocks, for no longer than patience lasts.
    pub(crate) stream: TcpStream,
    user: usize,
    /// What was read and is not a whole frame yet.
    carry: Vec<u8>,
}

impl Connection {
    /// Reads once what has come, and hands over each whole text with the time of the read.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut [u8], mut on_text: impl FnMut(Instant, &[u8])) {
        let carried = self.carry.len();
        buffer[..carried].copy_from_slice(&self.carry);
        let read = self.stream.read(&mut buffer[carried..]);
        let read = read.unwrap_or_else(|error| panic!("connection {} is lost: {error}", self.user));
        assert!(read > 0, "the server closed connection {}", self.user);

        let now = Instant::now();
        let mut rest = &buffer[..carried + read];
        while let Some(Frame { opcode, payload, rest: after }) = frame::split(rest) {
            rest = after;
            match opcode {
                frame::TEXT => on_text(now, payload),
                frame::PING => {
                    let mut pong = Vec::new();
                    frame::push_masked(&mut pong, frame::PONG, payload);
                    self.send(&pong);
                }
                other => panic!("connection {} gets a frame of kind {other}", self.user),
            }
        }
        if !(rest.is_empty() && carried == 0) {
            self.carry.clear();
            self.carry.extend_from_slice(rest);
        }
    }

    /// Waits for the next text: for the setup, where time does not matter.
    pub(crate) fn next_text(&mut self) -> String {
        loop {
            if let Some(Frame { payload, rest, .. }) = frame::split(&self.carry) {
                let text = String::from_utf8_lossy(payload).into_owned();
                self.carry = rest.to_vec();
                return text;
            }
            self.read_more();
        }
    }

    /// Writes frames.
    #[inline]
    pub(crate) fn send(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).unwrap_or_else(|error| panic!("connection {} cannot send: {error}", self.user));
    }

    /// # Panics
    ///
    /// When half a frame has come.
    pub(crate) fn check_nothing_is_left(&self) {
        assert!(self.carry.is_empty(), "half a frame is left at connection {}", self.user);
    }

    fn start(addr: SocketAddr, path: &str, secret: Option<&str>, user: usize) -> Self {
        let mut stream =
            TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        stream.set_nodelay(true).expect("a TCP socket has no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("the limit is not zero");
        let authorization = secret.map_or_else(String::new, |secret| {
            let token = access_token(secret, &format!("user-{user}"), &json!({"role": "admin"}));
            format!("authorization: Bearer {token}\r\n")
        });
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the server reads");
        Self { stream, user, carry: Vec::new() }
    }

    fn finish_handshake(&mut self) {
        const END: &[u8] = b"\r\n\r\n";
        let head = loop {
            if let Some(at) = self.carry.windows(END.len()).position(|window| window == END) {
                break at + END.len();
            }
            self.read_more();
        };
        let answer = String::from_utf8_lossy(&self.carry[..head]);
        assert!(answer.starts_with("HTTP/1.1 101"), "the handshake is refused: {answer}");
        // What is left may be nothing, and then should keep no memory.
        self.carry = self.carry[head..].to_vec();
    }

    fn read_more(&mut self) {
        let mut bytes = [0; 4096];
        let read = self
            .stream
            .read(&mut bytes)
            .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&self.carry)));
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.carry));
        self.carry.extend_from_slice(&bytes[..read]);
    }
}

/// Lets [`wait`] report this token when there is something to read.
pub(crate) fn watch(epoll: &Epoll, stream: &TcpStream, token: u64) {
    epoll.add(stream, EpollEvent::new(EpollFlags::EPOLLIN, token)).expect("a socket can be watched");
}

/// Waits until something can be read, and returns how many events there are; `None` when patience is at its end.
pub(crate) fn wait(epoll: &Epoll, events: &mut [EpollEvent]) -> Option<usize> {
    let limit = EpollTimeout::try_from(PATIENCE).expect("the limit fits");
    match epoll.wait(events, limit) {
        Ok(0) => None,
        Err(Errno::EINTR) => Some(0),
        ready => Some(ready.expect("epoll works")),
    }
}
