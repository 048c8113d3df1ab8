//! The real daemon, in a directory of its own.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::precompiled::{fill_cache, keep_cache, supply};
use crate::process::{children, descendants, kill_all, signal};
use crate::programs::copy_program;
use crate::setup::TOKEN_ENV;
use crate::{Client, PATIENCE, Setup, abide_binary, until};

/// How much of the daemon's log a failed test prints, in bytes.
const SHOWN_LOG_BYTES: usize = 12_000;

/// How an editor saves.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Writes a new file and renames it over the old one.
    Rename,
    /// Empties the old file and writes it again in two parts.
    Truncate,
}

/// A running daemon. Its processes die when the value is dropped.
pub struct Daemon {
    folder: TempDir,
    child: Child,
    /// How long its log was when the process was started.
    log_before: usize,
    /// The content of its `abide.toml`, unless a test has written another one.
    pub setup: Setup,
}

/// The exit of a daemon that was expected not to start.
#[derive(Debug)]
pub struct Boot {
    pub status: ExitStatus,
    /// Its output on standard error.
    pub stderr: String,
}

impl Daemon {
    /// Starts a daemon in a new directory and waits until it is ready.
    pub async fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
        Self::start_in(folder, setup).await
    }

    /// Starts a daemon in this directory and waits until it is ready.
    pub async fn start_in(folder: TempDir, setup: Setup) -> Self {
        let mut daemon = Self::spawn_in(folder, setup);
        daemon.until_ready().await;
        daemon
    }

    /// Starts a daemon in this directory, without waiting until it is ready.
    pub fn spawn_in(folder: TempDir, setup: Setup) -> Self {
        write(&config_path(folder.path()), &setup.toml(), How::Rename);
        fill_cache(folder.path(), &setup);
        let log_before = log_of(folder.path()).len();
        let child = spawn_of(folder.path(), &setup);
        Self {
            folder,
            child,
            log_before,
            setup,
        }
    }

    /// Returns the directory, whose processes are killed.
    pub fn into_folder(mut self) -> TempDir {
        let other = tempfile::tempdir().expect("the machine has a folder for temporary files");
        std::mem::replace(&mut self.folder, other)
    }

    /// Starts a daemon in a directory where it cannot start, and waits for its exit.
    ///
    /// # Panics
    /// If it has not exited after [`PATIENCE`].
    pub fn fail_to_start(folder: &Path, toml: &str) -> Boot {
        write(&config_path(folder), toml, How::Rename);
        let mut child = spawn(folder, abide_binary(), &[], &[], None, None);
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                let stderr = log_of(folder);
                return Boot { status, stderr };
            }
            if started.elapsed() > PATIENCE {
                kill_all(child.id().cast_signed());
                let _ = child.wait();
                let log = log_of(folder);
                panic!("the daemon neither failed nor ended; its log:\n{log}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    async fn until_ready(&mut self) {
        let client = self.client();
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            if let Ok(reply) = client.get("/readyz").await
                && reply.status == 200
            {
                keep_cache(self.folder(), &self.setup);
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "not ready after {PATIENCE:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns a client of the daemon, with connections of its own.
    pub fn client(&self) -> Client {
        let client = Client::new(self.setup.port);
        match &self.setup.token {
            Some(token) => client.with_token(token),
            None => client,
        }
    }

    /// Opens a plain TCP connection to the daemon.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.setup.port)).expect("the daemon listens")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command of the command line in the daemon's folder.
    pub fn abide(&self, args: &[&str]) -> Output {
        let output = Command::new(abide_binary())
            .args(args)
            .current_dir(self.folder())
            .output();
        output.expect("the binary runs")
    }

    /// Runs a command that must succeed. Returns what it writes.
    pub fn abide_says(&self, args: &[&str]) -> String {
        let output = self.abide(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("it writes UTF-8")
    }

    /// Returns what the daemon has written to standard error.
    pub fn log(&self) -> String {
        log_of(self.folder())
    }

    /// Returns what the daemon has written to standard error since it was last started.
    pub fn log_since_start(&self) -> String {
        let log = self.log();
        log.get(self.log_before..).unwrap_or(&log).to_owned()
    }

    /// Waits until the log contains a text, and returns the log. Nothing waits for the log's writer:
    /// a line may come later than what it is about.
    pub async fn logged(&self, text: &str) -> String {
        until(&format!("`{text}` in the log"), async || {
            let log = self.log();
            log.contains(text).then_some(log)
        })
        .await
    }

    /// Returns the pid of the process that was started: the supervisor.
    pub fn supervisor_pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until there is exactly one worker, and returns its pid.
    pub async fn worker_pid(&self) -> i32 {
        let supervisor = self.supervisor_pid();
        until("one worker", async || match children(supervisor)[..] {
            [pid] => Some(pid),
            _ => None,
        })
        .await
    }

    /// Sends a signal to the worker. Returns the worker's pid.
    pub async fn signal_worker(&self, what: Signal) -> i32 {
        let pid = self.worker_pid().await;
        signal(pid, what);
        pid
    }

    /// Kills the worker with SIGKILL, and waits until another has replaced it.
    pub async fn kill_worker(&self) {
        let old = self.signal_worker(Signal::KILL).await;
        let supervisor = self.supervisor_pid();
        until("the next worker", async || {
            matches!(children(supervisor)[..], [pid] if pid != old).then_some(())
        })
        .await;
    }

    /// Changes the configuration and saves it.
    pub fn edit(&mut self, how: How, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        self.write_config(&self.setup.toml(), how);
    }

    /// Saves any text as the configuration.
    pub fn write_config(&self, text: &str, how: How) {
        write(&config_path(self.folder()), text, how);
    }

    /// Edits the configuration so that the daemon is also to listen at this address.
    pub fn listen_also_at(&self, address: SocketAddr) {
        let own = format!("\"127.0.0.1:{}\"", self.setup.port);
        let text = self.setup.toml().replace(
            &format!("listen = {own}"),
            &format!("listen = [{own}, \"{address}\"]"),
        );
        self.write_config(&text, How::Rename);
    }

    /// Sends `GET /v1/daemon`.
    pub async fn status(&self) -> Value {
        let client = self.client();
        until("the daemon's status", async || {
            let reply = client.get("/v1/daemon").await.ok()?;
            (reply.status == 200).then_some(reply.body)
        })
        .await
    }

    /// Returns the generation that serves.
    pub async fn generation(&self) -> u64 {
        let status = self.status().await;
        status["generation"]
            .as_u64()
            .unwrap_or_else(|| panic!("no generation in {status}"))
    }

    /// Waits until a generation after `old` serves and has restored its sessions. Returns its
    /// number.
    pub async fn after_generation(&self, old: u64) -> u64 {
        let record = until("the restart", async || {
            let generation = self.generation().await;
            if generation <= old {
                return None;
            }
            let record = self.restart_record(generation).await?;
            let status = record["status"].as_str();
            matches!(status, Some("probation" | "completed")).then_some(record)
        })
        .await;
        record["generation"]
            .as_u64()
            .expect("a restart record has its generation")
    }

    /// Waits until what this version keeps can be kept in the data folder.
    pub async fn until_past_probation(&self) {
        until("the end of the probation", async || {
            (self.status().await["format"] == 2).then_some(())
        })
        .await;
    }

    /// Makes a change that needs a restart and waits for the restart. Returns the new generation.
    pub async fn restart_by_edit(&mut self) -> u64 {
        let old = self.generation().await;
        self.edit(How::Rename, |setup| setup.spare += 1);
        self.after_generation(old).await
    }

    /// Returns the record of a restart, if it exists.
    pub async fn restart_record(&self, generation: u64) -> Option<Value> {
        let path = format!("/v1/daemon/restarts/{generation}");
        let reply = self.client().get(&path).await.ok()?;
        (reply.status == 200).then_some(reply.body)
    }

    /// Waits until the record of a restart satisfies a condition.
    pub async fn restart_record_when(
        &self,
        generation: u64,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        until("the restart's record", async || {
            let record = self.restart_record(generation).await?;
            condition(&record).then_some(record)
        })
        .await
    }

    /// Sends SIGTERM to the daemon, as a service manager does, and waits for its exit.
    pub async fn stop(&mut self) -> ExitStatus {
        signal(self.supervisor_pid(), Signal::TERM);
        self.ended().await
    }

    /// Waits for the daemon's exit.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the daemon's end", async || {
            child.try_wait().expect("the child is ours")
        })
        .await
    }

    /// Starts the daemon again in its directory, after it has exited.
    pub async fn start_again(&mut self) {
        self.spawn_again();
        self.until_ready().await;
    }

    /// Starts the daemon again, without waiting until it is ready.
    pub fn spawn_again(&mut self) {
        self.log_before = self.log().len();
        self.child = spawn_of(self.folder.path(), &self.setup);
    }

    /// Returns the exit status, if the daemon has exited.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Lets the daemon find what another one has compiled of a component that it is about to be given.
    pub fn supply_compiled(&self, component: &[u8]) {
        supply(
            &self.folder().join(&self.setup.data_dir).join("cache"),
            component,
        );
    }

    /// Keeps what the daemon has compiled since it was started for other ones.
    pub fn keep_compiled(&self) {
        keep_cache(self.folder(), &self.setup);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pids = descendants(self.supervisor_pid());
        kill_all(self.supervisor_pid());
        // A worker outlives its supervisor until the kernel has delivered the parent's death to it.
        for pid in pids {
            signal(pid, Signal::KILL);
        }
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let from = log.ceil_char_boundary(log.len().saturating_sub(SHOWN_LOG_BYTES));
            eprintln!("--- the daemon's log ---\n{}---", &log[from..]);
        }
    }
}

fn config_path(folder: &Path) -> PathBuf {
    folder.join("abide.toml")
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("stderr.log")
}

fn log_of(folder: &Path) -> String {
    fs::read_to_string(log_path(folder)).unwrap_or_default()
}

fn spawn_of(folder: &Path, setup: &Setup) -> Child {
    let binary = setup.binary.clone().unwrap_or_else(abide_binary);
    let stderr = setup.stderr.as_deref();
    let token = setup.token.clone();
    let env = setup.env.iter().cloned();
    let env: Vec<_> = env
        .chain(token.map(|token| (TOKEN_ENV.to_owned(), token)))
        .collect();
    spawn(folder, binary, &setup.args, &env, setup.user, stderr)
}

fn spawn(
    folder: &Path,
    mut binary: PathBuf,
    args: &[String],
    env: &[(String, String)],
    user: Option<u32>,
    stderr: Option<&OwnedFd>,
) -> Child {
    if let Some(user) = user {
        let copy = folder.join("abide");
        if !copy.exists() {
            copy_program(&binary, &copy);
        }
        binary = copy;
        chown(folder, Some(user), Some(user)).expect("only root runs a daemon as somebody else");
    }
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path(folder))
        .expect("the folder is ours");
    let stderr = match stderr {
        Some(fd) => Stdio::from(fd.try_clone().expect("descriptors are not exhausted")),
        None => Stdio::from(log.try_clone().expect("descriptors are not exhausted")),
    };
    let mut command = Command::new(binary);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
        .arg("serve")
        .arg("--config")
        .arg(config_path(folder))
        .args(args)
        .envs(env.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(stderr)
        .spawn()
        .expect("the binary can be run")
}

fn write(path: &Path, text: &str, how: How) {
    const OURS: &str = "the folder is ours";
    match how {
        How::Rename => {
            let aside = path.with_extension("toml.new");
            fs::write(&aside, text).expect(OURS);
            fs::rename(&aside, path).expect(OURS);
        }
        How::Truncate => {
            let (head, tail) = text.split_at(text.len() / 2);
            let mut file = File::create(path).expect(OURS);
            file.write_all(head.as_bytes()).expect(OURS);
            // Lets a watcher observe the half-written file of a slow editor.
            file.sync_all().expect(OURS);
            file.write_all(tail.as_bytes()).expect(OURS);
        }
    }
}
