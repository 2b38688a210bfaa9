//! The host's clocks, as the core wants them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roomcast_core::time::{Time, UnixMillis};

/// The monotonic clock of a process: all its parts share one, so that their times can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment of a time, for the runtime's timer; nothing for one that never comes.
    pub fn instant(&self, time: Time) -> Option<Instant> {
        // One microsecond late rather than early: an alarm before its time would ring again at once.
        let micros = time.as_micros().checked_add(1)?;
        self.start.checked_add(Duration::from_micros(micros))
    }

    /// What the wall clock shows.
    pub fn unix(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
