//! A disk that can be made to hang: while it does, no sync of the daemon's processes returns. What
//! they write can be read, as from any page cache.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::preload::compile;

const SHIM: &str = include_str!("hung_disk/shim.c");

/// See the [module](self). It hangs no more once this is dropped.
#[derive(Debug)]
pub struct HungDisk {
    folder: TempDir,
    shim: PathBuf,
}

impl HungDisk {
    /// Makes a disk that does not hang yet.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn new() -> Self {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        Self {
            folder: tempfile::tempdir().expect("the machine has a folder for temporary files"),
            shim: BUILT.get_or_init(|| compile("hung_disk", SHIM)).clone(),
        }
    }

    /// Returns the environment for the processes whose disk it is.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(self.shim.clone())),
            ("ABIDE_HUNG_DISK".to_owned(), text(self.switch())),
        ]
    }

    /// Lets it hang from now on.
    pub fn hang(&self) {
        File::create(self.switch()).expect("the folder is ours");
    }

    /// Lets it answer again.
    pub fn answer(&self) {
        fs::remove_file(self.switch()).expect("it hangs");
    }

    fn switch(&self) -> PathBuf {
        self.folder.path().join("hangs")
    }
}

impl Default for HungDisk {
    fn default() -> Self {
        Self::new()
    }
}
