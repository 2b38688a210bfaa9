//! Draining: a hub is emptied before its node ends, so slowly that the other nodes bear those who come back.
//!
//! Each connection is told when to come back, and is closed. The order is drawn by lot: those who came together, or are in one
//! room, do not all go together.

use core::time::Duration;

use http::StatusCode;
use rand_chacha::rand_core::Rng as _;

use super::{Hub, Refused, Wake};
use crate::config::DrainStyle;
use crate::dialect::json::Object;
use crate::id::ConnId;
use crate::time::Time;

/// A host that was held up for longer than this does not make up for it: the other nodes would see it as a stampede.
const LATE: Duration = Duration::from_millis(50);

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// The connections in the order in which they are closed, the next one last. Some may have gone by themselves.
    left: Vec<ConnId>,
    /// When the next one is closed.
    next_at: Time,
    /// The time from one to the next at the configured rate.
    pace: Duration,
    /// By when all have been closed: where the rate is too slow for that, it is exceeded.
    closed_by: Time,
    /// When those are dropped that are still there.
    dropped_at: Time,
}

impl Hub {
    /// Begins to close every connection, as [`config::Drain`](crate::config::Drain) says, and opens no more. `hubs` is among
    /// how many the node's rate is shared, this one included. The hub's timers do the rest, which is over when it
    /// [`is_drained`](Hub::is_drained). Once begun, nothing changes it.
    pub fn drain(&mut self, now: Time, hubs: u8) {
        if self.drain.is_some() {
            return;
        }
        let mut left: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn.id).collect();
        // Fisher and Yates; the bias of the remainder is of no account.
        for at in (1..left.len()).rev() {
            left.swap(at, (self.dice.next_u64() % (at as u64 + 1)) as usize);
        }
        let (config, hubs) = (&self.config.drain, hubs.max(1));
        let one = Duration::from_secs(1) / config.rate.max(1);
        // The hubs take turns.
        let next_at = now + one * u32::from(self.shard.0 % hubs);
        let (closed_by, dropped_at) = (now + config.closing(), now + config.dropping());
        self.drain = Some(Drain { left, next_at, pace: one * u32::from(hubs), closed_by, dropped_at });
        self.timers.arm(next_at, Wake::Drain);
        self.timers.arm(dropped_at, Wake::Drain);
    }

    /// Whether the hub was told to drain, and no connection is left.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.conns.is_empty()
    }

    /// Closes those whose turn it is, and drops all once the time is up.
    pub(super) fn drain_on(&mut self, now: Time) {
        let Some(drain) = &mut self.drain else { return };
        if drain.dropped_at <= now {
            let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn.id).collect();
            return ids.into_iter().for_each(|id| self.remove(id, "the time to drain was over", true));
        }
        if drain.next_at + LATE < now {
            drain.next_at = now;
        }
        while let Some(drain) = &mut self.drain
            && drain.next_at <= now
            && let Some(id) = drain.left.pop()
        {
            let hurry = (drain.closed_by - now) / (drain.left.len() as u32).saturating_add(1);
            let next_at = drain.next_at + drain.pace.min(hurry);
            if self.send_away(now, id)
                && let Some(drain) = &mut self.drain
            {
                drain.next_at = next_at;
            }
        }
        if let Some(drain) = &self.drain
            && !drain.left.is_empty()
        {
            self.timers.arm(drain.next_at, Wake::Drain);
        }
    }

    /// Tells a client when to come back, and closes its connection. Whether there was anything to close.
    fn send_away(&mut self, now: Time, id: ConnId) -> bool {
        let Some(conn) = self.peek(id).filter(|conn| !conn.is_closing()) else { return false };
        let style = self.config.routes.get(usize::from(conn.route)).map(|route| route.drain).unwrap_or_default();
        let spread = u64::try_from(self.config.drain.spread.as_millis()).unwrap_or(u64::MAX);
        let after = self.dice.next_u64() % spread.max(1);
        self.notice(now, id, "reconnect", Some(Object::new().number("after_ms", after).finish()), None);
        match style {
            DrainStyle::Close => self.close(now, id, 1001, "the server is going away"),
            DrainStyle::Abort => self.abort(now, id),
        }
        true
    }

    /// Ends a connection without a close frame, once what is queued for it is written.
    fn abort(&mut self, now: Time, id: ConnId) {
        // The notice may have been too much for it.
        if self.peek(id).is_some_and(|conn| !conn.is_closing()) {
            self.leave_all(id);
            self.begin_closing(now, id, "the server is going away", true);
            self.drop_if_written(id);
        }
    }

    pub(super) fn refuse_while_draining(&self) -> Result<(), Refused> {
        if self.drain.is_none() {
            return Ok(());
        }
        // Others have room at once; they are only not to be asked by all in the same moment.
        let retry_after = Some(self.config.drain.spread.as_secs().max(1));
        Err(Refused { status: StatusCode::SERVICE_UNAVAILABLE, message: "The server is going away", retry_after })
    }
}
