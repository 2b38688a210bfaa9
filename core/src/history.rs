//! What is asked of a room's history and what is answered: the same for clients and for operators (PROTOCOL sections 2 and 6).

use crate::config::{Config, Keep};
use crate::dialect::json::Object;
use crate::position::Position;
use crate::store::{Page, Query};

/// Messages of one answer where it is not said how many are wanted.
const USUAL: u32 = 100;

/// A question about what was said in a room.
///
/// ```
/// use roomcast_core::config::Config;
/// use roomcast_core::history::Reading;
/// use roomcast_core::store::Query;
///
/// let config = Config::default();
/// let newest = Reading::new(&config, "project:7", Some(10), None, true).unwrap();
/// assert_eq!((newest.query, newest.count), (Query::Newest, 10));
/// assert!(Reading::new(&config, "a room that remembers nothing", None, None, false).is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The room.
    pub room: Box<str>,
    /// Which messages.
    pub query: Query,
    /// How many at the most.
    pub count: usize,
    /// Whether the answer can be held against the position that was asked for.
    since: bool,
    /// Bytes that the messages of an answer may have.
    most_bytes: usize,
}

impl Reading {
    /// A question for `limit` messages that follow the position `since`, or come before it where they are wanted in reverse.
    /// Without a position these are the oldest, or the newest. Nothing where the room keeps no history.
    ///
    /// No more are read than [`Limits::history`](crate::config::Limits::history) allows. What is no position is one that is not
    /// of this room.
    pub fn new(config: &Config, room: &str, limit: Option<u32>, since: Option<&str>, reverse: bool) -> Option<Reading> {
        match config.rule(room)?.keep.as_ref()? {
            Keep::History(_) | Keep::Stream(_) => {}
            Keep::Inbox(_) => return None,
        }
        let from = since.map(|text| text.parse().unwrap_or_default());
        let query = match (from, reverse) {
            (Some(position), true) => Query::Before(position),
            (None, true) => Query::Newest,
            (position, false) => Query::After(position.unwrap_or_default()),
        };
        Some(Reading {
            room: room.into(),
            query,
            count: limit.unwrap_or(USUAL).min(config.limits.history).max(1) as usize,
            since: since.is_some() && !reverse,
            most_bytes: config.limits.outbox_bytes / 2,
        })
    }

    /// The answer, once the messages are here: `{"room","messages":[…],"position"?,"recovered"?}`. What does not fit can be asked
    /// for from the position of the last message.
    pub fn answer(&self, page: &Page) -> String {
        let mut messages: Vec<(Position, &[u8])> =
            page.messages.iter().map(|(position, payload)| (*position, &payload[..])).collect();
        if matches!(self.query, Query::Newest | Query::Before(_)) {
            messages.reverse();
        }
        let mut bytes = 0;
        messages.retain(|(_, payload)| {
            // The first one in any case: who reads on page by page must get past it.
            let is_first = bytes == 0;
            bytes += payload.len() + 64;
            is_first || bytes <= self.most_bytes
        });
        let mut data = Object::new().string("room", &self.room).messages("messages", messages.into_iter());
        data = data.position((page.head.epoch > 0).then_some(page.head));
        if self.since {
            data = data.boolean("recovered", page.whole);
        }
        data.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn page(count: u64) -> Page {
        let at = |offset| Position { epoch: 1, offset, tag: 9 };
        let messages = (1..=count).map(|offset| (at(offset), Bytes::from(format!("{{\"data\":{offset}}}")))).collect();
        Page { messages, head: at(count), whole: true }
    }

    fn reading(since: Option<&str>, reverse: bool) -> Reading {
        Reading::new(&Config::default(), "project:1", None, since, reverse).unwrap()
    }

    #[test]
    fn each_question_has_its_query() {
        let at = Position { epoch: 1, offset: 2, tag: 3 };
        for (since, reverse, query) in [
            (None, false, Query::After(Position::default())),
            (None, true, Query::Newest),
            (Some("1.2.3"), false, Query::After(at)),
            (Some("1.2.3"), true, Query::Before(at)),
            (Some("nonsense"), false, Query::After(Position::default())),
        ] {
            assert_eq!(reading(since, reverse).query, query);
        }
        let config = Config::default();
        for (limit, count) in [(None, 100), (Some(0), 1), (Some(7), 7), (Some(u32::MAX), 1_000)] {
            assert_eq!(Reading::new(&config, "project:1", limit, None, false).unwrap().count, count);
        }
        for room in ["user:7", "workspace:1", ""] {
            assert_eq!(Reading::new(&config, room, None, None, false), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_for_the_next_page_but_never_all_of_it() {
        let small = |most_bytes| Reading { most_bytes, ..reading(None, false) }.answer(&page(3));
        for (most_bytes, expected) in [(0, 1), (1, 1), (160, 2), (10_000, 3)] {
            assert_eq!(small(most_bytes).matches("data").count(), expected, "{most_bytes} bytes");
        }
    }

    #[test]
    fn messages_come_in_the_order_that_was_asked_for_with_their_positions() {
        let forward =
            r#"{"room":"project:1","messages":[{"data":1,"position":"1.1.9"},{"data":2,"position":"1.2.9"}],"position":"1.2.9"}"#;
        assert_eq!(reading(None, false).answer(&page(2)), forward);
        let since = reading(Some("1.0.0"), false).answer(&page(1));
        assert_eq!(
            since,
            r#"{"room":"project:1","messages":[{"data":1,"position":"1.1.9"}],"position":"1.1.9","recovered":true}"#
        );
        let reverse =
            r#"{"room":"project:1","messages":[{"data":2,"position":"1.2.9"},{"data":1,"position":"1.1.9"}],"position":"1.2.9"}"#;
        assert_eq!(reading(None, true).answer(&page(2)), reverse);
    }

    #[test]
    fn an_answer_holds_no_more_than_fits() {
        let mut config = Config::default();
        config.limits.outbox_bytes = 400;
        let reading = Reading::new(&config, "project:1", None, None, false).unwrap();
        let messages = reading.answer(&page(9)).matches("data").count();
        assert_eq!(messages, 2, "a message and its position count 76 bytes here");
    }
}
