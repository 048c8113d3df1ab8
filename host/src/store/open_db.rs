//! Opens the database of a data folder, after its files were read. A damaged one is written anew first.

use std::path::Path;

use super::{
    OpenError, StoreError,
    cut_all::CutOrder,
    damage::{self, is_damage_at_open, is_damage_of_open},
    db::{Db, Keyspace},
    error::is_disk_full,
    failed_io::FailedIo,
    format::Format,
    found_files::FoundFiles,
    keys::{self, kind},
    options::StoreOptions,
    recovery::{LostSessions, MissingWrites},
    reserve::Reserve,
    salvage::{SalvageError, mend},
};

/// Returns the database with everything that was acknowledged, or with what can be read if a table is
/// damaged.
pub(super) fn open_db(
    path: &Path,
    found: FoundFiles,
    options: &StoreOptions,
    reserve: &mut Reserve,
) -> Result<Db, OpenError> {
    let create = found.format != Format::Known;
    let mut open = || open_rocksdb(path, create, options, reserve);
    let opened = match is_known_as_damaged(path, &found)? {
        true => None,
        false => undamaged(open(), &path.join("db"))?,
    };
    match opened {
        Some(db) => {
            recover_all(path, &db, &found)?;
            Ok(db)
        }
        None => {
            // Its result has what logs hold behind damage and the order as well: nothing is left to
            // recover.
            let mended = mend(path, found.examined.as_ref(), found.order, options);
            mended.map_err(unmended(path))?;
            open()
        }
    }
}

/// Returns whether a table is known to be damaged before any is read.
fn is_known_as_damaged(path: &Path, found: &FoundFiles) -> Result<bool, FailedIo> {
    let lacks_a_table = match &found.examined {
        Some(examined) => examined.lacks_a_table(&path.join("db")),
        None => Ok(false),
    };
    let is_known = lacks_a_table.and_then(|lacks| Ok(lacks || damage::is_noted(path)?));
    is_known.map_err(FailedIo::of("look into", path))
}

/// Returns the database in `folder`, or none if a table is damaged that keeps it from being opened, or in
/// which is what a start needs.
fn undamaged(opened: Result<Db, OpenError>, folder: &Path) -> Result<Option<Db>, OpenError> {
    let reason = match opened {
        Ok(db) => match read_at_start(&db) {
            Err(StoreError::Corrupt { reason, .. } | StoreError::Read { reason })
                if is_damage_of_open(&reason) =>
            {
                reason
            }
            // Whoever needs what cannot be read tells of it.
            _ => return Ok(Some(db)),
        },
        Err(OpenError::Corrupt { reason, .. }) if is_damage_at_open(&reason, folder) => reason,
        Err(error) => return Err(error),
    };
    tracing::error!("the store is damaged: {reason}");
    Ok(None)
}

/// Reads what every start reads as a whole: counts, restart records, and the index of the sessions that
/// have work, wait or are faulted.
fn read_at_start(db: &Db) -> Result<(), StoreError> {
    db.scan(Keyspace::Meta, &[], &[0xff], |_, _| Ok(true))?;
    for kind in [kind::ACTIVE, kind::FAULTED, kind::PARKED] {
        let (first, bound) = keys::all_of_kind(kind);
        db.scan(Keyspace::Index, &first, &bound, |_, _| Ok(true))?;
    }
    Ok(())
}

/// Converts the reason why a damaged store is not written anew.
fn unmended(path: &Path) -> impl FnOnce(SalvageError) -> OpenError + '_ {
    move |error| match error {
        SalvageError::Open(error) => error,
        error => {
            let doing = "write anew what can be read of the damaged store in";
            FailedIo::of(doing, path)(error).into()
        }
    }
}

/// Writes again what RocksDB has not read although it is complete, and makes sure that the store holds
/// everything that was acknowledged, unless the loss of it was accepted. The order to cut all sessions
/// is stored, if there is one.
fn recover_all(path: &Path, db: &Db, found: &FoundFiles) -> Result<(), OpenError> {
    let Some(examined) = &found.examined else {
        return Ok(());
    };
    let order = found.order.as_ref();
    let behind = examined.behind(db.last_sequence());
    if !behind.is_empty() {
        tracing::warn!(
            batches = behind.len(),
            "a log in {} is damaged; what is readable behind the damage is written again",
            path.display()
        );
    }
    if order.is_some() || !behind.is_empty() {
        let op = order.map(CutOrder::op).transpose();
        let op = op.map_err(FailedIo::of("write into", path))?;
        db.write_again(&behind, op.as_ref())
            // From now on the damaged log is not needed.
            .and_then(|()| db.flush())
            .map_err(FailedIo::of("write into", path))?;
    }
    // The order is an operation as well, and none of those that were acknowledged.
    let recovered = db.last_sequence().saturating_sub(order.is_some().into());
    let operations = examined.synced().saturating_sub(recovered);
    if operations > 0 && found.missing.is_none() {
        let places = vec!["RocksDB recovered less than its files hold".to_owned()];
        let missing = MissingWrites {
            operations,
            places,
            sessions: LostSessions::Any,
        };
        return Err(OpenError::missing(path, missing));
    }
    if found.mark.is_none() {
        // A version before this one has left it: from now on, all families are flushed together.
        if let Err(error) = db.flush() {
            tracing::warn!("cannot flush the store in {}: {error}", path.display());
        }
    }
    Ok(())
}

/// Opens the database. A full disk is no obstacle: there is the reserve.
fn open_rocksdb(
    path: &Path,
    create: bool,
    options: &StoreOptions,
    reserve: &mut Reserve,
) -> Result<Db, OpenError> {
    let folder = &path.join("db");
    let mut opened = Db::open(folder, create, options);
    if let Err(error) = &opened
        && is_disk_full(error.as_ref())
    {
        reserve.give();
        opened = Db::open(folder, create, options);
    }
    opened.map_err(|error| {
        let path = path.to_owned();
        let reason = error.to_string();
        match error.kind() {
            rocksdb::ErrorKind::Corruption
            | rocksdb::ErrorKind::InvalidArgument
            | rocksdb::ErrorKind::NotFound => OpenError::Corrupt { path, reason },
            // RocksDB reports a missing file as an I/O error.
            rocksdb::ErrorKind::IOError if reason.contains("No such file") => {
                OpenError::Corrupt { path, reason }
            }
            _ => FailedIo::of("open the store in", &path)(error).into(),
        }
    })
}
