//! A Redis server that is played by a case: it says what it is told to, when it is told to, or nothing.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};

use super::patience::PATIENCE;

/// The address at which it listens. A connection waits there until it is accepted.
pub(super) struct Impostor {
    listener: TcpListener,
}

/// A connection to it.
pub(super) struct Line {
    stream: TcpStream,
    /// What has come and was not expected yet.
    received: Vec<u8>,
}

impl Impostor {
    pub(super) fn new() -> Impostor {
        Impostor { listener: TcpListener::bind(("127.0.0.1", 0)).expect("a free port") }
    }

    pub(super) fn info(&self) -> ConnectionInfo {
        let port = self.listener.local_addr().expect("it has an address").port();
        ConnectionAddr::Tcp("127.0.0.1".into(), port).into_connection_info().expect("an address")
    }

    /// The next connection, on which this comes.
    pub(super) fn accept(&self, word: &str) -> Line {
        let (stream, _) = self.listener.accept().expect("somebody connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let mut line = Line { stream, received: Vec::new() };
        line.expect(word);
        line
    }
}

impl Line {
    /// Reads until this has come.
    pub(super) fn expect(&mut self, word: &str) {
        loop {
            if let Some(at) = self.received.windows(word.len()).position(|bytes| bytes == word.as_bytes()) {
                self.received.drain(..at + word.len());
                return;
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).unwrap_or_else(|error| panic!("{word} does not come: {error}"));
            assert!(read > 0, "the end comes instead of {word}");
            self.received.extend_from_slice(&buffer[..read]);
        }
    }

    /// Reads until the connection is closed.
    pub(super) fn expect_end(&mut self) {
        let end = self.stream.read_to_end(&mut Vec::new());
        assert!(end.is_ok(), "the connection is not closed: {end:?}");
    }

    pub(super) fn say(&mut self, reply: &str) {
        self.stream.write_all(reply.as_bytes()).expect("somebody reads");
    }
}
