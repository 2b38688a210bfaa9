//! A connection in memory, for tests of what drives connections.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use redis::ConnectionAddr;

use crate::lanes::Connecting;
use crate::transport::Transport;

/// One end is the transport, the other the test, which says what is read and sees what was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// What reads return, one after the other.
    pub(crate) to_read: VecDeque<Vec<u8>>,
    /// Whether there is an end behind that.
    pub(crate) ended: bool,
    pub(crate) written: Vec<u8>,
    /// Whether nothing can be written at the moment.
    pub(crate) is_full: bool,
}

impl Pipe {
    pub(crate) fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().expect("no test has panicked")
    }

    pub(crate) fn feed(&self, bytes: &[u8]) {
        self.ends().to_read.push_back(bytes.to_vec());
    }

    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.ends().written).into_owned()
    }
}

impl Transport for Pipe {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.ends();
        match ends.to_read.pop_front() {
            Some(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            None if ends.ended => Poll::Ready(Ok(0)),
            None => Poll::Pending,
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ends().is_full {
            return Poll::Pending;
        }
        // A little at a time: nobody may rely on more.
        let taken = bytes.len().min(7);
        self.ends().written.extend(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    static NEXT: RefCell<VecDeque<Pipe>> = const { RefCell::new(VecDeque::new()) };
    static AT: RefCell<Vec<(String, Pipe)>> = const { RefCell::new(Vec::new()) };
}

/// The connections that this test's calls of [`connect`] open, in their order; those after them are refused.
pub(crate) fn will_connect<const N: usize>(pipes: [&Pipe; N]) {
    NEXT.set(pipes.into_iter().cloned().collect());
}

/// A connection that this test opens to an address, after those that were named for it before.
pub(crate) fn will_connect_to(address: &str, pipe: &Pipe) {
    AT.with_borrow_mut(|at| at.push((address.into(), pipe.clone())));
}

pub(crate) fn connect(address: &ConnectionAddr) -> Connecting {
    let address = address.to_string();
    let own = AT.with_borrow_mut(|at| at.iter().position(|(of, _)| *of == address).map(|index| at.remove(index).1));
    let pipe = own.or_else(|| NEXT.with_borrow_mut(VecDeque::pop_front));
    Box::pin(async { pipe.map(|pipe| Box::new(pipe) as Box<dyn Transport>).ok_or(io::ErrorKind::ConnectionRefused.into()) })
}
