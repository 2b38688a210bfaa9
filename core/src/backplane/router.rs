//! What becomes of the entries of a source.

use std::sync::Arc;

use bytes::Bytes;

use super::Core;
use super::consumer::Delivered;
use crate::config::{Config, Destination, Source};
use crate::store::{Effect, Entry, Fields, NewEntry};
use crate::time::{Time, UnixMillis};

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
    pub(super) fn effect(&mut self, core: &mut Core, now: Time, delivered: Delivered) -> Effect {
        let Delivered { entry, deliveries, failure } = delivered;
        if deliveries > self.max_deliveries {
            // Not even decoded: that may be what went wrong.
            let mut reason = format!("delivered {} times and never brought to its end", deliveries - 1);
            if let Some(failure) = failure {
                reason.push_str(&format!("; the last time: {failure}"));
            }
            return self.dead_letter(core, now, entry, deliveries - 1, "max_deliveries", &reason);
        }
        let routed = match &mut self.to {
            To::Events(events) => events.route(core, now, &self.stream, &entry).map(Effect::Relay),
            To::Commands(commands) => commands.route(&entry).map(Effect::Route),
        };
        routed.unwrap_or_else(|(code, reason)| self.dead_letter(core, now, entry, deliveries, code, &reason))
    }

    /// System A's layout (`msg_id`, `error`, `timestamp`), then ours, then the original fields as they were.
    fn dead_letter(&self, core: &Core, now: Time, entry: Entry, deliveries: u32, code: &'static str, reason: &str) -> Effect {
        let mut fields: Fields = [
            ("msg_id", entry.id.to_string()),
            ("error", reason.to_owned()),
            ("timestamp", core.wall.unix(now).to_string()),
            ("code", code.to_owned()),
            ("source", self.stream.to_string()),
            ("added", UnixMillis(entry.id.millis).to_string()),
            ("deliveries", deliveries.to_string()),
            ("fields", entry.fields.len().to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from(value)))
        .collect();
        fields.extend(entry.fields);
        Effect::DeadLetter(NewEntry { stream: self.dead_letter.clone(), length: self.dead_letters, fields })
    }
}
