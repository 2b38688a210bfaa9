//! The ways to Redis: one connection for each lane, and one more that ends blocking reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, ConnectionInfo, Value};
use roomcast_core::id::Ticket;
use roomcast_core::store::redis::{Redis, Reply, error, is_existing_group};
use roomcast_core::store::{Answer, Lane, StoreError, StoreOp};
use roomcast_core::time::Time;

use super::Lanes;
use super::link::{Answers, Connect, Link, Server};
use crate::backplane::{Input, Post};
use crate::mailbox::ReadyWaker;

/// Bytes that are read in one go.
const READ_BUFFER: usize = 64 * 1024;
/// How soon a blocking read that has not ended is ended once more: the first time it may not have reached the server yet.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(1);

/// The number of the connection that ends blocking reads. Those of the lanes follow.
const UNBLOCKER: u32 = 0;

/// The lanes to one Redis.
///
/// A blocking read never shares its connection, and nothing here gives a read up: the deadlines are the core's, and it resets
/// the lane when one passes. A read that was given up while the server still works on it would leave entries pending that
/// nobody has seen.
pub struct RedisLanes {
    server: Server,
    redis: Redis,
    post: Arc<Post>,
    numbers: BTreeMap<Lane, u32>,
    lanes: Vec<Connection>,
    unblocker: Link<u32>,
    unblocker_waker: Arc<ReadyWaker<Input>>,
    unblock_at: Option<Time>,
    buffer: Box<[u8]>,
}

/// The connection of one lane.
struct Connection {
    link: Link<(Ticket, StoreOp)>,
    waker: Arc<ReadyWaker<Input>>,
    /// Its blocking read is to be ended.
    interrupted: bool,
}

impl RedisLanes {
    /// Lanes to a server, which answer to a mailbox. Nothing is connected before the first operation.
    pub fn new(info: ConnectionInfo, connect: Connect, redis: Redis, post: Arc<Post>) -> RedisLanes {
        RedisLanes {
            server: Server { info, connect },
            redis,
            numbers: BTreeMap::new(),
            lanes: Vec::new(),
            unblocker: Link::new(),
            unblocker_waker: ReadyWaker::new(UNBLOCKER, post.clone()),
            unblock_at: None,
            buffer: vec![0; READ_BUFFER].into(),
            post,
        }
    }

    fn connection(&mut self, lane: Lane) -> &mut Connection {
        let RedisLanes { numbers, lanes, post, .. } = self;
        let number = *numbers.entry(lane).or_insert_with(|| {
            let number = lanes.len() as u32 + 1;
            lanes.push(Connection { link: Link::new(), waker: ReadyWaker::new(number, post.clone()), interrupted: false });
            number
        });
        &mut lanes[number as usize - 1]
    }

    /// Asks the server to end the blocking reads that are to be ended and have not been yet.
    fn unblock(&mut self) {
        self.unblock_at = None;
        for (number, connection) in (1..).zip(&self.lanes) {
            if let (true, Some(client)) = (connection.interrupted, connection.link.client()) {
                self.unblocker.ask(number, Cmd::new().arg("CLIENT").arg("UNBLOCK").arg(client));
                self.unblocker_waker.ready();
            }
        }
    }

    fn drive_unblocker(&mut self, now: Time) {
        let RedisLanes { server, lanes, unblocker, unblocker_waker, buffer, .. } = self;
        let mut answers = Vec::new();
        let waker = Waker::from(unblocker_waker.clone());
        unblocker.drive(&mut Context::from_waker(&waker), server, buffer, &mut answers);
        for (number, answer) in answers {
            let connection = &mut lanes[number as usize - 1];
            if !connection.interrupted {
                continue;
            }
            match answer {
                Ok(_) => self.unblock_at = Some(now + UNBLOCK_AGAIN),
                // Then only its connection's end ends the read.
                Err(error) => {
                    let mut failed = Vec::new();
                    connection.fail(&error, &mut failed);
                    answer_all(&self.redis, failed, &self.post);
                }
            }
        }
    }

    fn drive_lane(&mut self, now: Time, number: u32) {
        let RedisLanes { server, lanes, buffer, .. } = self;
        let Some(connection) = lanes.get_mut(number as usize - 1) else { return };
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
    fn submit(&mut self, _now: Time, lane: Lane, ticket: Ticket, op: StoreOp) {
        let mut command = Cmd::new();
        for word in self.redis.command(&op) {
            command.arg(word.as_ref());
        }
        let connection = self.connection(lane);
        connection.link.ask((ticket, op), &command);
        // Driven once for all that is submitted in this round: a whole batch leaves in one write.
        connection.waker.ready();
    }

    fn interrupt(&mut self, lane: Lane) {
        let connection = self.connection(lane);
        // What it was about may have been answered already.
        if connection.link.is_busy() && !connection.interrupted {
            connection.interrupted = true;
            self.unblock();
        }
    }

    fn reset(&mut self, lane: Lane) {
        let mut answers = Vec::new();
        self.connection(lane).fail(&StoreError::Disconnected("the lane was reset".into()), &mut answers);
        answer_all(&self.redis, answers, &self.post);
    }

    fn ready(&mut self, now: Time, number: u32) {
        match number {
            UNBLOCKER => {
                self.unblocker_waker.take();
                self.drive_unblocker(now);
            }
            _ => {
                if let Some(connection) = self.lanes.get(number as usize - 1) {
                    connection.waker.take();
                }
                self.drive_lane(now, number);
            }
        }
    }

    fn tick(&mut self, now: Time) {
        if self.unblock_at.is_some_and(|at| at <= now) {
            self.unblock();
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.unblock_at
    }
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
    match value {
        Value::ServerError(refusal) if is_existing_group(op, refusal.code()) => Ok(Answer::Done),
        value => redis.answer(op, reply(value)?),
    }
}

/// A value of the client library in the core's terms.
fn reply(value: Value) -> Result<Reply, StoreError> {
    Ok(match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes.into()),
        Value::SimpleString(text) => Reply::Bytes(text.into()),
        Value::Okay => Reply::Bytes(Bytes::from_static(b"OK")),
        Value::Array(items) => Reply::Array(items.into_iter().map(reply).collect::<Result<_, _>>()?),
        Value::ServerError(refusal) => return Err(error(refusal.code(), refusal.details().unwrap_or_default())),
        other => return Err(StoreError::Unexpected(format!("{other:?}").into())),
    })
}
