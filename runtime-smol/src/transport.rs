//! Sockets and timers of smol, as the shell wants them.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use roomcast_shell::transport;
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};
use socket2::SockRef;

/// A socket of smol.
#[derive(Debug)]
pub struct Socket<S>(pub Async<S>);

impl<S: AsFd + Send + Sync + 'static> transport::Transport for Socket<S>
where
    Async<S>: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_rearm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.poll_readable(cx) {
            // This was the event that led to the read. Asking again registers the waker, and another read is saved.
            Poll::Ready(Ok(())) => self.0.poll_readable(cx),
            other => other,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing an Async of any kind only flushes it.
        Poll::Ready(SockRef::from(&self.0).shutdown(Shutdown::Write))
    }
}

/// A timer of smol's reactor.
#[derive(Debug)]
pub struct Timer {
    sleep: smol::Timer,
    at: Option<Instant>,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { sleep: smol::Timer::never(), at: None }
    }
}

impl transport::Timer for Timer {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if self.at != Some(at) {
            self.sleep.set_at(at);
            self.at = Some(at);
        }
        let rung = Pin::new(&mut self.sleep).poll(cx);
        if rung.is_ready() {
            // It rings once; a moment that has come stays come.
            self.at = None;
        }
        rung.map(|_| ())
    }
}
