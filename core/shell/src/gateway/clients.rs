//! What code of the host says to single Socket.IO clients.

use std::time::Duration;

use futures_channel::oneshot;
use roomcast_core::hub::{Arguments, NoAck};
use roomcast_core::id::ConnId;

use super::Gateway;
use crate::clients::Order;
use crate::shard::Input;
use crate::transport::Transport;

/// Events for Socket.IO clients of this node, of which it knows by [`Options::clients`](crate::options::Options::clients); for
/// others, and for clients of every dialect, publish to a room. What is said to a client on one thread reaches it in that order. How
/// much is said at once is up to the host; a client that does not read it is a slow consumer like any other.
///
/// ```
/// use std::time::Duration;
/// use roomcast_core::hub::{Arguments, NoAck};
/// use roomcast_core::id::ConnId;
/// use roomcast_shell::gateway::Gateway;
/// use roomcast_shell::transport::Transport;
///
/// async fn ask<T: Transport>(gateway: &Gateway<T>, conn: ConnId) -> Result<Arguments, NoAck> {
///     gateway.emit_to(conn, "progress", Arguments::new(&(42, "percent")).unwrap());
///     gateway.emit_with_ack(conn, "continue?", Arguments::new(&["yes", "no"]).unwrap(), Duration::from_secs(5)).await
/// }
/// ```
impl<T: Transport> Gateway<T> {
    /// Sends an event to a Socket.IO connection. One that is gone is sent nothing.
    pub fn emit_to(&self, conn: ConnId, event: &str, args: Arguments) {
        self.order(conn, Order::Emit { event: event.into(), args });
    }

    /// Sends an event to a Socket.IO connection, and waits for the client's answer.
    ///
    /// # Errors
    /// The connection is gone, or has not answered in time.
    pub async fn emit_with_ack(&self, conn: ConnId, event: &str, args: Arguments, within: Duration) -> Result<Arguments, NoAck> {
        let (done, answer) = oneshot::channel();
        self.order(conn, Order::EmitWithAck { event: event.into(), args, within, done });
        // The connections of a shard that has stopped are gone.
        answer.await.unwrap_or(Err(NoAck::Gone))
    }

    /// Answers an event of a client that waits for that: `ack` is the number it came with.
    pub fn acknowledge(&self, conn: ConnId, ack: u64, args: Arguments) {
        self.order(conn, Order::Acknowledge { ack, args });
    }

    /// Has something said by the shard of a connection.
    pub(crate) fn order(&self, conn: ConnId, order: Order) {
        if let Some(shard) = self.shards.get(usize::from(conn.shard().0)) {
            shard.post(Input::Order(conn, order));
        }
    }
}
