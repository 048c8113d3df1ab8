//! A wall clock that a test sets while the daemon runs, by a preloaded library. Only the daemon's
//! processes see it, and all of their other clocks are real.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::preload::compile;

const SHIM: &str = include_str!("fake_clock/shim.c");

/// See the [module](self).
#[derive(Debug)]
pub struct FakeClock {
    folder: TempDir,
    shim: PathBuf,
}

impl FakeClock {
    /// Makes a clock that is right.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn new() -> Self {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let clock = Self {
            folder: tempfile::tempdir().expect("the machine has a folder for temporary files"),
            shim: BUILT.get_or_init(|| compile("fake_clock", SHIM)).clone(),
        };
        clock.set(0);
        clock
    }

    /// Returns the environment for the processes whose clock it is.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(self.shim.clone())),
            ("ABIDE_FAKE_CLOCK".to_owned(), text(self.setting())),
        ]
    }

    /// Sets the clock so many seconds ahead of the right time; behind it, if negative.
    pub fn set(&self, ahead_seconds: i64) {
        let aside = self.folder.path().join("aside");
        fs::write(&aside, ahead_seconds.to_string()).expect("the folder is ours");
        // Renamed, so that nobody reads half of it.
        fs::rename(aside, self.setting()).expect("the folder is ours");
    }

    fn setting(&self) -> PathBuf {
        self.folder.path().join("setting")
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}
