//! The lock on the data folder: one process at a time owns the store.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::{OpenError, failed_io::FailedIo};

/// Takes the file lock (flock), which the kernel releases when its holder dies, and writes our
/// process id into the file.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let name = path.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(FailedIo::of("open", &name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // A process that has just taken the lock may not have written its id yet; then the id
            // is unknown.
            let read = file.read_to_string(&mut holder);
            return Err(OpenError::Locked {
                path: path.to_owned(),
                pid: read.ok().and_then(|_| holder.trim().parse().ok()),
            });
        }
        Err(error) => return Err(FailedIo::of("lock", &name)(error).into()),
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(pid.as_bytes()))
        .map_err(FailedIo::of("write", &name))?;
    Ok(file)
}

/// Unlocks the file explicitly. Closing it is not enough: a child process that is about to exec may
/// still hold the descriptor, and the lock with it.
pub(super) fn release(lock: &File) {
    if let Err(error) = flock(lock, FlockOperation::Unlock) {
        tracing::warn!("cannot release the lock on the data folder: {error}");
    }
}
