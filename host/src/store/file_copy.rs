//! Copies a file in pieces, synced, and computes its digest meanwhile.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::domain::Digest;

use super::failed_io::FailedIo;

/// The size of a piece.
const PIECE_BYTES: usize = 1 << 20;
/// How much is written between two syncs. Were all of it synced at once, the writes of others to the
/// same disk would wait for that.
const SYNC_BYTES: u64 = 8 << 20;

/// What became of a copy.
#[derive(Debug)]
pub(super) enum Copied {
    /// It is complete and synced.
    Whole { bytes: u64, sha256: Digest },
    /// The caller has given it up.
    Abandoned,
}

/// Why a file was not copied.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl CopyError {
    /// Names the file that could not be read or written.
    pub(super) fn named(self, from: &Path, to: &Path) -> FailedIo {
        match self {
            Self::Read(error) => FailedIo::of("read", from)(error),
            Self::Write(error) => FailedIo::of("write", to)(error),
        }
    }
}

/// Copies the file `from` to the new file `to`, which only its owner can read, until `is_abandoned`
/// returns true.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    is_abandoned: &dyn Fn() -> bool,
) -> Result<Copied, CopyError> {
    let mut source = File::open(from).map_err(CopyError::Read)?;
    let mut copy = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(CopyError::Write)?;
    let (mut bytes, mut unsynced, mut digest) = (0, 0, Sha256::new());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if is_abandoned() {
            return Ok(Copied::Abandoned);
        }
        let length = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        digest.update(&piece[..length]);
        copy.write_all(&piece[..length]).map_err(CopyError::Write)?;
        bytes += length as u64;
        unsynced += length as u64;
        if unsynced >= SYNC_BYTES {
            copy.sync_data().map_err(CopyError::Write)?;
            unsynced = 0;
        }
    }
    copy.sync_all().map_err(CopyError::Write)?;
    Ok(Copied::Whole {
        bytes,
        sha256: Digest::from_bytes(digest.finalize().into()),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_copy_is_whole_or_given_up() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        let content: Vec<u8> = (0..9 * PIECE_BYTES + 3).map(|n| n as u8).collect();
        std::fs::write(path("a"), &content).unwrap();
        let copied = copy(&path("a"), &path("b"), &|| false).unwrap();
        let Copied::Whole { bytes, sha256 } = copied else {
            panic!("{copied:?}");
        };
        assert_eq!(
            (bytes, sha256),
            (content.len() as u64, Digest::of(&content))
        );
        assert!(std::fs::read(path("b")).unwrap() == content);
        let calls = Cell::new(0);
        let third = || {
            calls.set(calls.get() + 1);
            calls.get() == 3
        };
        let copied = copy(&path("a"), &path("c"), &third).unwrap();
        assert!(matches!(copied, Copied::Abandoned), "{copied:?}");
        assert!(matches!(
            copy(&path("none"), &path("d"), &|| false),
            Err(CopyError::Read(_))
        ));
        assert!(matches!(
            copy(&path("a"), &path("b"), &|| false),
            Err(CopyError::Write(_))
        ));
    }
}
