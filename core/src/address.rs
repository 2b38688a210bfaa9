//! Addresses of clients: whom a connection is counted for.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::str::FromStr as _;

use http::{HeaderMap, HeaderName, header};

use crate::config::{Limits, ProxyHeader};

/// The address of the client that sent a request, as an extension of the request. A host adds it where it knows it.
///
/// ```
/// use roomcast_core::address::ClientAddress;
///
/// let mut request = http::Request::get("/ws").body(()).unwrap();
/// request.extensions_mut().insert(ClientAddress([192, 0, 2, 1].into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// What counts as one address: an IPv4 address, or the 64 bits of an IPv6 network, in which anybody may have all the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// An address of IPv4, also one that is mapped into IPv6.
    V4(Ipv4Addr),
    /// A network of IPv6.
    V6([u8; 8]),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Network::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Who sent a request that came from `peer`: where that is a proxy of ours, the last address that no proxy of ours has, of those that
/// the proxies have written down. What stands before it may be anybody's invention. An address that cannot be read is not believed,
/// nor is what stands before it: then it is the proxy itself.
///
/// ```
/// use http::HeaderMap;
/// use roomcast_core::address::client_address;
/// use roomcast_core::config::Limits;
///
/// let limits = Limits { proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Limits::default() };
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "1.1.1.1, 192.0.2.7, 10.0.0.2".parse().unwrap());
/// let sent_by = |peer: &str| client_address(peer.parse().unwrap(), &headers, &limits).to_string();
/// assert_eq!(sent_by("10.0.0.1"), "192.0.2.7");
/// assert_eq!(sent_by("203.0.113.9"), "203.0.113.9");
/// ```
pub fn client_address(peer: IpAddr, headers: &HeaderMap, limits: &Limits) -> IpAddr {
    let mut address = peer.to_canonical();
    let name = match limits.proxy_header {
        ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        ProxyHeader::Forwarded => header::FORWARDED,
    };
    let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !limits.is_proxy(address) {
            break;
        }
        let node = match limits.proxy_header {
            ProxyHeader::XForwardedFor => Some(hop),
            ProxyHeader::Forwarded => forwarded_for(hop),
        };
        let Some(next) = node.and_then(parse) else { break };
        address = next;
    }
    address
}

/// The node that an element of `Forwarded` names as the sender (RFC 7239, section 5.2).
fn forwarded_for(element: &str) -> Option<&str> {
    let is_for = |pair: &&str| pair.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("for="));
    let pair = element.split(';').map(str::trim).find(is_for)?;
    pair.get(4..).map(|node| node.trim_matches('"'))
}

/// An address, in brackets or not, with a port or without.
fn parse(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    let address = IpAddr::from_str(bare).or_else(|_| SocketAddr::from_str(node).map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_by(header: ProxyHeader, lines: &[&str]) -> String {
        let proxies = ["10.0.0.0/8", "192.168.1.1", "2001:db8:a::/48"].map(|proxy| proxy.parse().unwrap()).to_vec();
        let limits = Limits { proxies, proxy_header: header, ..Limits::default() };
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = if header == ProxyHeader::Forwarded { "forwarded" } else { "x-forwarded-for" };
            headers.append(name, http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        client_address([10, 0, 0, 1].into(), &headers, &limits).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_is_believed_and_no_other() {
        for (lines, address) in [
            (&[][..], "10.0.0.1"),
            (&["1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6,1.2.3.4 , 192.168.1.1,10.9.9.9"], "1.2.3.4"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["1.2.3.4:567"], "1.2.3.4"),
            (&["[2001:db8::1]:567"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1, 2001:db8:a::5"], "2001:db8::1"),
            (&["::ffff:1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6, unknown"], "10.0.0.1"),
            (&["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["6.6.6.6, "], "10.0.0.1"),
            (&["6.6.6.6, é"], "10.0.0.1"),
        ] {
            assert_eq!(sent_by(ProxyHeader::XForwardedFor, lines), address, "{lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_where_that_is_configured() {
        for (lines, address) in [
            (&["for=1.2.3.4"][..], "1.2.3.4"),
            (&["for=6.6.6.6, proto=https;For=\"1.2.3.4:80\";by=10.0.0.1"], "1.2.3.4"),
            (&["for=\"[2001:db8::1]:567\""], "2001:db8::1"),
            (&["for=6.6.6.6, for=_hidden"], "10.0.0.1"),
            (&["for=6.6.6.6, proto=https"], "10.0.0.1"),
        ] {
            assert_eq!(sent_by(ProxyHeader::Forwarded, lines), address, "{lines:?}");
        }
    }

    #[test]
    fn half_of_an_address_of_ipv6_is_what_counts() {
        let network = |address: &str| Network::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:1.2.3.4"), network("1.2.3.4"));
        assert_ne!(network("1.2.3.5"), network("1.2.3.4"));
    }
}
