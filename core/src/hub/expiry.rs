//! Tokens that end while their connections live: to the microsecond, whatever else is due.

use core::time::Duration;
use std::sync::Arc;

use super::connection::{Connection, EXPIRY_NOTICE, Phase};
use super::{Hub, HubAction};
use crate::dialect::json::Object;
use crate::door::Ask;
use crate::id::ConnId;
use crate::survey::Survey;
use crate::time::{Time, UnixMillis};
use crate::token::{Keys, Revocation, Revoked};

/// How far ahead it is looked for the end of a token.
const MOST_AHEAD: Duration = Duration::from_secs(600);

impl Hub {
    /// Checks tokens by these keys from now on. Connections whose tokens were good stay until those expire.
    pub fn set_keys(&mut self, keys: Arc<Keys>) {
        self.verifier.set_keys(keys);
    }

    /// How long a revocation is remembered.
    pub(crate) fn revoked_for(&self) -> Duration {
        self.config.auth.revoked_for
    }

    /// Makes sure that a connection is looked at when its token expires.
    pub(super) fn arm_expiry(&mut self, now: Time, id: ConnId) {
        let unix = self.wall.unix(now);
        let Some(conn) = self.get(id).filter(|conn| conn.phase == Phase::Open) else { return };
        // What is armed stays armed when its connection is gone: no longer than this, however long tokens are good for.
        let Some(at) = conn.expires().map(|at| at.min(unix + MOST_AHEAD)) else { return };
        if at < conn.expiry_at {
            conn.expiry_at = at;
            self.expiries.arm(at, id);
        }
    }

    /// Closes all connections whose tokens have expired. Nothing that comes after that moment is for them, so this is done before
    /// anything that is told to clients or heard from them.
    pub(super) fn expire(&mut self, now: Time) {
        let unix = self.wall.unix(now);
        while let Some((at, id)) = self.expiries.pop_due(unix) {
            let Some(conn) = self.get(id).filter(|conn| conn.expiry_at == at) else { continue };
            conn.expiry_at = UnixMillis::NEVER;
            if conn.phase == Phase::Open && conn.expires().is_some_and(|at| at <= unix) {
                self.stats.expired += 1;
                self.tell_auth_error(now, id, "auth_expired", "The token has expired");
                self.close(now, id, 4001, "token expired");
            } else {
                self.arm_expiry(now, id);
            }
        }
    }

    /// The token will expire soon: a new one may be sent on the same connection.
    pub(super) fn announce_expiry(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        conn.warned = true;
        let expires = conn.expires();
        let left = expires.map_or(0, |at| at.0.saturating_sub(self.wall.unix(now).0));
        debug_assert!(left <= EXPIRY_NOTICE.as_millis() as u64 + 1, "the notice is due {EXPIRY_NOTICE:?} before the end");
        let data = Object::new().string("reason", "token_expiring").number("expires_in_ms", left).finish();
        self.notice(now, id, "auth_required", Some(data), None);
    }

    /// All that is revoked is known anew.
    pub(super) fn told_revoked(&mut self, now: Time, revoked: Arc<Revoked>) {
        // After a revocation that came by a survey nothing of it is new.
        let is_new = *revoked != **self.verifier.revoked();
        self.verifier.set_revoked(revoked);
        if is_new {
            self.close_revoked(now);
        }
    }

    /// Somebody wants to know that this hub refuses certain tokens: how many connections it has closed for that.
    pub(super) fn revoke(&mut self, now: Time, number: u64, revocation: &Revocation) {
        let mut revoked = (**self.verifier.revoked()).clone();
        revoked.add(revocation.clone());
        self.verifier.set_revoked(Arc::new(revoked));
        let connections = self.close_revoked(now);
        self.actions.push_back(HubAction::Ask(Ask::Surveyed { number, survey: Survey::Revoked { connections } }));
    }

    /// Closes every connection whose token is revoked. A walk over all connections, but a rare one.
    fn close_revoked(&mut self, now: Time) -> u64 {
        let revoked = self.verifier.revoked().clone();
        let is_revoked = |conn: &&Connection| conn.identity.as_ref().is_some_and(|identity| revoked.has(identity));
        let ids: Vec<ConnId> = self.conns.iter().map(|(_, conn)| conn).filter(is_revoked).map(|conn| conn.id).collect();
        for id in &ids {
            self.stats.revoked += 1;
            self.forget_places(*id);
            self.tell_auth_error(now, *id, "auth_revoked", "The token has been revoked");
            self.close(now, *id, 4001, "token revoked");
        }
        ids.len() as u64
    }
}
