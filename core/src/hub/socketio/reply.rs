//! What Socket.IO clients are told: acknowledgements where they wait for one, events where they do not.

use crate::dialect::json::{ErrorCode, Object};
use crate::dialect::socketio::packet;
use crate::frame::Frame;
use crate::hub::Hub;
use crate::hub::connection::Nature;
use crate::id::ConnId;
use crate::message::Json;
use crate::time::Time;

/// The version of the events' form that clients of system E are told.
const PROTOCOL_VERSION: &str = "1.0";

impl Hub {
    /// Tells a client something that the JSON dialect would tell as a frame of this type, with these data. An answer is an
    /// acknowledgement.
    pub(in super::super) fn tell_socket(
        &mut self,
        now: Time,
        id: ConnId,
        kind: &str,
        data: Option<&str>,
        reply_to: Option<&str>,
    ) {
        let data = data.unwrap_or("{}");
        let is_error = matches!(kind, "error" | "auth_failed");
        match reply_to.and_then(|ack| ack.parse().ok()) {
            Some(ack) => {
                let (status, rest) = match kind {
                    "pong" => ("pong", "{}"),
                    _ if is_error => ("error", data),
                    _ => ("success", data),
                };
                let status = Object::new().string("status", status);
                let answer = status.fields_of(rest).finish();
                let Some(namespace) = self.namespace(id) else { return };
                let text = packet::ack(&namespace, ack, &[Json::trusted(&answer)], 0);
                self.push(now, id, Frame::text(text.as_bytes()));
            }
            None if is_error => self.tell_error(now, id, data),
            None => {
                let text = self.composer.notice(kind, Some(Json::trusted(data)), None, self.wall.unix(now));
                self.push_event(now, id, kind, &text);
            }
        }
    }

    /// A client has connected: it is told as system E does.
    pub(super) fn greet(&mut self, now: Time, id: ConnId, sid: &str, user: Option<&str>) {
        let timestamp = self.wall.unix(now).to_string();
        let data = Object::new().string("connection_id", sid);
        let data = match user {
            Some(user) => data.string("user_id", user),
            None => data.json("user_id", "null"),
        };
        let data = data.string("timestamp", &timestamp).string("protocol_version", PROTOCOL_VERSION).finish();
        self.push_envelope(now, id, "connection_established", "connection.established", &data);
    }

    /// A client's token is good no longer: it will have to come back with another one. Others learn it from how they are closed.
    pub(in super::super) fn tell_auth_error(&mut self, now: Time, id: ConnId, code: &str, message: &str) {
        if self.namespace(id).is_some() {
            self.tell_error(now, id, &Object::new().string("code", code).string("message", message).finish());
        }
    }

    /// Tells of an error that answers nothing, as system E documents it.
    fn tell_error(&mut self, now: Time, id: ConnId, data: &str) {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Told {
            code: String,
            message: String,
        }
        let Told { code, message } = serde_json::from_str(data).unwrap_or_default();
        let code = match code.as_str() {
            forbidden if forbidden == ErrorCode::Forbidden.as_str() => "ROOM_ACCESS_DENIED".into(),
            other => other.to_ascii_uppercase(),
        };
        let timestamp = self.wall.unix(now).to_string();
        let data = Object::new().json("connection_id", "null").string("error_code", &code).string("error_message", &message);
        let data = data.string("timestamp", &timestamp).finish();
        self.push_envelope(now, id, "connection_error", "connection.error", &data);
    }

    /// An event in the form of system E's envelopes.
    fn push_envelope(&mut self, now: Time, id: ConnId, event: &str, kind: &str, data: &str) {
        let timestamp = self.wall.unix(now).to_string();
        let envelope =
            Object::new().string("type", kind).string("timestamp", &timestamp).json("data", data).json("source", "null");
        self.push_event(now, id, event, envelope.finish().as_bytes());
    }

    /// An event with one argument, which is JSON.
    pub(in super::super) fn push_event(&mut self, now: Time, id: ConnId, event: &str, argument: &[u8]) {
        let (Some(namespace), Ok(argument)) = (self.namespace(id), str::from_utf8(argument)) else { return };
        let text = packet::event(&namespace, event, &[Json::trusted(argument)], None, 0);
        self.push(now, id, Frame::text(text.as_bytes()));
    }

    /// The namespace of a connection of Socket.IO.
    pub(in super::super) fn namespace(&self, id: ConnId) -> Option<String> {
        let Nature::Socket { namespace, .. } = self.peek(id)?.nature else { return None };
        self.config.socketio.namespaces.get(usize::from(namespace)).cloned()
    }
}
