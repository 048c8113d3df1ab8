//! The writer's watch over the files that it writes to.

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

    /// Syncs the files `TRAIL` and `SYNCED`, so that after a power cut they tell of the last acknowledged
    /// operation.
    pub(super) fn sync_marks(&mut self) {
        if let Err(error) = self.trail_file.sync().and_then(|()| self.synced.sync()) {
            tracing::warn!("the files `TRAIL` and `SYNCED` cannot be synced: {error}");
        }
    }
}
