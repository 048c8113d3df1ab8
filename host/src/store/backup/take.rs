//! Takes a backup of an open store.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::setpriority_process;

use super::error::BackupError;
use super::manifest::{BackupFile, BackupManifest};
use super::target::Target;
use crate::atomic_file::sync_folder;
use crate::domain::{Digest, UnixMillis};
use crate::store::db::Db;
use crate::store::db_files::log_number;
use crate::store::failed_io::FailedIo;
use crate::store::file_copy::{Copied, copy};
use crate::store::mark::SyncedMark;
use crate::store::recovery::{Examined, examine};
use crate::store::scratch::{BACKUP, ScratchFolder};
use crate::store::{Store, StoreError};

/// How often a checkpoint is tried. A log that is renamed for its next use while RocksDB lists the
/// logs makes it fail.
const CHECKPOINT_TRIES: u32 = 5;
/// By how much copying and verifying yield to others, in the units of `nice`.
const NICE: i32 = 10;
/// How many entries are read between two looks at whether the backup was given up.
const READ_TOGETHER: u32 = 1024;
/// The folder of the components, in the data folder and in a backup.
const COMPONENTS: &str = "components";
/// The configuration in a backup.
const CONFIG: &str = "abide.toml";
/// The file of the data folder that holds the last good configuration.
const LAST_GOOD: &str = "last-good";

/// What a backup is to have, and where.
#[derive(Clone, Copy, Debug)]
pub struct BackupJob<'a> {
    /// An absolute path. It must not exist or be empty.
    pub folder: &'a Path,
    /// The bytes of the configuration file that runs.
    pub config: &'a [u8],
    /// What must stay free on the data folder's disk, in bytes.
    pub reserve_bytes: u64,
    /// The version of Abide, for the manifest.
    pub version: &'a str,
}

/// A file to copy: where it is, and its name in the backup.
struct Source {
    path: PathBuf,
    name: String,
}

impl Store {
    /// Takes a backup, and verifies it. Writes go on meanwhile. Returns [`BackupError::Abandoned`] soon
    /// after `is_abandoned` has returned true. Without success the folder has no file `BACKUP`. Only one
    /// backup at a time may be taken. Lowers the priority of the calling thread. Waits for the disk.
    pub fn back_up(
        &self,
        job: BackupJob<'_>,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<BackupManifest, BackupError> {
        self.core().anchor.check()?;
        let at = UnixMillis::now();
        let db = &self.core().path;
        let data = db.parent().unwrap_or(db);
        let target = Target::take(job.folder, data)?;
        let taking = Taking {
            store: self,
            data,
            folder: target.path(),
            is_abandoned,
        };
        let taken = taking.fill(job).and_then(|(sequence, files)| {
            let manifest = BackupManifest {
                version: job.version.to_owned(),
                at,
                sequence,
                files,
            };
            manifest.write(target.path())?;
            Ok(manifest)
        });
        match &taken {
            Ok(_) => target.finish(),
            Err(_) => target.clear(),
        }
        taken
    }
}

/// A backup that is being taken.
struct Taking<'a> {
    store: &'a Store,
    /// The data folder.
    data: &'a Path,
    /// The folder that takes the backup.
    folder: &'a Path,
    is_abandoned: &'a dyn Fn() -> bool,
}

impl Taking<'_> {
    /// Writes everything but the manifest, synced. Returns the store's number of the last operation in
    /// the backup, and its files.
    fn fill(&self, job: BackupJob<'_>) -> Result<(u64, Vec<BackupFile>), BackupError> {
        let scratch = ScratchFolder::create(&self.data.join(BACKUP));
        let scratch = scratch.map_err(FailedIo::of("create a folder in", self.data))?;
        let checkpoint = scratch.path().join("db");
        self.checkpoint(&checkpoint)?;
        // Of this thread alone, and not before: a checkpoint holds locks that writes need. A failure
        // costs the others some of their time.
        let _ = setpriority_process(None, NICE);
        // After the checkpoint: a component is stored before what depends on it.
        let sources = self.sources(&checkpoint)?;
        self.check_room(&sources, job.reserve_bytes)?;
        for name in ["db", COMPONENTS] {
            let folder = self.folder.join(name);
            let made = DirBuilder::new().mode(0o700).create(&folder);
            made.map_err(FailedIo::of("create", &folder))?;
        }
        let mut files = Vec::new();
        for source in &sources {
            files.push(self.copy(source)?);
        }
        files.push(self.write_config(job.config)?);
        for name in ["db", COMPONENTS] {
            let folder = self.folder.join(name);
            sync_folder(&folder).map_err(FailedIo::of("sync", &folder))?;
        }
        let sequence = self.verify(&checkpoint)?;
        files.push(self.write_synced(sequence)?);
        sync_folder(self.folder).map_err(FailedIo::of("sync", self.folder))?;
        self.go_on()?;
        Ok((sequence, files))
    }

    /// Fails once the backup was given up.
    fn go_on(&self) -> Result<(), BackupError> {
        match (self.is_abandoned)() {
            true => Err(BackupError::Abandoned),
            false => Ok(()),
        }
    }

    /// Makes a checkpoint without logs in `folder`.
    fn checkpoint(&self, folder: &Path) -> Result<(), BackupError> {
        let mut tries = 1;
        loop {
            self.go_on()?;
            let made = self.store.core().read(|db| Ok(db.checkpoint(folder)))?;
            match made {
                Ok(()) => break,
                Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => {
                    self.store.core().note_damage(error.as_ref());
                    return Err(self.damaged(error.as_ref()));
                }
                Err(_) if tries < CHECKPOINT_TRIES => tries += 1,
                // A table is gone.
                Err(error) if self.store.core().note_damage(error.as_ref()) => {
                    return Err(self.damaged(error.as_ref()));
                }
                Err(error) => return Err(StoreError::write(&error).into()),
            }
        }
        let failed = || FailedIo::of("look into", folder);
        for entry in fs::read_dir(folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if log_number(&path).is_some() {
                fs::remove_file(&path).map_err(FailedIo::of("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Lists the files to copy.
    fn sources(&self, checkpoint: &Path) -> Result<Vec<Source>, BackupError> {
        let beside = |name: &str| Source {
            path: self.data.join(name),
            name: name.to_owned(),
        };
        let mut sources = vec![beside("FORMAT")];
        let last_good = beside(LAST_GOOD);
        // There is none before the first configuration has proven itself.
        if fs::exists(&last_good.path).map_err(FailedIo::of("look for", &last_good.path))? {
            sources.push(last_good);
        }
        list(checkpoint, "db", &mut sources)?;
        list(&self.data.join(COMPONENTS), COMPONENTS, &mut sources)?;
        Ok(sources)
    }

    /// Checks that the disk of the backup has room for the files; and, if the data folder is on it, that
    /// the daemon keeps its reserve.
    fn check_room(&self, sources: &[Source], reserve_bytes: u64) -> Result<(), BackupError> {
        let mut needed_bytes = 0;
        for Source { path, .. } in sources {
            let meta = fs::metadata(path).map_err(FailedIo::of("look at", path))?;
            needed_bytes += meta.len();
        }
        let device = |path: &Path| {
            let meta = fs::metadata(path).map_err(FailedIo::of("look at", path));
            meta.map(|meta| meta.dev())
        };
        let reserve_bytes = match device(self.folder)? == device(self.data)? {
            true => reserve_bytes,
            false => 0,
        };
        let disk = statvfs(self.folder);
        let disk = disk.map_err(FailedIo::of("find the free space of", self.folder))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < needed_bytes.saturating_add(reserve_bytes) {
            return Err(BackupError::NoRoom {
                folder: self.folder.to_owned(),
                needed_bytes,
                free_bytes,
                reserve_bytes,
            });
        }
        Ok(())
    }

    fn copy(&self, source: &Source) -> Result<BackupFile, BackupError> {
        let Source { path, name } = source;
        let to = self.folder.join(name);
        let (bytes, sha256) = match copy(path, &to, self.is_abandoned) {
            Ok(Copied::Whole { bytes, sha256 }) => (bytes, sha256),
            Ok(Copied::Abandoned) => return Err(BackupError::Abandoned),
            Err(error) => return Err(error.named(&self.original(path), &to).into()),
        };
        let is_component = name.starts_with(COMPONENTS) && name.ends_with(".wasm");
        if is_component && !is_named_after(path, sha256) {
            return Err(BackupError::Damaged {
                file: path.clone(),
                reason: "its content does not have the digest that it is named after".to_owned(),
                remedy: ". If the configuration names the component, `abide restart` stores it again",
            });
        }
        let name = name.clone();
        Ok(BackupFile {
            name,
            bytes,
            sha256,
        })
    }

    /// Returns the place in the data folder of a file that was read in the scratch folder.
    fn original(&self, path: &Path) -> PathBuf {
        match path.file_name() {
            Some(name) if !path.starts_with(self.data.join(COMPONENTS)) => {
                let table = self.data.join("db").join(name);
                match fs::exists(&table) {
                    Ok(true) => table,
                    _ => path.to_owned(),
                }
            }
            _ => path.to_owned(),
        }
    }

    fn write_config(&self, config: &[u8]) -> Result<BackupFile, BackupError> {
        let path = self.folder.join(CONFIG);
        let write = || {
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(config)?;
            file.sync_all()
        };
        write().map_err(FailedIo::of("write", &path))?;
        Ok(BackupFile {
            name: CONFIG.to_owned(),
            bytes: config.len() as u64,
            sha256: Digest::of(config),
        })
    }

    /// Opens the copy of `checkpoint` and reads all of it. Returns the number of its last operation.
    fn verify(&self, checkpoint: &Path) -> Result<u64, BackupError> {
        let folder = self.folder.join("db");
        let sequence = match self.read_all(&folder) {
            Ok((sequence, true)) => sequence,
            Ok((_, false)) => return Err(BackupError::Abandoned),
            Err(error) => {
                // Damaged as it was written, or in the store? That has to be mended then.
                if let Err(error) = self.read_all(checkpoint) {
                    let (scratch, db) = (checkpoint.display(), self.data.join("db"));
                    let reason = error.to_string();
                    let reason = reason.replace(&scratch.to_string(), &db.display().to_string());
                    self.store.core().note_damage(&reason);
                }
                return Err(self.damaged(error.as_ref()));
            }
        };
        let mark = SyncedMark::closed_at(sequence);
        let examined =
            examine(self.folder, Some(mark), true).map_err(FailedIo::of("read", &folder))?;
        match examined.as_ref().map(Examined::missing) {
            Some(None) => Ok(sequence),
            Some(Some(missing)) => Err(self.damaged(&missing.places.join("; "))),
            None => Err(self.damaged("its MANIFEST cannot be read")),
        }
    }

    /// Reads all of a database. Returns the number of its last operation, and whether this was not given
    /// up.
    fn read_all(&self, folder: &Path) -> Result<(u64, bool), rocksdb::Error> {
        let db = Db::open_to_read(folder, &self.store.core().options)?;
        let mut entries = 0_u32;
        let is_whole = db.read_all(|| {
            entries = entries.wrapping_add(1);
            !entries.is_multiple_of(READ_TOGETHER) || !(self.is_abandoned)()
        })?;
        Ok((db.last_sequence(), is_whole))
    }

    /// Returns the error for damage that RocksDB describes, with the file of the data folder if it is
    /// named.
    fn damaged(&self, reason: &str) -> BackupError {
        let mut words = reason.split([' ', ':', ',']);
        let table = words.find(|word| word.ends_with(".sst"));
        let table = table.and_then(|path| path.rsplit('/').next());
        let db = self.data.join("db");
        BackupError::Damaged {
            file: table.map_or(db.clone(), |table| db.join(table)),
            reason: reason.to_owned(),
            remedy: "",
        }
    }

    /// Writes the number of the last operation, as a store that was closed has it.
    fn write_synced(&self, sequence: u64) -> Result<BackupFile, BackupError> {
        let path = self.folder.join("SYNCED");
        let mark = SyncedMark::closed_at(sequence);
        let write = || {
            mark.put(self.folder)?;
            fs::read(&path)
        };
        let bytes = write().map_err(FailedIo::of("write", &path))?;
        Ok(BackupFile {
            name: "SYNCED".to_owned(),
            bytes: bytes.len() as u64,
            sha256: Digest::of(&bytes),
        })
    }
}

/// Adds the files of `folder` to `sources`; `below` is their folder in the backup.
fn list(folder: &Path, below: &str, sources: &mut Vec<Source>) -> Result<(), BackupError> {
    let failed = || FailedIo::of("look into", folder);
    let entries = match fs::read_dir(folder) {
        // A store without a daemon has no components.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed())?,
    };
    for entry in entries {
        let entry = entry.map_err(failed())?;
        let is_file = entry.file_type().map_err(failed())?.is_file();
        // The names that Abide and RocksDB give are ASCII.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Components, and their settings. One that is being written has another name until it is complete.
        let is_kept = name.ends_with(".wasm") || name.ends_with(".json");
        let counts = below != COMPONENTS || !name.starts_with('.') && is_kept;
        if is_file && counts {
            let path = entry.path();
            let name = format!("{below}/{name}");
            sources.push(Source { path, name });
        }
    }
    Ok(())
}

/// Whether a component's file is named after the digest of its content.
fn is_named_after(path: &Path, digest: Digest) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(Digest::from_hex) == Some(digest)
}
