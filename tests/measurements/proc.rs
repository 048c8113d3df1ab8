//! Reads `/proc` figures of a process, and raises this process's limit of open files.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::anyhow;
use rustix::process::{Resource, getrlimit, setrlimit};

/// A snapshot of a process's resource usage.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    pub(crate) rss_bytes: u64,
    /// The anonymous part of the resident memory.
    pub(crate) anon_bytes: u64,
    /// The kernel's page tables; not part of the resident memory.
    pub(crate) tables_bytes: u64,
    /// Number of mapped regions.
    pub(crate) maps: u64,
    /// Number of open file descriptors.
    pub(crate) files: u64,
}

impl Process {
    /// Reads a process's figures.
    ///
    /// # Panics
    /// If the process does not exist, or cannot be read: the daemon's can by root alone.
    pub(crate) fn of(pid: i32) -> Self {
        let failed = |name: &str, error: io::Error| -> ! {
            panic!("/proc/{pid}/{name}: {error}; measure as root")
        };
        let read = |name: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{name}"));
            text.unwrap_or_else(|error| failed(name, error))
        };
        let status = read("status");
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let files = files.unwrap_or_else(|error| failed("fd", error)).count();
        Self {
            rss_bytes: bytes_of(&status, "VmRSS:"),
            anon_bytes: bytes_of(&status, "RssAnon:"),
            tables_bytes: bytes_of(&status, "VmPTE:"),
            maps: read("maps").lines().count() as u64,
            files: files as u64,
        }
    }
}

/// Returns the resident memory of a process and the anonymous part of it, or `None` if the process
/// has exited.
pub(crate) fn memory(pid: i32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let [rss, anon] = ["VmRSS:", "RssAnon:"].map(|name| bytes_of(&status, name));
    Some((rss, anon))
}

/// Returns the value of a line of `/proc/PID/status`, in bytes.
fn bytes_of(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Returns the CPU time that a process has used.
pub(crate) fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The process name may contain anything, so parse after its closing parenthesis: utime and
    // stime are the 14th and 15th fields of the line.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // Linux reports hundredths of a second, whatever its internal tick rate.
    Duration::from_millis(ticks * 10)
}

/// Returns the bytes that a process has caused to be written to disk.
pub(crate) fn written_bytes(pid: i32) -> u64 {
    let io = match fs::read_to_string(format!("/proc/{pid}/io")) {
        Ok(io) => io,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            panic!("/proc/{pid}/io: {error}; measure as root")
        }
        // It has exited.
        Err(_) => return 0,
    };
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Raises the limit of open files of this process, and of those that it starts, to at least
/// `needed`.
pub(crate) fn allow_files(needed: u64) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        // Raising the hard limit requires root.
        limit.maximum = Some(needed);
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| anyhow!("{needed} open files are needed (ulimit -n {needed}): {error}"))
}
