//! What becomes of the entries of a source.

use std::sync::Arc;

use super::Core;
use crate::config::{Config, Destination, Source};
use crate::dead_letter::{Cause, DeadLetter, Trail};
use crate::store::{Effect, Entry, NewEntry};
use crate::time::Time;

mod commands;
mod events;

use commands::CommandRouter;
use events::EventRouter;

/// Decides the effect of each entry.
#[derive(Debug)]
pub(super) struct Router {
    stream: Arc<str>,
    to: To,
    dead_letter: Arc<str>,
    dead_letters: u32,
    max_deliveries: u32,
}

#[derive(Debug)]
enum To {
    Events(Box<EventRouter>),
    Commands(CommandRouter),
}

/// Why an entry cannot be routed: a short name that never changes, and the reason in words.
type Broken = (&'static str, String);

impl Router {
    pub(super) fn new(source: &Source, config: &Config) -> Router {
        Router {
            stream: source.stream.as_str().into(),
            to: match &source.to {
                Destination::Events(events) => To::Events(Box::new(EventRouter::new(events, config))),
                Destination::Commands(commands) => To::Commands(CommandRouter::new(commands)),
            },
            dead_letter: source.dead_letter.as_str().into(),
            dead_letters: source.dead_letters,
            max_deliveries: source.max_deliveries,
        }
    }

    /// What becomes of an entry that has been delivered so often: it goes where its source says, or to the dead letters.
    pub(super) fn effect(&mut self, core: &mut Core, now: Time, mut entry: Entry, deliveries: u32) -> Effect {
        if entry.fields.is_empty() {
            return Effect::Forget;
        }
        // What follows sees the fields that the publisher wrote, and no others.
        let trail = Trail::take(&mut entry.fields);
        let (routed, deliveries) = if deliveries > self.max_deliveries {
            // Not even decoded: that may be what went wrong.
            let reason = format!("delivered {} times and never brought to its end", deliveries - 1);
            (Err(("max_deliveries", reason)), deliveries - 1)
        } else {
            let routed = match &mut self.to {
                To::Events(events) => events.route(core, now, &self.stream, &entry).map(Effect::Relay),
                To::Commands(commands) => commands.route(&entry).map(Effect::Route),
            };
            (routed, deliveries)
        };
        routed.unwrap_or_else(|(code, error)| {
            let cause = Cause { source: &self.stream, code, error: &error, deliveries, timestamp: core.wall.unix(now) };
            let fields = DeadLetter::write(entry, &trail, cause);
            Effect::DeadLetter(NewEntry { stream: self.dead_letter.clone(), length: self.dead_letters, fields })
        })
    }
}
