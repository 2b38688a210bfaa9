//! The WebSocket of one of a hub's connections: from the request to the frames.

use core::ops::ControlFlow;

use bytes::Bytes;
use http::Request;
use roomcast_core::hub::Hub;
use roomcast_core::id::ConnId;
use roomcast_core::time::Time;

use crate::handshake::{self, Refusal};
use crate::wire::{Limit, Wire};

/// The receiving half of one client. The other half is the hub's outbox alone, which begins with the answer to the request.
///
/// ```
/// use std::sync::Arc;
/// use roomcast_core::config::{Config, Route};
/// use roomcast_core::hub::Hub;
/// use roomcast_core::id::ShardId;
/// use roomcast_core::time::Time;
/// use roomcast_shell::peer::Peer;
///
/// let config = Config { routes: vec![Route::echo("/")], ..Config::default() };
/// let mut hub = Hub::new(Arc::new(config), ShardId(0), [7; 32]).unwrap();
/// let request = http::Request::get("/")
///     .header("host", "a.example")
///     .header("connection", "upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())?;
/// let peer = Peer::open(Time::ZERO, &mut hub, &request).unwrap();
/// assert!(hub.outbox(peer.conn()).unwrap().pieces().next().unwrap().starts_with(b"HTTP/1.1 101 "));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Debug)]
pub struct Peer {
    conn: ConnId,
    wire: Wire,
}

impl Peer {
    /// Opens a connection for a request that asks for a WebSocket, well or badly.
    ///
    /// # Errors
    /// The answer to a request that is refused: to be written, and nothing more.
    pub fn open(now: Time, hub: &mut Hub, request: &Request<()>) -> Result<Peer, Bytes> {
        handshake::check_upgrade(request).map_err(Refusal::to_response)?;
        let opened = hub.open(now, request).map_err(handshake::refused)?;
        hub.preface(opened.conn, handshake::accept(request, opened.protocol.as_deref()));
        Ok(Peer { conn: opened.conn, wire: Wire::new() })
    }

    /// The hub's connection.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Takes the next bytes from the socket, in any pieces, and tells the hub what they say. They are unmasked in place. After
    /// a protocol error, of which the hub is told once, nothing is looked at any more.
    pub fn feed(&mut self, now: Time, hub: &mut Hub, bytes: &mut [u8]) {
        let Peer { conn, wire } = self;
        if wire.has_failed() {
            return;
        }
        let limit = Limit { bytes: hub.message_limit(*conn), fragments: hub.fragment_limit() };
        let heard = wire.feed(bytes, limit, &mut |message| {
            hub.receive(now, *conn, message);
            ControlFlow::Continue(())
        });
        if let Err(error) = heard {
            hub.fail(now, *conn, error.close_code(), error.reason());
        }
    }

    /// Whether the input has ended in a protocol error: what still comes is not looked at.
    pub fn has_failed(&self) -> bool {
        self.wire.has_failed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roomcast_core::config::{Config, Route};
    use roomcast_core::id::ShardId;

    use super::*;

    fn hub() -> Hub {
        let config = Config { routes: vec![Route::echo("/")], ..Config::default() };
        Hub::new(Arc::new(config), ShardId(0), [7; 32]).unwrap()
    }

    fn request(path: &str, version: &str) -> Request<()> {
        let request = Request::get(path).header("host", "a.example").header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").header("sec-websocket-version", version);
        request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").body(()).unwrap()
    }

    #[test]
    fn pieces_of_any_size_reach_the_hub_until_a_protocol_error_does() {
        // A text message "Hello", then a frame that is not masked, and after it what must not be heard.
        let bytes = [&b"\x81\x85\0\0\0\0Hello"[..], b"\x81\x01x", b"\x81\x85\0\0\0\0Hello"].concat();
        for piece in 1..=bytes.len() {
            let mut hub = hub();
            let mut peer = Peer::open(Time::ZERO, &mut hub, &request("/", "13")).unwrap();
            bytes.clone().chunks_mut(piece).for_each(|piece| peer.feed(Time::ZERO, &mut hub, piece));
            assert!(peer.has_failed());
            let frames: Vec<&[u8]> = hub.outbox(peer.conn()).unwrap().pieces().skip(1).collect();
            assert_eq!(frames.concat(), b"\x81\x05Hello\x88\x10\x03\xeaprotocol error", "in pieces of {piece}");
        }
    }

    #[test]
    fn a_request_that_opens_nothing_is_answered() {
        for (path, version, status) in [("/", "8", "426"), ("/x", "13", "404")] {
            let answer = Peer::open(Time::ZERO, &mut hub(), &request(path, version)).unwrap_err();
            assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{path} {version}");
        }
    }
}
