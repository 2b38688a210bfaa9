//! The ways to Redis: one connection for each lane, and one more that ends blocking reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use roomcast_core::id::Ticket;
use roomcast_core::store::redis::{Redis, Reply, error};
use roomcast_core::store::{Answer, Lane, StoreError, StoreOp};
use roomcast_core::time::Time;
use tracing::warn;

use super::link::{Answers, Link};
use super::listener::{Answered, Listener};
use super::server::{Connector, Server};
use super::watch::Watch;
use super::{Address, Lanes};
use crate::backplane::{Input, Post};
use crate::mailbox::ReadyWaker;

/// Bytes that are read in one go.
pub(super) const READ_BUFFER: usize = 64 * 1024;
/// How soon a blocking read that has not ended is ended once more: the first time it may not have reached the server yet.
pub(super) const UNBLOCK_AGAIN: Duration = Duration::from_millis(1);
/// The same where the connection for that has failed. The read ends by itself before long.
pub(super) const UNBLOCK_LATER: Duration = Duration::from_secs(1);
/// How long that connection may take to answer. The core, which keeps the deadlines of the lanes, does not know of it.
pub(super) const UNBLOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection to a server may take to be opened, with everybody who has to be asked where it is.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Words of a refusal by a server that is not the one to ask, or not any more.
const DEMOTED: [&str; 3] = ["READONLY", "MASTERDOWN", "NOREPLICAS"];

/// The number of the connection that ends blocking reads. Those of the lanes follow.
const UNBLOCKER: u32 = 0;
/// The number of the first connection that listens to channels.
const LISTENERS: u32 = 1 << 16;
/// The number of what looks for other masters: there are never so many lanes.
pub(super) const WATCH: u32 = u32::MAX;

/// The Redis servers of a node.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The node's own.
    pub node: Address,
    /// Those of sources that stand in another, by the source's index.
    pub origins: BTreeMap<u16, Address>,
    /// Those of channels that are in another, by the channel's index.
    pub channels: BTreeMap<u16, Address>,
}

impl Servers {
    /// Whether this is true of one of them.
    pub(crate) fn is_any(&self, what: impl FnMut(&Address) -> bool) -> bool {
        [&self.node].into_iter().chain(self.origins.values()).chain(self.channels.values()).any(what)
    }
}

impl From<Address> for Servers {
    fn from(node: Address) -> Servers {
        Servers { node, origins: BTreeMap::new(), channels: BTreeMap::new() }
    }
}

/// The lanes to Redis.
///
/// A blocking read never shares its connection, and nothing here gives a read up: the deadlines are the core's, and it resets
/// the lane when one passes. A read that was given up while the server still works on it would leave entries pending that
/// nobody has seen. Only what is asked before that is given up here: a connection that does not open.
///
/// A server that refuses to be written to is left: the next operation finds out where the one to ask is now. All lanes of a
/// node lead to one master, for a log is not to be read on another server than it is written on.
pub struct RedisLanes {
    server: Server,
    /// The servers of the sources that have one of their own.
    origins: BTreeMap<u16, Server>,
    channels: BTreeMap<u16, Server>,
    redis: Redis,
    post: Arc<Post>,
    numbers: BTreeMap<Lane, u32>,
    lanes: Vec<Connection>,
    listeners: Vec<Listening>,
    unblocker: Link<()>,
    unblocker_waker: Arc<ReadyWaker<Input>>,
    watch: Watch,
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
    /// By when it must be open, while it is being opened.
    open_until: Option<Time>,
}

/// The connection of a lane on which channels are listened to.
struct Listening {
    lane: Lane,
    listener: Listener,
    waker: Arc<ReadyWaker<Input>>,
}

impl RedisLanes {
    /// Lanes to a server, which answer to a mailbox. Nothing is connected before the first operation.
    pub fn new(servers: Servers, connector: &Connector, redis: Redis, post: Arc<Post>) -> RedisLanes {
        let server = |address| Server::new(address, connector);
        let all = |addresses: BTreeMap<u16, Address>| -> BTreeMap<u16, Server> {
            addresses.into_iter().map(|(index, address)| (index, server(address))).collect()
        };
        let (origins, channels, server) = (all(servers.origins), all(servers.channels), server(servers.node));
        let watched = origins.values().chain(channels.values()).chain([&server]).filter_map(Server::watched);
        RedisLanes {
            watch: Watch::new(watched, WATCH, post.clone()),
            server,
            origins,
            channels,
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
            lanes.push(Connection { lane, link: Link::new(), waker, interrupted: false, open_until: None });
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
        let RedisLanes { server, channels, listeners, buffer, .. } = self;
        let Some(Listening { lane, listener, waker }) = listeners.get_mut((number - LISTENERS) as usize) else { return };
        let server = channel(*lane).and_then(|channel| channels.get(&channel)).unwrap_or(server);
        waker.take();
        let waker = Waker::from(waker.clone());
        let epoch = server.epoch();
        let answered = listener.drive(&mut Context::from_waker(&waker), server, buffer);
        let has_moved = server.epoch() != epoch;
        self.post_answer(answered);
        if has_moved {
            self.wake_all();
        }
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
        let epoch = self.server.epoch();
        self.unblocker.drive(&mut Context::from_waker(&waker), &self.server, &mut self.buffer, &mut answers);
        if self.server.epoch() != epoch {
            self.wake_all();
        }
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
        let epoch = server.epoch();
        connection.link.drive(&mut Context::from_waker(&waker), server, buffer, &mut answers);
        let has_moved = server.epoch() != epoch;
        let is_connecting = connection.link.is_connecting();
        connection.open_until = is_connecting.then(|| connection.open_until.unwrap_or(now + CONNECT_TIMEOUT));
        connection.interrupted &= answers.is_empty();
        // It may have been connecting when it was interrupted.
        if connection.interrupted && self.unblock_at.is_none() && !self.unblocker.is_busy() {
            self.unblock_at = Some(now);
        }
        if answer_all(&self.redis, answers, &self.post) {
            // The next question finds out who is.
            self.fail(number, &StoreError::Disconnected("the server is not the one to write to".into()));
        }
        if has_moved {
            self.wake_all();
        }
    }

    /// Another server has become the master: every connection has to be looked at.
    fn wake_all(&self) {
        self.lanes.iter().for_each(|connection| connection.waker.ready());
        self.listeners.iter().for_each(|listening| listening.waker.ready());
        self.unblocker_waker.ready();
    }

    fn fail(&mut self, number: u32, error: &StoreError) {
        let mut answers = Vec::new();
        if let Some(connection) = self.lanes.get_mut(number as usize - 1) {
            connection.fail(error, &mut answers);
        }
        answer_all(&self.redis, answers, &self.post);
    }
}

impl Lanes for RedisLanes {
    fn submit(&mut self, now: Time, lane: Lane, ticket: Ticket, op: StoreOp) {
        self.watch.begin(now);
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

    fn reset(&mut self, _now: Time, lane: Lane) {
        let error = StoreError::Disconnected("the lane was reset".into());
        if listens(lane) {
            let answered = self.listening(lane).listener.fail(&error);
            return self.post_answer(answered);
        }
        if let Some(number) = self.numbers.get(&lane) {
            self.fail(*number, &error);
        }
    }

    fn ready(&mut self, now: Time, number: u32) {
        match number {
            UNBLOCKER => {
                self.unblocker_waker.take();
                self.drive_unblocker(now);
            }
            WATCH => {
                if self.watch.drive() {
                    self.wake_all();
                }
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
        if self.watch.tick(now) {
            self.wake_all();
        }
        let is_late = |connection: &Connection| connection.open_until.is_some_and(|until| until <= now);
        let late: Vec<u32> =
            (1..).zip(&self.lanes).filter(|(_, connection)| is_late(connection)).map(|(number, _)| number).collect();
        for number in late {
            self.fail(number, &StoreError::Disconnected("no connection in time".into()));
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let listeners = self.listeners.iter().filter_map(|listening| listening.listener.next_deadline());
        let open_until = self.lanes.iter().filter_map(|connection| connection.open_until);
        listeners.chain(open_until).chain(self.unblock_at).chain(self.unblock_until).chain(self.watch.next_deadline()).min()
    }
}

/// The source that a lane is about.
pub(super) fn origin(lane: Lane) -> Option<u16> {
    match lane {
        Lane::Source(source) | Lane::Origin(source) => Some(source),
        Lane::Command | Lane::Relay | Lane::Tail | Lane::Channels | Lane::Channel(_) => None,
    }
}

/// The channel, of one that is in another server than the node's, that is listened to on a lane.
pub(super) fn channel(lane: Lane) -> Option<u16> {
    if let Lane::Channel(channel) = lane { Some(channel) } else { None }
}

/// Whether channels are listened to on a lane.
fn listens(lane: Lane) -> bool {
    matches!(lane, Lane::Channels | Lane::Channel(_))
}

impl Connection {
    fn fail(&mut self, error: &StoreError, answers: &mut Answers<(Ticket, StoreOp)>) {
        (self.interrupted, self.open_until) = (false, None);
        self.link.fail(error, answers);
    }
}

/// Hands answers out, and tells whether the server has said that it is not the one to ask.
fn answer_all(redis: &Redis, answers: Answers<(Ticket, StoreOp)>, post: &Post) -> bool {
    let mut is_demoted = false;
    let answer = |((ticket, op), value): ((Ticket, StoreOp), Result<Value, StoreError>)| {
        let answer = value.and_then(|value| read(redis, &op, value));
        is_demoted |= is_of_demoted(&answer);
        Input::Answer(ticket, answer)
    };
    let mut inputs = answers.into_iter().map(answer).collect();
    post.post_all(&mut inputs);
    is_demoted
}

/// Whether a server says that it is not the one to ask.
pub(super) fn is_of_demoted(answer: &Result<Answer, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Busy(text)) if DEMOTED.iter().any(|word| text.contains(word)))
}

/// Reads the reply to an operation.
pub(super) fn read(redis: &Redis, op: &StoreOp, value: Value) -> Result<Answer, StoreError> {
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
        lanes_to("redis://h")
    }

    fn lanes_to(url: &str) -> (RedisLanes, Arc<Post>) {
        let post: Arc<Post> = Arc::new(Mailbox::new());
        let address: Address = url.parse().unwrap();
        (RedisLanes::new(address.into(), &Connector::new(connect), Redis::new(&Config::default()), post.clone()), post)
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
    #[test]
    fn a_server_that_is_not_to_be_written_to_is_left_after_its_answer() {
        for refusal in ["-READONLY You can't write\r\n", "-ERR Error running script: -READONLY You can't write\r\n"] {
            let (demoted, next) = (Pipe::default(), Pipe::default());
            will_connect([&demoted, &next]);
            let (mut lanes, post) = lanes();
            lanes.submit(Time::ZERO, Lane::Command, Ticket(1), StoreOp::Ping);
            lanes.submit(Time::ZERO, Lane::Command, Ticket(2), StoreOp::Ping);
            demoted.feed(b":1\r\n");
            demoted.feed(refusal.as_bytes());
            assert_eq!(run(&mut lanes, &post, Time::ZERO), 2, "what waits behind it is answered as well");
            lanes.submit(Time::ZERO, Lane::Command, Ticket(3), StoreOp::Ping);
            next.feed(b":1\r\n+PONG\r\n");
            assert_eq!(run(&mut lanes, &post, Time::ZERO), 1);
            assert!(next.written().contains("PING"));
        }
    }

    #[test]
    fn a_connection_that_does_not_open_is_given_up_and_the_next_sentinel_is_asked() {
        let (silent, second) = (Pipe::default(), Pipe::default());
        will_connect([&silent]);
        let (mut lanes, post) = lanes_to("redis-sentinel://a,b#m");
        lanes.submit(Time::ZERO, Lane::Relay, Ticket(1), read());
        assert_eq!(run(&mut lanes, &post, Time::ZERO), 0);
        // Those of the watch are refused.
        will_connect([]);
        let late = Time::ZERO + CONNECT_TIMEOUT;
        while let Some(now) = lanes.next_deadline().filter(|at| *at < late) {
            lanes.tick(now);
            assert_eq!(run(&mut lanes, &post, now), 0);
        }
        lanes.tick(late);
        assert_eq!(run(&mut lanes, &post, late), 1);
        will_connect([&second]);
        lanes.submit(late, Lane::Relay, Ticket(2), read());
        run(&mut lanes, &post, late);
        assert!(second.written().contains("SENTINEL"));
    }

    #[test]
    fn a_lane_that_finds_another_master_takes_the_others_with_it() {
        let sentinel = |epoch: u32| {
            let pipe = Pipe::default();
            pipe.feed(b"*2\r\n$1\r\nh\r\n$1\r\n1\r\n");
            pipe.feed(format!("*2\r\n$12\r\nconfig-epoch\r\n$1\r\n{epoch}\r\n").as_bytes());
            pipe
        };
        let master = || {
            let pipe = Pipe::default();
            pipe.feed(b"*1\r\n$6\r\nmaster\r\n");
            pipe.feed(b":7\r\n");
            pipe
        };
        let (mut lanes, post) = lanes_to("redis-sentinel://a#m");
        let (old, new, last) = (master(), master(), master());
        will_connect([&sentinel(1), &old, &sentinel(2), &new, &sentinel(2), &last]);
        lanes.submit(Time::ZERO, Lane::Relay, Ticket(1), read());
        assert_eq!(run(&mut lanes, &post, Time::ZERO), 0, "it reads");
        lanes.submit(Time::ZERO, Lane::Command, Ticket(2), StoreOp::Ping);
        new.feed(b"+PONG\r\n");
        assert_eq!(run(&mut lanes, &post, Time::ZERO), 2, "an answer, and the end of the read");
        lanes.submit(Time::ZERO, Lane::Relay, Ticket(3), read());
        run(&mut lanes, &post, Time::ZERO);
        assert!(last.written().contains("XREAD"));
    }

    #[test]
    fn a_new_master_is_found_out_while_the_old_one_goes_on() {
        let pipe = |replies: &[&str]| {
            let pipe = Pipe::default();
            replies.iter().for_each(|reply| pipe.feed(reply.as_bytes()));
            pipe
        };
        let epoch = |epoch: u32| format!("*2\r\n$12\r\nconfig-epoch\r\n$1\r\n{epoch}\r\n");
        let (first, second) = (epoch(1), epoch(2));
        let old = pipe(&["*1\r\n$6\r\nmaster\r\n", ":7\r\n"]);
        will_connect([&pipe(&["*2\r\n$1\r\nh\r\n$1\r\n1\r\n", &first]), &old]);
        let (mut lanes, post) = lanes_to("redis-sentinel://a,b,c#m");
        lanes.submit(Time::ZERO, Lane::Relay, Ticket(1), read());
        assert_eq!(run(&mut lanes, &post, Time::ZERO), 0, "it reads");
        // One says nothing, one knows what is known, the third one knows better.
        for (sentinel, answers) in [(pipe(&[]), 0), (pipe(&[&first]), 0), (pipe(&[&second]), 1)] {
            will_connect([&sentinel]);
            let now = lanes.next_deadline().unwrap();
            lanes.tick(now);
            assert_eq!(run(&mut lanes, &post, now), answers);
        }
    }
}
