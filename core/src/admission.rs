//! Who is let in: connections of a whole node, by address and by user.
//!
//! A node has one of these, however many hubs it has: whoever accepts sockets asks it about each, and about each connection that a hub
//! says has become a user's. It remembers nothing of users and addresses where the configuration has no limit for them.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use http::StatusCode;

use crate::address::Network;
use crate::config::Config;
use crate::ledger::{Account, Ledger};
use crate::limiter::Limiter;
use crate::stats::Stats;
use crate::table::Table;
use crate::time::Time;

/// The connections of a node, counted.
///
/// ```
/// use std::sync::Arc;
/// use roomcast_core::admission::{Admission, NotAdmitted};
/// use roomcast_core::config::{Config, Limits, PerAddress};
/// use roomcast_core::time::Time;
///
/// let limits = Limits { per_address: Some(PerAddress { connections: 1, ..PerAddress::default() }), ..Limits::default() };
/// let mut admission = Admission::new(Arc::new(Config { limits, ..Config::default() }), 7);
/// let address = Some([192, 0, 2, 1].into());
/// assert_eq!(admission.connect(Time::ZERO, address), Ok(()));
/// assert_eq!(admission.connect(Time::ZERO, address), Err(NotAdmitted::AddressConnections));
/// admission.disconnected(address);
/// assert_eq!(admission.connect(Time::ZERO, address), Ok(()));
/// ```
#[derive(Debug)]
pub struct Admission {
    config: Arc<Config>,
    sockets: usize,
    addresses: Ledger<Network>,
    users: Table<Box<str>, usize>,
    told: Limiter,
    stats: Stats,
}

/// Refusals in a second of which anybody is told.
pub(crate) const TOLD_PER_SECOND: u32 = 100;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The node holds as many sockets as it may.
    Sockets,
    /// The address has as many connections as it may.
    AddressConnections,
    /// New connections come too fast from the address. In so much time there may be another one.
    AddressConnects(Duration),
    /// Requests come too fast from the address. In so much time there may be another one.
    AddressRequests(Duration),
    /// The user has as many connections as they may.
    UserConnections,
}

impl Admission {
    /// Of a node without connections. `key` is drawn from the core's seed.
    pub fn new(config: Arc<Config>, key: u64) -> Admission {
        let (addresses, users) = (Ledger::new(key), Table::new(key));
        Admission { config, sockets: 0, addresses, users, told: Limiter::default(), stats: Stats::default() }
    }

    /// Whether anything of a socket is counted at all: else nobody needs to ask.
    pub fn counts_sockets(&self) -> bool {
        self.config.limits.sockets.is_some() || self.config.limits.per_address.is_some()
    }

    /// A socket was accepted. The address is none where it is not known, and where it is a proxy's.
    ///
    /// # Errors
    /// It is to be turned away, and was not counted.
    pub fn connect(&mut self, now: Time, address: Option<IpAddr>) -> Result<(), NotAdmitted> {
        if self.config.limits.sockets.is_some_and(|most| self.sockets >= most) {
            self.stats.limit_sockets += 1;
            return Err(NotAdmitted::Sockets);
        }
        if let Some(address) = address {
            self.identify(now, address)?;
        }
        self.sockets += 1;
        Ok(())
    }

    /// Whether a socket that is turned away is told why: a hundred each second are, on the whole node. To read, answer and log a flood of
    /// them would cost much more than to close them, and nobody reads what they are told.
    pub fn tells(&mut self, now: Time) -> bool {
        self.told.take(now, TOLD_PER_SECOND, TOLD_PER_SECOND).is_ok()
    }

    /// There is a connection from this address that counts by itself: a WebSocket that has come through a proxy, or a session of
    /// Engine.IO that polls, which no socket stands for.
    ///
    /// # Errors
    /// As [`Admission::connect`].
    pub fn identify(&mut self, now: Time, address: IpAddr) -> Result<(), NotAdmitted> {
        let Admission { config, addresses, stats, .. } = self;
        let Some(limits) = &config.limits.per_address else { return Ok(()) };
        addresses.with(now, &address.into(), |account| {
            if account.connections >= limits.connections {
                stats.limit_address_connections += 1;
                return Err(NotAdmitted::AddressConnections);
            }
            if let Err(wait) = account.connects.take(now, limits.connects_per_second, limits.connect_burst) {
                stats.limit_address_connects += 1;
                return Err(NotAdmitted::AddressConnects(wait));
            }
            account.connections += 1;
            Ok(())
        })
    }

    /// A socket that was let in is gone. The address is the one that it was counted for.
    pub fn disconnected(&mut self, address: Option<IpAddr>) {
        self.sockets = self.sockets.saturating_sub(1);
        if let Some(address) = address {
            self.forget(address);
        }
    }

    /// A session that polled has ended, or has a socket that stands for it.
    pub fn forget(&mut self, address: IpAddr) {
        if let Some(account) = self.addresses.get_mut(&address.into()) {
            account.connections = account.connections.saturating_sub(1);
        }
    }

    /// A client has sent a request over HTTP, which opens no WebSocket.
    ///
    /// # Errors
    /// It is to be refused.
    pub fn request(&mut self, now: Time, address: IpAddr) -> Result<(), NotAdmitted> {
        let Some(limits) = &self.config.limits.per_address else { return Ok(()) };
        let account = |account: &mut Account| account.requests.take(now, limits.requests_per_second, limits.request_burst);
        self.addresses.with(now, &address.into(), account).map_err(|wait| {
            self.stats.limit_address_requests += 1;
            NotAdmitted::AddressRequests(wait)
        })
    }

    /// A connection has become a user's.
    ///
    /// # Errors
    /// It is to be closed, and was not counted.
    pub fn enter(&mut self, user: &str) -> Result<(), NotAdmitted> {
        let Some(limits) = &self.config.limits.per_user else { return Ok(()) };
        let count = self.users.get(user).copied().unwrap_or_default();
        if count >= limits.connections {
            self.stats.limit_user_connections += 1;
            return Err(NotAdmitted::UserConnections);
        }
        self.users.insert(user.into(), count + 1);
        Ok(())
    }

    /// A connection of a user that was let in is gone.
    pub fn left(&mut self, user: &str) {
        match self.users.get_mut(user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.users.remove(user)),
        }
    }

    /// How often each limit was met.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

impl NotAdmitted {
    /// The status to turn somebody away with.
    pub fn status(self) -> StatusCode {
        match self {
            NotAdmitted::Sockets => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// What to say about it.
    pub fn message(self) -> &'static str {
        match self {
            NotAdmitted::Sockets => "Too many connections",
            NotAdmitted::AddressConnections => "Too many connections from this address",
            NotAdmitted::AddressConnects(_) => "Too many new connections from this address",
            NotAdmitted::AddressRequests(_) => "Too many requests from this address",
            NotAdmitted::UserConnections => "Too many connections of this user",
        }
    }

    /// After how many seconds another attempt may do better.
    pub fn retry_after(self) -> u64 {
        const SOME_TIME: u64 = 10;
        match self {
            NotAdmitted::AddressConnects(wait) | NotAdmitted::AddressRequests(wait) => wait.as_millis().div_ceil(1000) as u64,
            _ => SOME_TIME,
        }
    }
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for NotAdmitted {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{Limits, PerAddress, PerUser};

    fn admission(limits: Limits) -> Admission {
        Admission::new(Arc::new(Config { limits, ..Config::default() }), 7)
    }

    fn address(number: u8) -> IpAddr {
        // Two of each are in one network.
        IpAddr::from([0x2001, 0xdb8, 0, u16::from(number / 2), 0, 0, 0, u16::from(number)])
    }

    #[test]
    fn nothing_is_counted_where_nothing_is_limited() {
        let mut admission = admission(Limits::default());
        assert!(!admission.counts_sockets());
        for number in 0..100 {
            assert_eq!((admission.connect(Time::ZERO, Some(address(number))), admission.enter("a")), (Ok(()), Ok(())));
        }
        assert_eq!((admission.addresses.len(), admission.users.len(), *admission.stats()), (0, 0, Stats::default()));
    }

    #[test]
    fn who_comes_too_fast_is_told_when_to_come_back() {
        let per_address = PerAddress { connects_per_second: 2, connect_burst: 2, ..PerAddress::default() };
        let mut admission = admission(Limits { per_address: Some(per_address), ..Limits::default() });
        let mut connect = |now: u64, number: u8| admission.connect(Time::from_micros(now), Some(address(number)));
        assert_eq!((connect(0, 0), connect(0, 1)), (Ok(()), Ok(())));
        let refused = connect(0, 0).unwrap_err();
        assert_eq!((refused, refused.retry_after()), (NotAdmitted::AddressConnects(Duration::from_millis(500)), 1));
        assert_eq!((connect(0, 2), connect(500_000, 0)), (Ok(()), Ok(())), "it is not counted itself");
    }

    #[test]
    fn a_flood_of_refusals_is_not_told_to_each() {
        let mut admission = admission(Limits::default());
        let mut told = |at: u64| (0..1000).filter(|_| admission.tells(Time::from_micros(at))).count();
        assert_eq!([told(1), told(1), told(500_001), told(10_000_000)], [100, 0, 50, 100]);
    }

    #[test]
    fn who_asks_too_fast_is_told_when_to_ask_again() {
        let per_address = PerAddress { requests_per_second: 4, request_burst: 2, ..PerAddress::default() };
        let mut admission = admission(Limits { per_address: Some(per_address), ..Limits::default() });
        let mut ask = |now: u64, number: u8| admission.request(Time::from_micros(now), address(number));
        assert_eq!((ask(0, 0), ask(0, 1)), (Ok(()), Ok(())));
        let refused = ask(0, 0).unwrap_err();
        assert_eq!((refused, refused.retry_after()), (NotAdmitted::AddressRequests(Duration::from_millis(250)), 1));
        assert_eq!((ask(0, 2), ask(250_000, 0), ask(250_000, 1)), (Ok(()), Ok(()), Err(refused)));
        assert_eq!(admission.stats().limit_address_requests, 2);
        assert_eq!(admission.connect(Time::ZERO, Some(address(0))), Ok(()), "a connection is something else");
    }

    #[test]
    fn probes_and_scrapes_of_every_second_are_never_too_many() {
        let per_address = Some(PerAddress::default());
        let mut admission = admission(Limits { per_address, ..Limits::default() });
        let at = |second: u64| Time::from_micros(second * 1_000_000);
        assert!((0..10_000).all(|second| (0..100).all(|_| admission.request(at(second), address(0)).is_ok())));
    }

    #[test]
    fn requests_are_not_limited_where_nothing_is() {
        let mut admission = admission(Limits::default());
        assert!((0..100_000).all(|_| admission.request(Time::ZERO, address(0)).is_ok()));
        assert_eq!(admission.addresses.len(), 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Connect(u8),
        Disconnect(u8),
        Identify(u8),
        Forget(u8),
        Enter(u8),
        Leave(u8),
        Wait(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6u8).prop_map(Step::Connect),
            3 => (0..6u8).prop_map(Step::Disconnect),
            2 => (0..6u8).prop_map(Step::Identify),
            2 => (0..6u8).prop_map(Step::Forget),
            3 => (0..3u8).prop_map(Step::Enter),
            2 => (0..3u8).prop_map(Step::Leave),
            1 => (0..30_000u16).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Held against simple counts. Of the rate it is asked for that nobody is refused who may come, and that others are.
        #[test]
        fn all_is_counted_and_all_is_forgotten(steps in proptest::collection::vec(step(), 0..200)) {
            let per_address = PerAddress { connections: 3, connects_per_second: 1, connect_burst: 5, ..PerAddress::default() };
            let per_user = PerUser { connections: 2, ..PerUser::default() };
            let (per_address, per_user) = (Some(per_address), Some(per_user));
            let mut admission = admission(Limits { sockets: Some(6), per_address, per_user, ..Limits::default() });
            let (mut now, mut here, mut users) = (Time::from_micros(1), Vec::<u8>::new(), BTreeMap::<u8, usize>::new());
            // Those without a socket of their own.
            let mut polling: Vec<u8> = Vec::new();
            let mut came: BTreeMap<u8, Vec<Time>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Connect(number) | Step::Identify(number) => {
                        let has_socket = matches!(step, Step::Connect(_));
                        let of_network = here.iter().chain(&polling).filter(|other| **other / 2 == number / 2).count();
                        let answer = match has_socket {
                            true => admission.connect(now, Some(address(number))),
                            false => admission.identify(now, address(number)),
                        };
                        let expected = match answer {
                            _ if has_socket && here.len() == 6 => Err(NotAdmitted::Sockets),
                            _ if of_network == 3 => Err(NotAdmitted::AddressConnections),
                            Err(NotAdmitted::AddressConnects(wait)) => Err(NotAdmitted::AddressConnects(wait.clamp(Duration::from_micros(1), Duration::from_secs(1)))),
                            _ => Ok(()),
                        };
                        prop_assert_eq!(answer, expected);
                        if answer.is_ok() {
                            if has_socket { &mut here } else { &mut polling }.push(number);
                            came.entry(number / 2).or_default().push(now);
                        }
                    }
                    Step::Disconnect(number) => {
                        if let Some(at) = here.iter().position(|other| *other == number) {
                            here.swap_remove(at);
                            admission.disconnected(Some(address(number)));
                        }
                    }
                    Step::Forget(number) => {
                        if let Some(at) = polling.iter().position(|other| *other == number) {
                            polling.swap_remove(at);
                            admission.forget(address(number));
                        }
                    }
                    Step::Enter(user) => {
                        let count = users.entry(user).or_default();
                        let expected = if *count == 2 { Err(NotAdmitted::UserConnections) } else { Ok(()) };
                        prop_assert_eq!(admission.enter(&user.to_string()), expected);
                        *count += usize::from(expected.is_ok());
                    }
                    Step::Leave(user) => {
                        let count = users.entry(user).or_default();
                        if *count > 0 {
                            *count -= 1;
                            admission.left(&user.to_string());
                        }
                    }
                    Step::Wait(millis) => now = now + Duration::from_millis(millis.into()),
                }
            }
            for times in came.values() {
                for (at, first) in times.iter().enumerate() {
                    let burst = times[at..].iter().take_while(|time| **time - *first < Duration::from_secs(1)).count();
                    prop_assert!(burst <= 6, "{burst} came within a second");
                }
            }
            here.iter().for_each(|number| admission.disconnected(Some(address(*number))));
            polling.iter().for_each(|number| admission.forget(address(*number)));
            for (user, count) in users {
                (0..count).for_each(|_| admission.left(&user.to_string()));
            }
            for _ in 0..10 {
                now = now + Duration::from_secs(100);
                prop_assert_eq!(admission.connect(now, Some(address(200))), Ok(()));
                admission.disconnected(Some(address(200)));
            }
            prop_assert_eq!((admission.sockets, admission.users.len()), (0, 0));
            prop_assert!(admission.addresses.len() <= 1, "{} addresses are remembered", admission.addresses.len());
        }
    }
}
