//! Real things around the real gateway: processes, a Redis server, WebSocket and HTTP clients,
//! publishers and browsers.
//!
//! Everything here blocks and takes a time limit, and everything that goes wrong panics with what the
//! processes had printed by then: this is test code, and a test that cannot go on should say why.

pub mod client;
pub mod cluster;
pub mod e2e;
pub mod embedded;
pub mod engine;
pub mod gateway;
pub mod http;
pub mod ordeal;
pub mod packets;
pub mod poller;
pub mod process;
pub mod protocol;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod replication;
pub mod sentinel;
pub mod session;
pub mod setup;
pub mod socketio;
pub mod stream;
pub mod tls;
pub mod traffic;

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How long a test waits for something that normally takes milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Asks again and again until there is an answer, or returns `None` when `within` has passed.
///
/// It always asks at least once, and once more at the very end.
pub fn poll_until<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    // Short enough not to be noticed by a test, long enough to leave the processor to the server.
    const PAUSE: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + within;
    loop {
        let last = Instant::now() >= deadline;
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if last {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Raises the limit of open files as far as the system lets us (children inherit it), and returns it.
///
/// # Panics
///
/// When the system does not tell.
#[must_use]
pub fn raise_open_files() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("files are limited");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit is allowed");
    usize::try_from(hard).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_returns_the_first_answer() {
        let mut asked = 0;
        let answer = poll_until(PATIENCE, || {
            asked += 1;
            (asked == 3).then_some("here")
        });
        assert_eq!((answer, asked), (Some("here"), 3));
    }

    #[test]
    fn polling_gives_up_but_asks_at_least_once() {
        let mut asked = 0;
        assert_eq!(
            poll_until(Duration::ZERO, || {
                asked += 1;
                None::<()>
            }),
            None
        );
        assert_eq!(asked, 1);
    }
}
