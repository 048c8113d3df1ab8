//! Processes, as `/proc` shows them.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One line of the process table.
struct ProcessEntry {
    pid: i32,
    parent: i32,
    zombie: bool,
    /// When it started, in ticks since the machine did.
    started: u64,
}

fn table() -> Vec<ProcessEntry> {
    let folders = fs::read_dir("/proc").expect("Linux has /proc");
    folders
        .filter_map(|folder| {
            let pid = folder.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name is in parentheses and may contain any character.
            let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
            let state = fields.next()?;
            Some(ProcessEntry {
                pid,
                parent: fields.next()?.parse().ok()?,
                zombie: matches!(state, "Z" | "X"),
                // The 22nd field of all; the 5th is the next one.
                started: fields.nth(17)?.parse().ok()?,
            })
        })
        .collect()
}

/// Returns all processes, including zombies.
pub(crate) fn all() -> Vec<i32> {
    table().into_iter().map(|entry| entry.pid).collect()
}

/// Returns whether a process has ended, with all of its threads. Its parent may still have to reap
/// it.
pub fn gone(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let entry = table().into_iter().find(|entry| entry.pid == pid);
    // A main thread that ended before the others is shown as a zombie, too.
    threads <= 1 && entry.is_none_or(|entry| entry.zombie)
}

/// Returns the name of the program that a process runs, even if the file was replaced since.
fn program(pid: i32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.to_str()?;
    Some(name.trim_end_matches(" (deleted)").to_owned())
}

/// Returns the living children of a process that run the same program, oldest first. All others are
/// processes that a child has started and left behind.
pub fn children(parent: i32) -> Vec<i32> {
    let same = program(parent);
    let mut found = table();
    found.retain(|entry| entry.parent == parent && !entry.zombie && program(entry.pid) == same);
    // Ids are given out in a circle: the younger process may have the smaller one.
    found.sort_unstable_by_key(|entry| (entry.started, entry.pid));
    found.into_iter().map(|entry| entry.pid).collect()
}

/// Returns all living descendants of a process.
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

/// Sends a signal. Returns false if the process does not exist any more.
pub fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Kills a process and all of its descendants at once.
pub fn kill_all(root: i32) {
    for pid in descendants(root) {
        signal(pid, Signal::KILL);
    }
    signal(root, Signal::KILL);
}
