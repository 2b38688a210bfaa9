//! Deadlines of many things, the earliest first.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::{Time, UnixMillis};

/// What deadlines are told in.
pub trait Moment: Copy + Ord {
    /// Later than everything: "no deadline".
    const NEVER: Self;
}

impl Moment for Time {
    const NEVER: Time = Time::NEVER;
}

impl Moment for UnixMillis {
    const NEVER: UnixMillis = UnixMillis::NEVER;
}

/// Deadlines with a key each. Asking for the earliest costs the same however many there are.
///
/// Nothing is ever cancelled: whoever finds a deadline due looks whether it still means something and arms the next one.
/// Hence each thing remembers the deadline it has armed and arms a new one only to be woken earlier; one that moved away
/// costs one needless wake-up instead of a search.
#[derive(Clone, Debug)]
pub struct Timers<K, T = Time> {
    heap: BinaryHeap<Reverse<(T, K)>>,
}

impl<K: Ord, T: Moment> Timers<K, T> {
    /// No deadlines.
    pub fn new() -> Timers<K, T> {
        Timers { heap: BinaryHeap::new() }
    }

    /// Adds a deadline.
    pub fn arm(&mut self, at: T, key: K) {
        if at < T::NEVER {
            self.heap.push(Reverse((at, key)));
        }
    }

    /// The earliest deadline and whose it is.
    pub fn next(&self) -> Option<(T, &K)> {
        self.heap.peek().map(|Reverse((at, key))| (*at, key))
    }

    /// Takes the earliest deadline if it is due.
    pub fn pop_due(&mut self, now: T) -> Option<(T, K)> {
        if self.next()?.0 > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// How many deadlines are armed, needless ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<K: Ord, T: Moment> Default for Timers<K, T> {
    fn default() -> Timers<K, T> {
        Timers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_only_when_due() {
        let mut timers = Timers::new();
        for at in [30, 10, 20] {
            timers.arm(Time::from_micros(at), at);
        }
        timers.arm(Time::NEVER, 0);
        assert_eq!(timers.len(), 3);
        assert_eq!(timers.pop_due(Time::from_micros(9)), None);
        assert_eq!(timers.pop_due(Time::from_micros(25)).map(|(_, key)| key), Some(10));
        assert_eq!(timers.pop_due(Time::from_micros(25)).map(|(_, key)| key), Some(20));
        assert_eq!(timers.pop_due(Time::from_micros(25)), None);
    }
}
