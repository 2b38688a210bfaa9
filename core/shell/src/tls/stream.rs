//! A socket that is encrypted, or not.

use std::io;
use std::task::{Context, Poll};

use super::{Tls, TlsAcceptor};
use crate::transport::Transport;

/// The socket of a client, as a gateway is given it: plain, or with TLS.
#[derive(Debug)]
pub enum Stream<T: Transport> {
    /// As it is.
    Plain(T),
    /// Encrypted. The box keeps plain ones small.
    Tls(Box<Tls<T>>),
}

impl<T: Transport> Stream<T> {
    /// A socket that was accepted where this is how TLS is served, if it is.
    ///
    /// # Errors
    /// TLS cannot be begun.
    pub fn accepted(io: T, acceptor: Option<&TlsAcceptor>) -> io::Result<Stream<T>> {
        match acceptor {
            Some(acceptor) => Ok(Stream::Tls(Box::new(acceptor.accept(io)?))),
            None => Ok(Stream::Plain(io)),
        }
    }
}

impl<T: Transport> Transport for Stream<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(io) => io.poll_read(cx, buffer),
            Stream::Tls(tls) => tls.poll_read(cx, buffer),
        }
    }

    fn poll_rearm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(io) => io.poll_rearm(cx),
            Stream::Tls(tls) => tls.poll_rearm(cx),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(io) => io.poll_write(cx, bytes),
            Stream::Tls(tls) => tls.poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(io) => io.poll_flush(cx),
            Stream::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(io) => io.poll_close(cx),
            Stream::Tls(tls) => tls.poll_close(cx),
        }
    }
}
