//! Time is an argument: the core never reads a clock.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment on the host's monotonic clock, in microseconds since a start that only the host knows.
///
/// Every input of the core carries one. A value smaller than an earlier one is harmless: nothing is due twice.
///
/// ```
/// use std::time::Duration;
/// use roomcast_core::time::Time;
///
/// let start = Time::from_micros(5);
/// let later = start + Duration::from_millis(1);
/// assert_eq!(later - start, Duration::from_millis(1));
/// assert_eq!(start - later, Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The start of the clock.
    pub const ZERO: Time = Time(0);
    /// Later than everything: "no deadline".
    pub const NEVER: Time = Time(u64::MAX);

    /// The moment this many microseconds after the start.
    pub const fn from_micros(micros: u64) -> Time {
        Time(micros)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(micros(duration)))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A moment on the wall clock, in milliseconds since 1970-01-01 UTC. It is data (token expiry, timestamps), never a deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Later than everything.
    pub const NEVER: UnixMillis = UnixMillis(u64::MAX);

    /// Whole seconds, as JWT claims count them.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

impl Add<Duration> for UnixMillis {
    type Output = UnixMillis;

    fn add(self, duration: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = UnixMillis;

    fn sub(self, duration: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    /// RFC 3339 in UTC with milliseconds, the form of every timestamp Roomcast writes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (date, clock) = (moment.date(), moment.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second(),
            clock.millisecond()
        )
    }
}

/// What the wall clock shows at a moment of the monotonic clock, as the host last said.
///
/// Between two readings it runs with the monotonic clock; a host tells of a step of the wall clock by a new reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    at: Time,
    shows: UnixMillis,
}

impl WallClock {
    /// A reading: at `at`, the wall clock shows `shows`.
    pub const fn new(at: Time, shows: UnixMillis) -> WallClock {
        WallClock { at, shows }
    }

    /// The wall clock at `now`.
    pub fn unix(&self, now: Time) -> UnixMillis {
        if now >= self.at {
            self.shows + (now - self.at)
        } else {
            UnixMillis(self.shows.0.saturating_sub(micros(self.at - now) / 1000))
        }
    }

    /// The monotonic moment at which the wall clock will show `unix`; `now` if it has already passed.
    pub fn when(&self, now: Time, unix: UnixMillis) -> Time {
        let after = Duration::from_millis(unix.0.saturating_sub(self.shows.0));
        let before = Duration::from_millis(self.shows.0.saturating_sub(unix.0));
        let at = self.at + after;
        Time(at.0.saturating_sub(micros(before))).max(now)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_written_as_rfc_3339() {
        assert_eq!(UnixMillis(1_759_712_400_123).to_string(), "2025-10-06T01:00:00.123Z");
        assert_eq!(UnixMillis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UnixMillis(u64::MAX).to_string(), "1970-01-01T00:00:00.000Z", "out of range never panics");
    }

    #[test]
    fn the_wall_clock_runs_with_the_monotonic_one() {
        let clock = WallClock::new(Time::from_micros(10_000_000), UnixMillis(1_000_000));
        assert_eq!(clock.unix(Time::from_micros(11_500_000)), UnixMillis(1_001_500));
        assert_eq!(clock.unix(Time::from_micros(9_000_000)), UnixMillis(999_000));
        for now in [9_000_000, 10_000_000, 11_999_999] {
            assert_eq!(clock.when(Time::from_micros(now), UnixMillis(1_002_000)), Time::from_micros(12_000_000));
        }
        assert_eq!(clock.when(Time::ZERO, UnixMillis(999_000)), Time::from_micros(9_000_000));
        assert_eq!(clock.when(Time::from_micros(12_000_001), UnixMillis(1_002_000)), Time::from_micros(12_000_001));
    }
}
