//! Counters as plain data. Runtimes turn them into metrics.

/// Whether a figure only grows or moves both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Only grows.
    Counter,
    /// A present state.
    Gauge,
}

macro_rules! stats {
    ($($(#[doc = $help:literal])+ $field:ident: $name:literal $measure:ident;)+) => {
        /// The figures of a hub, of a backplane, or the sum of several.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[doc = $help])+ pub $field: u64,)+
        }

        impl Stats {
            /// Adds the figures of another part of the node.
            pub fn add(&mut self, other: &Stats) {
                $(self.$field = self.$field.wrapping_add(other.$field);)+
            }

            /// Every figure with its metric name, help text and measure.
            pub fn figures(&self) -> impl Iterator<Item = (&'static str, &'static str, Measure, u64)> {
                [$(($name, concat!($($help),+), Measure::$measure, self.$field),)+].into_iter()
            }
        }
    };
}

stats! {
    /// Connections open now.
    connections: "roomcast_connections" Gauge;
    /// Rooms with members now.
    rooms: "roomcast_rooms" Gauge;
    /// Memberships of connections in rooms now.
    memberships: "roomcast_memberships" Gauge;
    /// Microseconds from when this node said something to itself to when it came back through a relay log, the last time.
    relay_latency: "roomcast_relay_latency_microseconds" Gauge;
    /// The same by Pub/Sub.
    channel_latency: "roomcast_channel_latency_microseconds" Gauge;
    /// Publishers' streams that are read now because they are the history of rooms with members.
    streams: "roomcast_streams" Gauge;
    /// Connections accepted.
    opened: "roomcast_connections_opened_total" Counter;
    /// Connections refused before the upgrade.
    refused: "roomcast_connections_refused_total" Counter;
    /// Connections that ended.
    closed: "roomcast_connections_closed_total" Counter;
    /// Connections closed because they read too slowly.
    slow: "roomcast_slow_consumers_total" Counter;
    /// Messages dropped because whoever was to read them reads too slowly.
    slow_dropped: "roomcast_slow_dropped_total" Counter;
    /// Connections dropped because nothing came from them any more.
    silent: "roomcast_silent_connections_total" Counter;
    /// Authentications that failed.
    auth_failed: "roomcast_auth_failures_total" Counter;
    /// Connections closed because their tokens expired.
    expired: "roomcast_expired_connections_total" Counter;
    /// Connections closed because their tokens were revoked.
    revoked: "roomcast_revoked_connections_total" Counter;
    /// Messages received from clients.
    received: "roomcast_messages_received_total" Counter;
    /// Messages refused because the client sent too many.
    rate_limited: "roomcast_rate_limited_total" Counter;
    /// Messages refused because the client sent too many bytes.
    limit_bytes: "roomcast_limit_bytes_total" Counter;
    /// Pings, pongs and the like that were not looked at because the client sent too many.
    limit_controls: "roomcast_limit_controls_total" Counter;
    /// Connections closed because they went on to send too fast.
    limit_refusals: "roomcast_limit_refusals_total" Counter;
    /// Connections closed because they caused too many errors.
    limit_errors: "roomcast_limit_errors_total" Counter;
    /// Connections closed because a message was too long.
    limit_message_bytes: "roomcast_limit_message_bytes_total" Counter;
    /// Connections closed because a message came in too many fragments.
    limit_fragments: "roomcast_limit_fragments_total" Counter;
    /// Messages refused because they were nested too deeply.
    limit_nesting: "roomcast_limit_nesting_total" Counter;
    /// Subscriptions refused because the connection is in too many rooms.
    limit_rooms: "roomcast_limit_rooms_total" Counter;
    /// Subscriptions refused because too many of the connection wait for the store.
    limit_subscriptions: "roomcast_limit_subscriptions_total" Counter;
    /// Publishes refused because too many of the connection wait for the store.
    limit_publishes: "roomcast_limit_publishes_total" Counter;
    /// HTTP requests that were not sent in time, and connections on which none was.
    limit_handshakes: "roomcast_limit_handshakes_total" Counter;
    /// HTTP requests refused because their heads are too large.
    limit_heads: "roomcast_limit_heads_total" Counter;
    /// Messages refused because the connections of their user sent too many, or too many bytes.
    limit_user_messages: "roomcast_limit_user_messages_total" Counter;
    /// Messages refused because the connections from their address sent too many, or too many bytes.
    limit_address_messages: "roomcast_limit_address_messages_total" Counter;
    /// Connections closed because their user has too many.
    limit_user_connections: "roomcast_limit_user_connections_total" Counter;
    /// Connections turned away because their address has too many.
    limit_address_connections: "roomcast_limit_address_connections_total" Counter;
    /// Connections turned away because too many come from their address in a short time.
    limit_address_connects: "roomcast_limit_address_connects_total" Counter;
    /// HTTP requests refused because too many come from their address in a short time.
    limit_address_requests: "roomcast_limit_address_requests_total" Counter;
    /// Sockets turned away because the node holds too many.
    limit_sockets: "roomcast_limit_sockets_total" Counter;
    /// Error replies sent to clients.
    errors: "roomcast_error_replies_total" Counter;
    /// Messages handed to connections by rooms.
    deliveries: "roomcast_deliveries_total" Counter;
    /// Messages accepted for publishing.
    published: "roomcast_published_total" Counter;
    /// Messages the store did not confirm.
    publish_failed: "roomcast_publish_failures_total" Counter;
    /// Messages read from the relay logs.
    relayed: "roomcast_relay_messages_total" Counter;
    /// Messages that the relay logs did not bring, or not in time, and that were read from the logs of rooms.
    healed: "roomcast_healed_messages_total" Counter;
    /// Rooms whose members had to be told that messages were lost.
    rooms_lost: "roomcast_rooms_lost_total" Counter;
    /// Messages read from publishers' streams that are the history of rooms.
    tailed: "roomcast_stream_messages_total" Counter;
    /// Entries of such streams that are no messages, each time they are read.
    skipped: "roomcast_stream_skipped_total" Counter;
    /// Snapshots that were no JSON, too long, or not given in time.
    snapshots_failed: "roomcast_snapshot_failures_total" Counter;
    /// Entries read from sources.
    entries: "roomcast_source_entries_total" Counter;
    /// Events decoded from entries.
    events: "roomcast_source_events_total" Counter;
    /// Commands routed to the streams of their services.
    commands: "roomcast_source_commands_total" Counter;
    /// Entries routed and acknowledged.
    acked: "roomcast_source_acked_total" Counter;
    /// Entries dead-lettered and acknowledged.
    dead_lettered: "roomcast_source_dead_letters_total" Counter;
    /// Entries taken over from other consumers.
    claimed: "roomcast_source_claimed_total" Counter;
    /// Entries read again: those that had failed, and those whose first delivery was lost on its way.
    retried: "roomcast_source_retried_total" Counter;
    /// Entries that were deleted or trimmed from their stream while they were pending.
    gone: "roomcast_source_gone_total" Counter;
    /// Consumers removed from their groups because their processes were gone.
    consumers_removed: "roomcast_source_consumers_removed_total" Counter;
    /// Consumer groups that were lost, and opened again.
    groups_lost: "roomcast_source_groups_lost_total" Counter;
    /// Messages heard on channels.
    heard: "roomcast_channel_messages_total" Counter;
    /// Messages heard on channels that cannot be passed on.
    unheard: "roomcast_channel_broken_total" Counter;
    /// Times in which channels were not listened to: what was said then was not heard by this node.
    channel_gaps: "roomcast_channel_gaps_total" Counter;
    /// Connections to the store that seemed alive and brought nothing.
    deaf: "roomcast_deaf_connections_total" Counter;
    /// Questions to the store that failed or got no answer in time.
    store_errors: "roomcast_store_errors_total" Counter;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_and_names_are_unique() {
        let mut sum = Stats { opened: 2, ..Stats::default() };
        sum.add(&Stats { opened: 3, acked: 1, ..Stats::default() });
        assert_eq!((sum.opened, sum.acked), (5, 1));
        let mut names: Vec<_> = sum.figures().map(|(name, ..)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), sum.figures().count());
    }
}
