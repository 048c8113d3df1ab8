//! Processes, as `/proc` shows them.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One line of the process table.
struct Entry {
    pid: i32,
    parent: i32,
    zombie: bool,
}

fn table() -> Vec<Entry> {
    let folders = fs::read_dir("/proc").expect("Linux has /proc");
    folders
        .filter_map(|folder| {
            let pid = folder.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name stands in parentheses and may hold any character.
            let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
            let state = fields.next()?;
            Some(Entry {
                pid,
                parent: fields.next()?.parse().ok()?,
                zombie: matches!(state, "Z" | "X"),
            })
        })
        .collect()
}

/// The living children of a process, oldest first.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let mut pids: Vec<_> = table()
        .into_iter()
        .filter(|entry| entry.parent == parent && !entry.zombie)
        .map(|entry| entry.pid)
        .collect();
    pids.sort_unstable();
    pids
}

/// All living processes that descend from one.
pub fn descendants(root: i32) -> Vec<i32> {
    let table = table();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        found.extend(
            table
                .iter()
                .filter(|entry| entry.parent == parent && !entry.zombie)
                .map(|entry| entry.pid),
        );
    }
    found.split_off(1)
}

/// Sends a signal; false if there is no such process any more.
pub fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Ends a process and all that descend from it, at once.
pub fn kill_all(root: i32) {
    for pid in descendants(root) {
        signal(pid, Signal::KILL);
    }
    signal(root, Signal::KILL);
}
