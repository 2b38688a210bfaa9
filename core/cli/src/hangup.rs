//! SIGHUP, by which an operator asks to read files anew.

use std::{io, thread};

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

/// From now on, does this at every SIGHUP, which would end the process otherwise.
pub(crate) fn at_each(act: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    let turn = move || signals.forever().for_each(|_| act());
    thread::Builder::new().name("hangups".to_owned()).spawn(turn)?;
    Ok(())
}
