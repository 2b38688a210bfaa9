//! How connections end: a last word, the rooms left, and the socket dropped once all is written.

use super::connection::{Nature, Phase};
use super::{Hub, HubAction};
use crate::frame::Frame;
use crate::id::ConnId;
use crate::report::Report;
use crate::time::Time;

impl Hub {
    /// Closes a connection: it leaves its rooms now, its socket once everything is written and, unless the peer has had its
    /// last word (`heard_last`), once its answer has come or the time for it is up.
    pub(super) fn close_with(
        &mut self,
        now: Time,
        id: ConnId,
        code: Option<u16>,
        reason: &str,
        cause: &'static str,
        heard_last: bool,
    ) {
        let Some(conn) = self.peek(id).filter(|conn| !conn.is_closing()) else { return };
        let carrier = conn.carrier();
        self.note_limit(id, code, cause);
        if let Some(carrier) = carrier {
            return self.close_socket(now, id, carrier, code, reason);
        }
        if self.is_polling(id) {
            // A packet that says so would be taken for good by clients that come back from a transport that fails.
            return self.abort(now, id, cause);
        }
        self.leave_all(id);
        self.push(now, id, Frame::close(code, reason));
        self.begin_closing(now, id, cause, heard_last);
    }

    /// Nothing more is sent to a connection than what is queued for it.
    pub(super) fn begin_closing(&mut self, now: Time, id: ConnId, cause: &'static str, heard_last: bool) {
        let deadline = now + self.config.limits.close_timeout;
        self.drop_sockets(id, cause);
        if let Some(Nature::Probe(engine)) = self.peek(id).map(|conn| &conn.nature) {
            self.forget_probe(*engine, id);
        }
        let Some(conn) = self.get(id) else { return };
        let address = conn.address;
        conn.phase = Phase::Closing { answered: heard_last };
        conn.deadline = deadline;
        let entered = core::mem::take(&mut conn.entered);
        let user = conn.identity.take().map(|identity| identity.user);
        self.leave_as_user(entered, user.as_deref());
        self.report(|| Report::Closed { conn: id, address, user, cause });
        self.arm(now, id);
    }

    pub(super) fn drop_if_written(&mut self, id: ConnId) {
        let Some(conn) = self.peek(id) else { return };
        if conn.queue.is_none() && conn.phase == (Phase::Closing { answered: true }) {
            self.remove(id, "closed", true);
        }
    }

    /// Forgets a connection. `drop` says whether the host still has its socket.
    pub(super) fn remove(&mut self, id: ConnId, cause: &'static str, drop: bool) {
        if self.peek(id).is_none() {
            return;
        }
        self.leave_all(id);
        self.drop_sockets(id, cause);
        let has_socket = !self.is_polling(id);
        let conn = self.conns.remove(id.slot());
        let closing = conn.is_closing();
        if conn.carrier().is_none() {
            self.stats.connections -= 1;
            self.stats.closed += 1;
            if drop && has_socket {
                self.actions.push_back(HubAction::Drop(id));
            }
        }
        if !closing {
            let (address, user) = (conn.address, conn.identity.map(|identity| identity.user));
            self.leave_as_user(conn.entered, user.as_deref());
            self.report(|| Report::Closed { conn: id, address, user, cause });
        }
        self.dismantle(id, conn.nature, conn.phase != Phase::Authenticating);
    }
}
