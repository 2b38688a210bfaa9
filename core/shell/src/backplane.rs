//! The task that drives the backplane of a node.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use roomcast_core::backplane::{Backplane, BackplaneAction};
use roomcast_core::dead_letter::{Interrupted, OperationId, Outcome, Request};
use roomcast_core::door::{Ask, Publish, PublishId, Published, ReadId, Tell, Unavailable};
use roomcast_core::id::{ShardId, Ticket};
use roomcast_core::message::RoomName;
use roomcast_core::processor::Verdict;
use roomcast_core::store::{Answer, Lane, Page, Query, StoreError, StoreOp};
use roomcast_core::survey::{Question, Surveyed};
use roomcast_core::time::Time;
use slab::Slab;

use crate::clock::Clock;
use crate::gateway::{Board, Gateway, SharedApi};
use crate::lanes::Lanes;
use crate::listeners::{Listeners, Target};
use crate::log;
use crate::mailbox::{Mailbox, Ready};
use crate::processor::{self, BySource, Entry};
use crate::shard;
use crate::snapshot::Snapshots;
use crate::subscription::Sender;
use crate::transport::{Timer, Transport};

/// Rounds of one poll before the runtime gets its turn again.
const ROUNDS: usize = 8;

/// Values that may wait for a hub before logs and streams are read any further: they are the better buffer.
const MOST_WAITING: usize = 4_096;
/// How soon it is looked again whether a hub has caught up.
const CATCH_UP: Duration = Duration::from_millis(2);

/// The backplane's mailbox.
pub type Post = Mailbox<Input>;

/// What the backplane's task is sent.
#[derive(Debug)]
pub enum Input {
    /// A connection to the store can go on.
    Ready(u32),
    /// A hub asks.
    Ask(ShardId, Ask),
    /// The store answers.
    Answer(Ticket, Result<Answer, StoreError>),
    /// The host's code has dealt with an entry.
    Processed(Ticket, Verdict),
    /// The host's code tells the state of a room.
    Snapshot(Ticket, Option<Bytes>),
    /// A message from inside the process, for example from the HTTP API.
    Publish {
        /// The room.
        room: RoomName,
        /// The encoded envelope.
        payload: Bytes,
        /// The identifier under which it is stored once, where the publisher has given one.
        once: Option<Box<str>>,
        /// Where to say what came of it.
        done: oneshot::Sender<Published>,
    },
    /// Every connection of a user is to be closed, on all nodes.
    Disconnect {
        /// The user.
        user: Box<str>,
        /// Where to say whether the store has it.
        done: oneshot::Sender<Published>,
    },
    /// An operation on dead letters.
    Operate {
        /// The source, by its index in the configuration.
        source: usize,
        /// What is wanted.
        request: Request,
        /// Where to say what came of it.
        done: oneshot::Sender<Result<Outcome, Interrupted>>,
    },
    /// A question to all nodes.
    Survey {
        /// What is asked.
        question: Question,
        /// Where to say what came of it.
        done: oneshot::Sender<Surveyed>,
    },
    /// A reading of what a room remembers.
    Read {
        /// The room.
        room: RoomName,
        /// Which messages.
        query: Query,
        /// How many at the most.
        count: usize,
        /// Where to say what came of it.
        done: oneshot::Sender<Result<Page, Unavailable>>,
    },
    /// Does the store answer? How long it took is to be said here.
    Ping(oneshot::Sender<Result<Duration, StoreError>>),
    /// The host's code subscribes to something.
    Subscribe(Target, Sender),
    /// A subscription was dropped.
    Unsubscribe(Target),
    /// Bring to an end what was read from sources, and read no more.
    Drain,
    /// End the task, once all that was asked is brought to its end; after this time in any case.
    Stop(Duration),
}

impl From<Ready> for Input {
    fn from(Ready(number): Ready) -> Input {
        Input::Ready(number)
    }
}

/// A future that drives a backplane: it takes what hubs ask and the store answers, and hands out what follows.
pub struct BackplaneTask<T, M> {
    backplane: Backplane,
    post: Arc<Post>,
    hubs: Vec<Arc<Mailbox<shard::Input<T>>>>,
    /// What is on its way to each hub, so that a hub is woken once for all of it.
    outgoing: Vec<Vec<shard::Input<T>>>,
    lanes: Box<dyn Lanes>,
    timer: M,
    clock: Clock,
    board: Arc<Board>,
    api: Arc<SharedApi>,
    publishers: Slab<oneshot::Sender<Published>>,
    processors: BySource,
    operators: Slab<oneshot::Sender<Result<Outcome, Interrupted>>>,
    readers: Slab<oneshot::Sender<Result<Page, Unavailable>>>,
    surveyors: Slab<oneshot::Sender<Surveyed>>,
    pingers: Slab<oneshot::Sender<Result<Duration, StoreError>>>,
    listeners: Listeners,
    inbox: Vec<Input>,
    snapshots: Snapshots,
    /// The next reads of the relay logs and of publishers' streams, held back while a hub is behind.
    held_back: Vec<(Lane, Ticket, StoreOp)>,
    stop_at: Option<Time>,
}

impl<T: Transport, M: Timer> BackplaneTask<T, M> {
    pub(crate) fn new(
        backplane: Backplane,
        gateway: &Gateway<T>,
        lanes: Box<dyn Lanes>,
        (processors, snapshots): (BySource, Snapshots),
        timer: M,
    ) -> BackplaneTask<T, M> {
        let hubs = gateway.mailboxes();
        BackplaneTask {
            backplane,
            post: gateway.post().clone(),
            outgoing: hubs.iter().map(|_| Vec::new()).collect(),
            hubs,
            lanes,
            timer,
            clock: gateway.clock(),
            board: gateway.board().clone(),
            api: gateway.api().clone(),
            publishers: Slab::new(),
            processors,
            operators: Slab::new(),
            readers: Slab::new(),
            surveyors: Slab::new(),
            pingers: Slab::new(),
            listeners: Listeners::default(),
            inbox: Vec::new(),
            snapshots,
            held_back: Vec::new(),
            stop_at: None,
        }
    }

    fn take(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Ready(number) => self.lanes.ready(now, number),
            Input::Ask(shard, ask) => self.backplane.ask(now, shard, ask),
            Input::Answer(ticket, answer) => self.backplane.answer(now, ticket, answer),
            Input::Processed(ticket, verdict) => self.backplane.processed(now, ticket, verdict),
            Input::Snapshot(ticket, data) => self.backplane.snapshot(ticket, data),
            Input::Publish { room, payload, once, done } => {
                let id = PublishId(self.publishers.insert(done) as u64);
                self.backplane.ask(now, ShardId::LOCAL, Ask::Publish(Publish { id, room, payload, once }));
            }
            Input::Disconnect { user, done } => {
                let id = PublishId(self.publishers.insert(done) as u64);
                self.backplane.ask(now, ShardId::LOCAL, Ask::Disconnect { id, user });
            }
            Input::Operate { source, request, done } => {
                let id = OperationId(self.operators.insert(done) as u64);
                self.backplane.operate(now, id, source, request);
            }
            Input::Survey { question, done } => {
                let read = ReadId(self.surveyors.insert(done) as u64);
                self.backplane.ask(now, ShardId::LOCAL, Ask::Survey { read, question });
            }
            Input::Read { room, query, count, done } => {
                let read = ReadId(self.readers.insert(done) as u64);
                self.backplane.ask(now, ShardId::LOCAL, Ask::Read { read, room, query, count });
            }
            Input::Ping(done) => {
                let read = ReadId(self.pingers.insert(done) as u64);
                self.backplane.ask(now, ShardId::LOCAL, Ask::Ping { read });
            }
            Input::Subscribe(target, sender) => {
                if let Some(ask) = self.listeners.add(target, sender) {
                    self.backplane.ask(now, ShardId::LOCAL, ask);
                }
            }
            Input::Unsubscribe(target) => {
                if let Some(ask) = self.listeners.remove(target) {
                    self.backplane.ask(now, ShardId::LOCAL, ask);
                }
            }
            Input::Drain => self.backplane.drain(now),
            Input::Stop(within) => {
                self.stop_at.get_or_insert(now + within);
                self.backplane.leave(now);
            }
        }
    }

    /// Does what the backplane wants done.
    fn act(&mut self) {
        let now = self.clock.now();
        while let Some(action) = self.backplane.poll_action(now) {
            match action {
                BackplaneAction::Tell(ShardId::LOCAL, Tell::Published { id, result }) => {
                    if let Some(done) = self.publishers.try_remove(id.0 as usize) {
                        // Nobody is there any more to hear it: the request was given up.
                        let _ = done.send(result);
                    }
                }
                BackplaneAction::Tell(ShardId::LOCAL, Tell::Surveyed { read, result }) => {
                    if let Some(done) = self.surveyors.try_remove(read.0 as usize) {
                        let _ = done.send(result);
                    }
                }
                BackplaneAction::Tell(ShardId::LOCAL, Tell::Page { read, result }) => {
                    if let Some(done) = self.readers.try_remove(read.0 as usize) {
                        let _ = done.send(result);
                    }
                }
                BackplaneAction::Tell(ShardId::LOCAL, Tell::Pong { read, result }) => {
                    if let Some(done) = self.pingers.try_remove(read.0 as usize) {
                        let _ = done.send(result);
                    }
                }
                BackplaneAction::Tell(ShardId::LOCAL, tell) => self.listeners.hear(tell),
                BackplaneAction::Operated(id, outcome) => {
                    if let Some(done) = self.operators.try_remove(id.0 as usize) {
                        let _ = done.send(outcome);
                    }
                }
                BackplaneAction::Tell(shard, tell) => {
                    if let Some(outgoing) = self.outgoing.get_mut(usize::from(shard.0)) {
                        outgoing.push(shard::Input::Tell(tell));
                    }
                }
                BackplaneAction::Store {
                    ticket,
                    lane: lane @ (Lane::Relay | Lane::Tail | Lane::Channels | Lane::Channel(_)),
                    op,
                } => {
                    self.held_back.push((lane, ticket, op));
                }
                BackplaneAction::Store { ticket, lane, op } => self.lanes.submit(now, lane, ticket, op),
                BackplaneAction::Interrupt(lane) => match self.held_back.iter().position(|(other, ..)| *other == lane) {
                    Some(at) => self.answer_held_back(at),
                    None => self.lanes.interrupt(now, lane),
                },
                BackplaneAction::Reset(lane) => self.lanes.reset(now, lane),
                BackplaneAction::Process(delivery) => {
                    if let Some((stream, processor)) = self.processors.get(&delivery.source) {
                        processor::call(processor, Entry::new(delivery, stream.clone(), self.clock, self.post.clone()));
                    }
                }
                BackplaneAction::Revoked(revoked) => {
                    self.api.set_revoked(&revoked);
                    let tell = || shard::Input::Tell(Tell::Revoked(revoked.clone()));
                    self.outgoing.iter_mut().for_each(|outgoing| outgoing.push(tell()));
                }
                BackplaneAction::Snapshot(request) => self.snapshots.ask(request, self.clock, self.post.clone()),
                BackplaneAction::Report(report) => log::write(&report),
            }
        }
        for (hub, outgoing) in self.hubs.iter().zip(&mut self.outgoing) {
            hub.post_all(outgoing);
        }
        if self.hubs.iter().all(|hub| hub.len() <= MOST_WAITING) {
            self.held_back.drain(..).for_each(|(lane, ticket, op)| self.lanes.submit(now, lane, ticket, op));
        }
    }

    /// A read that was never sent is interrupted by answering it with nothing.
    fn answer_held_back(&mut self, at: usize) {
        let (_, ticket, op) = self.held_back.remove(at);
        self.post.post(Input::Answer(ticket, Ok(op.nothing())));
    }

    fn is_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.backplane.is_drained() || at <= self.clock.now())
    }

    fn next_deadline(&self) -> Option<Time> {
        let catch_up = (!self.held_back.is_empty()).then(|| self.clock.now() + CATCH_UP);
        [self.backplane.next_deadline(), self.lanes.next_deadline(), catch_up, self.stop_at].into_iter().flatten().min()
    }
}

impl<T: Transport, M: Timer> Future for BackplaneTask<T, M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        for _ in 0..ROUNDS {
            task.post.take(cx.waker(), &mut task.inbox);
            let mut idle = task.inbox.is_empty();
            let mut inbox = mem::take(&mut task.inbox);
            inbox.drain(..).for_each(|input| task.take(input));
            task.inbox = inbox;

            let now = task.clock.now();
            if task.next_deadline().is_some_and(|at| at <= now) {
                idle = false;
                task.backplane.set_wall_clock(now, task.clock.unix());
                task.backplane.tick(now);
                task.lanes.tick(now);
            }
            task.act();
            let sources = task.backplane.sources();
            task.board.set_backplane(task.backplane.stats(), task.backplane.unready(), sources);
            if task.is_stopped() {
                return Poll::Ready(());
            }
            if idle {
                let at = task.next_deadline().and_then(|at| task.clock.instant(at));
                match at {
                    Some(at) if task.timer.poll_at(cx, at).is_ready() => {}
                    _ => return Poll::Pending,
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T, M> Drop for BackplaneTask<T, M> {
    /// Nobody waits for what will never be answered.
    fn drop(&mut self) {
        self.post.close();
    }
}

impl<T, M> fmt::Debug for BackplaneTask<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackplaneTask").field("backplane", &self.backplane).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorizer::Authorizer;
    use crate::clients::Clients;
    use crate::gateway::{Host, Parts};
    use crate::processor::Processors;
    use roomcast_core::config::Config;
    use roomcast_core::id::StreamId;
    use std::io;
    use std::sync::Mutex;
    use std::task::Waker;
    use std::time::Instant;

    /// Neither is ever used: the shard is not polled, and no time passes.
    #[derive(Debug)]
    struct Nothing;

    impl Transport for Nothing {
        fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_write(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Timer for Nothing {
        fn poll_at(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<()> {
            Poll::Pending
        }
    }

    /// Remembers what was submitted.
    type Submitted = Arc<Mutex<Vec<(Ticket, StoreOp)>>>;

    struct Recorder(Submitted);

    impl Lanes for Recorder {
        fn submit(&mut self, _: Time, _: Lane, ticket: Ticket, op: StoreOp) {
            self.0.lock().unwrap().push((ticket, op));
        }

        fn interrupt(&mut self, _: Time, _: Lane) {}

        fn reset(&mut self, _: Time, _: Lane) {}
    }

    #[test]
    fn the_relay_logs_are_read_no_further_while_a_hub_is_behind() {
        let submitted = Submitted::default();
        let recorder = Recorder(submitted.clone());
        let lanes = Box::new(move |_| -> Box<dyn Lanes> { Box::new(recorder) });
        let (processors, snapshots, clients) = (Processors::default(), Snapshots::default(), Clients::default());
        let host = Host {
            shards: 1,
            seed: [1; 32],
            timer: || Nothing,
            lanes,
            processors,
            snapshots,
            authorizer: Authorizer::default(),
            clients,
        };
        let config = Arc::new(Config::default());
        let Parts { gateway, shards: _not_ended, mut backplane } = Gateway::<Nothing>::build(config, host).unwrap();
        let mut poll = || {
            let _ = Pin::new(&mut backplane).poll(&mut Context::from_waker(Waker::noop()));
            submitted.lock().unwrap().drain(..).collect::<Vec<_>>()
        };
        let read = |ops: &[(Ticket, StoreOp)]| {
            ops.iter().find(|(_, op)| matches!(op, StoreOp::RelayRead { .. })).map(|(ticket, _)| *ticket)
        };

        gateway.post().post(Input::Ask(ShardId(0), Ask::Join { room: "r".into(), join: 1 }));
        let asked = poll();
        let (tip, _) = asked.iter().find(|(_, op)| matches!(op, StoreOp::RelayTip { .. })).unwrap();
        gateway.post().post(Input::Answer(*tip, Ok(Answer::Id(StreamId::ZERO))));
        let first = read(&poll()).expect("a hub that keeps up is read for");

        let hub = gateway.mailbox(ShardId(0));
        (0..=MOST_WAITING).for_each(|_| hub.post(shard::Input::Ready(0)));
        gateway.post().post(Input::Answer(first, Ok(Answer::Relayed(Vec::new()))));
        assert_eq!(read(&poll()), None);

        hub.take(Waker::noop(), &mut Vec::new());
        assert!(read(&poll()).is_some(), "the hub has caught up");
    }
}
