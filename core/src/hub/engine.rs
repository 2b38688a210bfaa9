//! Engine.IO sessions (protocol 4): what carries the packets of Socket.IO, over requests that poll or over a WebSocket.
//!
//! ```text
//! GET without sid ──▶ polling ──a WebSocket with its sid is probed, and takes over──▶ WebSocket ◀── a WebSocket without sid
//! ```
//!
//! A session is a connection of the hub: it has the outbox, the heartbeat and the phase, whichever transport it has. Those of its
//! clients that are in rooms are connections of their own, one for each namespace.

mod answer;
mod polling;
mod sid;
mod upgrade;

use core::mem;

use bytes::Bytes;
use http::StatusCode;

pub use answer::{ExchangeId, PollAnswer};
pub use sid::session_shard;

use answer::EngineError;
use polling::Polling;
pub(super) use sid::Sid;

use super::audit::source_of;
use super::connection::{Nature, Phase};
use super::credentials::{Credentials, Hidden};
use super::{Hub, Opened, Refused};
use crate::config::DialectName;
use crate::dialect::socketio::Assembly;
use crate::dialect::socketio::engine::{Handshake, Malformed, Packet};
use crate::frame::Frame;
use crate::id::ConnId;
use crate::time::Time;

/// An Engine.IO session.
#[derive(Debug)]
pub(super) struct Engine {
    /// What its client polls with; nothing over a WebSocket.
    pub(super) polling: Option<Box<Polling>>,
    /// The namespaces that its client is in.
    pub(super) sockets: Vec<ConnId>,
    /// Those it has left: one bit for each in the configuration.
    pub(super) left: u64,
    /// A packet whose attachments have not all come.
    pub(super) assembly: Option<Box<Assembly>>,
    /// The token of the first request, for namespaces that are given none.
    pub(super) token: Option<Hidden>,
}

/// What the query of a request says.
#[derive(Debug, Default)]
struct Query<'a> {
    version: Option<&'a str>,
    transport: Option<&'a str>,
    sid: Option<&'a str>,
    is_script: bool,
}

impl<'a> Query<'a> {
    fn of<B>(request: &'a http::Request<B>) -> Query<'a> {
        let mut query = Query::default();
        for (name, value) in request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "EIO" => query.version = Some(value),
                "transport" => query.transport = Some(value),
                "sid" => query.sid = Some(value),
                "j" => query.is_script = true,
                _ => {}
            }
        }
        query
    }
}

impl Hub {
    /// A WebSocket of an Engine.IO route: a session of its own, or the next transport of one that polls.
    pub(super) fn open_engine(
        &mut self,
        now: Time,
        request: &http::Request<()>,
        (route, room): (usize, Option<String>),
    ) -> Result<Opened, Refused> {
        let refused =
            |error: EngineError| Refused { status: StatusCode::BAD_REQUEST, message: error.message(), retry_after: None };
        let query = Query::of(request);
        let conn = match (query.transport, query.version, query.sid) {
            (Some("websocket"), Some("4"), Some(sid)) => self.open_probe(now, source_of(request), route, sid).map_err(refused)?,
            (Some("websocket"), Some("4"), None) => self.open_session(now, request, (route, room), None),
            (Some("websocket"), ..) => return Err(refused(EngineError::UnsupportedVersion)),
            (Some("polling"), ..) => return Err(refused(EngineError::BadRequest)),
            _ => return Err(refused(EngineError::UnknownTransport)),
        };
        Ok(Opened { conn, protocol: Credentials::of(request).protocol.map(String::from) })
    }

    /// Begins a session, which is told so.
    fn open_session<B>(
        &mut self,
        now: Time,
        request: &http::Request<B>,
        (route, room): (usize, Option<String>),
        polling: Option<Polling>,
    ) -> ConnId {
        let config = self.config.clone();
        // Over a WebSocket nobody will name it again.
        let sid = polling.as_ref().map_or_else(|| self.new_sid(), |polling| polling.sid);
        let upgrades = polling.is_some();
        let is_echo = config.routes.get(route).is_some_and(|route| route.dialect == DialectName::EngineEcho);
        let phase = if is_echo { Phase::Open } else { Phase::Authenticating };
        let engine = Engine {
            polling: polling.map(Box::new),
            sockets: Vec::new(),
            left: 0,
            assembly: None,
            token: Credentials::of(request).token.map(|token| Hidden(token.into())),
        };
        let id = self.add(now, Nature::Engine(Box::new(engine)), (route as u16, room), phase, source_of(request));
        if upgrades {
            self.sids.insert(sid, id);
        }
        let (ping_interval, ping_timeout) = (config.socketio.ping_interval, config.socketio.ping_timeout);
        if let Some(conn) = self.get(id) {
            (conn.ping_at, conn.silent_at) = (now + ping_interval, Time::NEVER);
            if !is_echo {
                conn.deadline = now + config.socketio.connect_timeout;
            }
        }
        let sid = sid.to_string();
        let handshake = Handshake { sid: &sid, upgrades, ping_interval, ping_timeout, max_payload: config.socketio.max_payload };
        self.push(now, id, Frame::text(handshake.packet().as_bytes()));
        self.arm(now, id);
        id
    }

    /// A packet came from the client of a session, or from the WebSocket that is to become its transport.
    pub(super) fn hear(&mut self, now: Time, id: ConnId, packet: Result<Packet<'_>, Malformed>) {
        let Some(conn) = self.peek(id).filter(|conn| !conn.is_closing()) else { return };
        if let Nature::Probe(engine) = conn.nature {
            return self.hear_probe(now, id, engine, packet);
        }
        let is_echo = self.dialect(id) == DialectName::EngineEcho;
        match packet {
            Ok(Packet::Message(text)) if is_echo => self.push(now, id, Frame::text(format!("4{text}").as_bytes())),
            Ok(Packet::Binary(bytes)) if is_echo => self.push(now, id, Frame::binary(&bytes)),
            Ok(Packet::Message(text)) => self.hear_text(now, id, text),
            Ok(Packet::Binary(bytes)) => self.hear_attachment(now, id, Bytes::copy_from_slice(&bytes)),
            Ok(Packet::Pong(_)) => self.hear_pong(now, id),
            Ok(Packet::Close) => self.hear_close(now, id),
            Ok(Packet::Open(_) | Packet::Upgrade | Packet::Noop) => {
                self.charge_control(now, id);
            }
            // In this version of the protocol it is the server that pings.
            Ok(Packet::Ping(_)) | Err(Malformed) => self.end_malformed(now, id),
        }
    }

    /// What a client says breaks the protocol: its session ends.
    pub(super) fn end_malformed(&mut self, now: Time, id: ConnId) {
        self.close_with(now, id, Some(1002), "protocol error", "protocol error", false);
    }

    /// A session is pinged, and has to answer in time.
    pub(super) fn ping_session(&mut self, now: Time, id: ConnId) {
        let (timeout, idle_until) = (self.config.socketio.ping_timeout, now + self.config.socketio.connect_timeout);
        let sockets = self.sockets_of(id);
        let is_idle = self.dialect(id) == DialectName::SocketIo && sockets.is_empty();
        let Some(conn) = self.get(id) else { return };
        (conn.ping_at, conn.silent_at) = (Time::NEVER, now + timeout);
        if is_idle && conn.phase == Phase::Open {
            // Its namespaces were left, and it has to enter one again.
            (conn.phase, conn.deadline) = (Phase::Authenticating, idle_until);
        }
        sockets.into_iter().for_each(|socket| self.note_ping(socket));
        self.push(now, id, Frame::text(b"2"));
    }

    fn hear_pong(&mut self, now: Time, id: ConnId) {
        let interval = self.config.socketio.ping_interval;
        let Some(conn) = self.get(id) else { return };
        if conn.ping_at != Time::NEVER {
            // One that nobody asked for puts nothing off.
            self.charge_control(now, id);
            return;
        }
        (conn.ping_at, conn.silent_at) = (now + interval, Time::NEVER);
        self.sockets_of(id).into_iter().for_each(|socket| self.note_pong(socket));
        self.arm(now, id);
    }

    /// The client ends its session.
    fn hear_close(&mut self, now: Time, id: ConnId) {
        const CAUSE: &str = "closed by the client";
        if self.is_polling(id) {
            // Its client polls no more, but for what it waits for.
            self.release(id, "6");
            return self.remove(id, CAUSE, true);
        }
        self.close_with(now, id, Some(1000), "", CAUSE, false);
    }

    /// The namespaces that a session carries.
    pub(super) fn sockets_of(&self, id: ConnId) -> Vec<ConnId> {
        self.peek(id).and_then(|conn| conn.engine()).map(|engine| engine.sockets.clone()).unwrap_or_default()
    }

    /// The namespaces of a session that ends are left.
    pub(super) fn drop_sockets(&mut self, id: ConnId, cause: &'static str) {
        let sockets = self.get(id).and_then(|conn| conn.engine_mut()).map(|engine| mem::take(&mut engine.sockets));
        sockets.into_iter().flatten().for_each(|socket| self.remove(socket, cause, false));
    }

    /// What was left of a session, or of a WebSocket that was to be one's transport, is gone.
    pub(super) fn dismantle(&mut self, id: ConnId, nature: Nature, was_let_in: bool) {
        match nature {
            Nature::Plain => {}
            Nature::Engine(engine) => {
                let Some(polling) = engine.polling else { return };
                self.forget_polling(&polling);
                if let Some(upgrade) = polling.upgrade {
                    self.remove(upgrade.conn, "its session has ended", true);
                }
                if let Some(held) = polling.held {
                    self.held.remove(&held.exchange);
                    self.respond(held, PollAnswer::error(EngineError::UnknownSession));
                }
            }
            Nature::Probe(engine) => self.forget_probe(engine, id),
            Nature::Socket { carrier, namespace } => self.leave_session(id, carrier, namespace, was_let_in),
        }
    }
}

#[cfg(test)]
mod tests;
