//! Batches of events on their way to the rooms of their workspaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;

use super::super::{Core, Shelf, partition, shelf};
use super::Broken;
use crate::batch::Decoder;
use crate::config::{Config, Events, Limits};
use crate::message::{ENVELOPE, Json, Outgoing, RoomName};
use crate::report::Report;
use crate::store::{Entry, Postings};
use crate::time::Time;

/// Decodes batches and addresses their events.
#[derive(Debug)]
pub(super) struct EventRouter {
    room: String,
    kind: String,
    partitions: u16,
    limits: Limits,
    decoder: Decoder,
}

impl EventRouter {
    pub(super) fn new(events: &Events, config: &Config) -> EventRouter {
        EventRouter {
            room: events.room.clone(),
            kind: events.kind.clone(),
            partitions: config.relay.partitions,
            limits: config.limits.clone(),
            decoder: Decoder::new(events.limits),
        }
    }

    /// The messages of an entry's events, by the partition of their rooms.
    pub(super) fn route(
        &mut self,
        core: &mut Core,
        now: Time,
        stream: &Arc<str>,
        entry: &Entry,
    ) -> Result<Vec<(u16, Postings)>, Broken> {
        let data = entry.fields.iter().find(|(name, _)| name.as_ref() == b"data");
        let (_, data) = data.ok_or(("missing_data", "the entry has no field `data`".to_owned()))?;
        let batch = self.decoder.decode(data).map_err(|error| (error.code(), error.to_string()))?;
        let unix = core.wall.unix(now);
        let mut partitions: BTreeMap<u16, Postings> = BTreeMap::new();
        // The envelopes of a batch share one buffer.
        let bytes = batch.events.iter().map(|event| event.json.len() + self.kind.len() + ENVELOPE).sum();
        let mut payloads = BytesMut::with_capacity(bytes);
        // Often all events of a batch are of one workspace.
        let mut last: Option<(&str, RoomName, u16, Option<Shelf>)> = None;
        for event in &batch.events {
            let (room, partition, shelf) = match &last {
                Some((workspace, room, partition, shelf)) if *workspace == event.workspace => (room.clone(), *partition, *shelf),
                _ => {
                    let room = RoomName::from(self.room.replace("{id}", &event.workspace));
                    if !self.limits.allows_room_name(&room) {
                        return Err(("room_name", "an event's room name is too long or has control characters".into()));
                    }
                    let (partition, shelf) = (partition(&room, self.partitions), shelf(&core.config, &room));
                    last = Some((&event.workspace, room.clone(), partition, shelf));
                    (room, partition, shelf)
                }
            };
            let message = Outgoing { kind: &self.kind, data: Json::trusted(event.json), timestamp: None, message_id: None };
            core.composer.put_envelope(&mut payloads, &room, &message, unix);
            let posting = core.posting_on(now, room, shelf, payloads.split().freeze(), None);
            partitions.entry(partition).or_default().push(posting);
        }
        core.stats.events += batch.events.len() as u64;
        core.report(|| Report::Batch {
            stream: stream.clone(),
            entry: entry.id,
            batch: batch.id.as_ref().into(),
            events: batch.events.len(),
            compressed: batch.compressed,
        });
        Ok(partitions.into_iter().collect())
    }
}
