//! What happened, as structured log lines.

use std::borrow::Cow;

use roomcast_core::report::Report;
use serde::Deserialize;
use tracing::{Level, debug, enabled, error, info, warn};

/// Whether anyone wants to know: reports are not even made otherwise.
pub fn wanted() -> bool {
    enabled!(Level::ERROR)
}

/// Writes a report as one log line.
pub fn write(report: &Report) {
    match report {
        Report::Opened { conn, path } => debug!(?conn, %path, "connection opened"),
        Report::Closed { conn, user, cause } => debug!(?conn, user = user.as_deref(), cause, "connection closed"),
        Report::AuthFailed { conn, code } => info!(?conn, code, "authentication failed"),
        Report::Batch { stream, entry, batch, events, compressed } => {
            info!(stream = &**stream, %entry, batch = &**batch, events, compressed, "received batch");
        }
        Report::Broadcast { room, payload, clients } => {
            if enabled!(Level::INFO) {
                let kind = kind(payload);
                info!(room = &**room, kind = kind.as_deref(), clients, "broadcast to {clients} clients");
            }
        }
        Report::Acked { stream, entry } => info!(stream = &**stream, %entry, "acked"),
        Report::Routed { stream, entry, target } => {
            info!(stream = &**stream, %entry, target = &**target, "routed and acked");
        }
        Report::DeadLettered { stream, entry, reason } => {
            error!(stream = &**stream, %entry, reason = &**reason, "dead-lettered and acked");
        }
        Report::Gone { stream, entry } => warn!(stream = &**stream, %entry, "deleted or trimmed while it was pending"),
        Report::GroupLost { stream, group } => warn!(stream = &**stream, group = &**group, "the consumer group is gone"),
        Report::GroupCreated { stream, group, after } => {
            info!(stream = &**stream, group = &**group, %after, "created the consumer group");
        }
        Report::Failed { stream, entry, reason } => {
            warn!(stream = &**stream, %entry, reason = &**reason, "failed, and tried again later");
        }
        Report::LettersReplayed { stream, replayed, failures } => {
            warn!(stream = &**stream, replayed, failures, "dead letters were replayed");
        }
        Report::LettersPurged { stream, letters } => warn!(stream = &**stream, letters, "dead letters were purged"),
        Report::ConsumerRemoved { stream, consumer } => {
            info!(stream = &**stream, consumer = &**consumer, "removed a consumer whose process is gone");
        }
        Report::RoomHealed { room, messages } => warn!(room = &**room, messages, "read what the relay logs had not brought"),
        Report::RoomLost { room, position } => warn!(room = &**room, %position, "messages were lost"),
        Report::Skipped { stream, entry, reason, sample } => {
            warn!(stream = &**stream, %entry, reason = &**reason, sample = &**sample, "skipped what is no message");
        }
        Report::StoreFailed { what, error } => warn!(what, %error, "the store failed"),
        Report::Deaf { what } => warn!("{what} not heard: the connection is replaced"),
        Report::ChannelGap { channels } => warn!(channels = &**channels, "channels are listened to again, after a gap"),
        Report::Unheard { channel, reason, sample, count } => {
            warn!(channel = &**channel, reason = &**reason, sample = &**sample, count, "cannot be passed on");
        }
        Report::StoreRecovered => info!("the store answers"),
    }
}

/// The type of an envelope.
fn kind(payload: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_slice::<Envelope<'_>>(payload).ok().map(|envelope| envelope.r#type)
}
