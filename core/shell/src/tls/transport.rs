//! TLS over a byte stream.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read as _};
use std::mem;
use std::task::{Context, Poll, Waker, ready};

use http::StatusCode;
use tracing::debug;

use super::broken;
use super::session::{Say, Session, Step};
use crate::handshake;
use crate::transport::Transport;

/// Bytes that are read in one go: a whole record, which is the most that is encrypted together.
const CHUNK: usize = RECORD + 512;
/// Bytes of the application that are encrypted in one go. So much waits, at the most, behind a peer that does not read.
const RECORD: usize = 16 * 1024;
/// Bytes that may have come of what is not whole. Certificates, which are the longest, may have 64 KiB.
const MOST_INPUT: usize = 128 * 1024;
/// Reads in a row before everything else has its turn again: a peer may send much that says nothing.
const READS: usize = 4;

/// A byte stream that is encrypted, over one that is not.
///
/// The handshake is made by whatever is asked first, reading or writing. A connection that is open and silent holds no buffer.
///
/// An end of the stream below that the peer has not announced (`close_notify`) is an end like any other: whatever is spoken here says
/// itself whether it is whole.
pub struct Tls<T: Transport> {
    io: T,
    session: Session,
    /// What has come and is not whole.
    input: Vec<u8>,
    /// What was said and did not fit into the reader's buffer.
    heard: VecDeque<u8>,
    /// What is to be sent, beginning at `sent`.
    output: Vec<u8>,
    sent: usize,
    /// Nothing more comes.
    ended: bool,
    /// We have said that nothing more is written.
    closed: bool,
    /// Somebody could not write, and is to be woken when that has changed.
    turned_away: bool,
}

impl<T: Transport> Tls<T> {
    pub(super) fn new(io: T, session: Session) -> io::Result<Tls<T>> {
        let mut tls = Tls {
            io,
            session,
            input: Vec::new(),
            heard: VecDeque::new(),
            output: Vec::new(),
            sent: 0,
            ended: false,
            closed: false,
            turned_away: false,
        };
        // A client has the first word.
        tls.work(&mut [], Say::Nothing)?;
        Ok(tls)
    }

    /// Is ready when the peer is known, and may be written to.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            if self.ended {
                let end = "the connection ended in the middle of the TLS handshake";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, end)));
            }
            ready!(self.poll_input(cx, &mut []))?;
        }
        Poll::Ready(Ok(()))
    }

    #[cfg(test)]
    pub(super) fn io(&self) -> &T {
        &self.io
    }

    /// Bytes of memory that are held beside the session.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.input.capacity() + self.heard.capacity() + self.output.capacity()
    }

    /// Reads once, and takes from it what is said: how many bytes of the buffer it fills.
    fn poll_input(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let start = self.input.len();
        self.input.resize(start + CHUNK, 0);
        let read = self.io.poll_read(cx, &mut self.input[start..]);
        let come = if let Poll::Ready(Ok(come)) = read { come } else { 0 };
        self.input.truncate(start + come);
        let heard = match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(self.work(buffer, Say::Nothing)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        };
        self.input.shrink_to_fit();
        // An answer of the handshake, or an alert. Where that fails, the next call says so.
        let _ = self.poll_flush(cx);
        heard
    }

    /// Takes from what has come what is said in it, into the buffer first, and then says something.
    fn work(&mut self, buffer: &mut [u8], say: Say<'_>) -> io::Result<usize> {
        let Tls { session, input, heard, output, ended, .. } = self;
        let (mut filled, mut done, mut failure) = (0, 0, None);
        let mut hear = |bytes: &[u8]| {
            let (now, later) = bytes.split_at(bytes.len().min(buffer.len() - filled));
            buffer[filled..filled + now.len()].copy_from_slice(now);
            filled += now.len();
            heard.extend(later);
        };
        let is_http = is_http(session, input) && output.is_empty();
        loop {
            let (discard, step) = session.step(&mut input[done..], say, &mut hear, output);
            done += discard;
            match step {
                Ok(Step::More) => {}
                Ok(Step::PeerClosed) => *ended = true,
                Ok(Step::Wait | Step::Said) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        input.drain(..done);
        if input.len() > MOST_INPUT {
            failure.get_or_insert(rustls::Error::PeerSentOversizedRecord);
        }
        let Some(error) = failure else { return Ok(filled) };
        debug!(%error, "a TLS connection failed");
        // The alert that tells the peer; after that, the session is not asked any more.
        let _ = session.step(input, Say::Nothing, &mut |_| {}, output);
        if is_http {
            *output = handshake::refuse(StatusCode::BAD_REQUEST, "HTTPS is spoken here").into();
        }
        *input = Vec::new();
        (self.ended, self.closed) = (true, true);
        Err(broken(error))
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        for _ in 0..READS {
            if !self.heard.is_empty() {
                let read = self.heard.read(buffer);
                if self.heard.is_empty() {
                    self.heard = VecDeque::new();
                }
                return Poll::Ready(read);
            }
            let is_handshaking = self.session.is_handshaking();
            let heard = match is_handshaking {
                true if self.closed => return Poll::Ready(Ok(0)),
                true => ready!(self.poll_handshake(cx)).map(|()| 0),
                false if self.ended => return Poll::Ready(Ok(0)),
                false => ready!(self.poll_input(cx, buffer)),
            };
            if !matches!(heard, Ok(0)) {
                return Poll::Ready(heard);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_say(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_handshake(cx))?;
        ready!(self.poll_flush(cx))?;
        let bytes = &bytes[..bytes.len().min(RECORD)];
        self.work(&mut [], Say::Bytes(bytes))?;
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // The rest goes when the stream below takes it.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Says that nothing more will be written. Before the handshake is over nobody could be told.
    fn say_close(&mut self) {
        if !mem::replace(&mut self.closed, true) && !self.session.is_handshaking() {
            // A session that has failed has nothing to say.
            let _ = self.work(&mut [], Say::Close);
        }
    }
}

impl<T: Transport> Transport for Tls<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.poll_hear(cx, buffer);
        if self.turned_away && self.sent == self.output.len() && !self.session.is_handshaking() {
            self.turned_away = false;
            cx.waker().wake_by_ref();
        }
        read
    }

    fn poll_rearm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.heard.is_empty() && !self.ended {
            true => self.io.poll_rearm(cx),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = self.poll_say(cx, bytes);
        self.turned_away = said.is_pending();
        said
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            match ready!(self.io.poll_write(cx, &self.output[self.sent..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        (self.output, self.sent) = (Vec::new(), 0);
        self.io.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_close();
        ready!(self.poll_flush(cx))?;
        self.io.poll_close(cx)
    }
}

impl<T: Transport> Drop for Tls<T> {
    /// The peer is told that this is the end, if the stream below takes it at once.
    fn drop(&mut self) {
        self.say_close();
        let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}

impl<T: Transport> fmt::Debug for Tls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.session.is_handshaking() { "handshaking" } else { "established" };
        f.debug_struct("Tls").field("state", &state).finish_non_exhaustive()
    }
}

/// Whether a client speaks plain HTTP: a handshake does not begin with a letter.
fn is_http(session: &Session, input: &[u8]) -> bool {
    matches!(session, Session::Server(_)) && session.is_handshaking() && input.first().is_some_and(u8::is_ascii_uppercase)
}
