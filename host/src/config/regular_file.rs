//! Reads regular files only, and waits for none that does not answer. Reading a pipe would block, or return
//! nothing the second time; a device may never end, or do something when it is opened; a network file
//! system may be gone.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::patience::patiently;

/// How much is read at a time.
const PART_BYTES: u64 = 1 << 20;

/// Reads at most the first `max_bytes` of a file.
///
/// # Errors
/// If it is no regular file ([`io::ErrorKind::InvalidInput`]), cannot be read, or does not answer
/// ([`io::ErrorKind::TimedOut`]).
pub(super) fn read(file: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    patiently(file, move |file, beat| {
        let mut bytes = Vec::new();
        let mut file = open(file)?.take(max_bytes);
        while file.by_ref().take(PART_BYTES).read_to_end(&mut bytes)? > 0 {
            beat();
        }
        Ok(bytes)
    })
}

/// Reads the size of a file and its first eight bytes, or fewer if it is shorter.
///
/// # Errors
/// Those of [`read`].
pub(super) fn head(file: &Path) -> io::Result<(u64, Vec<u8>)> {
    patiently(file, |file, _| {
        let file = open(file)?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::new();
        file.take(8).read_to_end(&mut bytes)?;
        Ok((size, bytes))
    })
}

/// Returns a file's metadata.
///
/// # Errors
/// If there is none, or it does not answer ([`io::ErrorKind::TimedOut`]).
pub(super) fn metadata(file: &Path) -> io::Result<Metadata> {
    patiently(file, |file, _| file.metadata())
}

/// Opens a regular file for reading. Does not open any other: a device may take that as an order. Were it
/// replaced by a pipe meanwhile, it would not wait for a writer.
fn open(file: &Path) -> io::Result<File> {
    regular(file.metadata()?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(file)?;
    regular(open.metadata()?)?;
    Ok(open)
}

fn regular(meta: Metadata) -> io::Result<()> {
    match meta.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    }
}
