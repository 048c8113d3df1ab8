//! A daemon that the bench starts itself, on a fresh directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cli::client::{Client, DaemonAddress};
use crate::cli::error::CliError;
use crate::cli::init;

/// The time limit for becoming ready; this includes compiling plugins.
const START_MAX: Duration = Duration::from_secs(60);
/// The time limit for stopping; then it is killed. Its data is removed anyway.
const STOP_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How much of the end of its log an error shows, in bytes.
const SHOWN_LOG_BYTES: usize = 2000;
/// Prefixes of variables that may tune the daemon. Other `ABIDE_` variables would redirect it, for
/// instance to the user's own data, and are removed.
const TUNING: [&str; 2] = ["ABIDE_STORE__", "ABIDE_RETENTION__"];

/// The plugin that the sessions run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BenchPlugin {
    /// Its name in the configuration.
    pub(super) name: String,
    path: PathBuf,
}

impl BenchPlugin {
    /// Finds the named component: a file, or the name of a plugin beside this program.
    pub(super) fn find(named: &str) -> Result<Self, CliError> {
        Self::find_among(named, &init::beside_program())
    }

    fn find_among(named: &str, beside: &[(String, PathBuf)]) -> Result<Self, CliError> {
        let path = Path::new(named);
        let is_file = named.contains('/') || path.extension() == Some(OsStr::new("wasm"));
        if is_file {
            let path = path.canonicalize().map_err(|source| CliError::File {
                doing: "find the plugin",
                path: path.to_owned(),
                source,
            })?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let name = stem.replace(|c| !plain(c), "-");
            return Ok(Self { name, path });
        }
        let names: Vec<&str> = beside.iter().map(|(name, _)| name.as_str()).collect();
        match beside.iter().find(|(name, _)| name == named) {
            Some((name, path)) => Ok(Self {
                name: name.clone(),
                path: path.clone(),
            }),
            None if names.is_empty() => Err(CliError::Failed(format!(
                "there is no plugin `{named}`: no plugins lie in the folder `plugins` beside this \
                 program; name a component's file with --plugin FILE, or a daemon with --url"
            ))),
            None => Err(CliError::Failed(format!(
                "there is no plugin `{named}` beside this program, only {}; name one of them, or a \
                 component's file",
                names.join(", ")
            ))),
        }
    }
}

/// A running daemon, which is killed when this value is dropped.
pub(super) struct LocalDaemon {
    folder: TempDir,
    child: Child,
    pub(super) target: DaemonAddress,
}

impl LocalDaemon {
    /// Starts a daemon in a new directory within `parent`, and waits until it is ready.
    pub(super) async fn start(parent: &Path, component: &BenchPlugin) -> Result<Self, CliError> {
        let folder = tempfile::Builder::new()
            .prefix("abide-bench-")
            .tempdir_in(parent)
            .map_err(CliError::file("make a folder in", parent))?;
        let port = free_port()
            .map_err(|error| CliError::Failed(format!("no port can be bound: {error}")))?;
        let file = folder.path().join("abide.toml");
        fs::write(&file, config(port, component)?).map_err(CliError::file("write", &file))?;
        let log_path = folder.path().join("log");
        let log = File::create(&log_path).map_err(CliError::file("create", &log_path))?;
        let log_too = log.try_clone().map_err(CliError::file("open", &log_path))?;
        let program =
            std::env::current_exe().map_err(CliError::file("find", Path::new("this program")))?;
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            // A process group of its own, so that ^C reaches only the bench, which stops its daemon
            // itself.
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if is_foreign(&name) {
                command.env_remove(name);
            }
        }
        let child = command.spawn().map_err(CliError::file("run", &program))?;
        let target = DaemonAddress {
            url: format!("http://127.0.0.1:{port}"),
            token: None,
            hint: String::new(),
        };
        let mut own = Self {
            folder,
            child,
            target,
        };
        own.until_ready().await?;
        Ok(own)
    }

    async fn until_ready(&mut self) -> Result<(), CliError> {
        let client = Client::new(self.target.clone())?;
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.death("ended before it was ready", status));
            }
            if client.get::<Value>("/readyz").await.is_ok() {
                return Ok(());
            }
            if began.elapsed() > START_MAX {
                return Err(CliError::Failed(format!(
                    "the daemon is not ready after {} s; its log ends with:\n{}",
                    START_MAX.as_secs(),
                    self.log_tail()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the daemon exits unexpectedly, and returns the error for that.
    pub(super) async fn died(&mut self) -> CliError {
        match self.child.wait().await {
            Ok(status) => self.death("ended while turns were sent", status),
            Err(error) => CliError::Failed(format!("the daemon cannot be watched: {error}")),
        }
    }

    fn death(&self, when: &str, status: ExitStatus) -> CliError {
        CliError::Failed(format!(
            "the daemon {when} ({status}); its log ends with:\n{}",
            self.log_tail()
        ))
    }

    fn log_tail(&self) -> String {
        let bytes = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let from = bytes.len().saturating_sub(SHOWN_LOG_BYTES);
        let text = String::from_utf8_lossy(&bytes[from..]);
        crate::plain_text::lines(text.trim_end()).into_owned()
    }

    /// Stops the daemon and removes its directory.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // This can fail only if the daemon has already exited, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = tokio::time::timeout(STOP_MAX, self.child.wait()).await;
        if ended.is_err() {
            // The worker dies with its supervisor.
            let _ = self.child.kill().await;
        }
    }
}

/// Returns a port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

fn config(port: u16, BenchPlugin { name, path }: &BenchPlugin) -> Result<String, CliError> {
    let Some(path) = path.to_str() else {
        return Err(CliError::Failed(format!(
            "{} is no UTF-8 and cannot stand in a configuration; rename it",
            path.display()
        )));
    };
    // A JSON string is a TOML string.
    let path = Value::from(path);
    Ok(format!(
        "[daemon]\nlisten = \"127.0.0.1:{port}\"\ndata_dir = \"data\"\n\n[plugins.{name}]\npath = {path}\n"
    ))
}

/// Returns whether a variable would redirect the daemon.
fn is_foreign(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let tunes = TUNING
        .iter()
        .any(|tuning| name.starts_with(tuning.as_bytes()));
    name.starts_with(b"ABIDE_") && !tunes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_by_name_and_by_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("my_bot.v2.wasm");
        fs::write(&file, "").expect("a file");
        let beside = [("echo".to_owned(), PathBuf::from("/p/echo.wasm"))];
        let find = |named: &str, beside: &[(String, PathBuf)]| {
            BenchPlugin::find_among(named, beside).map_err(|error| error.to_string())
        };
        let by_name = find("echo", &beside).expect("it is beside");
        assert_eq!(
            (by_name.name.as_str(), by_name.path.to_str()),
            ("echo", Some("/p/echo.wasm"))
        );
        let by_file = find(file.to_str().expect("UTF-8"), &beside).expect("it is there");
        assert_eq!(by_file.name, "my-bot-v2");

        for (named, beside, part) in [
            ("chat", &beside[..], "only echo"),
            ("chat", &[], "no plugins lie in the folder"),
            ("/nowhere/x.wasm", &[], "/nowhere/x.wasm"),
        ] {
            let error = find(named, beside).expect_err(named);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_environment_cannot_lead_it_to_other_data() {
        for (name, foreign) in [
            ("ABIDE_DAEMON__DATA_DIR", true),
            ("ABIDE_URL", true),
            ("ABIDE_PLUGINS__ECHO__PATH", true),
            ("ABIDE_STORE__WAL", false),
            ("PATH", false),
        ] {
            assert_eq!(is_foreign(OsStr::new(name)), foreign, "{name}");
        }
    }

    #[test]
    fn a_path_with_quotes_is_still_one() {
        let component = BenchPlugin {
            name: "echo".to_owned(),
            path: "/a \"b\"/echo.wasm".into(),
        };
        let text = config(7, &component).expect("UTF-8");
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(
            table["plugins"]["echo"]["path"].as_str(),
            component.path.to_str()
        );
    }
}
