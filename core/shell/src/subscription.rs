//! What is said in a room or on a channel, as a stream for code of the host.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use roomcast_core::position::Position;

use crate::backplane::{Input, Post};
use crate::listeners::Target;

/// Messages that wait to be taken at the most, and their bytes. Those that come while there are as many are left out.
const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 16 << 20;

/// A stream of what is said in a room or on a channel. It begins when [`Subscription::ready`] says so, ends with the gateway or the
/// worker, and costs nothing more when it is dropped.
///
/// What an inbox holds is not taken from it: it is there for its user.
pub struct Subscription {
    queue: Arc<Queue>,
    post: Arc<Post>,
    target: Target,
}

/// What a [`Subscription`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message(Message),
    /// So many messages were left out here, because 1,000 of them, or 16 MiB, waited to be taken.
    Missed(u64),
    /// Here messages may be missing that never reached this process: the connection to the store was lost, or the store has lost
    /// them.
    Lost,
}

/// A message of a room or a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The room or the channel. What of a channel's name is no text is replaced by U+FFFD.
    pub name: Arc<str>,
    /// In a room the encoded envelope, on a channel what was said.
    pub payload: Bytes,
    /// Where it stands in what its room remembers, if it does.
    pub position: Option<Position>,
}

/// The end of a subscription into which messages are put. When it is dropped, the subscription ends.
#[derive(Debug)]
pub struct Sender(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// What follows behind the items: messages that were left out, and whether others may be missing.
    missed: u64,
    lost: bool,
    holds: bool,
    ended: bool,
    /// Whether nobody will take anything any more.
    dropped: bool,
    waker: Option<Waker>,
}

impl Subscription {
    /// A subscription, and the end into which messages are put.
    pub(crate) fn new(post: Arc<Post>, target: Target) -> (Subscription, Sender) {
        let queue = Arc::<Queue>::default();
        (Subscription { queue: queue.clone(), post, target }, Sender(queue))
    }

    /// Waits until the subscription holds: whatever is published from then on comes. False where the gateway has ended. While the
    /// store is away it waits; in a gateway, a room that goes on without it holds at once.
    pub async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            let mut state = self.queue.lock();
            match state.holds || state.ended {
                true => Poll::Ready(state.holds),
                false => state.wait(cx),
            }
        })
        .await
    }

    /// The next item; nothing when the gateway has ended.
    pub async fn next(&mut self) -> Option<Item> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Subscription {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let mut state = self.queue.lock();
        match state.take() {
            None if !state.ended => state.wait(cx),
            item => Poll::Ready(item),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.queue.lock().dropped = true;
        self.post.post(Input::Unsubscribe(self.target.clone()));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Sender {
    /// The subscription holds.
    pub(crate) fn hold(&self) {
        self.0.change(|state| state.holds = true);
    }

    /// A message has come.
    pub(crate) fn send(&self, message: Message) {
        self.0.change(|state| state.put(message));
    }

    /// Messages may be missing here.
    pub(crate) fn lose(&self) {
        self.0.change(|state| state.lost = true);
    }

    /// Whether nobody will take anything any more.
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.lock().dropped
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.change(|state| state.ended = true);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can be left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes whoever waits for it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn put(&mut self, message: Message) {
        let bytes = self.bytes + message.payload.len();
        if self.items.len() >= MOST_MESSAGES || (bytes > MOST_BYTES && !self.items.is_empty()) {
            self.missed += 1;
            return;
        }
        while let Some(gap) = self.gap() {
            self.items.push_back(gap);
        }
        self.bytes = bytes;
        self.items.push_back(Item::Message(message));
    }

    fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front().or_else(|| self.gap());
        if let Some(Item::Message(message)) = &item {
            self.bytes -= message.payload.len();
        }
        item
    }

    /// What is missing behind the items.
    fn gap(&mut self) -> Option<Item> {
        match mem::take(&mut self.missed) {
            0 => mem::take(&mut self.lost).then_some(Item::Lost),
            missed => Some(Item::Missed(missed)),
        }
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message { name: "r".into(), payload: vec![b'x'; bytes].into(), position: None }
    }

    fn pair() -> (Subscription, Sender) {
        Subscription::new(Arc::default(), Target::Room("r".into()))
    }

    /// Everything that can be taken at once, messages by their length; whether the stream has ended.
    fn taken(subscription: &mut Subscription) -> (Vec<Result<usize, Item>>, bool) {
        let mut all = Vec::new();
        loop {
            match Pin::new(&mut *subscription).poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Item::Message(message))) => all.push(Ok(message.payload.len())),
                Poll::Ready(Some(other)) => all.push(Err(other)),
                Poll::Ready(None) => return (all, true),
                Poll::Pending => return (all, false),
            }
        }
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_the_gap_is_told_where_it_is() {
        let (mut subscription, sender) = pair();
        (0..MOST_MESSAGES + 3).for_each(|_| sender.send(message(1)));
        let (items, _) = taken(&mut subscription);
        assert_eq!((items.len(), items.last()), (MOST_MESSAGES + 1, Some(&Err(Item::Missed(3)))));

        for bytes in [MOST_BYTES - 1, 1, 1] {
            sender.send(message(bytes));
        }
        let mut first = Pin::new(&mut subscription);
        assert!(first.as_mut().poll_next(&mut Context::from_waker(Waker::noop())).is_ready());
        sender.send(message(5));
        assert_eq!(taken(&mut subscription), (vec![Ok(1), Err(Item::Missed(1)), Ok(5)], false));
        sender.send(message(MOST_BYTES + 1));
        assert_eq!(taken(&mut subscription).0, [Ok(MOST_BYTES + 1)], "one is always taken");
    }

    #[test]
    fn a_loss_is_told_where_it_is() {
        let (mut subscription, sender) = pair();
        sender.send(message(1));
        sender.lose();
        sender.lose();
        sender.send(message(2));
        sender.lose();
        assert_eq!(taken(&mut subscription), (vec![Ok(1), Err(Item::Lost), Ok(2), Err(Item::Lost)], false));
    }

    #[test]
    fn it_is_ready_once_it_holds_and_ends_with_its_sender() {
        let (mut subscription, sender) = pair();
        let ready = |subscription: &mut Subscription| {
            let mut ready = Box::pin(subscription.ready());
            ready.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        assert!(ready(&mut subscription).is_pending());
        sender.hold();
        assert_eq!(ready(&mut subscription), Poll::Ready(true));
        sender.send(message(1));
        drop(sender);
        assert_eq!(taken(&mut subscription), (vec![Ok(1)], true));

        let (mut early, sender) = pair();
        drop(sender);
        assert_eq!(ready(&mut early), Poll::Ready(false));
    }
}
