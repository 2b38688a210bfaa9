//! Mailboxes: how threads and wakers hand something to a task.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Values on their way to one task. Anyone may post; nobody ever waits, so nothing can deadlock.
///
/// A mailbox is not bounded itself: what may be posted is bounded by whoever posts (one readiness for each socket, one answer
/// for each question, the publishes in flight; and messages of rooms are read no further while [`Mailbox::len`] is large).
#[derive(Debug)]
pub struct Mailbox<I> {
    inner: Mutex<Inner<I>>,
}

#[derive(Debug)]
struct Inner<I> {
    items: Vec<I>,
    waker: Option<Waker>,
    /// Whether the task has ended.
    closed: bool,
}

impl<I> Mailbox<I> {
    /// An empty mailbox.
    pub fn new() -> Mailbox<I> {
        Mailbox { inner: Mutex::new(Inner { items: Vec::new(), waker: None, closed: false }) }
    }

    /// Posts a value and wakes the task if it sleeps. Where the mailbox is closed, the value is dropped.
    pub fn post(&self, item: I) {
        let waker = {
            let mut inner = self.lock();
            if inner.closed {
                return;
            }
            inner.items.push(item);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Posts several values at once, leaving the vector empty.
    pub fn post_all(&self, items: &mut Vec<I>) {
        if items.is_empty() {
            return;
        }
        let waker = {
            let mut inner = self.lock();
            if !inner.closed {
                inner.items.append(items);
            }
            inner.waker.take()
        };
        items.clear();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The task has ended: what waits and what comes is dropped, so that nobody waits for what follows from it.
    pub fn close(&self) {
        let items = {
            let mut inner = self.lock();
            inner.closed = true;
            mem::take(&mut inner.items)
        };
        // Not under the lock: what is dropped may post something itself.
        drop(items);
    }

    /// How many values wait.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything into `into`, which must be empty; where there is nothing, the next post wakes `waker`.
    pub fn take(&self, waker: &Waker, into: &mut Vec<I>) {
        debug_assert!(into.is_empty(), "what was taken before must be worked off first");
        let mut inner = self.lock();
        mem::swap(&mut inner.items, into);
        if into.is_empty() {
            match &mut inner.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<I>> {
        // Nothing in here can be left half done by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I> Default for Mailbox<I> {
    fn default() -> Mailbox<I> {
        Mailbox::new()
    }
}

/// What a [`ReadyWaker`] posts: the number of what can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready(pub u32);

/// A waker that says in a mailbox which of a task's many sockets can go on, so that the task looks at no other.
#[derive(Debug)]
pub struct ReadyWaker<I> {
    number: u32,
    /// Whether the number stands in the mailbox already.
    queued: AtomicBool,
    mailbox: Arc<Mailbox<I>>,
}

impl<I: From<Ready>> ReadyWaker<I> {
    /// A waker for what has this number.
    pub fn new(number: u32, mailbox: Arc<Mailbox<I>>) -> Arc<ReadyWaker<I>> {
        Arc::new(ReadyWaker { number, queued: AtomicBool::new(false), mailbox })
    }

    /// Says that it can go on, unless that has been said and not been taken yet.
    pub fn ready(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.mailbox.post(Ready(self.number).into());
        }
    }

    /// The number was taken from the mailbox: a wake-up from now on is a new one. To be called before the socket is touched.
    pub fn take(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl<I: From<Ready> + Send + 'static> Wake for ReadyWaker<I> {
    fn wake(self: Arc<Self>) {
        self.ready();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeping_task_is_woken_once_and_gets_everything_in_order() {
        let (mailbox, count) = (Mailbox::new(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let mut taken = Vec::new();
        mailbox.take(&waker, &mut taken);
        assert!(taken.is_empty());
        mailbox.post(1);
        mailbox.post(2);
        mailbox.post_all(&mut vec![3, 4]);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        mailbox.take(&waker, &mut taken);
        assert_eq!(taken, [1, 2, 3, 4]);
    }

    #[test]
    fn posts_from_many_threads_all_arrive() {
        let mailbox = Arc::new(Mailbox::new());
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let mailbox = mailbox.clone();
                std::thread::spawn(move || (0..1000).for_each(|number| mailbox.post(thread * 1000 + number)))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut taken = Vec::new();
        mailbox.take(Waker::noop(), &mut taken);
        taken.sort_unstable();
        assert_eq!(taken, (0..4000).collect::<Vec<_>>());
    }

    #[test]
    fn a_socket_stands_in_the_mailbox_once_until_it_is_taken() {
        let mailbox: Arc<Mailbox<Ready>> = Arc::default();
        let socket = ReadyWaker::new(7, mailbox.clone());
        let waker = Waker::from(socket.clone());
        let mut taken = Vec::new();
        waker.wake_by_ref();
        waker.wake_by_ref();
        mailbox.take(Waker::noop(), &mut taken);
        assert_eq!(mem::take(&mut taken), [Ready(7)]);
        socket.take();
        waker.wake();
        mailbox.take(Waker::noop(), &mut taken);
        assert_eq!(taken, [Ready(7)]);
    }
}
