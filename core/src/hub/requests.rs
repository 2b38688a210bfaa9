//! What a client asks for in the JSON dialect, and what it is told.

use super::connection::Phase;
use super::petition::Wanted;
use super::room::{Reply, Wish};
use super::{Hub, HubAction};
use crate::config::{AuthMode, Keep};
use crate::dialect::is_deeper_than;
use crate::dialect::json::{self, Command, ErrorCode, Object, Request, Topic};
use crate::door::{Ask, Publish, PublishId, Published};
use crate::id::ConnId;
use crate::message::{Json, Outgoing};
use crate::position::Position;
use crate::time::Time;
use crate::token::{AuthError, Identity};

/// A client that waits for the confirmation of its publish.
#[derive(Debug)]
pub(super) struct Publisher {
    conn: ConnId,
    reply_to: Option<Box<str>>,
    message_id: Box<str>,
}

impl Hub {
    /// A text message of the JSON dialect.
    pub(super) fn request(&mut self, now: Time, id: ConnId, text: &str) {
        if !self.within_rate(now, id, text.len(), None) {
            return;
        }
        if is_deeper_than(self.config.limits.nesting, text) {
            return self.refuse_nesting(now, id, None);
        }
        match json::parse(text) {
            Ok(Request { id: request, command }) => self.perform(now, id, request.as_deref(), command),
            Err(error) => self.error(now, id, error.code, error.message, error.id.as_deref()),
        }
    }

    pub(super) fn refuse_binary(&mut self, now: Time, id: ConnId, bytes: usize) {
        if self.within_rate(now, id, bytes, None) {
            self.error(now, id, ErrorCode::UnsupportedMessage, "Binary messages are not supported here", None);
        }
    }

    /// Checks a token; a good one opens the connection, a bad one closes it.
    pub(super) fn authenticate(&mut self, now: Time, id: ConnId, token: &str, reply_to: Option<&str>) {
        let identity = match self.verify(now, id, token) {
            Ok(identity) => identity,
            Err(AuthError { code, message }) => {
                self.stats.auth_failed += 1;
                self.note_bad_token(id, code);
                let data = Object::new().string("code", code).string("message", message).finish();
                self.notice(now, id, "auth_failed", Some(data), reply_to);
                return self.close(now, id, 4001, code);
            }
        };
        let user = identity.user.clone();
        let Some(conn) = self.get(id) else { return };
        // A renewed token must speak for the same user: rooms and limits were granted to that one.
        if conn.identity.as_ref().is_some_and(|known| known.user != user) {
            self.note_bad_token(id, "token_user");
            let data = Object::new().string("code", "token_user").string("message", "The token is for another user").finish();
            self.notice(now, id, "auth_failed", Some(data), reply_to);
            return self.close(now, id, 4001, "token for another user");
        }
        let first = conn.identity.is_none();
        conn.phase = Phase::Open;
        conn.warned = false;
        conn.identity = Some(Box::new(identity));
        if first {
            conn.deadline = Time::NEVER;
            self.identified(id);
            self.note_user(id, &user);
            self.enter_as_user(id);
        }
        let data = Object::new().string("user_id", &user).string("message", "Authentication successful").finish();
        self.notice(now, id, "auth_success", Some(data), reply_to);
        self.leave_forbidden(now, id);
        self.begin_session(id, token);
        if first {
            self.subscribe(now, id, &format!("user:{user}"), None, Wish::default());
            self.enter_bound(now, id);
        }
        self.arm(now, id);
        self.arm_expiry(now, id);
    }

    /// Checks a token, and whether it has the claims that the connection's route demands.
    pub(super) fn verify(&mut self, now: Time, id: ConnId, token: &str) -> Result<Identity, AuthError> {
        let claims = self.route(id).map_or(&[][..], |route| &route.claims);
        let mut verified = self.verifier.verify_with(token, self.wall.unix(now), claims);
        if verified.is_err() && self.config.auth.jwks.is_some() && self.verifier.lacks_key(token) {
            self.actions.push_back(HubAction::LacksKey);
        }
        if let Ok(Identity { grants: Some(grants), .. }) = &mut verified {
            // What many grant alike is kept once.
            match &self.grants {
                Some(known) if known == grants => *grants = known.clone(),
                _ => self.grants = Some(grants.clone()),
            }
        }
        verified
    }

    /// The backplane has a client's message, or not.
    pub(super) fn published(&mut self, now: Time, publish: PublishId, result: Published) {
        let Some(Publisher { conn, reply_to, message_id }) = self.publishers.remove(&publish) else { return };
        let Some(publisher) = self.get(conn) else { return };
        publisher.publishing = publisher.publishing.saturating_sub(1);
        match result {
            Ok(position) => {
                let data = Object::new().string("message_id", &message_id).position(position).finish();
                self.notice(now, conn, "published", Some(data), reply_to.as_deref());
            }
            Err(why) => self.error(now, conn, ErrorCode::Unavailable, why.message(), reply_to.as_deref()),
        }
    }

    /// Tells a client of an error, and closes the connection when it has caused too many.
    pub(super) fn error(&mut self, now: Time, id: ConnId, code: ErrorCode, message: &str, reply_to: Option<&str>) {
        let data = Object::new().string("code", code.as_str()).string("message", message).finish();
        self.stats.errors += 1;
        self.notice(now, id, "error", Some(data), reply_to);
        // What the store cannot do is not the client's fault.
        if code != ErrorCode::Unavailable {
            self.charge_error(now, id);
        }
    }

    pub(super) fn perform(&mut self, now: Time, id: ConnId, request: Option<&str>, command: Command<'_>) {
        let Some(conn) = self.peek(id) else { return };
        if conn.phase == Phase::Authenticating && !matches!(command, Command::Auth { .. } | Command::Ping) {
            return self.error(now, id, ErrorCode::Unauthorized, "Authenticate first", request);
        }
        match command {
            Command::Ping => {
                let data = Object::new().string("status", "ok").finish();
                self.notice(now, id, "pong", Some(data), request);
            }
            Command::Auth { .. } if self.route(id).is_some_and(|route| route.auth == AuthMode::Ignored) => {
                self.error(now, id, ErrorCode::UnsupportedMessage, "Tokens are not looked at here", request);
            }
            Command::Auth { token } => self.authenticate(now, id, &token, request),
            Command::Subscribe(topic) => self.request_room(now, id, request, topic),
            Command::Unsubscribe(Topic { room, echo, .. }) => {
                self.unsubscribe(now, id, &room);
                let data = Object::new().string("room", &room).finish();
                let echo = echo.map(|(name, value)| (name, value.as_str().into()));
                self.confirm(now, id, "unsubscribed", data, request, echo);
            }
            Command::Publish { room, kind, data } => self.request_publish(now, id, request, &room, &kind, data),
            Command::History { room, limit, since, reverse } => {
                self.request_history(now, id, request, &room, (limit, since.as_deref(), reverse));
            }
            Command::Presence { room } => self.request_presence(now, id, request, &room),
            Command::Rooms => {
                let names = conn.rooms.iter().filter_map(|membership| self.rooms.get(membership.room as usize));
                let data = Object::new().strings("rooms", names.map(|room| &*room.name)).finish();
                self.notice(now, id, "rooms", Some(data), request);
            }
        }
    }

    fn request_room(&mut self, now: Time, id: ConnId, request: Option<&str>, topic: Topic<'_>) {
        let echo = topic.echo.map(|(name, value)| (name, value.as_str().into()));
        let wish = self.wish(&topic);
        let reply = Reply { to: request.map(Box::from), echo, ..Reply::default() };
        self.want(now, id, Wanted::Subscribe { room: topic.room.into(), reply, wish });
    }

    /// What a client wants to be sent of what its room remembers.
    pub(super) fn wish(&self, topic: &Topic<'_>) -> Wish {
        // What cannot be read is no position of any log, and so is never recovered.
        let unknown = Position { epoch: u64::MAX, offset: u64::MAX, tag: u32::MAX };
        let recover = topic.recover.as_ref().map(|text| text.parse().unwrap_or(unknown));
        let usual = match self.config.rule(&topic.room).and_then(|rule| rule.keep.as_ref()) {
            Some(Keep::History(history)) => history.newest,
            Some(Keep::Stream(stream)) => stream.newest,
            Some(Keep::Inbox(_)) | None => 0,
        };
        let most = self.config.limits.history;
        Wish { recover, newest: topic.history.unwrap_or(usual).min(most) }
    }

    fn request_publish(&mut self, now: Time, id: ConnId, request: Option<&str>, room: &str, kind: &str, data: Json<'_>) {
        let (room, kind, data) = (room.into(), kind.into(), data.as_str().into());
        self.want(now, id, Wanted::Publish { room, kind, data, reply_to: request.map(Box::from) });
    }

    /// A connection that may says something in a room.
    pub(super) fn publish(&mut self, now: Time, id: ConnId, room: &str, (kind, data): (&str, &str), reply_to: Option<Box<str>>) {
        let (most, longest) = (self.config.limits.publishes_in_flight, self.config.limits.message_bytes);
        // The messages of some dialects may be longer.
        if data.len() > longest {
            return self.error(now, id, ErrorCode::LimitExceeded, "The message is too long", reply_to.as_deref());
        }
        let Some(conn) = self.get(id) else { return };
        if usize::from(conn.publishing) >= most {
            self.stats.limit_publishes += 1;
            let message = "Too many publishes wait for the store";
            return self.error(now, id, ErrorCode::LimitExceeded, message, reply_to.as_deref());
        }
        conn.publishing = conn.publishing.saturating_add(1);
        self.publishes += 1;
        let publish = PublishId(self.publishes);
        let message = Outgoing { kind, data: Json::trusted(data), timestamp: None, message_id: None };
        let envelope = self.composer.envelope(room, &message, self.wall.unix(now));
        self.publishers.insert(publish, Publisher { conn: id, reply_to, message_id: envelope.message_id });
        let publish = Publish { id: publish, room: room.into(), payload: envelope.payload, once: None };
        self.actions.push_back(HubAction::Ask(Ask::Publish(publish)));
    }
}
