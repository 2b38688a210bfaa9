//! Pages of what a room remembers, and whether they can be trusted to be whole.

use bytes::Bytes;

use crate::position::Position;

/// What is asked of a room's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// The messages after a position, oldest first.
    After(Position),
    /// The newest messages before a position, oldest first.
    Before(Position),
    /// The newest messages, oldest first.
    Newest,
    /// The oldest messages, oldest first.
    Oldest,
}

/// Messages of a room in a row, and where the room stood when they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The messages, each with its position, oldest first.
    pub messages: Vec<(Position, Bytes)>,
    /// The room's last position.
    pub head: Position,
    /// Of [`Query::After`]: whether it is proven that these are what follows that position, and nothing is missing. Of other
    /// queries: whether they are without a gap, up to the head for [`Query::Newest`].
    pub whole: bool,
}

impl Page {
    /// A page of a log, from `messages` as they stand there, oldest first, `count` at the most. For [`Query::After`] there may be
    /// one more: they begin with the message at that position itself, where it is still there, which proves that the position is
    /// of this log.
    pub fn of_log(query: Query, mut messages: Vec<(Position, Bytes)>, head: Position, count: usize) -> Page {
        let is_row = messages.windows(2).all(|pair| pair[0].0.offset + 1 == pair[1].0.offset);
        let last = messages.last().map(|(position, _)| *position);
        let reaches_head = match last {
            Some(last) => last == head,
            None => true,
        };
        let whole = match query {
            Query::After(position) => {
                let first = messages.first().map(|(first, _)| *first);
                let found = first.is_some_and(|first| first.offset == position.offset);
                let proven = if position == head || position == Position::start(head.epoch) {
                    true
                } else {
                    first == Some(position)
                };
                let full = messages.len() > count;
                if found {
                    messages.remove(0);
                }
                messages.truncate(count);
                let next = messages.first().map(|(next, _)| next.offset);
                let follows = next.is_none_or(|next| next == position.offset + 1);
                let complete = if messages.is_empty() { position == head } else { reaches_head || full };
                position.epoch == head.epoch && proven && is_row && follows && complete
            }
            Query::Newest => is_row && reaches_head,
            Query::Before(_) | Query::Oldest => is_row,
        };
        Page { messages, head, whole }
    }

    /// Where a reader stands who has read all of it and stood at `from` before.
    pub fn end(&self, from: Position) -> Position {
        self.messages.last().map_or(from, |(position, _)| *position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: 7, offset, tag: if offset == 0 { 0 } else { 100 + offset as u32 } }
    }

    fn page(query: Query, offsets: &[u64], head: Position, full: bool) -> Page {
        let count = if full { offsets.len() - 1 } else { offsets.len() };
        let messages = offsets.iter().map(|offset| (at(*offset), Bytes::new())).collect();
        Page::of_log(query, messages, head, count)
    }

    fn forked(offset: u64) -> Position {
        Position { tag: 1, ..at(offset) }
    }

    #[test]
    fn what_follows_a_position_is_whole_only_with_proof() {
        for (position, found, head, full, whole) in [
            (at(3), &[3, 4, 5][..], at(5), false, true),
            (at(5), &[5], at(5), false, true),
            (at(5), &[], at(5), false, true),
            (at(0), &[1, 2], at(2), false, true),
            (at(0), &[], at(0), false, true),
            (at(3), &[3, 4], at(9), true, true),
            // What follows is there, but not the message itself: it was trimmed, and with it the proof.
            (at(3), &[4, 5], at(5), false, false),
            (at(2), &[4, 5], at(5), false, false),
            (at(0), &[2, 3], at(3), false, false),
            // Another message has its offset now.
            (forked(3), &[3, 4, 5], at(5), false, false),
            (forked(5), &[5], at(5), false, false),
            (forked(5), &[], at(5), false, false),
            // The log has come less far than the client.
            (at(6), &[], at(5), false, false),
            // The log has expired, or holds less than the room has had.
            (at(3), &[], at(5), false, false),
            (at(3), &[3, 4], at(5), false, false),
            (at(3), &[3, 5], at(5), false, false),
            (Position { epoch: 8, ..at(3) }, &[3, 4, 5], at(5), false, false),
            (Position { epoch: 8, ..at(0) }, &[1], at(1), false, false),
        ] {
            let page = page(Query::After(position), found, head, full);
            assert_eq!(page.whole, whole, "{position} in {found:?} to {head}");
            assert!(page.messages.iter().all(|(at, _)| at.offset > position.offset || !whole));
        }
    }

    #[test]
    fn the_newest_are_whole_up_to_the_head() {
        assert!(page(Query::Newest, &[4, 5], at(5), true).whole);
        assert!(page(Query::Newest, &[], at(5), false).whole, "an expired log has no newest messages");
        assert!(!page(Query::Newest, &[4], at(5), true).whole);
        assert!(!page(Query::Newest, &[3, 5], at(5), true).whole);
    }
}
