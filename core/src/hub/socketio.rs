//! Socket.IO: namespaces of a session, and what their clients say.
//!
//! A namespace that a client has connected to is a connection of the hub like any other: its commands, rooms, limits and token
//! are those of the JSON dialect, under the names of events. What it is sent goes into the outbox of its session.

mod host;
mod offset;
mod recovery;
mod reply;

pub(super) use host::Hosted;
pub use host::{AckId, Arguments, ClientEvent, NoAck};
pub(super) use recovery::Recovery;

use bytes::Bytes;
use rand_chacha::rand_core::Rng as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::Hub;
use super::connection::{Nature, Phase};
use super::room::Wish;
use crate::config::AuthMode;
use crate::dialect::is_deeper_than;
use crate::dialect::json::{self, ErrorCode, Object};
use crate::dialect::socketio::Assembly;
use crate::dialect::socketio::packet::{self, Args, Body, Packet};
use crate::frame::Frame;
use crate::id::ConnId;
use crate::message::Json;
use crate::time::Time;
use crate::token::{AuthError, Identity};

/// Why a namespace is refused: a code, and the same in words.
type Rejection = (&'static str, &'static str);

impl Hub {
    /// A message of text came over a session: a packet, which may want attachments.
    pub(super) fn hear_text(&mut self, now: Time, id: ConnId, text: &str) {
        let most = self.config.socketio.attachments;
        let Some(engine) = self.get(id).and_then(|conn| conn.engine_mut()) else { return };
        let Ok(packet) = packet::parse(text, most) else { return self.end_malformed(now, id) };
        if engine.assembly.is_some() {
            // Nothing may come between a packet and its attachments.
            return self.end_malformed(now, id);
        }
        match packet.body {
            Body::Event { attachments, .. } | Body::Ack { attachments, .. } if attachments > 0 => {
                engine.assembly = Some(Box::new(Assembly::new(text, attachments)));
            }
            _ => self.hear_packet(now, id, packet, Vec::new()),
        }
    }

    /// A binary message came over a session: an attachment.
    pub(super) fn hear_attachment(&mut self, now: Time, id: ConnId, bytes: Bytes) {
        let (most, attachments) = (self.config.socketio.max_payload, self.config.socketio.attachments);
        let Some(engine) = self.get(id).and_then(|conn| conn.engine_mut()) else { return };
        let Some(mut assembly) = engine.assembly.take() else { return self.end_malformed(now, id) };
        if assembly.bytes() + bytes.len() > most {
            return self.close(now, id, 1009, "too many bytes in one packet");
        }
        assembly.add(bytes);
        if !assembly.is_whole() {
            engine.assembly = Some(assembly);
            return;
        }
        let (text, parts) = assembly.into_parts();
        match packet::parse(&text, attachments) {
            Ok(packet) => self.hear_packet(now, id, packet, parts),
            Err(_) => self.end_malformed(now, id),
        }
    }

    fn hear_packet(&mut self, now: Time, id: ConnId, packet: Packet<'_>, attachments: Vec<Bytes>) {
        let Packet { namespace, body } = packet;
        let index = self.config.socketio.namespaces.iter().position(|known| known == namespace);
        let socket = index.and_then(|index| self.socket(id, index));
        match (index, socket, body) {
            (Some(index), None, Body::Connect(auth)) => self.connect(now, id, index as u8, auth),
            (None, _, Body::Connect(_)) => {
                let data = Object::new().string("message", "Invalid namespace").finish();
                self.push(now, id, Frame::text(packet::connect_error(namespace, &data).as_bytes()));
                self.count_fault(now, id);
            }
            (_, Some(socket), Body::Disconnect) => {
                self.forget_places(socket);
                self.remove(socket, "closed by the client", false);
            }
            (_, Some(socket), Body::Event { name, args, ack, .. }) => self.hear_event(now, socket, &name, args, ack, attachments),
            (_, Some(socket), Body::Ack { id: ack, args, .. }) => self.hear_ack(now, socket, ack, args, attachments),
            // It crossed our word, or the client's own, that the namespace is left.
            (Some(index), None, _) if self.has_left(id, index) => {
                self.charge_control(now, id);
            }
            _ => self.end_malformed(now, id),
        }
    }

    /// A client wants to enter a namespace.
    fn connect(&mut self, now: Time, session: ConnId, namespace: u8, auth: Option<Json<'_>>) {
        let config = self.config.clone();
        let Some(name) = config.socketio.namespaces.get(usize::from(namespace)) else { return };
        let (identity, token) = match self.admit_socket(now, session, auth) {
            Ok(admitted) => admitted,
            Err((code, message)) => {
                let code = Object::new().string("code", code).finish();
                let data = Object::new().string("message", message).json("data", &code).finish();
                self.push(now, session, Frame::text(packet::connect_error(name, &data).as_bytes()));
                return self.count_fault(now, session);
            }
        };
        let Some(conn) = self.get(session) else { return };
        conn.phase = Phase::Open;
        let (route, bound) = (conn.route, conn.bound.as_deref().map(String::from));
        let nature = Nature::Socket { carrier: session, namespace };
        let id = self.add(now, nature, (route, bound), Phase::Authenticating, (name, self.address_of(session)));
        if let Some(engine) = self.get(session).and_then(|conn| conn.engine_mut()) {
            // Hardly any client is in more than one.
            engine.sockets.reserve_exact(1);
            engine.sockets.push(id);
            engine.left &= !(1 << namespace);
        }
        if let Some(conn) = self.get(id) {
            (conn.ping_at, conn.silent_at, conn.deadline) = (Time::NEVER, Time::NEVER, Time::NEVER);
            conn.identity = identity.map(Box::new);
        }
        self.enter_as_user(id);
        let auth = auth.map(Json::as_str);
        if self.route(id).is_some_and(|route| route.recovery.is_some()) {
            return self.begin_recovery(now, id, auth);
        }
        if let Some(token) = token {
            self.begin_session(id, &token);
        }
        self.welcome(now, id, None, auth, false);
    }

    /// A client is let into its namespace, and into the rooms that it need not ask for.
    fn welcome(&mut self, now: Time, id: ConnId, pid: Option<&str>, auth: Option<&str>, recovered: bool) {
        let Some(name) = self.namespace(id) else { return };
        let Some(conn) = self.get(id) else { return };
        (conn.phase, conn.deadline) = (Phase::Open, Time::NEVER);
        let user = conn.identity.as_ref().map(|identity| identity.user.clone());
        if let Some(user) = &user {
            self.note_user(id, user);
        }
        let sid = self.socket_sid(pid);
        let data = Object::new().string("sid", &sid);
        let data = pid.into_iter().fold(data, |data, pid| data.string("pid", pid)).finish();
        self.push(now, id, Frame::text(packet::connect(&name, &data).as_bytes()));
        if self.config.socketio.greeting {
            self.greet(now, id, &sid, user.as_deref());
        }
        // It may have been too much for its session.
        if !self.is_open(id) {
            return;
        }
        let (auth, own) = (auth.map(Box::from), user.as_ref().map(|user| format!("user:{user}")));
        self.tell_host(|| ClientEvent::Connected { conn: id, namespace: name.into(), user, auth, recovered });
        if !recovered {
            self.expect_rooms(id, own.as_deref());
            own.into_iter().for_each(|own| self.subscribe(now, id, &own, None, Wish::default()));
            self.enter_bound(now, id);
        }
        self.arm(now, id);
        self.arm_expiry(now, id);
    }

    /// What a connection is called among clients. With the secret that it can be recovered by, it follows from that.
    fn socket_sid(&mut self, pid: Option<&str>) -> String {
        match pid {
            Some(pid) => BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(pid)[..15]),
            None => self.random_name(),
        }
    }

    /// A name that nobody guesses.
    fn random_name(&mut self) -> String {
        let mut name = [0; 15];
        self.dice.fill_bytes(&mut name);
        BASE64_URL_SAFE_NO_PAD.encode(name)
    }

    /// Whose connection it is, if anybody's, and by which token; or why it is refused.
    fn admit_socket(
        &mut self,
        now: Time,
        session: ConnId,
        auth: Option<Json<'_>>,
    ) -> Result<(Option<Identity>, Option<Box<str>>), Rejection> {
        #[derive(Deserialize)]
        struct Auth<'a> {
            #[serde(borrow)]
            token: Option<std::borrow::Cow<'a, str>>,
        }
        if self.conns.len() >= ConnId::MAX_SLOTS {
            return Err(("UNAVAILABLE", "Too many connections"));
        }
        if self.charge_message(now, session, auth.map_or(0, |auth| auth.as_str().len())).is_err() {
            return Err(("RATE_LIMITED", "Too many requests"));
        }
        if auth.is_some_and(|auth| is_deeper_than(self.config.limits.nesting, auth.as_str())) {
            self.stats.limit_nesting += 1;
            return Err(("INVALID_MESSAGE", "The message is nested too deeply"));
        }
        let mode = self.route(session).map(|route| route.auth).unwrap_or_default();
        if mode == AuthMode::Ignored {
            return Ok((None, None));
        }
        let given = auth.and_then(|auth| serde_json::from_str::<Auth<'_>>(auth.as_str()).ok()?.token);
        let first = self.peek(session).and_then(|conn| conn.engine()?.token.as_ref()).map(|token| token.0.clone());
        match given.filter(|token| !token.is_empty()).map(Box::from).or(first) {
            None if mode == AuthMode::Required => Err(("AUTH_MISSING", "Authentication token required")),
            None => Ok((None, None)),
            Some(token) => match self.verify(now, session, &token) {
                Ok(identity) => Ok((Some(identity), Some(token))),
                Err(AuthError { code, message }) => {
                    self.stats.auth_failed += 1;
                    self.note_bad_token(session, code);
                    Err(("AUTH_FAILED", message))
                }
            },
        }
    }

    /// A client sends an event: a command, or something for the host.
    fn hear_event(&mut self, now: Time, id: ConnId, name: &str, args: Args<'_>, ack: Option<u64>, attachments: Vec<Bytes>) {
        let reply = ack.map(|ack| ack.to_string());
        let reply = reply.as_deref();
        if !self.is_open(id) {
            // It is not decided yet whether it goes on where it was.
            return self.error(now, id, ErrorCode::Unauthorized, "Connect first", reply);
        }
        let bytes = name.len() + args.as_str().len() + attachments.iter().map(Bytes::len).sum::<usize>();
        if !self.within_rate(now, id, bytes, reply) {
            return;
        }
        if is_deeper_than(self.config.limits.nesting, args.as_str()) {
            return self.refuse_nesting(now, id, reply);
        }
        let first = args.first().map_or("{}", Json::as_str);
        // A room may be named without an object around it.
        let object = if first.starts_with('"') { format!("{{\"room\":{first}}}") } else { first.into() };
        let data = serde_json::from_str::<&RawValue>(&object).ok();
        let kind = if name == "debug:rooms" { "rooms" } else { name };
        match json::command(kind, &object, data) {
            Ok(_) if !attachments.is_empty() => {
                self.error(now, id, ErrorCode::InvalidMessage, "Binary data cannot be sent with this", reply);
            }
            Ok(command) => self.perform(now, id, reply, command),
            Err((ErrorCode::UnsupportedMessage, _)) if self.hosted.is_on() => {
                let args = Arguments::trusted(args.as_array(), attachments);
                self.tell_host(|| ClientEvent::Said { conn: id, event: name.into(), args, ack });
            }
            Err((code, message)) => self.error(now, id, code, message, reply),
        }
    }

    /// A namespace is to be closed. Where its client is not to come back it is told so, and the rest of the session goes on;
    /// otherwise the whole session ends, for clients come back by themselves from that alone.
    pub(super) fn close_socket(&mut self, now: Time, id: ConnId, carrier: ConnId, code: Option<u16>, reason: &str) {
        if code != Some(4003) {
            return self.close_with(now, carrier, code, reason, "one of its namespaces was closed", false);
        }
        if let Some(namespace) = self.namespace(id) {
            self.push(now, id, Frame::text(packet::disconnect(&namespace).as_bytes()));
        }
        self.remove(id, "forbidden", false);
    }

    /// A session has caused an error that is none of a namespace.
    fn count_fault(&mut self, now: Time, id: ConnId) {
        self.stats.errors += 1;
        self.charge_error(now, id);
    }

    /// A namespace is no longer part of its session.
    pub(super) fn leave_session(&mut self, id: ConnId, carrier: ConnId, namespace: u8, was_let_in: bool) {
        if let Some(engine) = self.get(carrier).and_then(|conn| conn.engine_mut()) {
            engine.sockets.retain(|socket| *socket != id);
            engine.left |= 1 << namespace;
        }
        self.forget_asked(id);
        if was_let_in {
            self.tell_host(|| ClientEvent::Gone { conn: id });
        }
    }

    /// The connection of a session in a namespace.
    fn socket(&self, session: ConnId, index: usize) -> Option<ConnId> {
        let sockets = &self.peek(session)?.engine()?.sockets;
        let is_it = |id: &&ConnId| {
            self.peek(**id)
                .is_some_and(|conn| matches!(conn.nature, Nature::Socket { namespace, .. } if usize::from(namespace) == index))
        };
        sockets.iter().find(is_it).copied()
    }

    fn has_left(&self, session: ConnId, index: usize) -> bool {
        let engine = self.peek(session).and_then(|conn| conn.engine());
        engine.is_some_and(|engine| engine.left >> index & 1 == 1)
    }
}
