//! What `/proc` says of a process, and how many files this one may open.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// A process as it stands.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    /// Resident memory.
    pub(crate) rss_bytes: u64,
    /// The part of it that is no file's.
    pub(crate) anon_bytes: u64,
    /// The kernel's tables of what is mapped where; not part of the resident memory.
    pub(crate) tables_bytes: u64,
    /// Mapped regions.
    pub(crate) maps: u64,
    /// Open files.
    pub(crate) files: u64,
}

impl Process {
    /// Looks at a process.
    ///
    /// # Panics
    /// If it is not there, or not ours.
    pub(crate) fn of(pid: i32) -> Self {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{pid}/{name}"))
                .unwrap_or_else(|error| panic!("/proc/{pid}/{name}: {error}"))
        };
        let status = read("status");
        let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Self {
            rss_bytes: bytes_of(&status, "VmRSS:"),
            anon_bytes: bytes_of(&status, "RssAnon:"),
            tables_bytes: bytes_of(&status, "VmPTE:"),
            maps: read("maps").lines().count() as u64,
            files: files as u64,
        }
    }
}

/// Resident memory of a process that may have gone, and the part of it that is no file's.
pub(crate) fn memory(pid: i32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let [rss, anon] = ["VmRSS:", "RssAnon:"].map(|name| bytes_of(&status, name));
    Some((rss, anon))
}

/// A line of `/proc/PID/status`, in bytes.
fn bytes_of(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The processor time that a process has used.
pub(crate) fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: the 14th and 15th fields of all.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // Linux tells it in hundredths of a second, whatever it counts in itself.
    Duration::from_millis(ticks * 10)
}

/// The bytes that a process has had written to the disk.
pub(crate) fn written_bytes(pid: i32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Lets this process, and those that it starts, open so many files.
pub(crate) fn allow_files(needed: u64) -> Result<(), String> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        // For root only.
        limit.maximum = Some(needed);
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| format!("{needed} open files are needed (ulimit -n {needed}): {error}"))
}
