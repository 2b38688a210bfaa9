//! The origins of the pages that may connect.

use core::fmt;
use core::net::Ipv6Addr;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// Pages that may connect, by their origin (RFC 6454).
///
/// | written | the pages |
/// |---|---|
/// | `https://example.com` | of exactly this origin; the port that the scheme has by itself may be left out or named |
/// | `https://example.com:8443`, `https://[::1]:8443` | of this port |
/// | `https://example.com:*` | of any port |
/// | `https://*.example.com` | of the domains below this one, however deep, but not of itself |
/// | `null` | that have no origin of their own, as files and sandboxed frames |
/// | `*` | of any origin |
///
/// The case of scheme and host does not matter. Everything else that a URL may have is an error here.
///
/// ```
/// use roomcast_core::config::Origin;
///
/// let origin: Origin = "https://*.example.com".parse().unwrap();
/// assert!(origin.allows("https://app.example.com"));
/// assert!(!origin.allows("https://example.com.evil.example"));
/// assert!("https://example.com/".parse::<Origin>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Origin(Pages);

#[derive(Clone, PartialEq, Eq)]
enum Pages {
    Any,
    Null,
    Of { scheme: Box<str>, below: bool, host: Host<Box<str>>, port: Port },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    /// Nothing for a scheme without a port of its own.
    Is(Option<u16>),
}

#[derive(Clone, PartialEq, Eq)]
enum Host<T> {
    Name(T),
    Address(Ipv6Addr),
}

/// Why a text is no origin, to be said after the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoOrigin(&'static str);

const SCHEME: NoOrigin = NoOrigin("must begin with a scheme, as in https://example.com");
const PORT: NoOrigin = NoOrigin("must end with a port from 0 to 65535, or with none");
const NAME: NoOrigin =
    NoOrigin("must have a host and nothing after it but a port; names with other letters are written as xn--…");
const ADDRESS: NoOrigin = NoOrigin("must have an IPv6 address in its brackets");
const STAR: NoOrigin =
    NoOrigin("may have a * only for whole labels in front of a domain, as in https://*.example.com, or as its port");

impl Origin {
    /// Pages of any origin.
    pub const ANY: Origin = Origin(Pages::Any);

    /// Whether pages of any origin are meant.
    pub fn is_any(&self) -> bool {
        self.0 == Pages::Any
    }

    /// Whether a page of this origin is meant. What is no origin never is.
    pub fn allows(&self, origin: &str) -> bool {
        let is_null = origin == "null";
        let Ok(page) = Parts::parse(origin) else { return is_null && matches!(self.0, Pages::Any | Pages::Null) };
        match &self.0 {
            Pages::Any => true,
            Pages::Null => false,
            Pages::Of { scheme, below, host, port } => {
                let same_host = match (host, &page.host) {
                    (Host::Name(domain), Host::Name(name)) if *below => is_below(name, domain),
                    (Host::Name(known), Host::Name(name)) => name.eq_ignore_ascii_case(known),
                    (Host::Address(known), Host::Address(address)) => known == address,
                    _ => false,
                };
                let same_port = *port == Port::Any || *port == Port::Is(page.port());
                scheme.eq_ignore_ascii_case(page.scheme) && same_host && same_port
            }
        }
    }
}

/// Whether a name has labels of its own in front of a domain.
fn is_below(name: &str, domain: &str) -> bool {
    let labels = name.len().checked_sub(domain.len()).and_then(|at| name.split_at_checked(at));
    labels.is_some_and(|(labels, rest)| rest.eq_ignore_ascii_case(domain) && labels.len() > 1 && labels.ends_with('.'))
}

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Origin, NoOrigin> {
        match text {
            "*" => return Ok(Origin::ANY),
            "null" => return Ok(Origin(Pages::Null)),
            _ => {}
        }
        let (text, any_port) = text.strip_suffix(":*").map_or((text, false), |text| (text, true));
        let starless = text.replacen("://*.", "://", 1);
        if starless.contains('*') {
            return Err(STAR);
        }
        let below = starless.len() != text.len();
        let parts = Parts::parse(&starless)?;
        let port = if any_port { Port::Any } else { Port::Is(parts.port()) };
        let host = match parts.host {
            // Labels in front of numbers would be parts of an address.
            Host::Name(name) if below && name.rsplit('.').next().is_some_and(is_number) => return Err(STAR),
            Host::Address(_) if below => return Err(STAR),
            Host::Name("") if below => return Err(STAR),
            Host::Name(name) => Host::Name(name.into()),
            Host::Address(address) => Host::Address(address),
        };
        if any_port && parts.port.is_some() {
            return Err(PORT);
        }
        Ok(Origin(Pages::Of { scheme: parts.scheme.into(), below, host, port }))
    }
}

/// An origin, as a browser writes it.
struct Parts<'a> {
    scheme: &'a str,
    host: Host<&'a str>,
    port: Option<u16>,
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Result<Parts<'a>, NoOrigin> {
        let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        if !is_scheme || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return Err(SCHEME);
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or(ADDRESS)?;
                let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(PORT)?) };
                (Host::Address(address.parse().map_err(|_| ADDRESS)?), port)
            }
            None => {
                let (name, port) = rest.split_once(':').map_or((rest, None), |(name, port)| (name, Some(port)));
                (Host::Name(name), port)
            }
        };
        let port = match port {
            None => None,
            Some(digits) if is_number(digits) => Some(digits.parse().map_err(|_| PORT)?),
            Some(_) => return Err(PORT),
        };
        // Pages from files have no host.
        let is_file = port.is_none() && scheme.eq_ignore_ascii_case("file");
        match host {
            Host::Name("") if is_file => {}
            Host::Name(name) if !name.split('.').all(is_label) => return Err(NAME),
            Host::Name(_) | Host::Address(_) => {}
        }
        Ok(Parts { scheme, host, port })
    }

    fn port(&self) -> Option<u16> {
        self.port.or_else(|| match self.scheme {
            scheme if scheme.eq_ignore_ascii_case("https") => Some(443),
            scheme if scheme.eq_ignore_ascii_case("http") => Some(80),
            _ => None,
        })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Origin, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|why| de::Error::custom(format_args!("{text:?} {why}")))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, below, host, port) = match &self.0 {
            Pages::Any => return f.write_str("*"),
            Pages::Null => return f.write_str("null"),
            Pages::Of { scheme, below, host, port } => (scheme, below, host, port),
        };
        write!(f, "{scheme}://{}", if *below { "*." } else { "" })?;
        match host {
            Host::Name(name) => f.write_str(name)?,
            Host::Address(address) => write!(f, "[{address}]")?,
        }
        match port {
            Port::Any => f.write_str(":*"),
            Port::Is(Some(port)) => write!(f, ":{port}"),
            Port::Is(None) => Ok(()),
        }
    }
}

impl fmt::Display for NoOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is no origin: it {}", self.0)
    }
}

impl core::error::Error for NoOrigin {}

#[cfg(test)]
mod tests;
