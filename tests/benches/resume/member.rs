//! What a client knows of its room, and what it has seen.

use std::time::{Duration, Instant};

use crate::server::ROOM;

/// A client that wants all messages of a room, whatever happens to its connections.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// The last position that it has been told.
    position: Option<String>,
    /// How often it has seen each message.
    seen: Vec<u8>,
    /// The number after the highest that it has seen.
    next: usize,
    /// Messages that came after later ones.
    pub(crate) disordered: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Away,
    /// It has asked for its room at that time, when so many had been published, of which it had missed some.
    Asked { since: Instant, published: usize, missed: usize },
    /// It is in its room again, and some of what it has missed has not come yet.
    CatchingUp { since: Instant, published: usize, missed: usize },
    /// It is in its room, and has what it had missed.
    Back,
}

/// A client is in its room again, with all that was published before it asked.
pub(crate) struct Returned {
    /// How many messages it had missed by then.
    pub(crate) missed: usize,
    /// The time from its question until it had them.
    pub(crate) after: Duration,
}

impl Member {
    /// Its connection is gone.
    pub(crate) fn leave(&mut self) {
        self.stage = Stage::Away;
    }

    /// What it sends once it is connected, when so many messages have been published.
    pub(crate) fn ask(&mut self, now: Instant, published: usize) -> String {
        self.stage = Stage::Asked { since: now, published, missed: published.saturating_sub(self.next) };
        match &self.position {
            Some(position) => format!(r#"{{"type":"subscribe","room":"{ROOM}","recover":"{position}"}}"#),
            None => format!(r#"{{"type":"subscribe","room":"{ROOM}"}}"#),
        }
    }

    /// It is in its room.
    pub(crate) fn subscribed(&mut self, now: Instant, position: Option<String>) -> Option<Returned> {
        self.position = position.or(self.position.take());
        if let Stage::Asked { since, published, missed } = self.stage {
            self.stage = Stage::CatchingUp { since, published, missed };
        }
        self.returned(now)
    }

    /// A message has come.
    pub(crate) fn receive(&mut self, now: Instant, number: usize, position: Option<&str>) -> Option<Returned> {
        if self.seen.len() <= number {
            self.seen.resize(number + 1, 0);
        }
        self.seen[number] = self.seen[number].saturating_add(1);
        self.disordered += usize::from(self.seen[number] == 1 && number < self.next);
        self.next = self.next.max(number + 1);
        if let Some(position) = position {
            let known = self.position.get_or_insert_default();
            known.clear();
            known.push_str(position);
        }
        self.returned(now)
    }

    /// Whether it is in its room, and has what it had missed.
    pub(crate) fn is_back(&self) -> bool {
        matches!(self.stage, Stage::Back)
    }

    /// Whether it has come to the last of so many messages.
    pub(crate) fn has_come_to(&self, published: usize) -> bool {
        self.next >= published
    }

    /// How many of so many messages it has seen.
    pub(crate) fn delivered(&self, published: usize) -> usize {
        self.seen.iter().take(published).filter(|count| **count > 0).count()
    }

    /// How many more it was sent than there were.
    pub(crate) fn duplicates(&self) -> usize {
        self.seen.iter().map(|count| usize::from(count.saturating_sub(1))).sum()
    }

    fn returned(&mut self, now: Instant) -> Option<Returned> {
        let Stage::CatchingUp { since, published, missed } = self.stage else { return None };
        if self.next < published {
            return None;
        }
        self.stage = Stage::Back;
        Some(Returned { missed, after: now - since })
    }
}
