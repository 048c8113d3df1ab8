//! The lock on the data folder: one process at a time owns the store.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::{OpenError, failed_io::FailedIo};

const NAME: &str = "LOCK";

/// Takes the file lock (flock), which the kernel releases when its holder dies, and writes our
/// process id into the file.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let name = path.join(NAME);
    let mut file = open(&name).map_err(FailedIo::of("open", &name))?;
    take(path, &mut file)?;
    let pid = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(pid.as_bytes()))
        .map_err(FailedIo::of("write", &name))?;
    Ok(file)
}

/// Takes the lock on a folder that is only read. It may be one that nobody can write, a disk that failed or
/// the copy of one: then the lock does not say who holds it, and there is none where no daemon has been.
pub(super) fn lock_to_read(path: &Path) -> Result<Option<File>, OpenError> {
    let name = path.join(NAME);
    match open(&name) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
            ) => {}
        _ => return lock(path).map(Some),
    }
    match File::open(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => {
            let mut file = opened.map_err(FailedIo::of("open", &name))?;
            take(path, &mut file)?;
            Ok(Some(file))
        }
    }
}

fn open(name: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(name)
}

fn take(path: &Path, file: &mut File) -> Result<(), OpenError> {
    match flock(&*file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // A process that has just taken the lock may not have written its id yet; then the id
            // is unknown.
            let read = file.read_to_string(&mut holder);
            Err(OpenError::Locked {
                path: path.to_owned(),
                pid: read.ok().and_then(|_| holder.trim().parse().ok()),
            })
        }
        Err(error) => Err(FailedIo::of("lock", &path.join(NAME))(error).into()),
    }
}

/// Unlocks the file explicitly. Closing it is not enough: a child process that is about to exec may
/// still hold the descriptor, and the lock with it.
pub(super) fn release(lock: &File) {
    if let Err(error) = flock(lock, FlockOperation::Unlock) {
        tracing::warn!("cannot release the lock on the data folder: {error}");
    }
}
