//! From polling to a WebSocket, without losing or repeating a packet.
//!
//! The client opens a WebSocket with its session's identifier and probes it while it goes on to poll. When it has had its answer it
//! stops polling, the poll that waits is answered, and the first packet after that says that the WebSocket takes over.

use core::net::IpAddr;

use super::answer::EngineError;
use super::polling::Upgrade;
use crate::dialect::socketio::engine::{Malformed, Packet};
use crate::frame::Frame;
use crate::hub::Hub;
use crate::hub::connection::{Connection, Nature, Phase};
use crate::id::ConnId;
use crate::time::Time;

impl Hub {
    /// A WebSocket that names a session: it is probed first.
    pub(super) fn open_probe(
        &mut self,
        now: Time,
        source: (&str, Option<IpAddr>),
        route: usize,
        sid: &str,
    ) -> Result<ConnId, EngineError> {
        let engine = self.session(Some(route), sid)?;
        let is_free = self.polling(engine).is_some_and(|polling| polling.upgrade.is_none());
        if !is_free || self.peek(engine).is_none_or(Connection::is_closing) {
            return Err(EngineError::BadRequest);
        }
        let id = self.add(now, Nature::Probe(engine), (route as u16, None), Phase::Authenticating, source);
        let deadline = now + self.config.socketio.upgrade_timeout;
        if let Some(conn) = self.get(id) {
            (conn.ping_at, conn.silent_at, conn.deadline) = (Time::NEVER, Time::NEVER, deadline);
        }
        if let Some(polling) = self.polling(engine) {
            polling.upgrade = Some(Upgrade { conn: id, probed: false, ended: false });
        }
        self.arm(now, id);
        Ok(id)
    }

    /// The WebSocket that is to take over has said something.
    pub(super) fn hear_probe(&mut self, now: Time, id: ConnId, engine: ConnId, packet: Result<Packet<'_>, Malformed>) {
        if !self.charge_control(now, id) {
            return;
        }
        let is_closing = self.peek(engine).is_none_or(Connection::is_closing);
        let Some(polling) = self.polling(engine) else { return };
        let Some(upgrade) = polling.upgrade.as_mut().filter(|upgrade| upgrade.conn == id) else { return };
        match packet {
            Ok(Packet::Ping("probe")) => {
                upgrade.probed = true;
                self.push(now, id, Frame::text(b"3probe"));
                self.end_poll(engine);
            }
            Ok(Packet::Upgrade) if upgrade.probed && !is_closing => self.take_over(now, engine, id),
            _ => self.end_malformed(now, id),
        }
    }

    /// A WebSocket is not to take over any more: another one may try.
    pub(in super::super) fn forget_probe(&mut self, engine: ConnId, id: ConnId) {
        if let Some(polling) = self.polling(engine)
            && polling.upgrade.is_some_and(|upgrade| upgrade.conn == id)
        {
            polling.upgrade = None;
        }
    }

    /// The session goes on over the WebSocket, with all that it has, and from where that comes.
    fn take_over(&mut self, now: Time, from: ConnId, to: ConnId) {
        self.release(from, "6");
        let address = self.address_of(to);
        let Some(old) = self.get(from) else { return };
        let Nature::Engine(mut engine) = core::mem::replace(&mut old.nature, Nature::Plain) else { return };
        let (queue, phase) = (old.queue.take(), old.phase);
        let times = (old.ping_at, old.silent_at, old.deadline);
        let (allowance, bound) = (old.allowance, old.bound.take());
        if let Some(polling) = engine.polling.take() {
            self.forget_polling(&polling);
        }
        for socket in &engine.sockets {
            let Some(socket) = self.get(*socket) else { continue };
            socket.address = address;
            if let Nature::Socket { carrier, .. } = &mut socket.nature {
                *carrier = to;
            }
        }
        if let Some(new) = self.get(to) {
            new.nature = Nature::Engine(engine);
            new.phase = phase;
            (new.ping_at, new.silent_at, new.deadline) = times;
            (new.allowance, new.bound) = (allowance, bound);
        }
        self.remove(from, "it goes on over a WebSocket", false);
        if let Some(queue) = queue {
            self.inherit(to, *queue);
        }
        self.arm(now, to);
    }
}
