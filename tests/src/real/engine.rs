//! The store's operations on a real Redis, without a gateway.

use std::collections::VecDeque;
use std::fmt::{Debug, Formatter};

use redis::{Connection, Value};
use roomcast_core::store::redis::{Redis, Reply, Words, error};
use roomcast_core::store::{Answer, StoreError, StoreOp};

use super::redis::RedisServer;

/// A connection that carries operations. They may be sent ahead; their answers come in their order.
pub struct Engine {
    connection: Connection,
    output: Vec<u8>,
    /// The replies to each of what has been written and not been answered.
    replies: VecDeque<usize>,
}

impl Engine {
    /// A connection to a server.
    ///
    /// # Panics
    ///
    /// When the server is not there.
    #[must_use]
    pub fn new(server: &RedisServer) -> Self {
        let connection = server.connect(0).expect("the server is there");
        Self { connection, output: Vec::new(), replies: VecDeque::new() }
    }

    /// Carries an operation of a node out. Nothing else may be on its way.
    ///
    /// # Errors
    ///
    /// What the store has against it.
    ///
    /// # Panics
    ///
    /// When the connection breaks.
    pub fn ask(&mut self, node: &Redis, op: &StoreOp) -> Result<Answer, StoreError> {
        self.put(node, op);
        self.flush();
        self.answer(node, op)
    }

    /// Writes an operation of a node, which leaves with the next [`Engine::flush`].
    pub fn put(&mut self, node: &Redis, op: &StoreOp) {
        self.put_commands(&node.commands(op));
    }

    /// Writes any commands.
    pub fn put_commands(&mut self, commands: &[Words]) {
        self.replies.push_back(commands.len());
        for words in commands {
            let mut command = redis::Cmd::new();
            for word in words {
                command.arg(&word[..]);
            }
            command.write_packed_command(&mut self.output);
        }
    }

    /// Sends what was written.
    ///
    /// # Panics
    ///
    /// When the connection breaks.
    pub fn flush(&mut self) {
        self.connection.send_packed_command(&self.output).expect("the server reads");
        self.output.clear();
    }

    /// Reads the answer to the operation that is next.
    ///
    /// # Errors
    ///
    /// As [`Engine::ask`].
    ///
    /// # Panics
    ///
    /// As [`Engine::ask`].
    pub fn answer(&mut self, node: &Redis, op: &StoreOp) -> Result<Answer, StoreError> {
        match self.reply() {
            Reply::Error(error) => Err(error),
            reply => node.answer(op, reply),
        }
    }

    /// Reads the last reply to the commands that are next, or the first that is an error.
    ///
    /// # Panics
    ///
    /// As [`Engine::ask`].
    pub fn reply(&mut self) -> Reply {
        let replies = self.replies.pop_front().expect("something was written");
        let all: Vec<Reply> = (0..replies).map(|_| reply(self.connection.recv_response().expect("the server answers"))).collect();
        let failure = all.iter().find(|reply| matches!(reply, Reply::Error(_))).cloned();
        failure.or_else(|| all.into_iter().last()).unwrap_or(Reply::Nil)
    }
}

impl Debug for Engine {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} answers are awaited", self.replies.len())
    }
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes.into()),
        Value::SimpleString(text) => Reply::Bytes(text.into()),
        Value::Okay => Reply::Bytes("OK".into()),
        Value::Array(items) => Reply::Array(items.into_iter().map(reply).collect()),
        Value::ServerError(refusal) => Reply::Error(error(refusal.code(), refusal.details().unwrap_or_default())),
        other => panic!("no operation of the store has such a reply: {other:?}"),
    }
}
