//! Starting, reaping and killing processes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, wait, waitpid,
};

use super::machine::ExitStatus;
use super::socket;
use crate::patience::patiently;

/// The maximum number of scans for leftover processes in one sweep: a killed process may leave
/// orphans of its own.
const SWEEP_ROUNDS: u32 = 16;
/// The pause between two scans, in which the kernel ends what was killed.
const SWEEP_PAUSE: Duration = Duration::from_millis(2);

/// A worker's binary, held open, so that the file that a running worker was started from can be
/// started again even if its path names another file by then.
#[derive(Debug)]
pub(super) struct Binary {
    file: File,
    id: [i64; 4],
}

impl Binary {
    /// Opens the file that the path names now. It need not be readable. What is no file at all, such as a
    /// pipe that nobody writes to, is not waited for, and a file that does not answer not for long.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        patiently(path, |path, _| {
            let file = File::from(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(io::Error::other("it is no file"));
            }
            let id = identity(&meta);
            Ok(Self { file, id })
        })
    }

    /// Returns the path to start it from: its name if that still names this file, else the path of
    /// the open descriptor.
    fn path(&self, name: &Path) -> PathBuf {
        let there = patiently(name, |name, _| name.metadata());
        if there.is_ok_and(|meta| identity(&meta) == self.id) {
            name.to_owned()
        } else {
            PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
        }
    }
}

impl PartialEq for Binary {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Returns values that differ between two files, and for one file before and after it is rewritten.
fn identity(meta: &std::fs::Metadata) -> [i64; 4] {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    [
        number(meta.dev()),
        number(meta.ino()),
        number(meta.size()),
        meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
    ]
}

/// Starts a worker in its own process group, with its end of the link as standard input. Returns
/// its process id and our end of the link.
pub(super) fn spawn(binary: &Binary, name: &Path, args: &[OsString]) -> io::Result<(Pid, OwnedFd)> {
    let (ours, theirs) = socket::pair()?;
    let child = Command::new(binary.path(name))
        .arg0(name)
        .args(args)
        .stdin(Stdio::from(theirs))
        .process_group(0)
        .spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // The kernel's process ids are positive `i32`s.
    let pid = pid.ok_or_else(|| io::Error::other("the child's process id is out of range"))?;
    Ok((pid, ours))
}

/// Kills a worker that has not been reaped yet, and its process group.
pub(super) fn kill(pid: Pid) {
    // Both calls can fail only because there is nothing left to kill. The process itself is killed
    // as well, since its group does not exist yet between fork and setpgid.
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = kill_process(pid, Signal::KILL);
}

/// Reaps the next child that has exited, if there is one. Never blocks.
pub(super) fn reap() -> Option<(Pid, ExitStatus)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Some((pid, death(status))),
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn death(status: WaitStatus) -> ExitStatus {
    if let Some(code) = status.exit_status() {
        return ExitStatus::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
    }
    let number = status.terminating_signal().unwrap_or(0);
    let fault = [
        Signal::SEGV,
        Signal::ABORT,
        Signal::BUS,
        Signal::ILL,
        Signal::FPE,
        Signal::SYS,
        Signal::TRAP,
        // Limits that it has met.
        Signal::XCPU,
        Signal::XFSZ,
    ]
    .iter()
    .any(|signal| signal.as_raw() == number);
    ExitStatus::Signal {
        number: u8::try_from(number).unwrap_or(u8::MAX),
        name: signal_hook::low_level::signal_name(number)
            .map_or_else(|| format!("signal {number}"), str::to_owned),
        fault,
    }
}

/// Kills every descendant of this process except the live workers and their descendants. The
/// descendants of `releasing`, which is a live worker itself, are killed as well. Gives up after
/// some tens of milliseconds; the next sweep continues.
///
/// The orphans of a dead worker are children of this process, which is their subreaper. It has no others,
/// see [`init`](super::init). Without a readable `/proc`, nothing is killed.
pub(super) fn sweep(live: &[Pid], releasing: Option<Pid>) {
    let me = getpid().as_raw_pid();
    let is_live = |pid: &i32| live.iter().any(|live| live.as_raw_pid() == *pid);
    // The fast path. Clients wait after a worker's death, and usually there is nothing to kill, so
    // the other processes of the system need not be scanned.
    if releasing.is_none() && children().is_some_and(|children| children.iter().all(is_live)) {
        return;
    }
    for _ in 0..SWEEP_ROUNDS {
        let parents = parents();
        let mut doomed = Vec::new();
        let mut todo = vec![me];
        todo.extend(releasing.map(Pid::as_raw_pid));
        while let Some(parent) = todo.pop() {
            for &(pid, of) in &parents {
                if of == parent && !is_live(&pid) {
                    doomed.extend(Pid::from_raw(pid).map(|pid| (pid, of == me)));
                    todo.push(pid);
                }
            }
        }
        if doomed.is_empty() {
            return;
        }
        for (pid, _) in &doomed {
            let _ = kill_process(*pid, Signal::KILL);
        }
        for (pid, child) in doomed {
            if child {
                // Never blocks: a process that cannot be killed now must not stall the supervisor.
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        std::thread::sleep(SWEEP_PAUSE);
    }
}

/// Returns whether this process has children. Without a readable `/proc` it is taken to have none.
pub(super) fn has_children() -> bool {
    let me = getpid().as_raw_pid();
    match children() {
        Some(children) => !children.is_empty(),
        None => parents().iter().any(|(_, parent)| *parent == me),
    }
}

/// Returns the children of this process, if the kernel lists them. The manual warns that some may
/// be missing from the list; here none can be, since only this process reaps them.
fn children() -> Option<Vec<i32>> {
    let mut pids = Vec::new();
    // The kernel may reparent an orphan to any thread of this process.
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let list = std::fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        for pid in list.split_ascii_whitespace() {
            pids.push(pid.parse().ok()?);
        }
    }
    Some(pids)
}

/// Returns all visible processes, each with its parent.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let mut file = File::open(entry.path().join("stat")).ok()?;
            // One read suffices: the kernel returns the whole line at once, process names are
            // short, and the parent is an early field.
            let mut stat = [0; 256];
            let length = file.read(&mut stat).ok()?;
            Some((pid, parent_of(stat.get(..length)?)?))
        })
        .collect()
}

/// Parses the parent from a line of `/proc/PID/stat`: `PID (NAME) STATE PARENT ...`, where the name
/// may contain any byte, parentheses and spaces too.
fn parent_of(stat: &[u8]) -> Option<i32> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = str::from_utf8(stat.get(after..)?).ok()?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_hide_the_parent() {
        assert_eq!(parent_of(b"12 (a) R 1 (b) S 7 1 1"), Some(7));
        assert_eq!(parent_of(b"12 (sh) S 34 12 12 0"), Some(34));
        assert_eq!(parent_of(b"12 (sh"), None);
        assert_eq!(parent_of(b""), None);
    }

    #[test]
    fn a_binary_is_a_file_and_nothing_else_is_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = folder.path().join("pipe");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        );
        made.expect("the folder is ours");
        for other in [&pipe, folder.path()] {
            let error = Binary::open(other).expect_err("no file");
            assert_eq!(error.to_string(), "it is no file");
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("the folder is ours");
        let held = Binary::open(&file).expect("a file");
        assert_eq!(held.path(&file), file);
        std::fs::write(&file, "replaced").expect("the folder is ours");
        assert!(held.path(&file).starts_with("/proc/self/fd"));
        assert_ne!(Binary::open(&file).expect("a file"), held);
    }

    #[test]
    fn a_child_is_listed_until_it_is_reaped() {
        // Threads of other tests come and go; reading their lists of children may then fail.
        let listed = || loop {
            if let Some(children) = children() {
                return children;
            }
        };
        let mut child = Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("it is there");
        let pid = i32::try_from(child.id()).expect("the kernel's are `i32`s");
        assert!(listed().contains(&pid));
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert!(!listed().contains(&pid));
    }

    #[test]
    fn this_process_is_listed_with_its_parent() {
        let parent = rustix::process::getppid().map(Pid::as_raw_pid);
        let me = getpid().as_raw_pid();
        let found = parents().into_iter().find(|(pid, _)| *pid == me);
        assert_eq!(found.map(|found| found.1), parent);
    }
}
