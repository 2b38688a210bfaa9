//! What the store says of a message.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_channel::oneshot;
use roomcast_core::door::{PublishError, Published};

/// Says whether the store has a message: in each room it was published to, once it has answered for all of them.
///
/// It gives the position in the first of the rooms, where that room remembers. Whoever does not care drops it: the message is
/// on its way already.
#[derive(Debug)]
pub struct Stored {
    /// What the store has not answered for yet, the first room first. It is asked of the last.
    waiting: Vec<oneshot::Receiver<Published>>,
    failed: Option<PublishError>,
}

impl Stored {
    pub(super) fn new(waiting: Vec<oneshot::Receiver<Published>>) -> Stored {
        Stored { waiting, failed: None }
    }
}

impl Future for Stored {
    type Output = Published;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Published> {
        let mut position = Err(PublishError::Unavailable);
        while let Some(next) = self.waiting.last_mut() {
            // A gateway that has stopped says nothing any more.
            position = ready!(Pin::new(next).poll(cx)).unwrap_or(Err(PublishError::Unavailable));
            self.waiting.pop();
            self.failed = position.err().or(self.failed);
        }
        Poll::Ready(self.failed.map_or(position, Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roomcast_core::position::Position;
    use std::task::Waker;

    #[test]
    fn all_rooms_have_to_answer_and_the_first_gives_the_position() {
        let position = Some(Position { epoch: 1, offset: 2, tag: 3 });
        for (other, outcome) in [(Ok(None), Ok(position)), (Err(PublishError::Full), Err(PublishError::Full))] {
            let ((first, one), (second, two)) = (oneshot::channel(), oneshot::channel());
            let mut stored = Stored::new(vec![one, two]);
            let mut poll = || Pin::new(&mut stored).poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll().is_pending());
            first.send(Ok(position)).unwrap();
            assert!(poll().is_pending());
            second.send(other).unwrap();
            assert_eq!(poll(), Poll::Ready(outcome));
        }
    }

    #[test]
    fn a_gateway_that_has_stopped_has_stored_nothing() {
        let (done, one) = oneshot::channel();
        drop(done);
        let mut stored = Stored::new(vec![one]);
        assert_eq!(
            Pin::new(&mut stored).poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Err(PublishError::Unavailable))
        );
    }
}
