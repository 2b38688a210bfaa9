//! What becomes of the entries of a source.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Core, partition};
use crate::batch::Decoder;
use crate::config::{Config, Limits, Source};
use crate::message::{Json, Outgoing, RoomName};
use crate::report::Report;
use crate::store::{Effect, Entry, Fields, Messages};
use crate::time::Time;

/// Decides the effect of each entry.
#[derive(Debug)]
pub(super) struct Router {
    stream: Arc<str>,
    room: String,
    event: String,
    dead_letter: Arc<str>,
    dead_letters: u32,
    partitions: u16,
    limits: Limits,
    decoder: Decoder,
}

impl Router {
    pub(super) fn new(source: &Source, config: &Config) -> Router {
        Router {
            stream: source.stream.as_str().into(),
            room: source.room.clone(),
            event: source.event.clone(),
            dead_letter: source.dead_letter.as_str().into(),
            dead_letters: source.dead_letters,
            partitions: config.relay.partitions,
            limits: config.limits.clone(),
            decoder: Decoder::new(source.limits),
        }
    }

    /// What becomes of an entry: its events go to their rooms, or it goes to the dead letters.
    pub(super) fn effect(&mut self, core: &mut Core, now: Time, entry: Entry) -> Effect {
        if entry.fields.is_empty() {
            return Effect::Forget;
        }
        match self.route(core, now, &entry) {
            Ok(messages) => Effect::Relay(messages),
            Err((code, reason)) => self.dead_letter(core, now, entry, code, &reason),
        }
    }

    fn route(&mut self, core: &mut Core, now: Time, entry: &Entry) -> Result<Vec<(u16, Messages)>, (&'static str, String)> {
        let data = entry.fields.iter().find(|(name, _)| name.as_ref() == b"data");
        let (_, data) = data.ok_or(("missing_data", "the entry has no field `data`".to_owned()))?;
        let batch = self.decoder.decode(data).map_err(|error| (error.code(), error.to_string()))?;
        let unix = core.wall.unix(now);
        let mut partitions: BTreeMap<u16, Messages> = BTreeMap::new();
        for event in &batch.events {
            let room = RoomName::from(self.room.replace("{id}", &event.workspace));
            if !self.limits.allows_room_name(&room) {
                return Err(("room_name", "an event's room name is too long or has control characters".into()));
            }
            let message = Outgoing { kind: &self.event, data: Json::trusted(event.json), timestamp: None, message_id: None };
            let payload = core.composer.envelope(&room, &message, unix).payload;
            partitions.entry(partition(&room, self.partitions)).or_default().push((room, payload));
        }
        core.stats.events += batch.events.len() as u64;
        core.report(|| Report::Batch {
            stream: self.stream.clone(),
            entry: entry.id,
            batch: batch.id.as_ref().into(),
            events: batch.events.len(),
            compressed: batch.compressed,
        });
        Ok(partitions.into_iter().collect())
    }

    /// System A's layout (`msg_id`, `error`, `timestamp`), then ours, then the original fields as they were.
    fn dead_letter(&self, core: &Core, now: Time, entry: Entry, code: &'static str, reason: &str) -> Effect {
        let mut fields: Fields = [
            ("msg_id", entry.id.to_string()),
            ("error", reason.to_owned()),
            ("timestamp", core.wall.unix(now).to_string()),
            ("code", code.to_owned()),
            ("source", self.stream.to_string()),
            ("fields", entry.fields.len().to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from(value)))
        .collect();
        fields.extend(entry.fields);
        Effect::DeadLetter { stream: self.dead_letter.clone(), length: self.dead_letters, fields }
    }
}
