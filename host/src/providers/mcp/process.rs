//! A server's process: starts it, waits for its exit, and ends it with everything it left behind.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::private_files::restore_umask;

use super::descendants::{Descendants, MARK};
use super::settings::Program;

/// The variables of the daemon's environment that a server inherits: enough to run, nothing secret.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "TMPDIR", "USER", "SHELL", "TZ"];
/// How long a server whose input is closed may take to exit by itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take to exit after SIGTERM.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(500);
/// How many times its descendants are searched for and killed, and the pause between two rounds.
const KILL_ROUNDS: u32 = 100;
const KILL_PAUSE: Duration = Duration::from_millis(10);
/// How long the kernel may take to end a killed process.
const REAP_PATIENCE: Duration = Duration::from_millis(500);

/// A running server. Not reaped before its descendants have ended, so that its process id is not
/// reused.
pub(super) struct Process {
    child: Child,
    pid: Pid,
    /// `None` while a blocking thread uses it.
    family: Option<Descendants>,
    ended: bool,
}

/// The daemon's ends of a server's pipes.
pub(super) struct Pipes {
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
    pub(super) errors: ChildStderr,
}

/// Returns the prefix of the marks of all servers of an owner.
pub(super) fn mark_of(owner: &str) -> String {
    format!("{owner}/")
}

impl Process {
    /// Starts a server in its own process group.
    pub(super) fn spawn(name: &str, settings: &Program) -> Result<(Self, Pipes), String> {
        let program = &settings.program;
        let failed = |error: &dyn std::fmt::Display| {
            format!("`{program}` cannot be started ({error}); check `mcp.{name}.command`")
        };
        let owner = mark_of(&settings.owner);
        let mark = format!("{owner}{name}-{:016x}", rand::random::<u64>());
        let mut command = Command::new(resolve(program, &settings.cwd));
        // SAFETY: between fork and exec only what is async-signal-safe may be called: this is one
        // system call, and reads a value that was set when the process started.
        unsafe {
            command.pre_exec(|| {
                restore_umask();
                Ok(())
            });
        }
        let mut child = command
            .args(&settings.args)
            .current_dir(&settings.cwd)
            .env_clear()
            .envs(inherited())
            .envs(settings.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&error))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(pid), (Some(input), Some(output), Some(errors))) = (pid, pipes) else {
            let _ = child.start_kill();
            return Err(failed(&"it has no process id or no pipes"));
        };
        let process = Self {
            child,
            pid,
            family: Some(Descendants::new(pid, &mark)),
            ended: false,
        };
        let pipes = Pipes {
            input,
            output,
            errors,
        };
        Ok((process, pipes))
    }

    pub(super) fn id(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Waits until the process has exited, without reaping it.
    pub(super) async fn exited(&self) {
        // An error means that the runtime is shutting down, and the process with it.
        let Ok(mut children) = signal(SignalKind::child()) else {
            return;
        };
        while self.runs() && children.recv().await.is_some() {}
    }

    fn runs(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.pid), look), Ok(None))
    }

    /// Ends the process and all its descendants, and returns how it ended. Its input should have
    /// been closed before.
    pub(super) async fn end(mut self) -> String {
        // Scan while the process lives: its children can be recognized by their parent id only
        // until it exits.
        self.in_family(|family| {
            family.scan();
        })
        .await;
        if timeout(PATIENCE, self.exited()).await.is_err() {
            if let Some(family) = &self.family {
                family.signal(Signal::TERM);
            }
            let _ = timeout(SIGNAL_PATIENCE, self.exited()).await;
        }
        if let Some(family) = &self.family {
            // Signalling the group works even if `/proc` cannot be read.
            family.signal(Signal::KILL);
        }
        let mut left = 0;
        for _ in 0..KILL_ROUNDS {
            left = self.in_family(Descendants::kill).await.unwrap_or_default();
            if left == 0 {
                break;
            }
            sleep(KILL_PAUSE).await;
        }
        if left > 0 {
            tracing::error!(
                left,
                "processes of a tool server cannot be killed; they wait in the kernel"
            );
        }
        let status = timeout(REAP_PATIENCE, self.child.wait()).await;
        self.ended = true;
        match status {
            Ok(Ok(status)) => exit_reason(status),
            _ => "it does not end".to_owned(),
        }
    }

    /// Runs `act`, which reads `/proc`, on a blocking thread.
    async fn in_family<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Descendants) -> T + Send + 'static,
    ) -> Option<T> {
        let mut family = self.family.take()?;
        let done = tokio::task::spawn_blocking(move || {
            let result = act(&mut family);
            (family, result)
        });
        let (family, result) = done.await.ok()?;
        self.family = Some(family);
        Some(result)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Dropped without `end`: the runtime is shutting down, so nothing can be awaited any more.
        if !self.ended {
            if let Some(family) = &mut self.family {
                family.kill();
            }
            let _ = self.child.start_kill();
        }
    }
}

/// Resolves the program: a path is relative to the server's working directory; a plain name is
/// searched for in `PATH`.
fn resolve(program: &str, cwd: &Path) -> PathBuf {
    if program.contains('/') {
        cwd.join(program)
    } else {
        PathBuf::from(program)
    }
}

fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        INHERITED.contains(&&*name) || name.starts_with("LC_")
    })
}

fn exit_reason(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}
