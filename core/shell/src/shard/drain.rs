//! What a drain means for connections that carry plain HTTP.

use roomcast_core::time::Time;

use super::{Shard, Socket, Stage};
use crate::transport::{Timer, Transport};

impl<T: Transport, M: Timer> Shard<T, M> {
    /// Closes the connections on which clients have polled and may ask again. A client keeps them for later, and comes back when its
    /// session has ended: what it sends here then, of a session that another node has, would be refused. All others are closed with
    /// their next answer.
    pub(super) fn hang_up_on_polls(&mut self, now: Time) {
        let polls = |stage: &Stage| matches!(stage, Stage::Http(serving) if serving.polls);
        let indices: Vec<usize> =
            self.sockets.iter().filter(|(_, socket)| polls(&socket.stage)).map(|(index, _)| index).collect();
        for index in indices {
            // A request that has come already is answered.
            self.serve(now, index as u32);
            if let Some(Socket { stage: Stage::Http(serving), .. }) = self.sockets.get_mut(index) {
                serving.hang_up();
                self.serve(now, index as u32);
            }
        }
    }
}
