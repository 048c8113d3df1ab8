//! What a start finds in the data folder before it opens the database, and what it decides by that.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::{
    OpenError,
    cut_all::CutOrder,
    db_files::log_number,
    failed_io::FailedIo,
    format::{Format, begin_format, has_marks, read_format, write_newest_format},
    mark::{Anew, SyncedMark},
    options::StoreOptions,
    recovery::{Examined, MissingWrites, examine},
    salvage::finish_swap,
};

/// The files of a data folder that is locked.
pub(super) struct FoundFiles {
    pub(super) format: Format,
    /// The last acknowledged write, if that is known.
    pub(super) mark: Option<SyncedMark>,
    /// Whether the store was restored or salvaged into the folder since a worker last opened it there.
    pub(super) is_anew: bool,
    /// What the database's files hold; none if there is no store yet, or if its MANIFEST cannot be read.
    pub(super) examined: Option<Examined>,
    /// The acknowledged writes that are missing, which was accepted.
    pub(super) missing: Option<MissingWrites>,
    /// The order to cut all sessions, if an operator has restored a backup or accepted a loss.
    pub(super) order: Option<CutOrder>,
}

impl FoundFiles {
    /// Completes or removes what an earlier start has left unfinished in the data folder `path`, syncs
    /// the files and reads them. Fails if acknowledged writes are missing, unless that is accepted.
    pub(super) fn read(path: &Path, options: &StoreOptions) -> Result<Self, OpenError> {
        // Read it again under the lock: another process may have created or replaced the store since.
        let format = read_format(path)?;
        if format == Format::None {
            if options.expects_store() {
                return Err(OpenError::gone(path));
            }
            begin_format(path)?;
        }
        let folder = path.join("db");
        finish_swap(path, options.witness.as_deref()).map_err(FailedIo::of("look into", path))?;
        let has_db = fs::exists(&folder).map_err(FailedIo::of("look into", path))?;
        if format == Format::Known && !has_db {
            // RocksDB would create the folder before it fails, in the way of whoever puts it back.
            return Err(OpenError::Corrupt {
                path: path.to_owned(),
                reason: "its folder `db` is gone".to_owned(),
            });
        }
        sync_all(path, &folder).map_err(FailedIo::of("sync", &folder))?;
        let told = SyncedMark::known(path)?;
        let witnessed = SyncedMark::witnessed(told, options.witness.as_deref());
        let mark = SyncedMark::later(told, witnessed);
        let is_older = mark != told;
        // All of a restored folder is cut anyway.
        let must_know = options.restored.is_none() && has_marks(path);
        let examined = match format {
            Format::Known => examine(path, mark, must_know),
            Format::None | Format::Creating => Ok(None),
        };
        let examined = examined.map_err(FailedIo::of("look into", &folder))?;
        let mut missing = examined.as_ref().and_then(Examined::missing);
        if let Some(missing) = &mut missing {
            if is_older {
                missing.places.push(
                    "this daemon had acknowledged more than the files beside the database tell of: the \
                     folder may have been replaced by an older copy"
                        .to_owned(),
                );
            }
            if !options.accept_loss {
                if let (true, Some(mark)) = (is_older, mark)
                    && let Err(error) = mark.put(path)
                {
                    tracing::warn!(
                        "what is known of {} is not noted there: {error}",
                        path.display()
                    );
                }
                return Err(OpenError::missing(path, missing.clone()));
            }
            tracing::error!("the store lacks, which was accepted, {missing}");
        }
        let order = match &options.restored {
            // A new store has no history to cut.
            Some(what) if examined.is_some() => Some(CutOrder::restored(what, missing.as_ref())),
            _ => missing.as_ref().map(CutOrder::accepted),
        };
        if order.is_some() {
            // At once: an operator has decided that there is no way back. The marks stay as they are until the
            // order is in the database: a start that ends before that has not carried it out.
            write_newest_format(path)?;
        }
        if let Some(examined) = &examined {
            let dropped = examined.drop_torn_edits(&folder);
            dropped.map_err(FailedIo::of("write into", &folder))?;
        }
        Ok(Self {
            format,
            mark,
            is_anew: options.restored.is_some()
                || told.is_some_and(|told| told.anew == Some(Anew::PutThere)),
            examined,
            missing,
            order,
        })
    }
}

/// Syncs what a killed owner may have written without syncing it. It will be read, and later
/// records will build on it, so a power failure must not remove it afterwards. Directories are
/// synced too, up to the parent of the data folder.
fn sync_all(path: &Path, folder: &Path) -> io::Result<()> {
    if fs::exists(folder)? {
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if log_number(&file).is_some() {
                File::open(&file)?.sync_data()?;
            }
        }
        File::open(folder)?.sync_all()?;
    }
    File::open(path)?.sync_all()?;
    match path.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
