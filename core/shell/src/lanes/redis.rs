//! The ways to Redis: one connection for each lane, and one more that ends blocking reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use redis::{ConnectionInfo, Value};
use roomcast_core::id::Ticket;
use roomcast_core::store::redis::{Redis, Reply, error};
use roomcast_core::store::{Answer, Lane, StoreError, StoreOp};
use roomcast_core::time::Time;
use tracing::warn;

use super::Lanes;
use super::link::{Answers, Connect, Link, Server};
use super::listener::{Answered, Listener};
use crate::backplane::{Input, Post};
use crate::mailbox::ReadyWaker;

/// Bytes that are read in one go.
const READ_BUFFER: usize = 64 * 1024;
/// How soon a blocking read that has not ended is ended once more: the first time it may not have reached the server yet.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(1);
/// The same where the connection for that has failed. The read ends by itself before long.
const UNBLOCK_LATER: Duration = Duration::from_secs(1);
/// How long that connection may take to answer. The core, which keeps the deadlines of the lanes, does not know of it.
const UNBLOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of the connection that ends blocking reads. Those of the lanes follow.
const UNBLOCKER: u32 = 0;
/// The number of the first connection that listens to channels.
const LISTENERS: u32 = 1 << 16;

/// The Redis servers of a node.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The node's own.
    pub node: ConnectionInfo,
    /// Those of sources that stand in another, by the source's index.
    pub origins: BTreeMap<u16, ConnectionInfo>,
}

impl From<ConnectionInfo> for Servers {
    fn from(node: ConnectionInfo) -> Servers {
        Servers { node, origins: BTreeMap::new() }
    }
}

/// The lanes to Redis.
///
/// A blocking read never shares its connection, and nothing here gives a read up: the deadlines are the core's, and it resets
/// the lane when one passes. A read that was given up while the server still works on it would leave entries pending that
/// nobody has seen.
pub struct RedisLanes {
    server: Server,
    /// The servers of the sources that have one of their own.
    origins: BTreeMap<u16, Server>,
    redis: Redis,
    post: Arc<Post>,
    numbers: BTreeMap<Lane, u32>,
    lanes: Vec<Connection>,
    listeners: Vec<Listening>,
    unblocker: Link<()>,
    unblocker_waker: Arc<ReadyWaker<Input>>,
    /// When to ask next for the end of the reads that are to be ended, and by when the server must have answered.
    unblock_at: Option<Time>,
    unblock_until: Option<Time>,
    /// The server does not let us end reads: they end by themselves.
    cannot_unblock: bool,
    buffer: Box<[u8]>,
}

/// The connection of one lane.
struct Connection {
    lane: Lane,
    link: Link<(Ticket, StoreOp)>,
    waker: Arc<ReadyWaker<Input>>,
    /// Its blocking read is to be ended.
    interrupted: bool,
}

/// The connection of a lane on which channels are listened to.
struct Listening {
    lane: Lane,
    listener: Listener,
    waker: Arc<ReadyWaker<Input>>,
}

impl RedisLanes {
    /// Lanes to a server, which answer to a mailbox. Nothing is connected before the first operation.
    pub fn new(servers: Servers, connect: Connect, redis: Redis, post: Arc<Post>) -> RedisLanes {
        let server = |info| Server { info, connect };
        RedisLanes {
            server: server(servers.node),
            origins: servers.origins.into_iter().map(|(source, info)| (source, server(info))).collect(),
            redis,
            numbers: BTreeMap::new(),
            lanes: Vec::new(),
            listeners: Vec::new(),
            unblocker: Link::new(),
            unblocker_waker: ReadyWaker::new(UNBLOCKER, post.clone()),
            unblock_at: None,
            unblock_until: None,
            cannot_unblock: false,
            buffer: vec![0; READ_BUFFER].into(),
            post,
        }
    }

    fn connection(&mut self, lane: Lane) -> &mut Connection {
        let RedisLanes { numbers, lanes, post, .. } = self;
        let number = *numbers.entry(lane).or_insert_with(|| {
            let number = lanes.len() as u32 + 1;
            let waker = ReadyWaker::new(number, post.clone());
            lanes.push(Connection { lane, link: Link::new(), waker, interrupted: false });
            number
        });
        &mut lanes[number as usize - 1]
    }

    fn listening(&mut self, lane: Lane) -> &mut Listening {
        let RedisLanes { numbers, listeners, post, .. } = self;
        let number = *numbers.entry(lane).or_insert_with(|| {
            let number = LISTENERS + listeners.len() as u32;
            let waker = ReadyWaker::new(number, post.clone());
            listeners.push(Listening { lane, listener: Listener::new(), waker });
            number
        });
        &mut listeners[(number - LISTENERS) as usize]
    }

    fn drive_listener(&mut self, number: u32) {
        let RedisLanes { server, listeners, buffer, .. } = self;
        let Some(Listening { listener, waker, .. }) = listeners.get_mut((number - LISTENERS) as usize) else { return };
        waker.take();
        let waker = Waker::from(waker.clone());
        let answered = listener.drive(&mut Context::from_waker(&waker), server, buffer);
        self.post_answer(answered);
    }

    fn post_answer(&self, answered: Answered) {
        if let Some((ticket, answer)) = answered {
            self.post.post(Input::Answer(ticket, answer));
        }
    }

    /// Asks the server to end the blocking reads that are to be ended and have not been yet.
    fn unblock(&mut self, now: Time) {
        self.unblock_at = None;
        if self.unblocker.is_busy() {
            return;
        }
        for connection in &self.lanes {
            if let (true, Some(client)) = (connection.interrupted, connection.link.client()) {
                self.unblocker.ask((), &[vec!["CLIENT", "UNBLOCK", &client.to_string()]]);
                self.unblock_until = Some(now + UNBLOCK_TIMEOUT);
                self.unblocker_waker.ready();
            }
        }
    }

    fn drive_unblocker(&mut self, now: Time) {
        let mut answers = Vec::new();
        let waker = Waker::from(self.unblocker_waker.clone());
        self.unblocker.drive(&mut Context::from_waker(&waker), &self.server, &mut self.buffer, &mut answers);
        self.unblocked(now, answers);
    }

    fn unblocked(&mut self, now: Time, answers: Answers<()>) {
        let mut pause = UNBLOCK_AGAIN;
        for ((), answer) in answers {
            match answer {
                Ok(Value::ServerError(refusal)) if !self.cannot_unblock => {
                    warn!(%refusal, "Redis does not let blocking reads be ended: rooms that are joined may wait for one");
                    self.cannot_unblock = true;
                    self.lanes.iter_mut().for_each(|connection| connection.interrupted = false);
                }
                Ok(_) => {}
                Err(_) => pause = UNBLOCK_LATER,
            }
        }
        if !self.unblocker.is_busy() {
            self.unblock_until = None;
            self.unblock_at = self.lanes.iter().any(|connection| connection.interrupted).then(|| now + pause);
        }
    }

    fn drive_lane(&mut self, now: Time, number: u32) {
        let RedisLanes { server, origins, lanes, buffer, .. } = self;
        let Some(connection) = lanes.get_mut(number as usize - 1) else { return };
        let server = origin(connection.lane).and_then(|source| origins.get(&source)).unwrap_or(server);
        let mut answers = Vec::new();
        let waker = Waker::from(connection.waker.clone());
        connection.link.drive(&mut Context::from_waker(&waker), server, buffer, &mut answers);
        connection.interrupted &= answers.is_empty();
        // It may have been connecting when it was interrupted.
        if connection.interrupted && self.unblock_at.is_none() && !self.unblocker.is_busy() {
            self.unblock_at = Some(now);
        }
        answer_all(&self.redis, answers, &self.post);
    }
}

impl Lanes for RedisLanes {
    fn submit(&mut self, now: Time, lane: Lane, ticket: Ticket, op: StoreOp) {
        if let StoreOp::Listen { subscriptions, block } = op {
            let listening = self.listening(lane);
            listening.listener.listen(now, ticket, subscriptions, block);
            return listening.waker.ready();
        }
        let commands = self.redis.commands(&op);
        let connection = self.connection(lane);
        connection.link.ask((ticket, op), &commands);
        // Driven once for all that is submitted in this round: a whole batch leaves in one write.
        connection.waker.ready();
    }

    fn interrupt(&mut self, now: Time, lane: Lane) {
        if listens(lane) {
            let answered = self.listening(lane).listener.answer();
            return self.post_answer(answered);
        }
        // Reads of another server are those of one source, and end by themselves in time.
        if self.cannot_unblock || origin(lane).is_some_and(|source| self.origins.contains_key(&source)) {
            return;
        }
        let connection = self.connection(lane);
        // What it was about may have been answered already.
        if connection.link.is_busy() && !connection.interrupted {
            connection.interrupted = true;
            self.unblock(now);
        }
    }

    fn reset(&mut self, lane: Lane) {
        let error = StoreError::Disconnected("the lane was reset".into());
        if listens(lane) {
            let answered = self.listening(lane).listener.fail(&error);
            return self.post_answer(answered);
        }
        let mut answers = Vec::new();
        self.connection(lane).fail(&error, &mut answers);
        answer_all(&self.redis, answers, &self.post);
    }

    fn ready(&mut self, now: Time, number: u32) {
        match number {
            UNBLOCKER => {
                self.unblocker_waker.take();
                self.drive_unblocker(now);
            }
            LISTENERS.. => self.drive_listener(number),
            _ => {
                if let Some(connection) = self.lanes.get(number as usize - 1) {
                    connection.waker.take();
                }
                self.drive_lane(now, number);
            }
        }
    }

    fn tick(&mut self, now: Time) {
        for Listening { listener, waker, .. } in &mut self.listeners {
            if listener.tick(now) {
                waker.ready();
            }
        }
        if self.unblock_until.is_some_and(|until| until <= now) {
            let mut answers = Vec::new();
            self.unblocker.fail(&StoreError::Timeout, &mut answers);
            self.unblocked(now, answers);
        }
        if self.unblock_at.is_some_and(|at| at <= now) {
            self.unblock(now);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let listeners = self.listeners.iter().filter_map(|listening| listening.listener.next_deadline());
        [self.unblock_at, self.unblock_until].into_iter().flatten().chain(listeners).min()
    }
}

/// The source that a lane is about.
fn origin(lane: Lane) -> Option<u16> {
    match lane {
        Lane::Source(source) | Lane::Origin(source) => Some(source),
        Lane::Command | Lane::Relay | Lane::Tail | Lane::Channels | Lane::Channel(_) => None,
    }
}

/// Whether channels are listened to on a lane.
fn listens(lane: Lane) -> bool {
    matches!(lane, Lane::Channels | Lane::Channel(_))
}

impl Connection {
    fn fail(&mut self, error: &StoreError, answers: &mut Answers<(Ticket, StoreOp)>) {
        self.interrupted = false;
        self.link.fail(error, answers);
    }
}

fn answer_all(redis: &Redis, answers: Answers<(Ticket, StoreOp)>, post: &Post) {
    let answer =
        |(ticket, op), value: Result<Value, StoreError>| Input::Answer(ticket, value.and_then(|value| read(redis, &op, value)));
    let mut inputs = answers.into_iter().map(|(asked, value)| answer(asked, value)).collect();
    post.post_all(&mut inputs);
}

fn read(redis: &Redis, op: &StoreOp, value: Value) -> Result<Answer, StoreError> {
    match reply(value)? {
        Reply::Error(error) => Err(error),
        reply => redis.answer(op, reply),
    }
}

/// A value of the client library in the core's terms.
pub(super) fn reply(value: Value) -> Result<Reply, StoreError> {
    Ok(match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes.into()),
        Value::SimpleString(text) => Reply::Bytes(text.into()),
        Value::Okay => Reply::Bytes(Bytes::from_static(b"OK")),
        Value::Array(items) => Reply::Array(items.into_iter().map(reply).collect::<Result<_, _>>()?),
        Value::ServerError(refusal) => Reply::Error(error(refusal.code(), refusal.details().unwrap_or_default())),
        other => return Err(StoreError::Unexpected(format!("{other:?}").into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Mailbox;
    use crate::pipe::{Pipe, connect, will_connect};
    use roomcast_core::config::Config;
    use roomcast_core::id::StreamId;

    fn lanes() -> (RedisLanes, Arc<Post>) {
        let post: Arc<Post> = Arc::new(Mailbox::new());
        let info = redis::IntoConnectionInfo::into_connection_info("redis://h").unwrap();
        (RedisLanes::new(info.into(), connect, Redis::new(&Config::default()), post.clone()), post)
    }
    fn run(lanes: &mut RedisLanes, post: &Post, now: Time) -> usize {
        let mut answers = 0;
        loop {
            let mut inputs = Vec::new();
            post.take(Waker::noop(), &mut inputs);
            if inputs.is_empty() {
                return answers;
            }
            for input in inputs {
                match input {
                    Input::Ready(n) => lanes.ready(now, n),
                    Input::Answer(..) => answers += 1,
                    _ => {}
                }
            }
        }
    }
    fn read() -> StoreOp {
        StoreOp::RelayRead { cursors: vec![(0, StreamId::ZERO)], count: 1, block: Duration::from_secs(5) }
    }
    fn unblocks(wire: &Pipe) -> usize {
        wire.written().matches("UNBLOCK").count()
    }

    #[test]
    fn a_refused_unblock_is_not_asked_again_and_again() {
        let (lane, unblocker) = (Pipe::default(), Pipe::default());
        will_connect([&lane, &unblocker]);
        let (mut lanes, post) = lanes();
        let mut now = Time::ZERO;
        lanes.submit(now, Lane::Relay, Ticket(1), read());
        lane.feed(b":7\r\n");
        run(&mut lanes, &post, now);
        lanes.interrupt(now, Lane::Relay);
        unblocker.feed(b":8\r\n");
        // Five seconds in which the read blocks, as the core allows.
        while now < Time::ZERO + Duration::from_secs(5) {
            unblocker.feed(b"-NOPERM User x has no permissions to run the 'client|unblock' command\r\n");
            run(&mut lanes, &post, now);
            match lanes.next_deadline() {
                Some(at) => {
                    now = at.max(now);
                    lanes.tick(now);
                }
                None => break,
            }
        }
        assert!(unblocks(&unblocker) < 10, "{} refused commands", unblocks(&unblocker));
    }

    #[test]
    fn an_unblocker_that_never_answers_is_replaced() {
        let (lane, unblocker, fresh) = (Pipe::default(), Pipe::default(), Pipe::default());
        will_connect([&lane, &unblocker, &Pipe::default(), &fresh]);
        let (mut lanes, post) = lanes();
        let mut now = Time::ZERO;
        lanes.submit(now, Lane::Relay, Ticket(1), read());
        lane.feed(b":7\r\n");
        run(&mut lanes, &post, now);
        for _ in 0..100 {
            lanes.interrupt(now, Lane::Relay);
            run(&mut lanes, &post, now);
            assert_eq!(lanes.next_deadline().filter(|at| *at <= now), None);
            // The read ends by itself after its five seconds, and the next one begins.
            now = now + Duration::from_secs(5);
            lanes.tick(now);
            lane.feed(b"*-1\r\n");
            lanes.ready(now, 1);
            assert_eq!(run(&mut lanes, &post, now), 1);
            lanes.submit(now, Lane::Relay, Ticket(1), read());
            run(&mut lanes, &post, now);
        }
        assert!(unblocks(&unblocker) < 5, "{} questions to a connection that has been dead for 500 s", unblocks(&unblocker));
    }
}
