//! `abide serve`, and the worker process that it starts.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::{Serve, WORKER};
use super::error::CliError;
use super::global::Global;
use super::out::hint;
use crate::{daemon, private_process, supervisor};

/// Runs the daemon in the foreground until it is stopped. Must be called while the process has only
/// one thread.
pub(super) fn serve(global: &Global, serve: &Serve) -> Result<ExitCode, CliError> {
    let path = absolute(&global.config)?;
    let mut worker_args = vec![WORKER.into(), "--config".into(), path.into()];
    if serve.last_good {
        worker_args.push("--last-good".into());
    }
    if serve.accept_loss {
        worker_args.push("--accept-loss".into());
    }
    if serve.restored {
        worker_args.push("--restored".into());
    }
    private_process::keep_descriptors();
    if let Err(error) = private_process::keep_private() {
        hint(format!(
            "warning: tool servers may be able to read this process: {error}"
        ));
    }
    Ok(supervisor::run(supervisor::Options {
        worker_exe: program()?,
        worker_args,
    }))
}

/// Runs the worker. Only the supervisor can start one.
pub(super) fn worker(global: &Global, serve: &Serve) -> Result<ExitCode, CliError> {
    let path = absolute(&global.config)?;
    let first = daemon::FirstStart {
        last_good: serve.last_good,
        accept_loss: serve.accept_loss,
        restored: serve.restored,
    };
    Ok(daemon::run_worker(&path, first))
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(CliError::file("find", path))
}

/// Returns this program by the path that it was invoked by: if that is a link which an upgrade
/// points to a new binary, the next worker runs that binary.
fn program() -> Result<PathBuf, CliError> {
    let called = std::env::args_os().next();
    let this = std::env::current_exe().map_err(|source| CliError::File {
        doing: "find",
        path: "this program".into(),
        source,
    })?;
    let path = std::env::var_os("PATH");
    Ok(called
        .and_then(|name| locate(&name, path.as_deref()))
        .filter(|found| is_same(found, &this))
        .unwrap_or(this))
}

/// Returns where a shell would find a program of that name.
fn locate(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if Path::new(name).components().nth(1).is_some() || Path::new(name).is_absolute() {
        return std::path::absolute(name).ok();
    }
    std::env::split_paths(path?)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .and_then(|file| std::path::absolute(file).ok())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_kept_and_names_are_looked_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, link) = (folder.path().join("abide-1"), folder.path().join("abide"));
        std::fs::write(&file, "").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let path = std::env::join_paths(["/nowhere".as_ref(), folder.path()]).expect("a PATH");
        assert_eq!(locate("abide".as_ref(), Some(&path)), Some(link.clone()));
        assert_eq!(locate(link.as_os_str(), None), Some(link.clone()));
        assert_eq!(locate("abide".as_ref(), None), None);
        assert!(is_same(&link, &file));
        assert!(!is_same(&link, folder.path()));
    }
}
