//! Processes that a tool leaves behind, in the ways in which real tools do.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Makes this program sleep.
const SLEEP: &str = "--left-sleep";
/// Makes this program sleep in a session (`setsid`) of its own.
const SLEEP_APART: &str = "--left-sleep-apart";
/// Makes this program start another such process, print its process id and exit, so that the other
/// is orphaned.
const ORPHAN: &str = "--left-orphan";

/// Returns whether this process was started as a left-behind process; if so, only after its work is
/// done.
pub(crate) fn is_one(args: &[String]) -> bool {
    match args.first().map(String::as_str) {
        Some(SLEEP) => thread::sleep(Duration::from_secs(600)),
        Some(SLEEP_APART) => {
            rustix::process::setsid().expect("it leads no group");
            thread::sleep(Duration::from_secs(600));
        }
        Some(ORPHAN) => {
            let child = start(&args[1..]).stdout(Stdio::null()).spawn();
            print!("{}", child.expect("it starts").id());
        }
        _ => return false,
    }
    true
}

/// Starts a child that holds the server's output open, one in a session of its own, and an orphan
/// of each kind. Returns their process ids.
pub(crate) fn behind() -> Vec<u32> {
    let mut pids: Vec<u32> = [SLEEP, SLEEP_APART]
        .into_iter()
        .map(|how| start(&[how]).spawn().expect("it starts").id())
        .collect();
    for how in [SLEEP, SLEEP_APART] {
        let mut child = start(&[ORPHAN, how])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut text = String::new();
        let mut output = child.stdout.take().expect("a pipe");
        output.read_to_string(&mut text).expect("it tells");
        child.wait().expect("it ends");
        pids.push(text.parse().expect("a process id"));
    }
    pids
}

fn start(args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let exe = std::env::current_exe().expect("a process knows its executable");
    let mut command = Command::new(exe);
    command.args(args).stdin(Stdio::null());
    command
}
