//! A server's process: starts it, waits for its exit, and ends it with everything it left behind.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, chdir, setsid, test_kill_process, waitid,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::private_files::restore_umask;
use crate::private_process::keep_descriptors;
use crate::system_user::SystemUser;

use super::descendants::{Descendants, MARK};
use super::other_user::{become_user, give_up_capabilities};
use super::sandbox::Sandbox;
use super::settings::Program;

/// The variables of the daemon's environment that a server inherits: enough to run, nothing secret.
const INHERITED: &[&str] = &["PATH", "LANG", "TZ"];
/// Further ones, which are about the daemon's user: for a server that runs as that.
const INHERITED_AS_USER: &[&str] = &["HOME", "TMPDIR", "USER", "SHELL"];
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
    /// Starts a server in a session of its own, without a terminal. Gives up if its program does not run
    /// `within` that time.
    pub(super) async fn spawn(
        name: &str,
        settings: &Program,
        within: Duration,
    ) -> Result<(Self, Pipes), String> {
        let program = &settings.program;
        let failed = |error: &dyn std::fmt::Display| {
            let sandbox = match settings.hidden {
                Some(_) => ", and that nothing that it needs is hidden by its `sandbox`",
                None => "",
            };
            format!("`{program}` cannot be started ({error}); check `mcp.{name}.command`{sandbox}")
        };
        let user = match settings.user.clone() {
            Some(user) => Some(found(name, user).await?),
            None => None,
        };
        let sandbox = match settings.hidden.clone() {
            Some(hidden) => match timeout(within, sandboxed(name, hidden)).await {
                Ok(sandbox) => Some(sandbox?),
                Err(_) => {
                    return Err(format!(
                        "a folder above what `mcp.{name}.sandbox` hides does not answer within {} s; see that \
                         what is mounted there answers, or take the key out",
                        within.as_secs_f64()
                    ));
                }
            },
            None => None,
        };
        let cwd = CString::new(settings.cwd.as_os_str().as_bytes());
        let cwd = cwd.map_err(|error| failed(&error))?;
        let other = user.clone();
        let owner = mark_of(&settings.owner);
        let mark = format!("{owner}{name}-{:016x}", rand::random::<u64>());
        let mut command = Command::new(resolve(program, &settings.cwd));
        // SAFETY: between fork and exec only what is async-signal-safe may be called: these are system
        // calls, with values that were set when the process started, or are owned by the closure.
        unsafe {
            command.pre_exec(move || {
                restore_umask();
                keep_descriptors();
                setsid()?;
                match &other {
                    Some(other) => become_user(other)?,
                    None => give_up_capabilities()?,
                }
                // Only now: not where another user may not go.
                chdir(&*cwd)?;
                sandbox.as_ref().map_or(Ok(()), Sandbox::enter)
            });
        }
        command
            .args(&settings.args)
            .env_clear()
            .envs(inherited(user.is_none()))
            .envs(user.iter().flat_map(|user| user.env.iter().cloned()))
            .envs(settings.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Nobody may be left to take it.
            .kill_on_drop(true);
        let mut child = started(command, within)
            .await
            .map_err(|error| match &settings.user {
                Some(user) => not_as_user(name, program, user, &error),
                None => failed(&error),
            })?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(pid), (Some(input), Some(output), Some(errors))) = (pid, pipes) else {
            let _ = child.start_kill();
            return Err(failed(&"it has no process id or no pipes"));
        };
        if let (Some(user), Err(Errno::PERM)) = (&settings.user, test_kill_process(pid)) {
            // Its input ends with its pipes here, and that has to do.
            return Err(not_as_user(name, program, user, &Errno::PERM.into()));
        }
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

/// Starts a process on a thread that may wait for it: until its program's file is there, which on a file
/// system that does not answer is never.
async fn started(mut command: Command, within: Duration) -> std::io::Result<Child> {
    let spawned = tokio::task::spawn_blocking(move || command.spawn());
    match timeout(within, spawned).await {
        Ok(spawned) => spawned.map_err(std::io::Error::other)?,
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("its file does not answer within {} s", within.as_secs_f64()),
        )),
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

/// Finds the user whom a server is to run as.
async fn found(name: &str, user: String) -> Result<SystemUser, String> {
    let found = tokio::task::spawn_blocking(move || SystemUser::find(&user)).await;
    let found = found.map_err(|error| error.to_string())?;
    found.map_err(|error| format!("{error}; check `mcp.{name}.user`"))
}

/// Makes the sandbox that a server is to run in.
async fn sandboxed(name: &str, hidden: Vec<PathBuf>) -> Result<Sandbox, String> {
    let made = tokio::task::spawn_blocking(move || Sandbox::hiding(&hidden)).await;
    let made = made.map_err(|error| error.to_string())?;
    made.map_err(|error| {
        format!("it is not started without its sandbox: {error}, or take `mcp.{name}.sandbox` out")
    })
}

/// Tells why a program cannot be started as another user.
fn not_as_user(name: &str, program: &str, user: &str, error: &std::io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) => format!(
            "`{program}` cannot be started as `{user}`: the daemon may not become another user; run it \
             as root or with the capabilities CAP_SETUID, CAP_SETGID and CAP_KILL, or take \
             `mcp.{name}.user` out"
        ),
        Some(Errno::ACCESS) => format!(
            "`{program}` cannot be started as `{user}` ({error}); let that user run it, and reach the \
             folder that it is in and the configuration's, where it is started"
        ),
        _ => format!(
            "`{program}` cannot be started as `{user}` ({error}); check `mcp.{name}.command`"
        ),
    }
}

fn inherited(is_same_user: bool) -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(move |(name, _)| {
        let name = name.to_string_lossy();
        let name = &*name;
        INHERITED.contains(&name)
            || (is_same_user && INHERITED_AS_USER.contains(&name))
            || name.starts_with("LC_")
    })
}

fn exit_reason(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}
