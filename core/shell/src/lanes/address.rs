//! Where Redis is, and the URLs that say so.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, parse_redis_url};

/// Where Redis is. It is read from one of these URLs:
///
/// | URL | what it names |
/// |---|---|
/// | `redis://[user[:password]@]host[:6379][/database]` | one server |
/// | `redis+unix:///path[?db=…&user=…&pass=…]`, `unix:///path…` | one server, by a Unix socket |
/// | `redis-sentinel://[user[:password]@]host[:26379],host,…[/database][?sentinelUsername=…&sentinelPassword=…]#master` | the master of this name, which the sentinels on these hosts know |
/// | `redis-cluster://[user[:password]@]host[:6379],host,…` | a cluster, with some of its nodes |
///
/// With `rediss` in place of `redis` every connection, to sentinels as well, is by TLS, and each server has to have a certificate for
/// the host by which it is named.
///
/// User and password are those of the servers that hold the data. What is shown of it has no password.
#[derive(Clone, Debug)]
pub struct Address {
    pub(super) place: Place,
    /// By TLS.
    pub(super) is_secure: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Server(ConnectionInfo),
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// A master, by those who watch it.
#[derive(Clone, Debug)]
pub(super) struct Sentinels {
    pub(super) hosts: Vec<ConnectionAddr>,
    pub(super) master: String,
    /// For the master.
    pub(super) settings: RedisConnectionInfo,
    /// For the sentinels.
    pub(super) credentials: RedisConnectionInfo,
}

/// A cluster, by some of its nodes.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) seeds: Vec<ConnectionAddr>,
    /// For all of its nodes.
    pub(super) settings: RedisConnectionInfo,
}

/// Why a text does not say where Redis is. It shows nothing of what may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

const SENTINEL_PORT: u16 = 26_379;
const REDIS_PORT: u16 = 6_379;

impl Address {
    /// Whether it is that of a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Whether it is spoken to by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The same, by TLS.
    #[must_use]
    pub fn secured(self) -> Address {
        Address { is_secure: true, ..self }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Address, AddressError> {
        let (place, is_secure) = match url.split_once("://") {
            Some(("redis-sentinel", rest)) => (Place::Sentinels(Sentinels::read(rest)?), false),
            Some(("rediss-sentinel", rest)) => (Place::Sentinels(Sentinels::read(rest)?), true),
            Some(("redis-cluster", rest)) => (Place::Cluster(Cluster::read(rest)?), false),
            Some(("rediss-cluster", rest)) => (Place::Cluster(Cluster::read(rest)?), true),
            Some(("rediss" | "valkeys", rest)) => {
                if rest.contains('#') {
                    return Err(wrong("nothing follows behind a #: a server that need not prove who it is could be anybody"));
                }
                let info = format!("redis://{rest}").into_connection_info().map_err(refused)?;
                (Place::Server(info), true)
            }
            _ if parse_redis_url(url).is_none() => {
                return Err(wrong(
                    "not a URL that begins with redis://, rediss://, redis+unix://, unix://, redis-sentinel:// or redis-cluster://",
                ));
            }
            _ => return url.into_connection_info().map_err(refused)?.try_into(),
        };
        Ok(Address { place, is_secure })
    }
}

impl TryFrom<ConnectionInfo> for Address {
    type Error = AddressError;

    fn try_from(info: ConnectionInfo) -> Result<Address, AddressError> {
        let (host, port) = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(wrong(
                    "a server that need not prove who it is could be anybody: name its authority in place of #insecure",
                ));
            }
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port),
            _ => return Ok(Address { place: Place::Server(info), is_secure: false }),
        };
        Ok(Address { place: Place::Server(info.set_addr(ConnectionAddr::Tcp(host, port))), is_secure: true })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_tls = if self.is_secure { " by TLS" } else { "" };
        match &self.place {
            Place::Server(info) => write!(f, "redis at {}{by_tls}, database {}", info.addr(), info.redis_settings().db()),
            Place::Sentinels(Sentinels { hosts, master, settings, .. }) => {
                write!(f, "redis master {master} of the sentinels at {}{by_tls}, database {}", list(hosts), settings.db())
            }
            Place::Cluster(Cluster { seeds, .. }) => write!(f, "redis cluster at {}{by_tls}", list(seeds)),
        }
    }
}

impl Sentinels {
    fn read(rest: &str) -> Result<Sentinels, AddressError> {
        let Parts { hosts, settings, options, fragment } = Parts::read(rest, SENTINEL_PORT)?;
        let master = fragment.ok_or_else(|| wrong("the master's name is missing: redis-sentinel://host,host#name"))?;
        // What Redis allows in one. An option behind the name is found out by it.
        if !master.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
            return Err(wrong("the master's name, which is last and behind a #, consists of letters, digits, dots, - and _"));
        }
        let mut credentials = RedisConnectionInfo::default();
        for (name, value) in options {
            credentials = match &*name {
                "sentinelUsername" => credentials.set_username(value),
                "sentinelPassword" => credentials.set_password(value),
                _ => return Err(wrong(format!("{name} is none of the options sentinelUsername and sentinelPassword"))),
            };
        }
        Ok(Sentinels { hosts, master, settings, credentials })
    }
}

impl Cluster {
    fn read(rest: &str) -> Result<Cluster, AddressError> {
        let Parts { hosts, settings, options, fragment } = Parts::read(rest, REDIS_PORT)?;
        if settings.db() != 0 {
            return Err(wrong("a cluster has no database but 0"));
        }
        if !options.is_empty() || fragment.is_some() {
            return Err(wrong("nothing follows the hosts of a cluster"));
        }
        Ok(Cluster { seeds: hosts, settings })
    }
}

/// The parts of a URL with several hosts.
struct Parts {
    hosts: Vec<ConnectionAddr>,
    settings: RedisConnectionInfo,
    options: Vec<(String, String)>,
    fragment: Option<String>,
}

impl Parts {
    fn read(rest: &str, port: u16) -> Result<Parts, AddressError> {
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let hosts_at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, names) = authority.split_at(hosts_at);
        let mut parts =
            Parts { hosts: Vec::new(), settings: RedisConnectionInfo::default(), options: Vec::new(), fragment: None };
        for name in names.split(',') {
            // What is said of one server is said of each of them.
            let url = parse_redis_url(&format!("redis://{user}{name}{tail}")).filter(|_| !name.is_empty());
            let url =
                url.ok_or_else(|| wrong("hosts are written as host, host:port or [IPv6]:port, with commas between them"))?;
            parts.options = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            parts.fragment = url.fragment().filter(|name| !name.is_empty()).map(str::to_owned);
            let own_port = url.port();
            let info = url.into_connection_info().map_err(refused)?;
            parts.settings = info.redis_settings().clone();
            parts.hosts.push(match info.addr() {
                ConnectionAddr::Tcp(host, _) => ConnectionAddr::Tcp(host.clone(), own_port.unwrap_or(port)),
                other => other.clone(),
            });
        }
        Ok(parts)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for AddressError {}

fn wrong(reason: impl Into<String>) -> AddressError {
    AddressError(reason.into())
}

fn refused(error: RedisError) -> AddressError {
    wrong(error.to_string())
}

fn list(addresses: &[ConnectionAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, String> {
        url.parse().map_err(|error: AddressError| error.to_string())
    }

    #[test]
    fn every_form_is_read_and_shown_without_its_passwords() {
        for (url, shown) in [
            ("redis://h", "redis at h:6379, database 0"),
            ("redis://:hunter2@127.0.0.1:1/2", "redis at 127.0.0.1:1, database 2"),
            ("unix:///tmp/redis.sock?db=3&pass=hunter2", "redis at /tmp/redis.sock, database 3"),
            ("redis+unix:///tmp/redis.sock", "redis at /tmp/redis.sock, database 0"),
            ("redis-sentinel://a#m", "redis master m of the sentinels at a:26379, database 0"),
            (
                "redis-sentinel://user:hunter2@a,b:1,[::1],[::2]:5/7?sentinelPassword=hunter2&sentinelUsername=u#my-master_1.x",
                "redis master my-master_1.x of the sentinels at a:26379, b:1, ::1:26379, ::2:5, database 7",
            ),
            ("redis-cluster://:hunter2@a,b:1,c/", "redis cluster at a:6379, b:1, c:6379"),
            ("rediss://:hunter2@h/2", "redis at h:6379 by TLS, database 2"),
            ("valkeys://h:1", "redis at h:1 by TLS, database 0"),
            ("rediss-sentinel://:hunter2@a#m", "redis master m of the sentinels at a:26379 by TLS, database 0"),
            ("rediss-cluster://:hunter2@a", "redis cluster at a:6379 by TLS"),
        ] {
            let address = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("hunter2"), "{address:?}");
        }
    }

    #[test]
    fn what_is_said_of_the_servers_is_not_said_of_the_sentinels() {
        let address = read("redis-sentinel://us%40er:p%2Cw@a,b/7?sentinelUsername=su&sentinelPassword=s%23p#m").unwrap();
        let Place::Sentinels(Sentinels { hosts, settings, credentials, .. }) = address.place else { panic!() };
        assert_eq!(hosts, ["a", "b"].map(|host| ConnectionAddr::Tcp(host.into(), SENTINEL_PORT)));
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("us@er"), Some("p,w"), 7));
        assert_eq!((credentials.username(), credentials.password(), credentials.db()), (Some("su"), Some("s#p"), 0));
    }

    #[test]
    fn what_is_wrong_is_told_without_a_password() {
        for (url, told) in [
            ("hunter2", "redis-sentinel://"),
            ("http://hunter2@h", "redis-sentinel://"),
            ("rediss://:hunter2@h#insecure", "could be anybody"),
            ("rediss://:hunter2@h:hunter2", "did not parse"),
            ("redis://:hunter2@h/x", "database"),
            ("redis-sentinel://:hunter2@a,b", "#name"),
            ("redis-sentinel://:hunter2@a,b#", "#name"),
            ("redis-sentinel://:hunter2@a,b#m?sentinelPassword=hunter2", "behind a #"),
            ("redis-sentinel://:hunter2@a?password=hunter2#m", "password is none of"),
            ("redis-sentinel://:hunter2@a,,b#m", "commas"),
            ("redis-sentinel://:hunter2@a:hunter2#m", "commas"),
            ("redis-sentinel://#m", "commas"),
            ("redis-sentinel://a/x#m", "database"),
            ("redis-cluster://:hunter2@a/1", "database"),
            ("redis-cluster://a?db=hunter2", "nothing follows"),
            ("redis-cluster://", "commas"),
        ] {
            let error = read(url).err().unwrap_or_else(|| panic!("{url} is read"));
            assert!(error.contains(told) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
