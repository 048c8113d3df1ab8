//! A server's process and all its descendants, as `/proc` shows them.
//!
//! The parent's id alone is not enough: orphans are reparented, and `setsid` leaves the process
//! group and session. So each server gets a mark in its environment, which its descendants inherit.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

use crate::process_entry::ProcessEntry;

/// The environment variable that holds the mark.
pub(super) const MARK: &str = "ABIDE_TOOL_SERVER";
/// The maximum number of bytes read of a process's environment.
const ENVIRONMENT_MAX_BYTES: u64 = 4 << 20;

/// How many times leftovers are searched for and killed, and the pause between two rounds.
const LEFTOVER_ROUNDS: u32 = 100;
const LEFTOVER_PAUSE: Duration = Duration::from_millis(5);

/// A process id with its start time, in ticks since boot: ids are reused, the pair is not.
type ProcessId = (i32, u64);

/// A server's process, which must not have been reaped yet, and its descendants.
#[derive(Debug)]
pub(super) struct Descendants {
    root: Pid,
    mark: String,
    /// All members that were ever seen.
    members: HashSet<ProcessId>,
    /// Processes whose environment does not hold the mark.
    strangers: HashSet<ProcessId>,
}

impl Descendants {
    pub(super) fn new(root: Pid, mark_value: &str) -> Self {
        Self {
            root,
            mark: format!("{MARK}={mark_value}"),
            members: HashSet::new(),
            strangers: HashSet::new(),
        }
    }

    /// Sends a signal to the server's process group.
    pub(super) fn signal(&self, signal: Signal) {
        // Fails only if the group has no process left.
        let _ = kill_process_group(self.root, signal);
    }

    /// Kills all members that can be found, and returns how many were alive. Blocks briefly to read
    /// `/proc`.
    pub(super) fn kill(&mut self) -> usize {
        let living = self.scan();
        for life in &living {
            if let Some(pid) = Pid::from_raw(life.0) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        living.len()
    }

    /// Searches `/proc` for members, and returns those that are alive.
    pub(super) fn scan(&mut self) -> Vec<ProcessId> {
        let table = table();
        let root = self.root.as_raw_pid();
        let me = getpid().as_raw_pid();
        let others = || table.iter().filter(|e| e.pid > 1 && e.pid != me);
        let mut found: HashSet<i32> = HashSet::new();
        for entry in others() {
            let life = (entry.pid, entry.start);
            // Until the root has been reaped, its id cannot be reused as a process, group or
            // session id.
            let belongs = [entry.pid, entry.group, entry.session].contains(&root)
                || self.members.contains(&life)
                || self.is_marked(life);
            if belongs {
                found.insert(entry.pid);
            }
        }
        loop {
            let before = found.len();
            let children = others().filter(|entry| found.contains(&entry.parent));
            let children: Vec<i32> = children.map(|entry| entry.pid).collect();
            found.extend(children);
            if found.len() == before {
                break;
            }
        }
        let found: Vec<&ProcessEntry> = others().filter(|e| found.contains(&e.pid)).collect();
        self.members
            .extend(found.iter().map(|entry| (entry.pid, entry.start)));
        found
            .into_iter()
            .filter(|entry| !entry.zombie)
            .map(|entry| (entry.pid, entry.start))
            .collect()
    }

    fn is_marked(&mut self, life: ProcessId) -> bool {
        if self.strangers.contains(&life) {
            return false;
        }
        let environment = environment(life.0);
        let mark = self.mark.as_bytes();
        let marked = environment.split(|byte| *byte == 0).any(|v| v == mark);
        // The environment is empty for a moment between fork and exec, so that proves nothing.
        if !marked && !environment.is_empty() {
            self.strangers.insert(life);
        }
        marked
    }
}

/// Kills all processes whose mark starts with `prefix`, until none is found or the rounds are used
/// up; returns how many there were. Blocks.
pub(super) fn kill_marked(prefix: &str) -> usize {
    let wanted = format!("{MARK}={prefix}");
    // The daemon itself may have been started by a tool, and must not kill its own ancestors.
    let own = ancestry(getpid().as_raw_pid(), &table());
    let mut killed = HashSet::new();
    for _ in 0..LEFTOVER_ROUNDS {
        let marked = table().into_iter().filter(|entry| {
            !entry.zombie
                && !own.contains(&entry.pid)
                && environment(entry.pid)
                    .split(|byte| *byte == 0)
                    .any(|variable| variable.starts_with(wanted.as_bytes()))
        });
        let marked: Vec<_> = marked.map(|entry| (entry.pid, entry.start)).collect();
        if marked.is_empty() {
            break;
        }
        for (pid, _) in &marked {
            if let Some(pid) = Pid::from_raw(*pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        killed.extend(marked);
        std::thread::sleep(LEFTOVER_PAUSE);
    }
    killed.len()
}

/// Returns a process and all its ancestors.
fn ancestry(pid: i32, table: &[ProcessEntry]) -> HashSet<i32> {
    let mut found = HashSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next
        && found.insert(pid)
    {
        let entry = table.iter().find(|entry| entry.pid == pid);
        next = entry.map(|entry| entry.parent);
    }
    found
}

/// Reads a process's environment, as far as it is readable.
fn environment(pid: i32) -> Vec<u8> {
    let mut environment = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/environ")) {
        // Ignore a read error: what was read so far may already hold the mark.
        let _ = file
            .take(ENVIRONMENT_MAX_BYTES)
            .read_to_end(&mut environment);
    }
    environment
}

/// Lists all visible processes.
fn table() -> Vec<ProcessEntry> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            ProcessEntry::read(pid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_the_table() {
        let me = getpid().as_raw_pid();
        let entry = table().into_iter().find(|entry| entry.pid == me);
        let entry = entry.expect("listed");
        let parent = rustix::process::getppid().map(Pid::as_raw_pid);
        assert_eq!(Some(entry.parent), parent);
        assert!(entry.start > 0);
    }
}
