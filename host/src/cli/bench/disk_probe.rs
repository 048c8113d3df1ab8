//! Probes the disk that holds the data directory: is it real, and what does a sync cost?

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::error::CliError;

/// The number of syncs that are timed; the median is reported.
const SYNCS: usize = 400;
/// The bytes appended before each sync, about as many as a turn's records.
pub(super) const APPENDED_BYTES: usize = 512;
/// The `statfs` types of in-memory file systems: tmpfs and ramfs.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Returns whether a directory is in memory, where a sync costs nothing.
pub(super) fn is_in_memory(folder: &Path) -> bool {
    // If the directory cannot be inspected, its later use reports the error.
    rustix::fs::statfs(folder).is_ok_and(|found| IN_MEMORY.contains(&found.f_type))
}

/// Returns the median time to append to a growing file in this directory and sync it.
pub(super) fn sync_cost(folder: &Path) -> Result<Duration, CliError> {
    let timed = || -> io::Result<Duration> {
        let mut file = tempfile::tempfile_in(folder)?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let began = Instant::now();
            file.write_all(&[7; APPENDED_BYTES])?;
            file.sync_data()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(times[SYNCS / 2])
    };
    timed().map_err(|source| CliError::File {
        doing: "time a sync in",
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_some_time_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(sync_cost(folder.path()).expect("a sync") > Duration::ZERO);
        let missing = folder.path().join("missing");
        let error = sync_cost(&missing).expect_err("no folder").to_string();
        assert!(error.contains("missing"), "{error}");
        assert!(!is_in_memory(&missing));
    }

    #[test]
    fn memory_is_told_from_disk() {
        // Neither exists on every machine; where one does, it must be recognized.
        for (folder, expected) in [("/dev/shm", true), ("/proc", false)] {
            if Path::new(folder).is_dir() {
                assert_eq!(is_in_memory(Path::new(folder)), expected, "{folder}");
            }
        }
    }
}
