//! A cache of file digests: a large file is not read again while its metadata stays the same.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{file_snapshot, regular_file};
use crate::domain::Digest;

/// Smaller files are read at every scan.
const LARGE_BYTES: u64 = 64 << 10;
/// How long a stamp must have stayed the same before it is trusted: file systems count time in
/// ticks of up to two seconds, and two writes within one tick leave the same stamp.
const TICK: Duration = Duration::from_secs(2);
/// How long a digest is trusted. Stamps come from a wall clock, which can be set back, and from
/// file systems that do not maintain them reliably.
const TRUST: Duration = Duration::from_secs(60);

/// A file's metadata, known without reading the file: device, inode, size, modification time and
/// change time.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

/// A cached digest. All times are of the monotonic clock.
struct Known {
    stamp: Stamp,
    /// When this stamp was first seen.
    since: Instant,
    /// When the content was read, after the stamp was.
    read: Instant,
    digest: Digest,
}

impl Known {
    /// Returns whether the cached digest is still valid.
    fn holds(&self, stamp: &Stamp, now: Instant) -> bool {
        self.stamp == *stamp
            && self.read.duration_since(self.since) >= TICK
            && now.duration_since(self.read) < TRUST
    }
}

/// Reads the digests of files and caches those of large ones.
#[derive(Default)]
pub(super) struct Sight {
    known: BTreeMap<PathBuf, Known>,
}

impl Sight {
    /// Returns the digest of a file's content, or `None` if the file cannot be read.
    pub(super) fn digest(&mut self, file: &Path) -> Option<Digest> {
        self.digest_at(file, Instant::now())
    }

    fn digest_at(&mut self, file: &Path, now: Instant) -> Option<Digest> {
        let meta = regular_file::metadata(file).ok()?;
        if meta.size() < LARGE_BYTES {
            self.known.remove(file);
            return file_snapshot::digest(file);
        }
        let stamp = (
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        let known = self.known.get(file).filter(|known| known.stamp == stamp);
        if let Some(known) = known
            && known.holds(&stamp, now)
        {
            return Some(known.digest);
        }
        let since = known.map_or(now, |known| known.since);
        let digest = file_snapshot::digest(file)?;
        self.known.insert(
            file.to_owned(),
            Known {
                stamp,
                since,
                read: now,
                digest,
            },
        );
        Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const STAMP: Stamp = (1, 2, 3, 4, 5, 6, 7);

    fn known(since: Instant, read: Instant) -> Known {
        Known {
            stamp: STAMP,
            since,
            read,
            digest: Digest::of(b"content"),
        }
    }

    #[test]
    fn a_stamp_is_believed_once_it_is_old_and_not_for_ever() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        // Read immediately: a write within the same tick leaves the same stamp.
        assert!(!known(began, began).holds(&STAMP, began + 10 * second));
        let late = known(began, began + 2 * second);
        assert!(late.holds(&STAMP, began + 3 * second));
        let mut other = STAMP;
        other.6 += 1;
        assert!(!late.holds(&other, began + 3 * second));
        // Neither a file's own times nor the wall clock are consulted: if a clock that was set back
        // produces the same stamp twice, the file is read again all the same.
        assert!(!late.holds(&STAMP, began + 62 * second));
    }

    #[test]
    fn files_are_read_when_their_stamps_are_young_other_or_not_to_be_believed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("large");
        let write = |byte: u8| {
            let content = vec![byte; usize::try_from(LARGE_BYTES).expect("small")];
            fs::write(&file, &content).expect("writes");
            // A modification time in the future: the file's own clock was ahead.
            let ahead = std::time::SystemTime::now() + Duration::from_secs(3600);
            let handle = fs::File::options().append(true).open(&file);
            handle.expect("opens").set_modified(ahead).expect("touches");
            Some(Digest::of(&content))
        };
        let mut sight = Sight::default();
        let mut now = Instant::now();
        for byte in 0..5 {
            let digest = write(byte);
            for _ in 0..4 {
                assert_eq!(sight.digest_at(&file, now), digest);
                now += TICK;
            }
        }
        let Some(known) = sight.known.get(&file) else {
            panic!("a large file is remembered");
        };
        assert!(known.holds(&known.stamp, now));
        fs::remove_file(&file).expect("removes");
        assert_eq!(sight.digest_at(&file, now), None);
        fs::write(&file, "small").expect("writes");
        assert_eq!(sight.digest_at(&file, now), Some(Digest::of(b"small")));
    }
}
