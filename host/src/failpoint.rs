//! Fault points: places where a test may have the process die, and bugs that a test may switch on
//! to see that it would be caught. There is nothing of it in a build without the feature `faults`.
//!
//! In a build with it, the environment variable `ABIDE_FAULTS` names a folder:
//!
//! | file | meaning |
//! |---|---|
//! | `arm` | `PATTERN N WHO`: at the `N`th crossing of a point of that name (`*`: of any), counted from when this process first saw the file, it is removed and `WHO` is killed: `worker`, `supervisor` or `both` |
//! | `fired` | gets a line `POINT N` before that |
//! | `trace` | if it is there, gets a line for each crossing |
//!
//! and `ABIDE_BUG` names the one bug that is switched on.

/// Crosses a fault point.
#[cfg(not(feature = "faults"))]
pub(crate) fn point(_: &'static str) {}

/// Whether this bug is switched on.
#[cfg(not(feature = "faults"))]
pub(crate) fn bug(_: &'static str) -> bool {
    false
}

#[cfg(feature = "faults")]
pub(crate) use armed::{bug, point};

#[cfg(feature = "faults")]
mod armed {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("ABIDE_FAULTS").map(PathBuf::from));
    static BUG: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("ABIDE_BUG").ok());

    /// The text of `arm` and how often a point that it names was crossed since it was first seen.
    static ARMED: Mutex<(String, u64)> = Mutex::new((String::new(), 0));

    pub(crate) fn bug(name: &'static str) -> bool {
        BUG.as_deref() == Some(name)
    }

    pub(crate) fn point(name: &'static str) {
        let Some(folder) = &*FOLDER else { return };
        // One crossing at a time: they are counted.
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let trace = folder.join("trace");
        if trace.exists() {
            append(&trace, &format!("{name}\n"));
        }
        let arm = folder.join("arm");
        let Ok(text) = fs::read_to_string(&arm) else {
            armed.0.clear();
            return;
        };
        if armed.0 != text {
            *armed = (text.clone(), 0);
        }
        let mut words = text.split_whitespace();
        let (Some(pattern), Some(wanted), Some(who)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        if pattern != "*" && pattern != name {
            return;
        }
        armed.1 += 1;
        if wanted.parse() != Ok(armed.1) {
            return;
        }
        // Once: the next worker finds nothing.
        let _ = fs::remove_file(&arm);
        append(&folder.join("fired"), &format!("{name} {wanted}\n"));
        if who != "worker" {
            kill(getppid());
        }
        if who != "supervisor" {
            kill(Some(getpid()));
        }
    }

    fn append(path: &std::path::Path, line: &str) {
        if let Ok(mut file) = File::options().create(true).append(true).open(path) {
            let _ = file.write_all(line.as_bytes());
        }
    }

    fn kill(pid: Option<Pid>) {
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
