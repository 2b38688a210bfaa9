//! The code of a host, which hears Socket.IO clients and speaks to them.

use std::time::Duration;

use roomcast_core::hub::{AckId, Arguments, ClientEvent, NoAck};
use roomcast_core::id::ConnId;

use super::super::World;

impl World {
    /// A node has code that wants to hear clients.
    pub fn set_hosted(&mut self, node: usize) {
        self.hosts[node].node().expect("it runs").set_hosted(true);
    }

    /// What that code was told since it was asked last.
    pub fn heard(&mut self) -> Vec<ClientEvent> {
        std::mem::take(&mut self.sessions.heard)
    }

    /// The code answers an event.
    pub fn acknowledge(&mut self, node: usize, conn: ConnId, ack: u64, args: &Arguments) {
        let now = self.now;
        self.hosts[node].node().expect("it runs").acknowledge(now, conn, ack, args);
        self.pump(node);
    }

    /// The code sends an event, to be acknowledged in so much time.
    pub fn ask_client(&mut self, node: usize, conn: ConnId, event: &str, args: &Arguments, within: Duration, ack: AckId) {
        let now = self.now;
        self.hosts[node].node().expect("it runs").emit_with_ack(now, conn, event, args, within, ack);
        self.pump(node);
    }

    /// What came of that, once it is known.
    pub fn acked(&self, ack: AckId) -> Option<&Result<Arguments, NoAck>> {
        self.sessions.acked.get(&ack)
    }

    pub(in super::super) fn told_host(&mut self, event: ClientEvent) {
        self.sessions.heard.push(event);
    }

    pub(in super::super) fn client_acked(&mut self, ack: AckId, result: Result<Arguments, NoAck>) {
        let before = self.sessions.acked.insert(ack, result);
        assert!(before.is_none(), "{ack:?} comes to its end once");
    }
}
