//! What a user or an address may do with all its connections together, and whose word about addresses is taken.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

use super::{ConfigError, check};

/// What the connections of one user may do together. Rates are kept by each hub for the connections it has, connections are counted over
/// the whole node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerUser {
    /// Messages on average, each second; more are refused as `rate_limited`.
    pub messages_per_second: u32,
    /// Messages at once after a pause.
    pub burst: u32,
    /// Bytes of messages on average, each second; messages beyond are refused as `rate_limited`.
    pub bytes_per_second: u32,
    /// Bytes at once after a pause.
    pub burst_bytes: u32,
    /// Connections; one more is closed with 4029. Each namespace of a Socket.IO client counts.
    pub connections: usize,
}

/// What the connections from one address may do together; IPv6 counts by networks of 64 bits. Many people may share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerAddress {
    /// As for a user.
    pub messages_per_second: u32,
    /// As for a user.
    pub burst: u32,
    /// As for a user.
    pub bytes_per_second: u32,
    /// As for a user.
    pub burst_bytes: u32,
    /// Sockets, whatever is spoken on them, and sessions of Socket.IO that poll, which have none of their own; one more is answered with
    /// status 429. Behind a proxy, its WebSockets and such sessions.
    pub connections: usize,
    /// New ones on average, each second; more are answered with status 429.
    pub connects_per_second: u32,
    /// New ones at once after a pause.
    pub connect_burst: u32,
    /// HTTP requests on average, each second, whatever they ask for, polls among them; more are answered with status 429, and the socket
    /// is closed unless it is a proxy's. What asks for a WebSocket counts as a connection instead.
    pub requests_per_second: u32,
    /// Requests at once after a pause.
    pub request_burst: u32,
}

/// A proxy of ours, or a network of them: `192.0.2.1`, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Proxy(IpNet);

/// The header in which proxies write down who sent a request. It has to be the one that all of them write: the other is passed on as
/// clients send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A text that names no address and no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyError;

impl Proxy {
    /// Whether an address is one of these.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Proxy, ProxyError> {
        let address = IpAddr::from_str(text).map(|address| IpNet::from(address.to_canonical()));
        address.or_else(|_| IpNet::from_str(text)).map(|network| Proxy(network.trunc())).map_err(|_| ProxyError)
    }
}

impl TryFrom<String> for Proxy {
    type Error = ProxyError;

    fn try_from(text: String) -> Result<Proxy, ProxyError> {
        text.parse()
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be an address, or a network such as 10.0.0.0/8")
    }
}

impl core::error::Error for ProxyError {}

impl PerUser {
    pub(super) fn validate(&self, path: &str) -> Result<(), ConfigError> {
        let PerUser { messages_per_second, burst, bytes_per_second, burst_bytes, connections } = *self;
        let rates = [messages_per_second, burst, bytes_per_second, burst_bytes];
        check(!rates.contains(&0) && connections > 0, path, "has a limit of 0, which must be greater")
    }
}

impl PerAddress {
    pub(super) fn validate(&self, path: &str) -> Result<(), ConfigError> {
        let rates = [self.connects_per_second, self.connect_burst, self.requests_per_second, self.request_burst];
        check(!rates.contains(&0), path, "has a limit of 0, which must be greater")?;
        self.share().validate(path)
    }

    /// The part that is the same for a user.
    pub(crate) fn share(&self) -> PerUser {
        let PerAddress { messages_per_second, burst, bytes_per_second, burst_bytes, connections, .. } = *self;
        PerUser { messages_per_second, burst, bytes_per_second, burst_bytes, connections }
    }
}

impl Default for PerUser {
    /// Some open pages of one person.
    fn default() -> PerUser {
        PerUser { messages_per_second: 50, burst: 100, bytes_per_second: 256 * 1024, burst_bytes: 512 * 1024, connections: 50 }
    }
}

impl Default for PerAddress {
    /// A house with some people in it.
    fn default() -> PerAddress {
        PerAddress {
            messages_per_second: 200,
            burst: 400,
            bytes_per_second: 1024 * 1024,
            burst_bytes: 2 * 1024 * 1024,
            connections: 200,
            connects_per_second: 20,
            connect_burst: 100,
            requests_per_second: 1000,
            request_burst: 2000,
        }
    }
}
