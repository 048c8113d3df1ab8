//! The file `SYNCED`: the number of the last write that was acknowledged. It is written after each
//! sync and before the acknowledgement, so that it is exact after the death of all processes. It is
//! itself synced only when RocksDB has begun a new log, when no writes come, and on closing: after a
//! power cut it is a lower bound, which lies in the live log. So a start knows whether the store still
//! holds what clients were told of, and notices also that a live log is gone as a whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::db_files::{log_number, manifest_number};
use super::failed_io::FailedIo;
use super::mark::{Anew, SyncedMark};
use super::trail_file;
use super::witness::Witness;
use crate::atomic_file;

pub(super) const NAME: &str = "SYNCED";

/// The open file.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: File,
    /// The folder of the database, open: to look at it by its path takes as long as the write itself.
    db: File,
    /// Its path, to look for its logs.
    path: PathBuf,
    /// The numbers of the newest log and the newest MANIFEST that were seen there.
    newest_log: u64,
    newest_manifest: u64,
    /// Whether that MANIFEST was not there any more when it was last looked for.
    lacks_manifest: bool,
    /// When a file was last made or removed there, as of the last sync.
    db_changed: Option<SystemTime>,
    is_synced: bool,
    /// Is told the same.
    witness: Option<Arc<Witness>>,
}

impl SyncedMark {
    /// Reads the file in the data folder `folder`: none if there is none, or if it is damaged.
    fn read(folder: &Path) -> Result<Option<Self>, FailedIo> {
        let path = folder.join(NAME);
        let bytes = atomic_file::read(&path).map_err(FailedIo::of("read", &path))?;
        Ok(bytes.and_then(|bytes| {
            let mark = Self::parse(&bytes);
            if mark.is_none() {
                tracing::warn!(
                    "{} is damaged; whether the last writes are there is told by `TRAIL` alone",
                    path.display()
                );
            }
            mark
        }))
    }

    /// Returns the last acknowledged write that is known of the data folder `folder`. The file is written
    /// after `TRAIL`, which may know more if this one is damaged, or was put back from elsewhere.
    pub(super) fn known(folder: &Path) -> Result<Option<Self>, FailedIo> {
        let mark = Self::read(folder)?;
        let noted = trail_file::newest(folder).map(Self::at);
        Ok(Self::later(mark, noted))
    }

    /// Returns the last acknowledged write that the daemon's memory knows of, if that is about the store of
    /// which the files have `told` this.
    pub(super) fn witnessed(told: Option<Self>, witness: Option<&Witness>) -> Option<Self> {
        match told {
            Some(told) if told.anew.is_some() => None,
            _ => witness.and_then(Witness::read),
        }
    }

    /// Notes that the numbers of the next database, which is mended, begin anew, and removes `TRAIL`. A store
    /// always has the file: one without it has lost it.
    pub(super) fn begin_anew(folder: &Path, witness: Option<&Witness>) -> io::Result<()> {
        // What an operator has put there is told as that, mended or not.
        let was = Self::read(folder).ok().flatten().and_then(|mark| mark.anew);
        trail_file::forget(folder)?;
        let mark = Self {
            anew: Some(was.unwrap_or(Anew::Mended)),
            ..Self::at(0)
        };
        if let Some(witness) = witness {
            witness.write(mark)?;
        }
        mark.put(folder)
    }

    /// Notes that a store which was restored or salvaged into the folder has not been opened by a worker.
    pub(super) fn say_anew(folder: &Path) -> Result<(), FailedIo> {
        let mark = Self::known(folder)?.unwrap_or(Self::at(0));
        let mark = Self {
            anew: Some(Anew::PutThere),
            ..mark
        };
        mark.put(folder).map_err(FailedIo::of("write into", folder))
    }

    /// Writes it in place and syncs it. That takes no room if the file is there: its bytes are in one sector.
    pub(super) fn put(self, folder: &Path) -> io::Result<()> {
        let file = open_file(folder)?;
        file.write_all_at(&self.bytes(), 0)?;
        file.sync_all()
    }
}

impl SyncedFile {
    /// Opens the file in the data folder `folder`, or creates it. The database must be there.
    pub(super) fn open(folder: &Path, witness: Option<Arc<Witness>>) -> io::Result<Self> {
        Ok(Self {
            file: open_file(folder)?,
            db: File::open(folder.join("db"))?,
            path: folder.join("db"),
            newest_log: 0,
            newest_manifest: 0,
            lacks_manifest: false,
            db_changed: None,
            is_synced: false,
            witness,
        })
    }

    /// Writes the number of the last synced operation. Its 24 bytes are in one sector, so that a
    /// power cut leaves the old ones or the new ones.
    pub(super) fn write(&mut self, mark: SyncedMark) -> io::Result<()> {
        self.is_synced = false;
        // First: the file has the next mark that is not `anew` only once the memory is about this store.
        if let Some(witness) = &self.witness {
            witness.write(mark)?;
        }
        self.file.write_all_at(&mark.bytes(), 0)
    }

    /// Writes the number of an operation that will be acknowledged next. It is synced if the operation
    /// may be the first one in a new log: a log that is lost as a whole leaves nothing that shows that
    /// it was there. RocksDB makes or removes files about once per ten megabytes written.
    pub(super) fn write_acknowledged(&mut self, mark: SyncedMark) -> io::Result<()> {
        self.write(mark)?;
        let changed = self.db.metadata()?.modified()?;
        if self.db_changed == Some(changed) {
            return Ok(());
        }
        if let Some(number) = self.lost_log()? {
            let log = self.path.join(format!("{number:06}.log"));
            return Err(io::Error::other(format!("{} was removed", log.display())));
        }
        self.sync()?;
        self.db_changed = Some(changed);
        Ok(())
    }

    /// Returns the number of the live log if it has lost its name: writes to it succeed all the same, and
    /// are gone when the process ends. Looks for the MANIFEST, too.
    pub(super) fn lost_log(&mut self) -> io::Result<Option<u64>> {
        let (mut newest, mut manifest) = (0, 0);
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            newest = newest.max(log_number(&path).unwrap_or_default());
            manifest = manifest.max(manifest_number(&path).unwrap_or_default());
        }
        self.lacks_manifest = manifest < self.newest_manifest;
        self.newest_manifest = manifest.max(self.newest_manifest);
        if newest < self.newest_log {
            return Ok(Some(self.newest_log));
        }
        self.newest_log = newest;
        Ok(None)
    }

    /// Whether the live MANIFEST had lost its name when that was last looked for.
    pub(super) fn lacks_manifest(&self) -> bool {
        self.lacks_manifest
    }

    /// Syncs what was written last.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.file.sync_data()?;
            self.is_synced = true;
        }
        Ok(())
    }
}

fn open_file(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(NAME))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::mark::LENGTH;

    #[test]
    fn what_is_written_is_read_and_damage_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("db")).unwrap();
        assert_eq!(SyncedMark::read(home.path()).unwrap(), None);
        let mut file = SyncedFile::open(home.path(), None).unwrap();
        let anew = [Anew::Mended, Anew::PutThere].map(|anew| SyncedMark {
            anew: Some(anew),
            ..SyncedMark::at(8)
        });
        let others = [SyncedMark::at(7), SyncedMark::closed_at(u64::MAX)];
        for mark in anew.into_iter().chain(others) {
            file.write(mark).unwrap();
            assert_eq!(SyncedMark::read(home.path()).unwrap(), Some(mark));
        }
        let whole = fs::read(home.path().join(NAME)).unwrap();
        assert_eq!(whole.len(), LENGTH);
        for bit in 0..8 * LENGTH {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SyncedMark::parse(&bytes), None, "bit {bit}");
        }
        assert_eq!(SyncedMark::parse(&whole[..LENGTH - 1]), None);
    }

    #[test]
    fn a_store_that_an_operator_has_put_there_is_told_as_that_when_it_is_mended() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        let anew = || SyncedMark::read(folder).unwrap().unwrap().anew;
        SyncedMark::at(7).put(folder).unwrap();
        SyncedMark::begin_anew(folder, None).unwrap();
        assert_eq!(anew(), Some(Anew::Mended));
        SyncedMark::at(7).put(folder).unwrap();
        SyncedMark::say_anew(folder).unwrap();
        SyncedMark::begin_anew(folder, None).unwrap();
        assert_eq!(anew(), Some(Anew::PutThere));
    }

    #[test]
    fn a_mark_is_synced_where_a_new_log_may_have_begun() {
        let home = tempfile::tempdir().unwrap();
        let db = home.path().join("db");
        fs::create_dir(&db).unwrap();
        let mut file = SyncedFile::open(home.path(), None).unwrap();
        let mut write = |sequence, age: u64| {
            // The file system's clock is coarse: two changes may have the same time.
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
            File::open(&db).unwrap().set_modified(changed).unwrap();
            file.write_acknowledged(SyncedMark::at(sequence)).unwrap();
            file.is_synced
        };
        assert!(write(1, 1), "the first one after opening");
        assert!(!write(2, 1));
        assert!(write(3, 2));
        assert!(!write(4, 2));
        file.sync().unwrap();
        assert!(file.is_synced);
    }
}
