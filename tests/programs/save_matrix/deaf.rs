//! A user whom the kernel tells nothing, as a network file system tells nobody.

use std::os::fd::OwnedFd;
use std::thread;

use rustix::fs::inotify;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

/// More than the kernel gives to one user by any default.
const MANY: usize = 4096;

/// All that the kernel had for the user; it is given back with the value.
pub(crate) struct Deafness {
    _held: Vec<OwnedFd>,
}

impl Deafness {
    /// Takes all inotify instances that `user` may have. Takes root.
    pub(crate) fn of(user: u32) -> Result<Self, String> {
        // Who asks is counted: a thread of its own asks as that user.
        let taken = thread::spawn(move || {
            let user = Uid::from_raw(user);
            set_thread_res_uid(user, user, user).map_err(|error| error.to_string())?;
            let mut held = Vec::new();
            while held.len() < MANY {
                match inotify::init(inotify::CreateFlags::CLOEXEC) {
                    Ok(fd) => held.push(fd),
                    Err(rustix::io::Errno::MFILE) => return Ok(held),
                    Err(error) => return Err(error.to_string()),
                }
            }
            Err(format!(
                "the kernel gives more than {MANY} inotify instances"
            ))
        });
        let held = taken.join().map_err(|_| "the thread panicked")??;
        Ok(Self { _held: held })
    }
}
