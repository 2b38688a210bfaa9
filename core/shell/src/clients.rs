//! Code of the host that hears what Socket.IO clients do.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use roomcast_core::hub::{Arguments, ClientEvent, Hub, NoAck};
use roomcast_core::id::{ConnId, ShardId};
use roomcast_core::time::Time;

/// What hears Socket.IO clients, where something does: that they connect to a namespace, that they send an event which is none of
/// Roomcast's own, and that they go. Where nothing does, such events are answered with an error.
///
/// It is called on the task of the client's shard, with what happens there in its order, and must return at once: what takes time
/// belongs into a task or a thread of its own, which answers through [`Gateway::emit_to`](crate::gateway::Gateway::emit_to) and
/// [`Gateway::acknowledge`](crate::gateway::Gateway::acknowledge).
///
/// ```
/// use roomcast_core::hub::{Arguments, ClientEvent};
/// use roomcast_shell::clients::Clients;
/// use roomcast_shell::options::Options;
///
/// let clients = Clients::new(|event, replies| match event {
///     ClientEvent::Said { conn, event, args, ack } if &**event == "echo" => match ack {
///         Some(ack) => replies.acknowledge(*conn, *ack, args),
///         None => replies.emit(*conn, "echoed", args),
///     },
///     ClientEvent::Connected { conn, user: Some(user), .. } => {
///         replies.emit(*conn, "hello", &Arguments::new(&[user]).unwrap());
///     }
///     _ => {}
/// });
/// let options = Options { clients, ..Options::default() };
/// # drop(options);
/// ```
#[derive(Clone, Default)]
pub struct Clients(Option<Handler>);

type Handler = Arc<dyn Fn(&ClientEvent, &mut Replies<'_>) + Send + Sync>;

impl Clients {
    /// This code hears them.
    pub fn new(handler: impl Fn(&ClientEvent, &mut Replies<'_>) + Send + Sync + 'static) -> Clients {
        Clients(Some(Arc::new(handler)))
    }

    /// Whether anything hears them.
    pub(crate) fn are_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Lets the host know what a client has done.
    pub(crate) fn tell(&self, event: &ClientEvent, mut replies: Replies<'_>) {
        if let Some(handler) = &self.0 {
            // A panic has been printed; what was said before it is said.
            let _ = catch_unwind(AssertUnwindSafe(|| handler(event, &mut replies)));
        }
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clients").field(&self.are_heard()).finish()
    }
}

/// What code of the host says to clients at once, while it hears one of them.
pub struct Replies<'a> {
    pub(crate) now: Time,
    pub(crate) hub: &'a mut Hub,
    pub(crate) shard: ShardId,
    /// Posts what is said to a client of another shard.
    pub(crate) post: &'a dyn Fn(ConnId, Order),
}

impl Replies<'_> {
    /// Sends an event to a Socket.IO connection. One that is gone is sent nothing.
    pub fn emit(&mut self, conn: ConnId, event: &str, args: &Arguments) {
        if conn.shard() == self.shard {
            self.hub.emit(self.now, conn, event, args);
        } else {
            (self.post)(conn, Order::Emit { event: event.into(), args: args.clone() });
        }
    }

    /// Answers an event whose client waits for that: `ack` is the number it came with.
    pub fn acknowledge(&mut self, conn: ConnId, ack: u64, args: &Arguments) {
        if conn.shard() == self.shard {
            self.hub.acknowledge(self.now, conn, ack, args);
        } else {
            (self.post)(conn, Order::Acknowledge { ack, args: args.clone() });
        }
    }
}

impl fmt::Debug for Replies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// What the host says to a client of a shard.
#[derive(Debug)]
pub enum Order {
    /// Send it an event.
    Emit {
        /// The event's name.
        event: Box<str>,
        /// Its arguments.
        args: Arguments,
    },
    /// Send it an event, and wait for the answer.
    EmitWithAck {
        /// The event's name.
        event: Box<str>,
        /// Its arguments.
        args: Arguments,
        /// How long the client may take.
        within: Duration,
        /// Where the answer goes.
        done: oneshot::Sender<Result<Arguments, NoAck>>,
    },
    /// Answer an event of its own.
    Acknowledge {
        /// The number that it came with.
        ack: u64,
        /// The arguments of the answer.
        args: Arguments,
    },
}
