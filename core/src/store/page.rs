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

impl Query {
    /// How many messages must be read of a log for a page of `count`: the one at the position itself comes before those after it.
    /// Before the first message there is none.
    pub fn reads(self, count: usize) -> usize {
        match self {
            Query::After(position) if position.offset > 0 => count.saturating_add(1),
            Query::After(_) | Query::Before(_) | Query::Newest | Query::Oldest => count,
        }
    }
}

impl Page {
    /// A page of at most `count` messages of a log, from those that [`Query::reads`] says, oldest first. For [`Query::After`] they
    /// begin with the message at that position itself, where it is still there; it proves that the position is of this log.
    pub fn of_log(query: Query, mut messages: Vec<(Position, Bytes)>, head: Position, count: usize) -> Page {
        // There may be more of them.
        let full = messages.len() >= query.reads(count);
        let is_row = messages.windows(2).all(|pair| follows(pair[1].0.offset, pair[0].0.offset));
        let last = messages.last().map(|(position, _)| *position);
        let reaches_head = match last {
            Some(last) => last == head,
            None => true,
        };
        let whole = match query {
            Query::After(position) => {
                let first = messages.first().map(|(first, _)| *first);
                let found = first.is_some_and(|first| first.offset == position.offset);
                let proven =
                    if position == head || position == Position::start(head.epoch) { true } else { first == Some(position) };
                if found {
                    messages.remove(0);
                }
                let next = messages.first().map(|(next, _)| next.offset);
                let is_next = next.is_none_or(|next| follows(next, position.offset));
                let complete = if messages.is_empty() { position == head } else { reaches_head || full };
                position.epoch == head.epoch && proven && is_row && is_next && complete
            }
            Query::Newest => is_row && reaches_head,
            Query::Before(_) | Query::Oldest => is_row,
        };
        messages.truncate(count);
        Page { messages, head, whole }
    }

    /// Where a reader stands who has read all of it and stood at `from` before.
    pub fn end(&self, from: Position) -> Position {
        self.messages.last().map_or(from, |(position, _)| *position)
    }
}

fn follows(offset: u64, before: u64) -> bool {
    before.checked_add(1) == Some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: 7, offset, tag: if offset == 0 { 0 } else { (offset as u32).wrapping_add(100) } }
    }

    fn page(query: Query, offsets: &[u64], head: Position, count: usize) -> Page {
        let messages = offsets.iter().map(|offset| (at(*offset), Bytes::new())).collect();
        Page::of_log(query, messages, head, count)
    }

    fn forked(offset: u64) -> Position {
        Position { tag: 1, ..at(offset) }
    }

    #[test]
    fn what_follows_a_position_is_whole_only_with_proof() {
        for (position, found, head, count, whole) in [
            (at(3), &[3, 4, 5][..], at(5), 9, true),
            (at(5), &[5], at(5), 9, true),
            (at(5), &[], at(5), 9, true),
            (at(0), &[1, 2], at(2), 9, true),
            (at(0), &[], at(0), 9, true),
            (at(3), &[3, 4], at(9), 1, true),
            (at(0), &[1, 2], at(9), 2, true),
            // What follows is there, but not the message itself: it was trimmed, and with it the proof.
            (at(3), &[4, 5], at(5), 9, false),
            (at(2), &[4, 5], at(5), 9, false),
            (at(0), &[2, 3], at(3), 9, false),
            // Another message has its offset now.
            (forked(3), &[3, 4, 5], at(5), 9, false),
            (forked(5), &[5], at(5), 9, false),
            (forked(5), &[], at(5), 9, false),
            // The log has come less far than the client.
            (at(6), &[], at(5), 9, false),
            // The log has expired, or holds less than the room has had.
            (at(3), &[], at(5), 9, false),
            (at(3), &[3, 4], at(5), 9, false),
            (at(3), &[3, 5], at(5), 9, false),
            (at(u64::MAX), &[u64::MAX, 1], at(1), 9, false),
            (Position { epoch: 8, ..at(3) }, &[3, 4, 5], at(5), 9, false),
            (Position { epoch: 8, ..at(0) }, &[1], at(1), 9, false),
        ] {
            let page = page(Query::After(position), found, head, count);
            assert_eq!(page.whole, whole, "{position} in {found:?} to {head}");
            assert!(page.messages.len() <= count);
            assert!(page.messages.iter().all(|(at, _)| at.offset > position.offset || !whole));
        }
    }

    #[test]
    fn the_newest_are_whole_up_to_the_head() {
        assert!(page(Query::Newest, &[4, 5], at(5), 9).whole);
        assert!(page(Query::Newest, &[], at(5), 9).whole, "an expired log has no newest messages");
        assert!(!page(Query::Newest, &[4], at(5), 9).whole);
        assert!(!page(Query::Newest, &[3, 5], at(5), 9).whole);
    }
}
