//! What the system says and allows: cores, files, processor time, memory.

use std::fmt;
use std::fs;
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

/// The memory of a process in bytes.
pub(crate) struct Memory {
    /// All resident pages.
    pub(crate) rss: u64,
    /// Resident pages, shared ones counted in parts.
    pub(crate) pss: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let field = |name: &str| -> u64 {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.trim().strip_suffix(" kB"))
                .and_then(|number| number.trim().parse::<u64>().ok())
                .unwrap_or_else(|| panic!("{path} has no {name}"))
                * 1024
        };
        Self { rss: field("Rss:"), pss: field("Pss:") }
    }
}
