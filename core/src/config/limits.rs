//! Limits of connections and messages, and the heartbeat.

use core::net::IpAddr;
use core::time::Duration;

use serde::Deserialize;

use super::{ConfigError, PerAddress, PerUser, Proxy, ProxyHeader, check};

/// Limits of each connection, of users and addresses, and of the node. The defaults of the older ones are those of system B
/// (PROTOCOL section 2); where one is exceeded, a counter in the metrics says so by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections one hub holds; more are refused with status 503.
    pub connections: usize,
    /// Longest message of an authenticated connection, in bytes; a longer one closes with 1009.
    pub message_bytes: usize,
    /// Longest message of a connection that is not authenticated yet: a token must fit.
    pub first_message_bytes: usize,
    /// WebSocket frames that one message may be made of, empty ones counted; more close with 1008.
    pub fragments: usize,
    /// How deeply the JSON of a message may be nested; a deeper one is refused as `invalid_message`.
    pub nesting: usize,
    /// Messages a connection may send on average, each second; more are refused as `rate_limited`. Four times as many frames may
    /// come that are no messages, as pings and pongs; more are not answered.
    pub messages_per_second: u32,
    /// Messages it may send at once after a pause.
    pub burst: u32,
    /// Bytes of messages it may send on average, each second; messages beyond are refused as `rate_limited`.
    pub bytes_per_second: u32,
    /// Bytes it may send at once after a pause. A single message may have more, if it may be so long; it uses up what follows.
    pub burst_bytes: u32,
    /// What a connection may do too fast, and is refused, before it is closed with 4009.
    pub refusals: u32,
    /// Errors a connection may cause before it is closed with 4009. What is refused as `rate_limited` is none.
    pub error_budget: u32,
    /// So long after the first of them, the errors and the refusals of a connection are forgotten.
    #[serde(with = "humantime_serde")]
    pub error_reset: Duration,
    /// Rooms a connection may be in; more are refused as `limit_exceeded`.
    pub rooms_per_connection: usize,
    /// Subscriptions of one connection that may wait for the store; more are refused as `limit_exceeded`.
    pub subscriptions_in_flight: usize,
    /// Longest room name, in bytes.
    pub room_name_bytes: usize,
    /// Bytes that may wait for a slow reader; more close it with 4008.
    pub outbox_bytes: usize,
    /// Messages that may wait for a slow reader; more close it with 4008.
    pub outbox_messages: usize,
    /// Publishes of one connection that may wait for their confirmation; more are refused as `limit_exceeded`.
    pub publishes_in_flight: usize,
    /// Requests of one connection that may wait for the host to allow them; more are refused as `limit_exceeded`.
    pub decisions_in_flight: usize,
    /// Time the host has to allow a request; then it is refused as `unavailable`.
    #[serde(with = "humantime_serde")]
    pub decision_timeout: Duration,
    /// Messages of a room's history that a client may ask for at once.
    pub history: u32,
    /// Sockets that a node holds at once, whatever is spoken on them; one more is answered with status 503. No limit without it. It
    /// should leave room for those who ask whether the node is well.
    pub sockets: Option<usize>,
    /// What the connections of one user may do together; not limited, nor counted, without it.
    pub per_user: Option<PerUser>,
    /// What the connections from one address may do together; not limited, nor counted, without it.
    pub per_address: Option<PerAddress>,
    /// Proxies of ours, whose word about the addresses of clients is taken.
    pub proxies: Vec<Proxy>,
    /// The header in which they write them.
    pub proxy_header: ProxyHeader,
    /// Time a request head may take, from the connection or from its first byte; then 408, and the connection ends.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Longest request head, in bytes; a longer one is answered with 431.
    pub head_bytes: usize,
    /// Fields a request head may have, at most [`Limits::MOST_HEADERS`]; more are answered with 431.
    pub headers: usize,
    /// Time to authenticate where the route demands it; then close 4001.
    #[serde(with = "humantime_serde")]
    pub auth_timeout: Duration,
    /// Time the peer has to answer a close frame before the socket is dropped.
    #[serde(with = "humantime_serde")]
    pub close_timeout: Duration,
    /// Time a subscription may wait for the store before it is refused as `unavailable`.
    #[serde(with = "humantime_serde")]
    pub join_timeout: Duration,
}

/// How dead connections are noticed.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// A WebSocket ping is sent this often.
    #[serde(with = "humantime_serde")]
    pub ping: Duration,
    /// A connection from which nothing came for this long is dropped. Longer than `ping`.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Limits {
    /// The most that [`Limits::headers`] can be.
    pub const MOST_HEADERS: usize = 256;

    /// Whether a room may have this name: not empty, not too long, without control characters.
    pub fn allows_room_name(&self, name: &str) -> bool {
        !name.is_empty() && name.len() <= self.room_name_bytes && !name.chars().any(char::is_control)
    }

    /// Whether an address is that of a proxy of ours.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.has(address))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (value, name) in [
            (self.connections, "connections"),
            (self.message_bytes, "message_bytes"),
            (self.first_message_bytes, "first_message_bytes"),
            (self.messages_per_second as usize, "messages_per_second"),
            (self.burst as usize, "burst"),
            (self.bytes_per_second as usize, "bytes_per_second"),
            (self.burst_bytes as usize, "burst_bytes"),
            (self.fragments, "fragments"),
            (self.nesting, "nesting"),
            (self.subscriptions_in_flight, "subscriptions_in_flight"),
            (self.rooms_per_connection, "rooms_per_connection"),
            (self.room_name_bytes, "room_name_bytes"),
            (self.outbox_bytes, "outbox_bytes"),
            (self.outbox_messages, "outbox_messages"),
        ] {
            check(value > 0, &format!("limits.{name}"), "must be greater than 0")?;
        }
        check(self.sockets != Some(0), "limits.sockets", "must be greater than 0")?;
        self.per_user.map_or(Ok(()), |share| share.validate("limits.per_user"))?;
        self.per_address.map_or(Ok(()), |share| share.validate("limits.per_address"))?;
        let most = crate::id::ConnId::MAX_SLOTS;
        check(self.connections <= most, "limits.connections", "must be at most 16777216")?;
        check((256..=1 << 20).contains(&self.head_bytes), "limits.head_bytes", "must be from 256 to 1048576")?;
        check((1..=Limits::MOST_HEADERS).contains(&self.headers), "limits.headers", "must be from 1 to 256")?;
        check(!self.handshake_timeout.is_zero(), "limits.handshake_timeout", "must not be zero")?;
        for (value, name) in
            [(self.auth_timeout, "auth_timeout"), (self.close_timeout, "close_timeout"), (self.join_timeout, "join_timeout")]
        {
            check(!value.is_zero(), &format!("limits.{name}"), "must not be zero")?;
        }
        Ok(())
    }
}

impl Heartbeat {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check(!self.ping.is_zero(), "heartbeat.ping", "must not be zero")?;
        check(self.timeout > self.ping, "heartbeat.timeout", "must be longer than heartbeat.ping")
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1_000_000,
            message_bytes: 512,
            first_message_bytes: 8 * 1024,
            fragments: 64,
            nesting: 64,
            messages_per_second: 10,
            burst: 20,
            bytes_per_second: 256 * 1024,
            burst_bytes: 2 * 1024 * 1024,
            refusals: 500,
            error_budget: 5,
            error_reset: Duration::from_secs(600),
            rooms_per_connection: 100,
            subscriptions_in_flight: 100,
            room_name_bytes: 200,
            outbox_bytes: 1024 * 1024,
            outbox_messages: 1_000,
            publishes_in_flight: 256,
            decisions_in_flight: 64,
            decision_timeout: Duration::from_secs(5),
            history: 1_000,
            sockets: None,
            per_user: None,
            per_address: None,
            proxies: Vec::new(),
            proxy_header: ProxyHeader::XForwardedFor,
            handshake_timeout: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            headers: 64,
            auth_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            join_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat { ping: Duration::from_secs(54), timeout: Duration::from_secs(60) }
    }
}
