//! A readable image of a damaged database: its tables by hard links, its MANIFEST without the tables
//! that are not there or of which nothing can be read, and what its logs hold. The database itself is
//! left alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::domain::DamagedFile;
use crate::store::{
    db::{Db, Keyspace, Op},
    db_files::{log_number, table_name, table_number},
    failed_io::FailedIo,
    link::link,
    options::StoreOptions,
    recovery::{Examined, Manifest},
    scratch::ScratchFolder,
};

use super::around::{Blocked, check_end};
use super::culprit::culprit;
use super::error::SalvageError;

/// An image, which is removed once it is dropped.
pub(super) struct StoreImage {
    pub(super) db: Db,
    /// Files of which nothing can be read.
    pub(super) damaged: Vec<DamagedFile>,
    /// The families of the tables that were left out; none if it is not known which those are.
    incomplete: Option<Vec<Keyspace>>,
    _folder: ScratchFolder,
}

impl StoreImage {
    /// Makes an image of the database in `folder` at `scratch`; what is there is removed. The tables with
    /// the numbers `left_out` are left out. `examined` is what its logs hold, if its MANIFEST can be
    /// read.
    pub(super) fn make(
        folder: &Path,
        scratch: &Path,
        left_out: &BTreeSet<u64>,
        examined: Option<&Examined>,
        options: &StoreOptions,
    ) -> Result<Self, SalvageError> {
        let failed = |doing| FailedIo::of(doing, scratch);
        let scratch_folder = ScratchFolder::create(scratch).map_err(failed("create"))?;
        let manifest = Manifest::read(folder).map_err(FailedIo::of("read", folder))?;
        let manifest = manifest.filter(|manifest| manifest.torn_at.is_none() && examined.is_some());
        let Some(manifest) = manifest else {
            let (db, damaged) = without_manifest(folder, scratch, options)?;
            return Ok(Self {
                db,
                damaged,
                incomplete: None,
                _folder: scratch_folder,
            });
        };
        let mut left_out = left_out.clone();
        let mut damaged: Vec<_> = left_out
            .iter()
            .map(|number| DamagedFile::new(&table_name(*number), "it cannot be read"))
            .collect();
        for number in manifest.tables.keys() {
            let name = table_name(*number);
            match link(&folder.join(&name), &scratch.join(&name)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    left_out.insert(*number);
                    damaged.push(DamagedFile::new(&name, "it is not there"));
                }
                Err(error) => return Err(failed("link a table into")(error).into()),
            }
        }
        loop {
            let copied = manifest.copy_without(folder, scratch, &left_out);
            copied.map_err(failed("write the MANIFEST into"))?;
            let db = Db::open_damaged(scratch, options)
                .map_err(|error| SalvageError::database(folder, &error))?;
            let Err(blocked) = check_all(&db) else {
                let logged = examined.map(Examined::logged).unwrap_or_default();
                db.write_again(&logged, None)
                    .map_err(|error| SalvageError::database(folder, &error))?;
                return Ok(Self {
                    db,
                    damaged,
                    incomplete: Some(families_of(&manifest, &left_out)),
                    _folder: scratch_folder,
                });
            };
            drop(db);
            let (number, reason) = match blocked {
                Blocked::ByTable { number, reason } => (Some(number), reason),
                Blocked::ByUnnamed { reason } => {
                    let probe = scratch.join("probe");
                    (culprit(folder, &probe, &left_out, options)?, reason)
                }
                Blocked::Failed(error) => (None, error.to_string()),
            };
            let Some(number) = number.filter(|number| left_out.insert(*number)) else {
                return Err(SalvageError::unreadable(folder, reason));
            };
            damaged.push(DamagedFile::new(&table_name(number), &reason));
            clear_manifest(scratch).map_err(failed("clear"))?;
        }
    }
}

/// Returns the families of tables.
fn families_of(manifest: &Manifest, tables: &BTreeSet<u64>) -> Vec<Keyspace> {
    let tables = tables
        .iter()
        .filter_map(|number| manifest.tables.get(number));
    let families = tables.filter_map(|table| manifest.families.get(&table.family));
    let names: Vec<&str> = families.map(|family| family.name.as_str()).collect();
    let all = Keyspace::ALL.into_iter();
    all.filter(|family| names.contains(&family.name()))
        .collect()
}

impl StoreImage {
    /// Whether states and logs may both be older ones, of the same moment: tables of both were left out, or
    /// some of unknown families. Then nothing shows which sessions lack their newest turns.
    pub(super) fn may_be_older(&self) -> bool {
        match &self.incomplete {
            Some(families) => {
                families.contains(&Keyspace::Sessions) && families.contains(&Keyspace::Log)
            }
            // The first is the MANIFEST.
            None => self.damaged.len() > 1,
        }
    }

    /// Whether tables of the family were left out, or it is not known.
    pub(super) fn left_out_of(&self, family: Keyspace) -> bool {
        let incomplete = self.incomplete.as_ref();
        incomplete.is_none_or(|families| families.contains(&family))
    }
}

/// Fails if a table keeps a family from being read.
fn check_all(db: &Db) -> Result<(), Blocked> {
    let mut families = Keyspace::ALL.into_iter();
    families.try_for_each(|family| check_end(db, family))
}

/// Makes an image with a new MANIFEST, from all tables and logs that are there.
fn without_manifest(
    folder: &Path,
    scratch: &Path,
    options: &StoreOptions,
) -> Result<(Db, Vec<DamagedFile>), SalvageError> {
    let failed = |doing| FailedIo::of(doing, scratch);
    let entries = fs::read_dir(folder).map_err(FailedIo::of("look into", folder))?;
    for entry in entries {
        let path = entry.map_err(FailedIo::of("look into", folder))?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("sst") => link(&path, &scratch.join(name)).map_err(failed("link a table into"))?,
            // RocksDB writes into logs.
            Some("log") => {
                fs::copy(&path, scratch.join(name)).map_err(failed("copy a log into"))?;
            }
            _ => {}
        }
    }
    add_families(scratch, options)?;
    Db::make_manifest(scratch).map_err(|error| SalvageError::database(folder, &error))?;
    let db = Db::open_damaged(scratch, options)
        .map_err(|error| SalvageError::database(folder, &error))?;
    let mut damaged = vec![DamagedFile::new(
        "MANIFEST",
        "it cannot be read; a new one was made from the tables",
    )];
    // The new MANIFEST has no table that cannot be read.
    let lost = scratch.join("lost");
    if let Ok(entries) = fs::read_dir(lost) {
        let names = entries.flatten().map(|entry| entry.file_name());
        let tables = names.filter_map(|name| name.into_string().ok());
        for name in tables.filter(|name| table_number(Path::new(name)).is_some()) {
            damaged.push(DamagedFile::new(&name, "it cannot be read"));
        }
    }
    Ok((db, damaged))
}

/// Adds an empty table of each family to the files in `scratch`. RocksDB's repair knows a family by its
/// tables alone, and drops what logs hold of any other.
fn add_families(scratch: &Path, options: &StoreOptions) -> Result<(), SalvageError> {
    let failed = |doing| FailedIo::of(doing, scratch);
    let made = scratch.join("families");
    let database = |error: &rocksdb::Error| SalvageError::database(&made, error);
    let db = Db::create_unlogged(&made, options).map_err(|error| database(&error))?;
    // A deletion of a key that no family has.
    let ops = Keyspace::ALL.map(|family| Op::Delete(family, vec![0]));
    db.write_unlogged(&ops)?;
    db.flush().map_err(|error| database(&error))?;
    drop(db);
    let last = last_number(scratch).map_err(failed("look into"))?;
    let mut tables = Vec::new();
    for entry in fs::read_dir(&made).map_err(failed("look into"))? {
        let path = entry.map_err(failed("look into"))?.path();
        tables.extend(table_number(&path).map(|_| path));
    }
    for (table, number) in tables.iter().zip(last + 1..) {
        let renamed = fs::rename(table, scratch.join(table_name(number)));
        renamed.map_err(failed("move a table into"))?;
    }
    fs::remove_dir_all(&made).map_err(failed("clear"))?;
    Ok(())
}

/// Returns the highest number of a table or a log.
fn last_number(folder: &Path) -> io::Result<u64> {
    let mut last = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = table_number(&path).or_else(|| log_number(&path));
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

/// Removes what opening the image has made of its MANIFEST.
fn clear_manifest(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "sst") && path.is_file() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
