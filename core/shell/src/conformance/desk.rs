//! Redis lanes and the little that drives them: what the backplane's task does in a gateway.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use redis::ConnectionInfo;
use roomcast_core::config::{Config, Relay};
use roomcast_core::id::Ticket;
use roomcast_core::store::redis::Redis;
use roomcast_core::store::{Answer, Lane, StoreError, StoreOp};

use super::Subject;
use super::patience::Job;
use crate::backplane::{Input, Post};
use crate::clock::Clock;
use crate::lanes::{Address, Connector, Lanes as _, RedisLanes};
use crate::transport::Timer;

/// What the store answers.
pub(super) type Answered = Result<Answer, StoreError>;

/// Submits operations and collects their answers.
pub(super) struct Desk<M> {
    lanes: RedisLanes,
    post: Arc<Post>,
    clock: Clock,
    timer: M,
    submitted: u64,
    answers: VecDeque<(Ticket, Answered)>,
}

impl<M: Timer> Desk<M> {
    /// Lanes to a server, with the prefix for the keys of the relay logs. To be called inside the runtime.
    pub(super) fn new<S: Subject<Timer = M>>(subject: &S, info: &ConnectionInfo, prefix: &str) -> Desk<M> {
        let relay = Relay { prefix: prefix.into(), ..Relay::default() };
        let redis = Redis::new(&Config { node: "conformance".into(), relay, ..Config::default() });
        let post = Arc::new(Post::new());
        let address = Address::try_from(info.clone()).expect("a server without TLS");
        Desk {
            lanes: RedisLanes::new(address.into(), &Connector::new(subject.connect()), redis, post.clone()),
            post,
            clock: Clock::start(),
            timer: subject.timer(),
            submitted: 0,
            answers: VecDeque::new(),
        }
    }

    /// Submits an operation; it goes its way while something is awaited.
    pub(super) fn submit(&mut self, lane: Lane, op: StoreOp) -> Ticket {
        let ticket = Ticket(self.submitted);
        self.submitted += 1;
        self.lanes.submit(self.clock.now(), lane, ticket, op);
        ticket
    }

    pub(super) fn interrupt(&mut self, lane: Lane) {
        self.lanes.interrupt(self.clock.now(), lane);
    }

    pub(super) fn reset(&mut self, lane: Lane) {
        self.lanes.reset(self.clock.now(), lane);
    }

    /// The next answer, in the order in which they come.
    pub(super) async fn next(&mut self) -> (Ticket, Answered) {
        poll_fn(|cx| {
            self.drive(cx);
            self.answers.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The answer to an operation, which must be the next one.
    pub(super) async fn answer(&mut self, ticket: Ticket) -> Answered {
        let (answered, answer) = self.next().await;
        assert_eq!(answered, ticket, "the answer to another operation: {answer:?}");
        answer
    }

    /// Submits an operation and waits for its answer.
    pub(super) async fn ask(&mut self, lane: Lane, op: StoreOp) -> Answered {
        let ticket = self.submit(lane, op);
        self.answer(ticket).await
    }

    /// Drives the lanes while a thread does something that blocks.
    pub(super) async fn meanwhile<R: Send + 'static>(&mut self, what: &str, work: impl FnOnce() -> R + Send + 'static) -> R {
        let (done, mut is_done) = oneshot::channel::<()>();
        let job = Job::start(move || {
            // Dropped when the work has ended, also by a panic.
            let _done = done;
            work()
        });
        poll_fn(|cx| {
            self.drive(cx);
            Pin::new(&mut is_done).poll(cx).map(drop)
        })
        .await;
        job.end(what)
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        let mut inbox = Vec::new();
        loop {
            self.post.take(cx.waker(), &mut inbox);
            if !inbox.is_empty() {
                for input in mem::take(&mut inbox) {
                    match input {
                        Input::Ready(number) => self.lanes.ready(self.clock.now(), number),
                        Input::Answer(ticket, answer) => self.answers.push_back((ticket, answer)),
                        other => panic!("lanes do not post this: {other:?}"),
                    }
                }
                continue;
            }
            let at = self.lanes.next_deadline().and_then(|at| self.clock.instant(at));
            match at {
                Some(at) if self.timer.poll_at(cx, at).is_ready() => self.lanes.tick(self.clock.now()),
                _ => return,
            }
        }
    }
}
