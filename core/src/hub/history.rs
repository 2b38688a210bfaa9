//! What was said in a room, for clients that ask.

use super::access::Intent;
use super::room::Memory;
use super::{Hub, HubAction};
use crate::dialect::json::{ErrorCode, Object};
use crate::door::{Ask, ReadId, Unavailable};
use crate::id::ConnId;
use crate::position::Position;
use crate::store::{Page, Query};
use crate::time::Time;

/// Messages of one answer where the client does not say how many it wants.
const USUAL: u32 = 100;

/// Somebody who waits for what was said in a room.
#[derive(Debug)]
pub(super) struct Historian {
    conn: ConnId,
    reply_to: Option<Box<str>>,
    room: Box<str>,
    query: Query,
    /// Whether the answer can be held against the position that was asked for.
    since: bool,
}

impl Hub {
    /// A client asks for part of a room's history.
    pub(super) fn request_history(
        &mut self,
        now: Time,
        id: ConnId,
        request: Option<&str>,
        room: &str,
        (limit, since, reverse): (Option<u32>, Option<&str>, bool),
    ) {
        if let Err((code, message)) = self.may(id, Intent::Subscribe, room) {
            return self.error(now, id, code, message, request);
        }
        if !matches!(Memory::of(&self.config, room), Memory::Log | Memory::Stream) {
            return self.error(now, id, ErrorCode::NotFound, "The room keeps no history", request);
        }
        let from = since.map(|text| text.parse().unwrap_or_default());
        let query = match (from, reverse) {
            (Some(position), true) => Query::Before(position),
            (None, true) => Query::Newest,
            (position, false) => Query::After(position.unwrap_or_default()),
        };
        self.reads_made += 1;
        let read = ReadId(self.reads_made);
        let historian = Historian {
            conn: id,
            reply_to: request.map(Box::from),
            room: room.into(),
            query,
            since: since.is_some() && !reverse,
        };
        self.historians.insert(read, historian);
        let count = limit.unwrap_or(USUAL).min(self.config.limits.history).max(1) as usize;
        self.actions.push_back(HubAction::Ask(Ask::Read { read, room: room.into(), query, count }));
    }

    /// What was said is here, or cannot be had.
    pub(super) fn history_read(&mut self, now: Time, read: ReadId, result: Result<Page, Unavailable>) {
        let Some(Historian { conn, reply_to, room, query, since }) = self.historians.remove(&read) else { return };
        let Ok(page) = result else {
            let text = "What the room remembers cannot be read at the moment";
            return self.error(now, conn, ErrorCode::Unavailable, text, reply_to.as_deref());
        };
        let reverse = matches!(query, Query::Newest | Query::Before(_));
        let mut messages: Vec<(Position, &[u8])> =
            page.messages.iter().map(|(position, payload)| (*position, &payload[..])).collect();
        if reverse {
            messages.reverse();
        }
        // What does not fit can be asked for from the last position.
        let mut bytes = 0;
        messages.retain(|(_, payload)| {
            bytes += payload.len() + 64;
            bytes <= self.config.limits.outbox_bytes / 2
        });
        let mut data = Object::new().string("room", &room).messages("messages", messages.into_iter());
        data = data.position((page.head.epoch > 0).then_some(page.head));
        if since {
            data = data.boolean("recovered", page.whole);
        }
        self.notice(now, conn, "history", Some(data.finish()), reply_to.as_deref());
    }
}
