//! What becomes of the entries of a source.

use std::sync::Arc;

use super::Core;
use super::consumer::Delivered;
use crate::config::{Config, Destination, Host, Source};
use crate::dead_letter::{Cause, DeadLetter};
use crate::store::{Effect, NewEntry};
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
    Host(Host),
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
                Destination::Host(host) => To::Host(host.clone()),
            },
            dead_letter: source.dead_letter.as_str().into(),
            dead_letters: source.dead_letters,
            max_deliveries: source.max_deliveries,
        }
    }

    /// The host's code that deals with the entries, where it does.
    pub(super) fn host(&self) -> Option<&Host> {
        match &self.to {
            To::Host(host) => Some(host),
            To::Events(_) | To::Commands(_) => None,
        }
    }

    /// The effect of an entry that was delivered too often already; another is given back.
    pub(super) fn exhausted(&self, core: &Core, now: Time, delivered: Delivered) -> Result<Effect, Delivered> {
        let Some(deliveries) = delivered.deliveries.checked_sub(1).filter(|before| *before >= self.max_deliveries) else {
            return Err(delivered);
        };
        // Not even decoded: that may be what went wrong.
        let mut reason = format!("delivered {deliveries} times and never brought to its end");
        if let Some(failure) = &delivered.failure {
            reason.push_str(&format!("; the last time: {failure}"));
        }
        Ok(self.dead_letter(core, now, Delivered { deliveries, ..delivered }, "max_deliveries", &reason))
    }

    /// What becomes of an entry: it goes where its source says, or to the dead letters.
    pub(super) fn effect(&mut self, core: &mut Core, now: Time, delivered: Delivered) -> Effect {
        let delivered = match self.exhausted(core, now, delivered) {
            Ok(effect) => return effect,
            Err(delivered) => delivered,
        };
        let entry = &delivered.entry;
        let routed = match &mut self.to {
            To::Events(events) => events.route(core, now, &self.stream, entry).map(Effect::Relay),
            To::Commands(commands) => commands.route(entry).map(Effect::Route),
            To::Host(_) => Err(("unroutable", "the entry is for the host's code".into())),
        };
        routed.unwrap_or_else(|(code, reason)| self.dead_letter(core, now, delivered, code, &reason))
    }

    /// The effect of an entry that the host's code has rejected.
    pub(super) fn rejected(&self, core: &Core, now: Time, delivered: Delivered, reason: &str) -> Effect {
        self.dead_letter(core, now, delivered, "rejected", reason)
    }

    fn dead_letter(&self, core: &Core, now: Time, delivered: Delivered, code: &'static str, error: &str) -> Effect {
        let Delivered { entry, deliveries, trail, .. } = delivered;
        let cause = Cause { source: &self.stream, code, error, deliveries, timestamp: core.wall.unix(now) };
        let fields = DeadLetter::write(entry, &trail, cause);
        Effect::DeadLetter(NewEntry { stream: self.dead_letter.clone(), length: self.dead_letters, fields })
    }
}
