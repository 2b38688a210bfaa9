//! When a gateway has to stop: at SIGINT or SIGTERM, whatever the runtime.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::{io, process, thread};

use futures_channel::oneshot;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Is ready at the first SIGINT or SIGTERM since it was made.
///
/// The second ends the process at once, with 128 and the number of the signal, for whoever does not want to wait.
#[derive(Debug)]
pub struct Stop(oneshot::Receiver<()>);

impl Stop {
    /// From now on, no signal is lost.
    pub(crate) fn at_signals() -> io::Result<Stop> {
        let signals = Signals::new([SIGINT, SIGTERM])?;
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name("signals".to_owned()).spawn(move || watch(signals, stop))?;
        Ok(Stop(stopped))
    }

    /// What comes of something else, unless this is ready first.
    pub(crate) async fn or<F: Future>(&mut self, other: F) -> Option<F::Output> {
        let mut other = pin!(other);
        poll_fn(|cx| match Pin::new(&mut *self).poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => other.as_mut().poll(cx).map(Some),
        })
        .await
    }
}

impl Future for Stop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // A thread that had ended without a word could not tell of signals either: then it is better to stop than to go on.
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

fn watch(mut signals: Signals, stop: oneshot::Sender<()>) {
    let mut signals = signals.forever();
    let name = |signal| if signal == SIGINT { "interrupted" } else { "terminated" };
    if let Some(signal) = signals.next() {
        tracing::info!("{}, stopping", name(signal));
        // Where nobody waits any more, the gateway has failed and the process ends.
        let _ = stop.send(());
    }
    if let Some(signal) = signals.next() {
        tracing::warn!("{} again, stopping at once", name(signal));
        // As a shell says that a process was ended by a signal.
        process::exit(128 + signal);
    }
}
