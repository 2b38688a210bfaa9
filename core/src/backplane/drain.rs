//! The end of a node: what was begun is brought to its end, and nothing is begun any more.

use super::Backplane;
use super::consumer::Consumer;
use crate::time::Time;

impl Backplane {
    /// The node is about to end: nothing more is read from sources. What is in hand is brought to its end; what the host's code
    /// has not been given yet is left pending for others. Hubs are served as before.
    pub fn drain(&mut self, now: Time) {
        for consumer in &mut self.consumers {
            consumer.drain(&mut self.core, now);
        }
    }

    /// No hub will ask for anything any more: what they have asked for is brought to its end, and the other nodes are told that
    /// this one has nobody left.
    pub fn leave(&mut self, now: Time) {
        if !self.leaving {
            self.leaving = true;
            self.drain(now);
            self.outbound.flush(&mut self.core, now);
            self.presence.flush(&mut self.core, now);
            self.presence.leave(&mut self.core, now);
        }
    }

    /// Whether, after [`Backplane::leave`], everything has come to its end. While the store does not answer it has not: how long
    /// to wait is the host's decision.
    pub fn is_drained(&self) -> bool {
        self.leaving
            && self.core.actions.is_empty()
            && !self.core.questions.has_lasting()
            && self.outbound.is_empty()
            && self.consumers.iter().all(Consumer::is_drained)
            && self.sessions.has_saved_all()
            && self.relay.has_dropped_all()
            && self.presence.has_left()
    }
}
