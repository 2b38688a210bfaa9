//! What the system says about memory.

use std::fs;

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
