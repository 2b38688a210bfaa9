//! One end of a TCP connection, and what was read of it that is not whole yet.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use roomcast_tests::real::PATIENCE;

/// A client's TCP connection. It blocks, for no longer than patience lasts.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    user: usize,
    /// What was read and is not whole yet.
    carry: Vec<u8>,
}

impl Line {
    /// Connects a client, who is called by this number.
    pub(crate) fn connect(addr: SocketAddr, user: usize) -> Self {
        let stream =
            TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        stream.set_nodelay(true).expect("a TCP socket has no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("the limit is not zero");
        Self { stream, user, carry: Vec::new() }
    }

    /// The number of the client.
    pub(crate) fn user(&self) -> usize {
        self.user
    }

    /// Writes bytes.
    #[inline]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap_or_else(|error| panic!("connection {} cannot send: {error}", self.user));
    }

    /// Reads once what has come, and lays it into the buffer behind what was kept; how much there is then.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let carried = self.carry.len();
        buffer[..carried].copy_from_slice(&self.carry);
        let read = self.stream.read(&mut buffer[carried..]);
        let read = read.unwrap_or_else(|error| panic!("connection {} is lost: {error}", self.user));
        assert!(read > 0, "the server closed connection {}", self.user);
        carried + read
    }

    /// Keeps the rest of what was read, which is not whole. Most often that is nothing, as before.
    #[inline]
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        if !(rest.is_empty() && self.carry.is_empty()) {
            self.carry.clear();
            self.carry.extend_from_slice(rest);
        }
    }

    /// Waits until `split` finds something whole at the beginning of what has come, and takes that. For the setup, where time does
    /// not matter.
    pub(crate) fn take<T>(&mut self, mut split: impl FnMut(&[u8]) -> Option<(T, &[u8])>) -> T {
        loop {
            if let Some((whole, rest)) = split(&self.carry) {
                // What is left may be nothing, and then should keep no memory.
                self.carry = rest.to_vec();
                return whole;
            }
            self.read_more();
        }
    }

    /// # Panics
    ///
    /// When half of something has come.
    pub(crate) fn check_nothing_is_left(&self) {
        assert!(self.carry.is_empty(), "something that is not whole is left at connection {}", self.user);
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
