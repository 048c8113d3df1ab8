//! Opens regular files only. Reading a pipe would block, or return nothing the second time, and a
//! device may never end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading. Never blocks, even if the path is a pipe without a writer.
pub(super) fn open(file: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(file)?;
    if !open.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(open)
}

/// Reads at most the first `max_bytes` of a file.
pub(super) fn read(file: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(file)?.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}
