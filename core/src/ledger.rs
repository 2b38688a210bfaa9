//! Accounts of users and addresses: only of those who have a connection, or have taken something that has not come back yet.

use core::hash::Hash;
use core::time::Duration;

use crate::config::PerUser;
use crate::limiter::Limiter;
use crate::table::Table;
use crate::time::Time;
use crate::timers::Timers;

/// Accounts, by whose they are.
#[derive(Debug)]
pub(crate) struct Ledger<K> {
    accounts: Table<K, Account>,
    /// When to look whether an account is needed any longer: one moment for each.
    looks: Timers<K>,
}

/// What somebody has taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    pub(crate) connections: usize,
    pub(crate) connects: Limiter,
    pub(crate) requests: Limiter,
    messages: Limiter,
    bytes: Limiter,
}

/// How many accounts are looked at whenever one is used. As none is opened without being used, they do not pile up.
const LOOKS: usize = 2;

impl<K: Clone + Ord + Hash> Ledger<K> {
    /// No accounts. `key` is drawn from the core's seed.
    pub(crate) fn new(key: u64) -> Ledger<K> {
        Ledger { accounts: Table::new(key), looks: Timers::new() }
    }

    /// Uses an account, which is opened where there is none.
    pub(crate) fn with<R>(&mut self, now: Time, key: &K, f: impl FnOnce(&mut Account) -> R) -> R {
        self.close_some(now);
        if let Some(account) = self.accounts.get_mut(key) {
            return f(account);
        }
        let mut account = Account::default();
        let result = f(&mut account);
        self.looks.arm(now, key.clone());
        self.accounts.insert(key.clone(), account);
        result
    }

    /// An account, where there is one.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut Account> {
        self.accounts.get_mut(key)
    }

    /// How many accounts there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }

    fn close_some(&mut self, now: Time) {
        const LATER: Duration = Duration::from_secs(10);
        for _ in 0..LOOKS {
            let Some((_, key)) = self.looks.pop_due(now) else { return };
            if self.accounts.get(&key).is_some_and(|account| account.is_needed(now)) {
                self.looks.arm(now + LATER, key);
            } else {
                self.accounts.remove(&key);
            }
        }
    }
}

impl Account {
    /// Takes a message of so many bytes.
    pub(crate) fn take(&mut self, now: Time, bytes: u32, share: &PerUser) -> Result<(), Duration> {
        // Nothing is taken of either where the other has not enough.
        let mut messages = self.messages;
        messages.take(now, share.messages_per_second, share.burst)?;
        self.bytes.take_n(now, bytes, share.bytes_per_second, share.burst_bytes)?;
        self.messages = messages;
        Ok(())
    }

    fn is_needed(&self, now: Time) -> bool {
        self.connections > 0
            || ![self.connects, self.requests, self.messages, self.bytes].iter().all(|limiter| limiter.is_full(now))
    }
}
