//! The two binaries, and the link that the daemon is started by.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use abide_tests::copy_program;
use tempfile::TempDir;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Old,
    New,
}

/// The folder holds `old/abide` and `new/abide`: the harness knows workers by their program's name.
pub(crate) struct Binaries(TempDir);

impl Binaries {
    /// # Panics
    /// If one of them cannot be copied.
    pub(crate) fn new(old: &Path, new: &Path) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let binaries = Self(folder);
        for (which, from) in [(Which::Old, old), (Which::New, new)] {
            let to = binaries.path(which);
            let parent = to.parent().expect("it is in a folder");
            fs::create_dir(parent).expect("the folder is ours");
            copy_program(from, &to);
        }
        binaries
    }

    fn path(&self, which: Which) -> PathBuf {
        let name = match which {
            Which::Old => "old",
            Which::New => "new",
        };
        self.0.path().join(name).join("abide")
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
        both.find(|which| file(&self.path(*which)) == Some(running))
    }
}
