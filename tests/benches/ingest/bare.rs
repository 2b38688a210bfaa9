//! The raw limit: the bare client library, which does nothing with entries but carry them from stream to stream.
//!
//! One blocking connection. 256 entries are read at a time, and the next read is always on its way before the replies to the
//! last one are looked at; what a batch is followed by leaves in one write. Nothing is decoded, nothing is checked.
//!
//! * `bare`: the batch's data goes, as it came, into one entry of one relay log; each command into an entry of its own of one
//!   stream, `stream:claude-commands`. One `XACK` acknowledges the batch. None of this is atomic.
//! * `bare-commit`: the same through the script of the gateways, which is atomic and guarded: what the promise costs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use clap::ValueEnum;
use redis::{Client, Cmd, Connection, Value};
use roomcast_core::config::{Config, Destination, Source};
use roomcast_core::id::StreamId;
use roomcast_core::message::RoomName;
use roomcast_core::store::redis::Redis;
use roomcast_core::store::{Effect, GroupRef, NewEntry, Posting, StoreOp};

use crate::load::Form;

/// Reads that are on their way at the same time.
const AHEAD: usize = 2;
/// Where the data of events goes.
const ROOM: &str = "workspace:all";
/// Where all commands go.
const TARGET: &str = "stream:claude-commands";

/// How entries are stored and acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bare {
    /// By the least commands.
    #[value(name = "bare")]
    Plain,
    /// By the script of the gateways.
    #[value(name = "bare-commit")]
    Commit,
}

impl Bare {
    /// The name on the command line and in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "bare",
            Self::Commit => "bare-commit",
        }
    }
}

/// Consumes all entries, and then waits to be killed.
pub(crate) fn consume(bare: Bare, form: Form, url: &str) {
    let mut connection = Client::open(url).and_then(|client| client.get_connection()).expect("Redis is there");
    let source = form.source();
    let commands = if let Destination::Commands(to) = &source.to { Some(to.length) } else { None };
    let consumer = Consumer { bare, source, commands, config: Config::default() };
    // For each read on its way, the replies to commands that come before its own.
    let mut ahead = VecDeque::from([0; AHEAD]);
    let mut output = consumer.read().get_packed_command().repeat(AHEAD);
    loop {
        connection.send_packed_command(&output).expect("Redis reads");
        let Some(replies) = ahead.pop_front() else { break };
        for _ in 0..replies {
            reply(&mut connection);
        }
        let entries = entries(reply(&mut connection));
        output.clear();
        // Nothing more comes into the stream, so nothing more is read after an empty read.
        if !entries.is_empty() {
            let following = consumer.carry(entries);
            ahead.push_back(following.len());
            for command in following.iter().chain([&consumer.read()]) {
                command.write_packed_command(&mut output);
            }
        }
    }
    loop {
        thread::park();
    }
}

struct Consumer {
    bare: Bare,
    source: Source,
    /// Where entries are commands: about how many their stream keeps.
    commands: Option<u32>,
    config: Config,
}

impl Consumer {
    fn read(&self) -> Cmd {
        let Source { stream, group, most, .. } = &self.source;
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(group).arg(&self.config.node).arg("COUNT").arg(most).arg("STREAMS").arg(stream).arg(">");
        command
    }

    /// The commands that bring entries to their end.
    fn carry(&self, entries: Vec<Entry>) -> Vec<Cmd> {
        match self.bare {
            Bare::Plain => self.append_and_acknowledge(entries),
            Bare::Commit => self.commit(entries),
        }
    }

    fn append_and_acknowledge(&self, entries: Vec<Entry>) -> Vec<Cmd> {
        let append = |key: &str, length: u32| {
            let mut command = redis::cmd("XADD");
            command.arg(key).arg("MAXLEN").arg("~").arg(length).arg("*");
            command
        };
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(&self.source.stream).arg(&self.source.group);
        let mut commands = Vec::new();
        match self.commands {
            None => {
                let mut command = append(&format!("{}relay:{{0}}", self.config.relay.prefix), self.config.relay.length);
                for Entry { id, name: _, data } in entries {
                    command.arg(ROOM).arg(data);
                    acknowledge.arg(id);
                }
                commands.push(command);
            }
            Some(length) => {
                for Entry { id, name, data } in entries {
                    let mut command = append(TARGET, length);
                    command.arg(name).arg(data);
                    commands.push(command);
                    acknowledge.arg(id);
                }
            }
        }
        commands.push(acknowledge);
        commands
    }

    fn commit(&self, entries: Vec<Entry>) -> Vec<Cmd> {
        let effect = |name: Vec<u8>, data: Vec<u8>| match self.commands {
            None => Effect::Relay(vec![(0, vec![Posting::plain(RoomName::from(ROOM), Bytes::from(data))])]),
            Some(length) => {
                let fields = vec![(Bytes::from(name), Bytes::from(data))];
                Effect::Route(NewEntry { stream: TARGET.into(), length, fields })
            }
        };
        let effects = entries.into_iter().map(|Entry { id, name, data }| {
            let id = String::from_utf8_lossy(&id).parse::<StreamId>().expect("Redis names entries");
            (id, effect(name, data))
        });
        let group = GroupRef { stream: self.source.stream.as_str().into(), group: self.source.group.as_str().into() };
        let op = StoreOp::Commit { group, effects: Arc::new(effects.collect()), together: self.commands.is_none() };
        let command = |words: Vec<Bytes>| {
            let mut command = Cmd::new();
            for word in words {
                command.arg(&word[..]);
            }
            command
        };
        Redis::new(&self.config).commands(&op).into_iter().map(command).collect()
    }
}

/// An entry of the stream: its first field holds all of its data.
struct Entry {
    id: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
}

fn reply(connection: &mut Connection) -> Value {
    let reply = connection.recv_response().and_then(|value| value.extract_error());
    reply.unwrap_or_else(|error| panic!("Redis refuses: {error}"))
}

/// The entries in the reply to a read of one stream.
fn entries(reply: Value) -> Vec<Entry> {
    if reply == Value::Nil {
        return Vec::new();
    }
    let [stream] = array(reply);
    let [_key, entries] = array(stream);
    let Value::Array(entries) = entries else { panic!("not entries: {entries:?}") };
    let entry = |entry| {
        let [id, fields] = array(entry);
        let Value::Array(fields) = fields else { panic!("not fields: {fields:?}") };
        let [Value::BulkString(name), Value::BulkString(data)] = first(fields) else { panic!("not a field") };
        let Value::BulkString(id) = id else { panic!("not an identifier: {id:?}") };
        Entry { id, name, data }
    };
    entries.into_iter().map(entry).collect()
}

fn array<const N: usize>(value: Value) -> [Value; N] {
    let Value::Array(items) = value else { panic!("not an array: {value:?}") };
    items.try_into().unwrap_or_else(|items| panic!("an array of another length: {items:?}"))
}

fn first<const N: usize>(items: Vec<Value>) -> [Value; N] {
    let items: Vec<Value> = items.into_iter().take(N).collect();
    array(Value::Array(items))
}
