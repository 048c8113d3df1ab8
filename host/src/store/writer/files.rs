//! The writer's watch over the files that it writes to.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::mem;
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
    /// new one: without it, a start would know none of the tables. If that fails, it is tried again when no
    /// writes come.
    pub(super) fn rescue_manifest(&mut self) {
        let path = &self.core.path;
        let mut put_back = put_back_manifest(path);
        if matches!(&put_back, Err(error) if error.kind() == ErrorKind::StorageFull) {
            self.reserve.give();
            put_back = put_back_manifest(path);
        }
        if let Err(error) = put_back {
            if !mem::replace(&mut self.manifest_resists, true) {
                tracing::error!(
                    "the MANIFEST in {} was removed, and cannot be put back: {error}; do not end this \
                     daemon: it is tried again whenever no messages come",
                    path.display()
                );
            }
            return;
        }
        // What is written to the open file from here on would be lost.
        let stopped = self.core.read(|db| {
            db.stop_background_work();
            Ok(())
        });
        if stopped.is_ok()
            && let Err(error) = put_back_manifest(path)
        {
            tracing::error!(
                "the end of the MANIFEST in {} is lost: {error}",
                path.display()
            );
        }
        tracing::error!(
            "the MANIFEST in {} was removed, and is put back",
            path.display()
        );
        self.manifest_resists = false;
        self.reopen();
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
/// file; or adds what was written to that file since this was done.
fn put_back_manifest(db: &Path) -> io::Result<()> {
    let db = db.canonicalize()?;
    let current = fs::read_to_string(db.join("CURRENT"))?;
    let name = current.trim();
    let put_back = db.join(name);
    // The kernel's mark of a file without a name.
    let removed = format!("{} (deleted)", put_back.display());
    for entry in fs::read_dir("/proc/self/fd")? {
        let open = entry?.path();
        if fs::read_link(&open).is_ok_and(|target| target.as_os_str() == removed.as_str()) {
            let bytes = fs::read(open)?;
            let there = atomic_file::read(&put_back)?;
            return match there.and_then(|there| bytes.strip_prefix(there.as_slice())) {
                // Needs less room than writing all of it again.
                Some(end) => {
                    let mut file = OpenOptions::new().append(true).open(&put_back)?;
                    file.write_all(end)?;
                    file.sync_all()
                }
                None => atomic_file::write_whole(&db, name, &[&bytes]),
            };
        }
    }
    Err(io::Error::from(ErrorKind::NotFound))
}
