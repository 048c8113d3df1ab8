//! A server that runs as a program of its own.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use abide_tests::PATIENCE;

use super::attend::last_lines;

/// The interval at which a killed program's exit is polled; short, because the program's downtime
/// is measured.
const EXIT_INTERVAL: Duration = Duration::from_micros(100);

/// A running program, which is killed when dropped.
pub(crate) struct ChildProgram {
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    child: Child,
}

impl ChildProgram {
    /// Starts the program; its output goes to `NAME.log` in the directory.
    pub(crate) fn start(
        name: &str,
        program: PathBuf,
        args: Vec<OsString>,
        folder: &Path,
    ) -> Result<Self, String> {
        let log = folder.join(format!("{name}.log"));
        let child = spawn(&program, &args, &log)?;
        Ok(Self {
            program,
            args,
            log,
            child,
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Restarts the program once the killed process has exited.
    pub(crate) fn start_again(&mut self) -> Result<(), String> {
        let killed = Instant::now();
        while self.exited()?.is_none() {
            if killed.elapsed() > PATIENCE {
                let program = self.program.display();
                return Err(format!(
                    "{program} has not ended {PATIENCE:?} after it was killed"
                ));
            }
            thread::sleep(EXIT_INTERVAL);
        }
        self.child = spawn(&self.program, &self.args, &self.log)?;
        Ok(())
    }

    /// Returns an error with the exit status and the end of the log if the program has exited.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let Some(status) = self.exited()? else {
            return Ok(());
        };
        let log = std::fs::read(&self.log).unwrap_or_default();
        Err(format!(
            "{} ended with {status}; the end of its log, {}:\n{}",
            self.program.display(),
            self.log.display(),
            last_lines(&String::from_utf8_lossy(&log))
        ))
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| error.to_string())
    }
}

impl Drop for ChildProgram {
    fn drop(&mut self) {
        // An error means that the program has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, args: &[OsString], log: &Path) -> Result<Child, String> {
    let file = File::options().create(true).append(true).open(log);
    let file = file.map_err(|error| format!("{}: {error}", log.display()))?;
    let again = file.try_clone().map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(again)
        .stderr(file)
        .spawn();
    child.map_err(|error| format!("{} cannot be started: {error}", program.display()))
}
