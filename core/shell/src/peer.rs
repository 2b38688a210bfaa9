//! What a client's bytes mean, from the first one: a request, then WebSocket frames.
//!
//! A driver that serves nothing but WebSockets reads a socket and feeds a [`Peer`]; what that hears goes to the hub. The other
//! way is the hub's outbox alone, which begins with the answer to the request.

use core::mem;
use core::ops::ControlFlow;

use bytes::Bytes;
use http::Request;
use roomcast_core::hub::Hub;
use roomcast_core::id::ConnId;
use roomcast_core::time::Time;

use crate::handshake::{self, HeadBuffer, Refusal};
use crate::wire::Wire;

/// The receiving half of one client, from the first byte of its socket.
///
/// ```
/// use std::sync::Arc;
/// use roomcast_core::config::{Config, Route};
/// use roomcast_core::hub::Hub;
/// use roomcast_core::id::ShardId;
/// use roomcast_core::time::Time;
/// use roomcast_shell::peer::{Heard, Peer};
///
/// let config = Config { routes: vec![Route::echo("/")], ..Config::default() };
/// let mut hub = Hub::new(Arc::new(config), ShardId(0), [7; 32]).unwrap();
/// let mut peer = Peer::new();
/// let mut request = *b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
///     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// let Heard::Opened(conn) = peer.feed(Time::ZERO, &mut hub, &mut request) else { panic!() };
/// assert!(hub.outbox(conn).unwrap().pieces().next().unwrap().starts_with(b"HTTP/1.1 101 "));
/// ```
#[derive(Debug, Default)]
pub struct Peer {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The request is not complete.
    Head(HeadBuffer),
    Open(ConnId, Wire),
    /// The input has ended in a protocol error: what still comes is not looked at.
    Deaf(ConnId),
}

/// What concerns a driver of the bytes it fed.
#[derive(Debug)]
pub enum Heard {
    /// Nothing does.
    Nothing,
    /// The connection is open, and frames that came with its request have reached the hub.
    Opened(ConnId),
    /// The request is for no WebSocket. The bytes are all that were fed: its head, and what came behind.
    Http(Box<Request<()>>, Vec<u8>),
    /// The request cannot be served: the answer is to be written, then the socket dropped.
    Refused(Bytes),
}

impl Peer {
    /// A client that has sent nothing yet.
    pub fn new() -> Peer {
        Peer::default()
    }

    /// The connection, once it is open.
    pub fn conn(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Head(_) => None,
            Stage::Open(conn, _) | Stage::Deaf(conn) => Some(conn),
        }
    }

    /// Takes the next bytes of the socket, in any pieces, and tells the hub of what they complete. They are unmasked in place.
    pub fn feed(&mut self, now: Time, hub: &mut Hub, bytes: &mut [u8]) -> Heard {
        match &mut self.stage {
            Stage::Head(head) => match head.feed(bytes) {
                Ok(None) => Heard::Nothing,
                Ok(Some((request, length))) => {
                    let read = mem::take(head).into_bytes();
                    self.open(now, hub, request, read, length).unwrap_or_else(Heard::Refused)
                }
                Err(error) => Heard::Refused(handshake::refuse(error.status(), &error.to_string())),
            },
            Stage::Open(conn, wire) => {
                let conn = *conn;
                let heard = wire.feed(bytes, hub.message_limit(conn), &mut |message| {
                    hub.receive(now, conn, message);
                    ControlFlow::Continue(())
                });
                if let Err(error) = heard {
                    self.stage = Stage::Deaf(conn);
                    hub.fail(now, conn, error.close_code(), error.reason());
                }
                Heard::Nothing
            }
            Stage::Deaf(_) => Heard::Nothing,
        }
    }

    /// The request is complete. The error is the answer to one that is refused.
    fn open(&mut self, now: Time, hub: &mut Hub, request: Request<()>, mut read: Vec<u8>, head: usize) -> Result<Heard, Bytes> {
        if !handshake::is_upgrade(&request) {
            return Ok(Heard::Http(Box::new(request), read));
        }
        handshake::check_upgrade(&request).map_err(Refusal::to_response)?;
        let opened = hub.open(now, &request).map_err(|refused| handshake::refuse(refused.status, refused.message))?;
        hub.preface(opened.conn, handshake::accept(&request, opened.protocol.as_deref()));
        self.stage = Stage::Open(opened.conn, Wire::new());
        self.feed(now, hub, &mut read[head..]);
        Ok(Heard::Opened(opened.conn))
    }
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::Head(HeadBuffer::new())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roomcast_core::config::{Config, Route};
    use roomcast_core::id::ShardId;

    use super::*;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn hub() -> Hub {
        let config = Config { routes: vec![Route::echo("/")], ..Config::default() };
        Hub::new(Arc::new(config), ShardId(0), [7; 32]).unwrap()
    }

    /// What waits for the one connection behind the answer to its request.
    fn frames(hub: &Hub, conn: ConnId) -> Vec<u8> {
        hub.outbox(conn).unwrap().pieces().skip(1).collect::<Vec<_>>().concat()
    }

    #[test]
    fn pieces_of_any_size_open_the_connection_and_reach_the_hub() {
        // A text message "Hello", then a frame that is not masked, and after it what must not be heard.
        let bytes = [REQUEST.as_bytes(), b"\x81\x85\0\0\0\0Hello", b"\x81\x01x", b"\x81\x85\0\0\0\0Hello"].concat();
        for piece in 1..=bytes.len() {
            let (mut hub, mut peer, mut opened) = (hub(), Peer::new(), Vec::new());
            for piece in bytes.clone().chunks_mut(piece) {
                match peer.feed(Time::ZERO, &mut hub, piece) {
                    Heard::Opened(conn) => opened.push(conn),
                    Heard::Nothing => {}
                    other => panic!("{other:?}"),
                }
            }
            let [conn] = opened[..] else { panic!("{opened:?}") };
            assert_eq!(peer.conn(), Some(conn));
            assert_eq!(frames(&hub, conn), b"\x81\x05Hello\x88\x10\x03\xeaprotocol error", "in pieces of {piece}");
        }
    }

    #[test]
    fn what_opens_nothing_is_told_to_the_driver() {
        let feed = |text: &str| Peer::new().feed(Time::ZERO, &mut hub(), &mut text.to_owned().into_bytes());
        let plain = "GET /healthz HTTP/1.1\r\nHost: a.example\r\n\r\nbody";
        let Heard::Http(request, read) = feed(plain) else { panic!() };
        assert_eq!((request.uri().path(), &read[..]), ("/healthz", plain.as_bytes()));
        for (from, to, status) in [("Version: 13", "Version: 8", "426"), ("GET / ", "GET /x ", "404"), ("GET", "\0", "400")] {
            let Heard::Refused(answer) = feed(&REQUEST.replacen(from, to, 1)) else { panic!("{to}") };
            assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{to}");
        }
    }
}
