//! What a runtime supplies: bytes in and out of a socket, and one timer for each task.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

/// A byte stream that never blocks: it says `Pending` and wakes the task when it can go on.
///
/// The implementation for a runtime's socket is a few lines; so is one for a TLS session or a pipe in memory.
///
/// It may be handed to another task, on another thread: the waker of the last poll is the one that counts.
pub trait Transport: Unpin + Send + 'static {
    /// Reads what is there; 0 bytes mean that the peer has closed its side.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Asks to be woken at the next bytes after a read that did not fill its buffer, where that is cheaper than another read.
    /// `Ready` means that there may be more already, which is always a right answer.
    fn poll_rearm(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Writes what fits.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Passes on what was taken and is still held here. A socket holds nothing; what encrypts may.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written, after what is held has been passed on. The peer's bytes can still be read.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Transport for Box<dyn Transport> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, buffer)
    }

    fn poll_rearm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_rearm(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        (**self).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_close(cx)
    }
}

/// One alarm. A task has one, however many deadlines it keeps.
pub trait Timer: Unpin + Send + 'static {
    /// `Ready` once `at` has come; else wakes the task then. Asking for another moment moves the alarm.
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()>;
}
