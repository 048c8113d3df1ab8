//! Where components are compiled: in a process of its own, within limits of time and memory. The compiler
//! takes what a component makes it take, and a component may be anybody's.
//!
//! ```text
//! worker                                          abide compile (see `compile_process`)
//!   component -> memory file -------------------> standard input
//!   artifact  <- memory file <------------------- standard output
//!   reason    <- pipe, its end is the exit <----- standard error
//! ```
//!
//! The process is the same binary: an upgrade may have replaced the file that its path names. It gets no
//! environment and no descriptor of the worker, and ends with it. The memory that it has is looked at from
//! here, since that is what counts: what an allocator reserves, which the kernel could limit, is much more.
//! The kernel's limit, which is higher, holds between two looks.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::Signal;

use super::compile_process::{COMPILE, CompileArgs, EXIT_REFUSED};
use super::error::LoadError;
use super::run_queue::processors;

/// The limits of compiling one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// How long it may take, by the wall clock.
    pub timeout: Duration,
    /// The memory that the compiler may take, in bytes.
    pub memory_bytes: u64,
    /// Whether it yields the processors to others, as far as it still ends: if sessions are served meanwhile.
    pub yields: bool,
}

impl Default for CompileLimits {
    /// The largest components known (Python, 18 MB) take 8 s of one slow core, and some hundred MB. A
    /// standby that is not ready after two minutes is given up by supervisors that do not know of
    /// compiling; this is less, so that the reason is told.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(100),
            memory_bytes: 2 << 30,
            yields: true,
        }
    }
}

/// Where components are compiled.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// In this process, without limits: for a program that is not `abide`, such as a test.
    #[default]
    InProcess,
    /// In a process of its own, of the program that runs here, which is `abide`. The number rises while it
    /// compiles, several times a second.
    OwnProcess(Arc<AtomicU64>),
}

/// How much it yields to others: to about a tenth of a core where there is no other room, so that turns
/// that run are not slowed down, and it still ends.
const NICENESS: i32 = 10;
/// The longest text of a compiler that is shown, in bytes.
const LAST_WORDS_BYTES: usize = 4 << 10;
/// The interval at which its memory is looked at.
const BEAT: Duration = Duration::from_millis(50);
/// The program that runs here, also if its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// What the dynamic loader may need to start it.
const LOADER: &str = "LD_LIBRARY_PATH";
/// How Rust's runtime says that memory has run out.
const OUT_OF_MEMORY: &str = "memory allocation of";

/// How the compiler's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Itself,
    /// Killed, since its time was up.
    TooSlow,
    /// Killed, since it had too much memory.
    TooLarge,
}

/// Compiles a component in a process of its own, and returns the artifact. Blocks.
pub(super) fn compile(
    component: &[u8],
    limits: CompileLimits,
    progress: &AtomicU64,
) -> Result<Vec<u8>, LoadError> {
    let began = Instant::now();
    let cannot = |error: io::Error| LoadError::NoCompiler {
        reason: error.to_string(),
    };
    let mut artifact = memory_file("abide-artifact").map_err(cannot)?;
    let mut child = spawn(component, &artifact, limits).map_err(cannot)?;
    let mut said = Vec::new();
    let until = began + limits.timeout;
    let waited = wait(
        &mut child,
        &mut said,
        (until, limits.memory_bytes),
        progress,
    );
    let (ended, status) = waited.map_err(cannot)?;
    if ended == Ended::Itself && status.success() {
        let mut bytes = Vec::new();
        artifact.rewind().map_err(cannot)?;
        artifact.read_to_end(&mut bytes).map_err(cannot)?;
        return Ok(bytes);
    }
    Err(failure(ended, status, &said, limits))
}

/// Returns why a compiler has failed that ended so, with this status, and wrote this.
fn failure(ended: Ended, status: ExitStatus, said: &[u8], limits: CompileLimits) -> LoadError {
    let said = String::from_utf8_lossy(said).trim().to_owned();
    let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
    if ended == Ended::TooSlow || signal(Signal::XCPU) {
        return LoadError::CompileTooSlow {
            limit: limits.timeout,
        };
    }
    let has_none_left = signal(Signal::ABORT) && said.contains(OUT_OF_MEMORY);
    // Its artifact lies in memory, too.
    if ended == Ended::TooLarge || has_none_left || signal(Signal::XFSZ) {
        return LoadError::CompileTooLarge {
            limit_bytes: limits.memory_bytes,
        };
    }
    if status.code() == Some(EXIT_REFUSED) {
        return LoadError::Compile { reason: said };
    }
    LoadError::CompilerDied {
        how: match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(number)) => format!("was ended by signal {number}"),
            (None, None) => "ended".to_owned(),
        },
        last_words: said,
    }
}

fn spawn(component: &[u8], artifact: &File, limits: CompileLimits) -> io::Result<Child> {
    let mut input = memory_file("abide-component")?;
    input.write_all(component)?;
    input.rewind()?;
    let args = CompileArgs {
        memory_bytes: limits.memory_bytes,
        // What it can use in that time: if this process is stopped, the kernel ends it all the same.
        cpu_seconds: (limits.timeout.as_secs() + 1).saturating_mul(processors() as u64),
        niceness: match limits.yields {
            true => NICENESS,
            false => 0,
        },
        parent: std::process::id(),
    };
    let loader = std::env::var_os(LOADER).map(|path| (LOADER, path));
    Command::new(THIS_PROGRAM)
        .arg(COMPILE)
        .args(args.to_args())
        .env_clear()
        .envs(loader)
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(artifact.try_clone()?))
        .stderr(Stdio::piped())
        .spawn()
}

fn memory_file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Waits until the compiler has ended, and kills it if that takes too long, or too much memory. Keeps the
/// end of what it says.
fn wait(
    child: &mut Child,
    said: &mut Vec<u8>,
    limits: (Instant, u64),
    progress: &AtomicU64,
) -> io::Result<(Ended, ExitStatus)> {
    let ended = match child.stderr.take() {
        Some(stderr) => listen(stderr, child.id(), said, limits, progress),
        None => Err(io::Error::other("its standard error is no pipe")),
    };
    if !matches!(ended, Ok(Ended::Itself)) {
        // It can fail only because it has ended.
        let _ = child.kill();
    }
    let status = child.wait()?;
    Ok((ended?, status))
}

/// Reads what the compiler says until it ends, or has to be ended.
fn listen(
    mut stderr: ChildStderr,
    pid: u32,
    said: &mut Vec<u8>,
    (until, memory_bytes): (Instant, u64),
    progress: &AtomicU64,
) -> io::Result<Ended> {
    let mut part = [0; LAST_WORDS_BYTES];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Ended::TooSlow);
        }
        if memory_of(pid).is_some_and(|bytes| bytes > memory_bytes) {
            return Ok(Ended::TooLarge);
        }
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: left.min(BEAT).subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&stderr, PollFlags::IN)], Some(&pause)) {
            Ok(0) => {
                progress.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => match stderr.read(&mut part)? {
                0 => return Ok(Ended::Itself),
                read => {
                    said.extend(&part[..read]);
                    said.drain(..said.len().saturating_sub(LAST_WORDS_BYTES));
                }
            },
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the memory that a process has, swapped out or not, in bytes.
fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    // Not its program, which it shares.
    Some((kib("RssAnon:")? + kib("VmSwap:").unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CompileLimits = CompileLimits {
        timeout: Duration::from_secs(3),
        memory_bytes: 1 << 20,
        yields: true,
    };

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stderr(Stdio::piped());
        command.spawn().expect("there is a shell")
    }

    fn ended_by(script: &str, time: Duration, memory_bytes: u64) -> LoadError {
        let (mut said, progress) = (Vec::new(), AtomicU64::new(0));
        let limits = (Instant::now() + time, memory_bytes);
        let waited = wait(&mut shell(script), &mut said, limits, &progress);
        let (ended, status) = waited.expect("it is ours");
        failure(ended, status, &said, LIMITS)
    }

    fn ended(script: &str) -> LoadError {
        ended_by(script, Duration::from_secs(60), u64::MAX)
    }

    #[test]
    fn each_way_to_fail_is_told() {
        let refused = ended(&format!("echo no >&2; exit {EXIT_REFUSED}"));
        assert!(matches!(refused, LoadError::Compile { reason } if reason == "no"));
        let memory = "echo memory allocation of 7 bytes failed >&2";
        for script in [&format!("{memory}; kill -ABRT $$"), "kill -XFSZ $$"] {
            let LoadError::CompileTooLarge { limit_bytes } = ended(script) else {
                panic!("{script}: it had no memory left");
            };
            assert_eq!(limit_bytes, LIMITS.memory_bytes);
        }
        let slow = ended("kill -XCPU $$");
        assert!(matches!(slow, LoadError::CompileTooSlow { limit } if limit == LIMITS.timeout));
        for (script, how, last_words) in [
            ("echo bug >&2; exit 101", "exited with status 101", "bug"),
            ("kill -ABRT $$", "was ended by signal 6", ""),
            (
                memory,
                "exited with status 0",
                "memory allocation of 7 bytes failed",
            ),
        ] {
            let LoadError::CompilerDied {
                how: found,
                last_words: words,
            } = ended(script)
            else {
                panic!("{script}: it died");
            };
            assert_eq!((found.as_str(), words.as_str()), (how, last_words));
        }
    }

    #[test]
    fn only_its_last_words_are_kept() {
        let error = ended("yes | head -c 100000 >&2; echo last >&2; exit 7");
        let LoadError::CompilerDied { last_words, .. } = error else {
            panic!("{error}");
        };
        assert!(last_words.len() <= LAST_WORDS_BYTES && last_words.ends_with("last"));
    }

    #[test]
    fn one_that_takes_too_much_is_ended() {
        let hangs = "exec sleep 1000";
        let slow = ended_by(hangs, Duration::from_millis(200), u64::MAX);
        assert!(matches!(slow, LoadError::CompileTooSlow { .. }), "{slow}");
        let large = ended_by(hangs, Duration::from_secs(60), 1);
        assert!(
            matches!(large, LoadError::CompileTooLarge { .. }),
            "{large}"
        );
    }
}
