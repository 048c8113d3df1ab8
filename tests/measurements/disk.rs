//! Measures what a sync costs on this machine, and counts the syncs that the daemon makes.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tempfile::TempDir;

const SOURCE: &str = include_str!("syncs.c");
/// Number of syncs to take the median of.
const TRIES: usize = 500;
/// Bytes appended before each sync: about a turn's records.
const APPENDED_BYTES: usize = 512;

/// Returns the median time of appending to a file and syncing it.
pub(crate) fn sync_cost() -> Duration {
    let mut file = tempfile::tempfile().expect("the machine has a folder for temporary files");
    let mut times: Vec<_> = (0..TRIES)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; APPENDED_BYTES])
                .and_then(|()| file.sync_data())
                .expect("the disk takes it");
            began.elapsed()
        })
        .collect();
    times.sort();
    times[TRIES / 2]
}

/// Counts a daemon's syncs through a preloaded library, whose overhead is too small to measure.
pub(crate) struct Syncs {
    folder: TempDir,
}

impl Syncs {
    /// Compiles the library.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let syncs = Self { folder };
        fs::write(syncs.count_path(), [0; 8])?;
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-x", "c", "-", "-o"])
            .arg(syncs.library_path())
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| anyhow!("syncs are counted with a C compiler, as `cc`: {error}"))?;
        let given = compiler.stdin.take().map(|mut source| {
            source
                .write_all(SOURCE.as_bytes())
                .map_err(|error| error.to_string())
        });
        let status = compiler.wait()?;
        match (status.success(), given) {
            (true, Some(Ok(()))) => Ok(syncs),
            (_, given) => Err(anyhow!("cc: {status}, {given:?}")),
        }
    }

    fn count_path(&self) -> PathBuf {
        self.folder.path().join("count")
    }

    fn library_path(&self) -> PathBuf {
        self.folder.path().join("syncs.so")
    }

    /// Returns the environment variables that make a daemon's syncs be counted.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(self.library_path())),
            ("ABIDE_MEASURE_SYNCS".to_owned(), text(self.count_path())),
        ]
    }

    /// Returns the number of syncs so far.
    pub(crate) fn count(&self) -> u64 {
        let bytes = fs::read(self.count_path()).unwrap_or_default();
        bytes.try_into().map_or(0, u64::from_ne_bytes)
    }
}
