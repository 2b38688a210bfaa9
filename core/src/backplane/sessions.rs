//! The rooms of connections on their way into the store and back.

use std::collections::BTreeMap;

use core::time::Duration;

use super::Core;
use super::pause::Pause;
use super::questions::{Purpose, Wake};
use crate::door::Tell;
use crate::id::ConnId;
use crate::store::{Answer, Lane, Places, SessionOp, StoreError, StoreOp};
use crate::time::Time;

/// Connections whose rooms may wait to be saved while the store is away. Those beyond are not restored.
const MOST: usize = 10_000;

/// What is to be remembered of a connection.
#[derive(Clone, Debug)]
pub(super) struct Saving {
    pub(super) conn: ConnId,
    pub(super) token: Box<str>,
    pub(super) places: Places,
    pub(super) over: bool,
    pub(super) ttl: Duration,
}

/// Saves and restores the rooms of connections.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// What the store did not take. Only the newest of a connection counts.
    unsaved: BTreeMap<ConnId, Saving>,
    pause: Pause,
}

impl Sessions {
    pub(super) fn save(&mut self, core: &mut Core, now: Time, saving: Saving) {
        self.unsaved.remove(&saving.conn);
        let Saving { conn, token, places, over, ttl } = saving.clone();
        let op = StoreOp::Session { token, op: SessionOp::Save { conn: conn.as_u64(), places, over, ttl } };
        core.ask(now, Lane::Command, Purpose::Saved(Box::new(saving)), op);
    }

    pub(super) fn saved(&mut self, core: &mut Core, now: Time, saving: Saving, answer: Result<Answer, StoreError>) {
        if answer.is_ok() {
            return self.pause.reset();
        }
        self.pause.begin(core, now, Wake::Sessions);
        // An older state must not take the place of a newer one that has failed as well.
        if self.unsaved.len() < MOST {
            self.unsaved.entry(saving.conn).or_insert(saving);
        }
    }

    /// Whether nothing waits to be saved again.
    pub(super) fn has_saved_all(&self) -> bool {
        self.unsaved.is_empty()
    }

    /// What could not be saved is tried again.
    pub(super) fn try_again(&mut self, core: &mut Core, now: Time) {
        for saving in core::mem::take(&mut self.unsaved).into_values() {
            self.save(core, now, saving);
        }
    }

    pub(super) fn restore(&self, core: &mut Core, now: Time, conn: ConnId, token: Box<str>) {
        core.ask(now, Lane::Command, Purpose::Restored(conn), StoreOp::Session { token, op: SessionOp::Take });
    }

    pub(super) fn restored(&self, core: &mut Core, conn: ConnId, answer: Result<Answer, StoreError>) {
        if let Ok(Answer::Places(places)) = answer {
            core.tell(conn.shard(), Tell::Restored { conn, places });
        }
    }
}
