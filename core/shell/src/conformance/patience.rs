//! Waiting, with an end: on futures, on threads and on conditions.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use futures_channel::oneshot;

/// How long anything may take that normally takes milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a thread may take that waits for several things: what it waits for in vain says more than its silence.
const THREAD: Duration = Duration::from_secs(90);
/// How long to wait until a condition is looked at again.
const PAUSE: Duration = Duration::from_millis(1);

/// Waits for a future of the subject, and panics when it takes too long.
pub(super) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    // A thread is the alarm: the subject's timer is among what is looked at.
    let (alarm, mut rung) = oneshot::channel();
    let (_over, is_over) = mpsc::channel::<()>();
    thread::spawn(move || {
        if is_over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = alarm.send(());
        }
    });
    let mut future = pin!(future);
    poll_fn(|cx| {
        // Before the future: what is ready only because the alarm has woken it was never woken itself.
        assert!(!matches!(Pin::new(&mut rung).poll(cx), Poll::Ready(Ok(()))), "{what} did not come in {PATIENCE:?}");
        future.as_mut().poll(cx)
    })
    .await
}

/// Waits for a future on a thread that no runtime knows.
pub(super) fn wait<F: Future>(what: &str, future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let until = Instant::now() + PATIENCE;
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{what} did not come in {PATIENCE:?}");
        thread::park_timeout(left);
    }
}

/// Asks until there is an answer, for what nobody can be told of.
pub(super) fn eventually<R>(what: &str, mut ask: impl FnMut() -> Option<R>) -> R {
    let until = Instant::now() + PATIENCE;
    loop {
        let last = Instant::now() >= until;
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(!last, "{what}: not in {PATIENCE:?}");
        thread::sleep(PAUSE);
    }
}

/// Something that blocks, on a thread of its own.
pub(super) struct Job<R> {
    thread: JoinHandle<R>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl<R: Send + 'static> Job<R> {
    pub(super) fn start(work: impl FnOnce() -> R + Send + 'static) -> Job<R> {
        let (running, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let _running = running;
            work()
        });
        Job { thread, ended }
    }

    /// Its result. A panic on the thread goes on here.
    pub(super) fn end(self, what: &str) -> R {
        let ended = self.ended.recv_timeout(THREAD);
        assert!(ended == Err(RecvTimeoutError::Disconnected), "{what}: no end after {THREAD:?}");
        self.thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}
