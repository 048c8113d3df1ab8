//! The writer's watch over the files that it writes to.

use std::fs;
use std::io;
use std::path::Path;

use crate::atomic_file;

use super::WriterLoop;

impl WriterLoop<'_> {
    /// Notices, without a write, that the data folder is gone.
    pub(super) fn has_lost_its_folder(&self) -> bool {
        let anchored = self.core.anchor.check();
        if let Err(error) = &anchored {
            tracing::error!("{error}");
            self.record_health(&anchored);
        }
        anchored.is_err()
    }

    /// If the live log was removed, writes what it held into tables, with which a new log begins. Returns
    /// whether it did.
    pub(super) fn rescue_log(&mut self) -> bool {
        let Ok(Some(number)) = self.synced.lost_log() else {
            return false;
        };
        tracing::error!(
            "{number:06}.log, the live log in {}, was removed; what it held is written into tables",
            self.core.path.display()
        );
        self.flush_quietly();
        matches!(self.synced.lost_log(), Ok(None))
    }

    /// Looks whether the MANIFEST was removed.
    pub(super) fn has_lost_its_manifest(&mut self) -> bool {
        self.synced.lost_log().is_ok() && self.synced.lacks_manifest()
    }

    /// Puts a MANIFEST that was removed back from the open file, and opens the database again, which begins a
    /// new one: without it, a start would know none of the tables.
    pub(super) fn rescue_manifest(&mut self) {
        let path = &self.core.path;
        let put_back = put_back_manifest(path).and_then(|()| {
            // What is written to the open file from here on would be lost.
            let stopped = self.core.read(|db| {
                db.stop_background_work();
                Ok(())
            });
            stopped.map_err(io::Error::other)?;
            put_back_manifest(path)
        });
        let path = path.display();
        match put_back {
            Ok(()) => {
                tracing::error!("the MANIFEST in {path} was removed, and is put back");
                self.reopen();
            }
            Err(error) => {
                tracing::error!(
                    "the MANIFEST in {path} was removed, and cannot be put back: {error}; take a backup \
                     (`abide backup`) before this daemon ends"
                );
                self.synced.forget_manifest();
            }
        }
    }

    /// Syncs the files `TRAIL` and `SYNCED`, so that after a power cut they tell of the last acknowledged
    /// operation.
    pub(super) fn sync_marks(&mut self) {
        if let Err(error) = self.trail_file.sync().and_then(|()| self.synced.sync()) {
            tracing::warn!("the files `TRAIL` and `SYNCED` cannot be synced: {error}");
        }
    }
}

/// Puts the MANIFEST that `CURRENT` names back into the folder of the database, from this process's open
/// file.
fn put_back_manifest(db: &Path) -> io::Result<()> {
    let db = db.canonicalize()?;
    let current = fs::read_to_string(db.join("CURRENT"))?;
    let name = current.trim();
    // The kernel's mark of a file without a name.
    let removed = format!("{} (deleted)", db.join(name).display());
    for entry in fs::read_dir("/proc/self/fd")? {
        let open = entry?.path();
        if fs::read_link(&open).is_ok_and(|target| target.as_os_str() == removed.as_str()) {
            return atomic_file::write_whole(&db, name, &[&fs::read(open)?]);
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}
