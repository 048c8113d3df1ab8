//! The two binaries, and the link that the daemon is started by.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Old,
    New,
}

pub(crate) struct Binaries {
    old: PathBuf,
    new: PathBuf,
}

impl Binaries {
    /// # Panics
    /// If one of them is missing.
    pub(crate) fn new(old: PathBuf, new: PathBuf) -> Self {
        let found = |path: PathBuf| {
            let found = path.canonicalize();
            found.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        Self {
            old: found(old),
            new: found(new),
        }
    }

    fn path(&self, which: Which) -> &Path {
        match which {
            Which::Old => &self.old,
            Which::New => &self.new,
        }
    }

    /// Points the link to one of them, at once, as an upgrade does.
    pub(crate) fn link(&self, link: &Path, which: Which) {
        let aside = link.with_extension("aside");
        symlink(self.path(which), &aside).expect("the folder is ours");
        fs::rename(aside, link).expect("the folder is ours");
    }

    /// Returns which of them a process runs.
    pub(crate) fn of(&self, pid: i32) -> Option<Which> {
        let file = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino()))
        };
        let running = file(Path::new(&format!("/proc/{pid}/exe")))?;
        let mut both = [Which::Old, Which::New].into_iter();
        both.find(|which| file(self.path(*which)) == Some(running))
    }
}
