//! What is looked at again and again, beside everything that serves.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// A thread that looks at something every so often, and whenever it is asked to, until this is dropped.
#[derive(Debug)]
pub struct Watch(SyncSender<()>);

impl Watch {
    /// Looks for the first time when so much time has passed.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(name: &str, every: Duration, mut look: impl FnMut() + Send + 'static) -> io::Result<Watch> {
        // One request that waits stands for all that follow it.
        let (poke, poked) = sync_channel(1);
        let turn = move || {
            while let Ok(()) | Err(RecvTimeoutError::Timeout) = poked.recv_timeout(every) {
                look();
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(turn)?;
        Ok(Watch(poke))
    }

    /// Asks to look now. Whatever has changed before this call is seen.
    pub fn poke(&self) {
        // It is full where somebody has asked already, and closed where looking has panicked.
        let _ = self.0.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(15);

    #[test]
    fn it_looks_by_itself_and_when_it_is_asked_and_not_any_more_when_it_is_dropped() {
        for (every, poked) in [(Duration::from_millis(1), false), (Duration::from_secs(3600), true)] {
            let (looked, looks) = mpsc::channel();
            let watch = Watch::start("a watch", every, move || looked.send(()).expect("the test waits")).expect("a thread");
            for _ in 0..3 {
                if poked {
                    watch.poke();
                }
                looks.recv_timeout(PATIENCE).expect("it looks");
            }
            drop(watch);
            while looks.recv_timeout(PATIENCE).is_ok() {}
            assert_eq!(looks.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
        }
    }
}
