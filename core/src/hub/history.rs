//! What was said in a room, for clients that ask.

use super::petition::Wanted;
use super::{Hub, HubAction};
use crate::dialect::json::ErrorCode;
use crate::door::{Ask, ReadId, Unavailable};
use crate::history::Reading;
use crate::id::ConnId;
use crate::store::Page;
use crate::time::Time;

/// Somebody who waits for what was said in a room.
#[derive(Debug)]
pub(super) struct Historian {
    conn: ConnId,
    reply_to: Option<Box<str>>,
    reading: Reading,
}

/// Which part of a history: how many messages at the most, those behind or before which position, and whether backwards.
pub(super) type Part = (Option<u32>, Option<Box<str>>, bool);

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
        let (room, since, reply_to) = (room.into(), since.map(Box::from), request.map(Box::from));
        self.want(now, id, Wanted::History { room, part: (limit, since, reverse), reply_to });
    }

    /// Reads for a connection that may know what was said in a room.
    pub(super) fn read_history(
        &mut self,
        now: Time,
        id: ConnId,
        room: &str,
        (limit, since, reverse): Part,
        reply_to: Option<Box<str>>,
    ) {
        let Some(reading) = Reading::new(&self.config, room, limit, since.as_deref(), reverse) else {
            return self.error(now, id, ErrorCode::NotFound, "The room keeps no history", reply_to.as_deref());
        };
        self.reads_made += 1;
        let read = ReadId(self.reads_made);
        let ask = Ask::Read { read, room: room.into(), query: reading.query, count: reading.count };
        self.historians.insert(read, Historian { conn: id, reply_to, reading });
        self.actions.push_back(HubAction::Ask(ask));
    }

    /// What was said is here, or cannot be had.
    pub(super) fn history_read(&mut self, now: Time, read: ReadId, result: Result<Page, Unavailable>) {
        let Some(Historian { conn, reply_to, reading }) = self.historians.remove(&read) else { return };
        match result {
            Ok(page) => self.notice(now, conn, "history", Some(reading.answer(&page)), reply_to.as_deref()),
            Err(Unavailable) => {
                let text = "What the room remembers cannot be read at the moment";
                self.error(now, conn, ErrorCode::Unavailable, text, reply_to.as_deref());
            }
        }
    }
}
