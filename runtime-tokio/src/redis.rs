//! The ways to Redis: one task and one connection for each lane.
//!
//! A blocking read never shares its connection, and nothing here gives a read up: the deadlines are the core's, and it resets
//! the lane when one passes. A read that was given up while the server still works on it would leave entries pending that
//! nobody has seen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use roomcast_core::id::Ticket;
use roomcast_core::store::redis::{Redis, Reply, error, is_existing_group};
use roomcast_core::store::{Answer, Lane, StoreError, StoreOp};
use roomcast_core::time::Time;
use roomcast_shell::backplane::{Input, Post};
use roomcast_shell::lanes::Lanes;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Operations sent in one go at the most.
const MOST: usize = 256;

/// The lanes to one Redis.
#[derive(Debug)]
pub struct RedisLanes {
    server: Server,
    post: Arc<Post>,
    lanes: BTreeMap<Lane, UnboundedSender<Request>>,
}

/// A Redis server and how to speak to it.
#[derive(Clone, Debug)]
struct Server {
    client: Client,
    redis: Redis,
}

#[derive(Debug)]
enum Request {
    Submit(Ticket, StoreOp),
    Interrupt,
    Reset,
}

/// One connection, with the identifier by which its blocking read can be ended.
struct Connection {
    redis: MultiplexedConnection,
    id: i64,
}

impl RedisLanes {
    /// Lanes to a server. Nothing is connected before the first operation.
    pub fn new(client: Client, redis: Redis, post: Arc<Post>) -> RedisLanes {
        RedisLanes { server: Server { client, redis }, post, lanes: BTreeMap::new() }
    }

    fn send(&mut self, lane: Lane, request: Request) {
        let RedisLanes { server, post, lanes } = self;
        let lane = lanes.entry(lane).or_insert_with(|| {
            let (sender, requests) = unbounded_channel();
            tokio::spawn(run(lane, server.clone(), post.clone(), requests));
            sender
        });
        // The task ends only with this sender.
        let _ = lane.send(request);
    }
}

impl Lanes for RedisLanes {
    fn submit(&mut self, _now: Time, lane: Lane, ticket: Ticket, op: StoreOp) {
        self.send(lane, Request::Submit(ticket, op));
    }

    fn interrupt(&mut self, lane: Lane) {
        self.send(lane, Request::Interrupt);
    }

    fn reset(&mut self, lane: Lane) {
        self.send(lane, Request::Reset);
    }
}

/// Works off a lane's requests until its sender is gone.
async fn run(lane: Lane, server: Server, post: Arc<Post>, mut requests: UnboundedReceiver<Request>) {
    let mut connection: Option<Connection> = None;
    let mut batch: Vec<(Ticket, StoreOp)> = Vec::new();
    let mut answers: Vec<Input> = Vec::new();
    // Operations that came while others were carried out.
    let mut waiting: VecDeque<(Ticket, StoreOp)> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match requests.recv().await {
                Some(Request::Submit(ticket, op)) => waiting.push_back((ticket, op)),
                // What it was about has been answered already.
                Some(Request::Interrupt) => continue,
                Some(Request::Reset) => {
                    connection = None;
                    continue;
                }
                None => return,
            }
        }
        // Commands that came in the meantime leave together: under load a whole batch costs one round trip.
        while lane == Lane::Command && waiting.len() < MOST {
            match requests.try_recv() {
                Ok(Request::Submit(ticket, op)) => waiting.push_back((ticket, op)),
                Ok(Request::Interrupt) => {}
                Ok(Request::Reset) => connection = None,
                Err(_) => break,
            }
        }
        let most = if lane == Lane::Command { MOST } else { 1 };
        batch.extend(waiting.drain(..waiting.len().min(most)));
        match carry_out(&server, &mut connection, &batch, &mut requests, &mut waiting).await {
            Ok(values) => {
                let ops = batch.drain(..).zip(values);
                answers.extend(ops.map(|((ticket, op), value)| Input::Answer(ticket, server.read(&op, value))));
            }
            Err(error) => {
                connection = None;
                answers.extend(batch.drain(..).map(|(ticket, _)| Input::Answer(ticket, Err(error.clone()))));
            }
        }
        post.post_all(&mut answers);
    }
}

/// Carries operations out while listening to what else is sent to the lane. A reset ends it at once: neither connecting
/// nor any command may wait for a server that has gone silent.
async fn carry_out(
    server: &Server,
    connection: &mut Option<Connection>,
    batch: &[(Ticket, StoreOp)],
    requests: &mut UnboundedReceiver<Request>,
    waiting: &mut VecDeque<(Ticket, StoreOp)>,
) -> Result<Vec<Value>, StoreError> {
    let interrupt = Notify::new();
    let replies = server.carry_out(connection, batch, &interrupt);
    tokio::pin!(replies);
    loop {
        let request = tokio::select! {
            biased;
            replies = &mut replies => return replies,
            request = requests.recv() => request,
        };
        match request {
            Some(Request::Submit(ticket, op)) => waiting.push_back((ticket, op)),
            Some(Request::Interrupt) => interrupt.notify_one(),
            Some(Request::Reset) | None => return Err(StoreError::Disconnected("the lane was reset".into())),
        }
    }
}

impl Server {
    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        // No response time-out: a blocking read is as long as it says, and the core watches all of them.
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn connected<'a>(&self, connection: &'a mut Option<Connection>) -> Result<&'a mut Connection, StoreError> {
        if connection.is_none() {
            let mut redis = self.connect().await.map_err(broken)?;
            let id = redis::cmd("CLIENT").arg("ID").query_async(&mut redis).await.map_err(broken)?;
            *connection = Some(Connection { redis, id });
        }
        connection.as_mut().ok_or_else(|| StoreError::Disconnected("no connection".into()))
    }

    /// Sends operations in one go and waits for all their replies. An interrupt ends a blocking read early.
    async fn carry_out(
        &self,
        connection: &mut Option<Connection>,
        batch: &[(Ticket, StoreOp)],
        interrupt: &Notify,
    ) -> Result<Vec<Value>, StoreError> {
        let connection = self.connected(connection).await?;
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for (_, op) in batch {
            let mut command = Cmd::new();
            for word in self.redis.command(op) {
                command.arg(word.as_ref());
            }
            pipeline.add_command(command);
        }
        let id = connection.id;
        let replies = connection.redis.send_packed_commands(&pipeline, 0, batch.len());
        tokio::pin!(replies);
        tokio::select! {
            biased;
            replies = &mut replies => return replies.map_err(broken),
            () = interrupt.notified() => {}
        }
        tokio::select! {
            replies = &mut replies => replies.map_err(broken),
            error = self.unblock(id) => Err(broken(error)),
        }
    }

    /// Ends the blocking read of a connection. The read may not have reached the server yet, so this goes on until it is
    /// dropped, which is when the read has been answered. Returns only when it fails.
    async fn unblock(&self, id: i64) -> RedisError {
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        loop {
            let unblocked: Result<i64, RedisError> =
                redis::cmd("CLIENT").arg("UNBLOCK").arg(id).query_async(&mut connection).await;
            if let Err(error) = unblocked {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn read(&self, op: &StoreOp, value: Value) -> Result<Answer, StoreError> {
        match value {
            Value::ServerError(refusal) if is_existing_group(op, refusal.code()) => Ok(Answer::Done),
            Value::ServerError(refusal) => Err(error(refusal.code(), refusal.details().unwrap_or_default())),
            value => self.redis.answer(op, reply(value)?),
        }
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

/// An error of the client library: of the server where it has a code, of the connection otherwise.
fn broken(broken: RedisError) -> StoreError {
    match broken.code() {
        Some(code) => error(code, broken.detail().unwrap_or_default()),
        None => StoreError::Disconnected(broken.to_string().into()),
    }
}
