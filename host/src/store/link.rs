//! Gives a file a second name.

use std::fs;
use std::io;
use std::path::Path;

/// Links a file, or copies it where the other name is on another disk.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::Unsupported
            ) =>
        {
            fs::copy(from, to).map(drop)
        }
        linked => linked,
    }
}
