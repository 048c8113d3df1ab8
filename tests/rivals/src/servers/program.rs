//! A server that runs as a program of its own.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running program, which is killed when dropped.
pub(crate) struct Program {
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    child: Child,
}

impl Program {
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
        self.child.wait().map_err(|error| error.to_string())?;
        self.child = spawn(&self.program, &self.args, &self.log)?;
        Ok(())
    }

    /// Returns an error with the program's log if it has exited.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!(
                "{} ended with {status}:\n{}",
                self.program.display(),
                std::fs::read_to_string(&self.log).unwrap_or_default()
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Program {
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
