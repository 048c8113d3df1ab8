//! Failpoints: places where a test can kill the process. In a build without the feature `faults`
//! they do nothing.
//!
//! In a build with it, the environment variable `ABIDE_FAULTS` names a directory:
//!
//! | file | meaning |
//! |---|---|
//! | `arm` | `PATTERN N WHO`: when a failpoint of that name (`*`: any failpoint) is passed for the `N`th time since this process first saw the file, the file is removed and `WHO` is killed: `worker`, `supervisor` or `both` |
//! | `fired` | a line `POINT N` is appended before the kill |
//! | `trace` | if it exists, a line is appended for each failpoint passed |

/// Passes a failpoint.
#[cfg(not(feature = "faults"))]
pub(crate) fn point(_: &'static str) {}

#[cfg(feature = "faults")]
pub(crate) use armed::point;

#[cfg(feature = "faults")]
mod armed {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("ABIDE_FAULTS").map(PathBuf::from));

    /// The text of `arm`, and how often a failpoint that it names was passed since it was first
    /// seen.
    static ARMED: Mutex<(String, u64)> = Mutex::new((String::new(), 0));

    pub(crate) fn point(name: &'static str) {
        let Some(folder) = &*FOLDER else { return };
        // The lock serializes the passes, so that they are counted exactly.
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
        // Removed before the kill, so that it fires only once: the next worker finds no file.
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
