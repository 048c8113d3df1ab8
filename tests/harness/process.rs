//! Processes, as `/proc` shows them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

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

/// Returns the arguments with which a process was started, its name first; none if it has ended. Of the
/// daemon's processes nothing else that tells them apart is readable by their own user.
pub fn arguments(pid: i32) -> Vec<PathBuf> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let arguments = line.split(|byte| *byte == 0);
    arguments
        .map(|argument| OsStr::from_bytes(argument).into())
        .collect()
}

/// Whether a process is a daemon's whose configuration is in a folder, or in one that the folder is in.
pub fn is_about(pid: i32, folder: &Path) -> bool {
    let arguments = arguments(pid);
    let mut arguments = arguments.iter().skip_while(|word| *word != "--config");
    let config = arguments.nth(1).filter(|file| file.ends_with("abide.toml"));
    let home = config.and_then(|file| file.parent());
    home.is_some_and(|home| home.starts_with(folder) || folder.starts_with(home))
}

/// Returns the name under which a process was started.
fn program(pid: i32) -> Option<OsString> {
    Some(arguments(pid).first()?.file_name()?.to_owned())
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
