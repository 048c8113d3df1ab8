//! The process above the supervisor, where processes of others may be children of this one: it keeps them
//! apart from the daemon's own, every one of which the supervisor ends.
//!
//! Process 1 of a container inherits each orphan in it, whoever started that. And what a script has
//! started before it became this program (`sidecar & exec abide serve`) is a child of this process. A
//! supervisor in a process of its own has no child but its workers, and inherits no orphan but theirs.
//!
//! ```text
//! abide serve (this)  --- what others started: reaped, and otherwise left alone
//!   | signals, exit code
//!   +-- abide serve   --- the supervisor, as everywhere else
//!         +-- workers
//! ```

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::machine::ExitStatus;
use super::process;

/// Returns whether others' processes are, or may become, children of this one.
pub(super) fn is_needed() -> bool {
    getpid().is_init() || process::has_children()
}

/// Runs this program once more, as the supervisor, until it ends; returns its exit code, of a death by a
/// signal that of a shell.
///
/// # Errors
/// If it cannot be started.
pub(super) fn run() -> io::Result<u8> {
    // Before there is a supervisor, so that none is missed.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
    let supervisor = spawn()?;
    loop {
        for signal in signals.wait() {
            let told = match signal {
                SIGTERM => Signal::TERM,
                SIGINT => Signal::INT,
                SIGHUP => Signal::HUP,
                _ => match reap(supervisor) {
                    Some(code) => return Ok(code),
                    None => continue,
                },
            };
            // It fails only if it has ended, which is seen next.
            let _ = kill_process(supervisor, told);
        }
    }
}

/// Starts this program with its own arguments. It has its own process group: a terminal's ^C reaches it
/// once, by way of this process.
fn spawn() -> io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "abide".into());
    let me = getpid();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(arguments).process_group(0);
    // SAFETY: between fork and exec only what is async-signal-safe may be called: these are two system
    // calls.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            match getppid() == Some(me) {
                true => Ok(()),
                false => Err(io::ErrorKind::NotConnected.into()),
            }
        });
    }
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // The kernel's process ids are positive `i32`s.
    pid.ok_or_else(|| io::Error::other("the supervisor's process id is out of range"))
}

/// Reaps all children that have exited. Returns the supervisor's exit code if it is among them.
fn reap(supervisor: Pid) -> Option<u8> {
    while let Some((pid, status)) = process::reap() {
        if pid == supervisor {
            return Some(match status {
                ExitStatus::Exited(code) => code,
                ExitStatus::Signal { number, .. } => 128_u8.saturating_add(number),
                ExitStatus::NotStarted(_) | ExitStatus::OutOfMemory | ExitStatus::Unaccounted => 1,
            });
        }
    }
    None
}
