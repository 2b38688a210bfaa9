//! What the system says and allows: cores and processor time.

use std::fmt;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The core of the server and the core of the load generator.
pub(crate) struct Cores {
    /// `None` on a machine with one core, where both share it.
    pair: Option<(usize, usize)>,
}

impl Cores {
    pub(crate) fn of_this_machine() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the system knows our cores");
        let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
        Self { pair: cores.next().zip(cores.next()) }
    }

    /// Moves the calling thread to its core.
    pub(crate) fn pin_load_generator(&self) {
        if let Some((_, load)) = self.pair {
            pin(load);
        }
    }

    /// Starts a child on the server's core: a child inherits the cores of the thread that starts it, and
    /// is never anywhere else.
    pub(crate) fn on_server_core<T>(&self, start: impl FnOnce() -> T) -> T {
        if let Some((server, _)) = self.pair {
            pin(server);
        }
        let started = start();
        self.pin_load_generator();
        started
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pair {
            Some((server, load)) => {
                write!(formatter, "server on core {server}, load on core {load}")
            }
            None => write!(formatter, "ONE CORE for server and load: the figures mean little"),
        }
    }
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).expect("the core exists");
    sched_setaffinity(Pid::from_raw(0), &set).expect("the core is ours");
}

/// The processor time that a process has used, in user and kernel mode.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let pid = Pid::from_raw(i32::try_from(pid).expect("process ids fit"));
    // /proc/PID/stat counts in steps of 10 ms; this clock is exact and includes threads that have ended.
    clock_getcpuclockid(pid)
        .and_then(clock_gettime)
        .map(Duration::from)
        .unwrap_or_else(|error| panic!("no processor time of process {pid}: {error}"))
}
