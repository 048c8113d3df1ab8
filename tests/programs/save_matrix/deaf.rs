//! Makes a user receive no file events from the kernel, as on a network file system.

use std::os::fd::OwnedFd;
use std::thread;

use anyhow::anyhow;
use rustix::fs::inotify;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

/// More inotify instances than any default limit per user.
const MANY: usize = 4096;

/// All inotify instances that the user may have; released when dropped.
pub(crate) struct Deafness {
    _held: Vec<OwnedFd>,
}

impl Deafness {
    /// Takes all inotify instances that `user` may have. Requires root.
    pub(crate) fn of(user: u32) -> anyhow::Result<Self> {
        // The kernel counts instances per user of the calling thread, so take them on a thread that
        // switches to that user.
        let taken = thread::spawn(move || {
            let user = Uid::from_raw(user);
            set_thread_res_uid(user, user, user)?;
            let mut held = Vec::new();
            while held.len() < MANY {
                match inotify::init(inotify::CreateFlags::CLOEXEC) {
                    Ok(fd) => held.push(fd),
                    Err(rustix::io::Errno::MFILE) => return Ok(held),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(anyhow!(
                "the kernel gives more than {MANY} inotify instances"
            ))
        });
        let held = taken.join().map_err(|_| anyhow!("the thread panicked"))??;
        Ok(Self { _held: held })
    }
}
