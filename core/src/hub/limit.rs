//! What one connection may do, and how much of it.

use core::net::IpAddr;
use core::time::Duration;

use super::audit::source_of;
use super::connection::Connection;
use super::{Hub, HubAction, Refused, find};
use crate::address::Network;
use crate::admission::NotAdmitted;
use crate::dialect::json::{ErrorCode, Object};
use crate::id::ConnId;
use crate::limiter::Limiter;
use crate::time::Time;

/// So many times as often as messages may frames come that are none: pings, pongs, and what keeps a session alive.
const CONTROLS: u32 = 4;

/// What a connection may still do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    messages: Limiter,
    bytes: Limiter,
    /// Frames that are no messages.
    controls: Limiter,
    // The two budgets: whole ones would leave gaps between them, in each of many connections.
    errors: u32,
    refusals: u32,
    errors_since: Time,
    refusals_since: Time,
}

/// How much of something a connection may still do before it is closed.
#[derive(Debug)]
struct Budget<'a> {
    spent: &'a mut u32,
    since: &'a mut Time,
}

impl Allowance {
    fn errors(&mut self) -> Budget<'_> {
        Budget { spent: &mut self.errors, since: &mut self.errors_since }
    }

    /// Of what came too fast.
    fn refusals(&mut self) -> Budget<'_> {
        Budget { spent: &mut self.refusals, since: &mut self.refusals_since }
    }
}

impl Budget<'_> {
    /// Spends one; whether the budget is exceeded by it.
    fn spend(self, now: Time, budget: u32, reset: Duration) -> bool {
        if *self.spent == 0 || now - *self.since >= reset {
            (*self.spent, *self.since) = (0, now);
        }
        *self.spent = self.spent.saturating_add(1);
        *self.spent > budget
    }
}

impl Hub {
    /// The longest message the connection may send now, in bytes. A token must fit into its first ones.
    pub fn message_limit(&self, conn: ConnId) -> usize {
        let limits = &self.config.limits;
        match self.peek(conn) {
            Some(conn) if !conn.is_client() => self.config.socketio.max_payload,
            Some(conn) if conn.identity.is_none() => limits.message_bytes.max(limits.first_message_bytes),
            _ => limits.message_bytes,
        }
    }

    /// How many WebSocket frames a message may be made of.
    pub fn fragment_limit(&self) -> usize {
        self.config.limits.fragments
    }

    /// Charges a connection for a message of so many bytes. A client that sends too fast is told when to go on; that alone costs
    /// nothing of its error budget, because a page that subscribes to many things at once means no harm.
    pub(super) fn within_rate(&mut self, now: Time, id: ConnId, bytes: usize, reply_to: Option<&str>) -> bool {
        let Err(wait) = self.charge_message(now, id, bytes) else { return true };
        let data = Object::new()
            .string("code", ErrorCode::RateLimited.as_str())
            .string("message", "Too many requests")
            .number("retry_after_ms", wait.as_micros().div_ceil(1000) as u64)
            .finish();
        self.notice(now, id, "error", Some(data), reply_to);
        self.charge_refusal(now, id);
        false
    }

    /// The same without a word: how long to wait where it is too much.
    pub(super) fn charge_message(&mut self, now: Time, id: ConnId, bytes: usize) -> Result<(), Duration> {
        let network = self.address_of(id).map(Network::from);
        let Hub { config, stats, users, addresses, .. } = self;
        let limits = &config.limits;
        let Some(conn) = find(&mut self.conns, id) else { return Err(Duration::ZERO) };
        // Nothing is taken of either where the other has not enough.
        let mut messages = conn.allowance.messages;
        if let Err(wait) = messages.take(now, limits.messages_per_second, limits.burst) {
            stats.rate_limited += 1;
            return Err(wait);
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Err(wait) = conn.allowance.bytes.take_n(now, bytes, limits.bytes_per_second, limits.burst_bytes) {
            stats.limit_bytes += 1;
            return Err(wait);
        }
        conn.allowance.messages = messages;
        if let (Some(share), Some(identity)) = (&limits.per_user, &conn.identity) {
            let taken = users.with(now, &identity.user, |account| account.take(now, bytes, share));
            taken.inspect_err(|_| stats.limit_user_messages += 1)?;
        }
        if let (Some(limits), Some(network)) = (&limits.per_address, network) {
            let taken = addresses.with(now, &network, |account| account.take(now, bytes, &limits.share()));
            taken.inspect_err(|_| stats.limit_address_messages += 1)?;
        }
        Ok(())
    }

    /// Has a session that polls counted for its address, where that is limited: no socket stands for it.
    pub(super) fn count_session<B>(
        &self,
        request: &http::Request<B>,
        admit: impl FnOnce(IpAddr) -> Result<(), NotAdmitted>,
    ) -> Result<Option<IpAddr>, Refused> {
        let (_, address) = source_of(request);
        let address = address.filter(|_| self.config.limits.per_address.is_some());
        address.map_or(Ok(()), admit)?;
        Ok(address)
    }

    /// A connection has become a user's: the host is asked whether that is one too many, where there may be too many.
    pub(super) fn enter_as_user(&mut self, id: ConnId) {
        if self.config.limits.per_user.is_none() {
            return;
        }
        let Some(conn) = self.get(id) else { return };
        let Some(identity) = &conn.identity else { return };
        let user = identity.user.clone();
        conn.entered = true;
        self.actions.push_back(HubAction::Enter { conn: id, user });
    }

    /// A connection is a user's no longer.
    pub(super) fn leave_as_user(&mut self, entered: bool, user: Option<&str>) {
        if let Some(user) = user.filter(|_| entered) {
            self.actions.push_back(HubAction::Left { user: user.into() });
        }
    }

    /// The user of a connection has too many, as [`HubAction::Enter`] was answered: it is closed with 4029.
    pub fn turn_away(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.get(id) {
            conn.entered = false;
            self.close(now, id, 4029, "too many connections");
        }
    }

    /// Charges a connection for a frame that is no message. One that sends too many of them is not answered.
    pub(super) fn charge_control(&mut self, now: Time, id: ConnId) -> bool {
        let (rate, burst) = (self.config.limits.messages_per_second, self.config.limits.burst);
        let Some(conn) = self.get(id) else { return false };
        if conn.allowance.controls.take(now, rate.saturating_mul(CONTROLS), burst.saturating_mul(CONTROLS)).is_ok() {
            return true;
        }
        self.stats.limit_controls += 1;
        self.charge_refusal(now, id);
        false
    }

    /// A message is nested too deeply to be looked at.
    pub(super) fn refuse_nesting(&mut self, now: Time, id: ConnId, reply_to: Option<&str>) {
        self.stats.limit_nesting += 1;
        self.error(now, id, ErrorCode::InvalidMessage, "The message is nested too deeply", reply_to);
    }

    /// Something was refused because it came too fast. A connection that goes on regardless is closed: it would be answered for
    /// ever.
    pub(super) fn charge_refusal(&mut self, now: Time, id: ConnId) {
        let (budget, reset) = (self.config.limits.refusals, self.config.limits.error_reset);
        if self.get(id).is_some_and(|conn| !conn.is_closing() && conn.allowance.refusals().spend(now, budget, reset)) {
            self.stats.limit_refusals += 1;
            self.shut_out(now, id, "too many messages");
        }
    }

    /// Takes one from the error budget of a connection, and closes it when that is exceeded.
    pub(super) fn charge_error(&mut self, now: Time, id: ConnId) {
        let (budget, reset) = (self.config.limits.error_budget, self.config.limits.error_reset);
        if self.get(id).is_some_and(|conn| !conn.is_closing() && conn.allowance.errors().spend(now, budget, reset)) {
            self.stats.limit_errors += 1;
            self.shut_out(now, id, "too many errors");
        }
    }

    /// Closes a connection that has done too much of something with 4009. What still comes may be without end.
    fn shut_out(&mut self, now: Time, id: ConnId, reason: &'static str) {
        let carrier = self.peek(id).and_then(Connection::carrier).unwrap_or(id);
        self.close(now, id, 4009, reason);
        if let Some(conn) = self.get(carrier) {
            conn.shut_out = true;
        }
    }

    /// Whether nothing that a connection sends is worth reading any more: it is about to be dropped, and had better wait meanwhile
    /// than be listened to.
    pub fn is_shut_out(&self, id: ConnId) -> bool {
        self.peek(id).is_some_and(|conn| conn.shut_out)
    }
}

impl From<NotAdmitted> for Refused {
    fn from(refused: NotAdmitted) -> Refused {
        Refused { status: refused.status(), message: refused.message(), retry_after: Some(refused.retry_after()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_whole_again_after_the_reset() {
        let (mut allowance, reset) = (Allowance::default(), Duration::from_secs(600));
        let mut spend = |secs: u64| allowance.errors().spend(Time::from_micros(secs * 1_000_000), 5, reset);
        assert!(!(0..5).any(|_| spend(1)));
        assert!(spend(2) && !spend(601));
        assert_eq!(allowance.refusals, 0);
    }
}
