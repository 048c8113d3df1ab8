//! This process's memory, environment and descriptors, which hold tokens and keys, out of the reach of
//! other processes of its user: of tool servers, above all.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{self, FdFlags, fcntl_setfd};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// The first descriptor that is no standard stream.
const FIRST: RawFd = 3;
/// Behind the descriptors that are looked at on kernels before 5.11, which know no call for all of them.
/// This program opens each of its own so that it is closed; only those may not be that it was started
/// with, which have low numbers.
const OLD_KERNELS_END: RawFd = 1024;

/// Keeps other processes without privileges from reading this one in `/proc`, and from tracing it. It
/// leaves no core dump either. A program that is started from here is not kept so.
pub(crate) fn keep_private() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Lets a program that is started from here have no descriptor of this process but the standard streams.
/// Some are there by no doing of this program: those that it was started with, and one that wasmtime opens
/// anew in each child. Only system calls, so that a child may call it before its program runs.
pub(crate) fn keep_descriptors() {
    // SAFETY: the call takes numbers alone, and sets a flag of descriptors.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return;
    }
    for fd in FIRST..OLD_KERNELS_END {
        // SAFETY: it is neither read, written nor closed. If it is not open, the call fails.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::io::fcntl_getfd;

    use super::*;

    #[test]
    fn no_descriptor_is_left_to_others() {
        let file = File::open("/dev/null").unwrap();
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        keep_descriptors();
        assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
    }
}
