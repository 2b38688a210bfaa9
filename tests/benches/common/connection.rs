//! A client's WebSocket connection, and waiting for many of them.

use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::access_token;
use serde_json::json;

use crate::frame::{self, Frame};
use crate::line::Line;
use crate::room::Member;

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
    pub(crate) line: Line,
}

impl Connection {
    /// Waits for the next text: for the setup, where time does not matter.
    pub(crate) fn next_text(&mut self) -> String {
        self.line.take(|bytes| {
            let Frame { payload, rest, .. } = frame::split(bytes)?;
            Some((String::from_utf8_lossy(payload).into_owned(), rest))
        })
    }

    /// Writes frames.
    #[inline]
    pub(crate) fn send(&mut self, frames: &[u8]) {
        self.line.send(frames);
    }

    fn start(addr: SocketAddr, path: &str, secret: Option<&str>, user: usize) -> Self {
        let mut line = Line::connect(addr, user);
        let authorization = secret.map_or_else(String::new, |secret| {
            let token = access_token(secret, &format!("user-{user}"), &json!({"role": "admin"}));
            format!("authorization: Bearer {token}\r\n")
        });
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
        );
        line.send(request.as_bytes());
        Self { line }
    }

    fn finish_handshake(&mut self) {
        const END: &[u8] = b"\r\n\r\n";
        let answer = self.line.take(|bytes| {
            let at = bytes.windows(END.len()).position(|window| window == END)?;
            let (head, rest) = bytes.split_at(at + END.len());
            Some((String::from_utf8_lossy(head).into_owned(), rest))
        });
        assert!(answer.starts_with("HTTP/1.1 101"), "the handshake is refused: {answer}");
    }
}

impl Member for Connection {
    fn line(&self) -> &Line {
        &self.line
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8], mut on_text: impl FnMut(Instant, &[u8])) {
        let filled = self.line.read(buffer);
        let now = Instant::now();
        let mut rest = &buffer[..filled];
        while let Some(Frame { opcode, payload, rest: after }) = frame::split(rest) {
            rest = after;
            match opcode {
                frame::TEXT => on_text(now, payload),
                frame::PING => {
                    let mut pong = Vec::new();
                    frame::push_masked(&mut pong, frame::PONG, payload);
                    self.send(&pong);
                }
                other => panic!("connection {} gets a frame of kind {other}", self.line.user()),
            }
        }
        self.line.keep(rest);
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
