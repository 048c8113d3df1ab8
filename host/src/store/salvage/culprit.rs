//! Finds a damaged table that RocksDB's error does not name. Of a table's properties, RocksDB verifies
//! the order and not the checksum, and the error has no path.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::store::{
    db::Db, db_files::table_name, failed_io::FailedIo, link::link, options::StoreOptions,
    recovery::Manifest,
};

use super::error::SalvageError;

/// Returns the number of a table of the database in `folder` that cannot be opened; none if all can, or
/// if there is no readable MANIFEST. The tables with the numbers `left_out` are not tried. `scratch` is
/// for copies that share the tables. Halves the suspects until one is left.
pub(super) fn culprit(
    folder: &Path,
    scratch: &Path,
    left_out: &BTreeSet<u64>,
    options: &StoreOptions,
) -> Result<Option<u64>, SalvageError> {
    let manifest = Manifest::read(folder).map_err(FailedIo::of("read", folder))?;
    let Some(manifest) = manifest else {
        return Ok(None);
    };
    let is_suspect =
        |number: &&u64| !left_out.contains(number) && folder.join(table_name(**number)).exists();
    let suspects: Vec<u64> = manifest.tables.keys().filter(is_suspect).copied().collect();
    let opens = |kept: &[u64]| {
        let opened = open_only(kept, &manifest, folder, scratch, options);
        let removed = fs::remove_dir_all(scratch);
        removed.map_err(FailedIo::of("remove", scratch))?;
        opened
    };
    if suspects.is_empty() || opens(&suspects)? {
        return Ok(None);
    }
    let mut suspects = &suspects[..];
    while suspects.len() > 1 {
        let (first, second) = suspects.split_at(suspects.len() / 2);
        suspects = match opens(first)? {
            true => second,
            false => first,
        };
    }
    Ok(suspects.first().copied())
}

/// Whether a database with only the tables `kept` opens all of them.
fn open_only(
    kept: &[u64],
    manifest: &Manifest,
    folder: &Path,
    scratch: &Path,
    options: &StoreOptions,
) -> Result<bool, SalvageError> {
    let link_all = || -> io::Result<()> {
        fs::create_dir_all(scratch)?;
        for number in kept {
            let name = table_name(*number);
            link(&folder.join(&name), &scratch.join(&name))?;
        }
        let others = manifest
            .tables
            .keys()
            .filter(|number| !kept.contains(number));
        manifest.copy_without(folder, scratch, &others.copied().collect())
    };
    link_all().map_err(FailedIo::of("link tables into", scratch))?;
    match Db::open_all_tables(scratch, options) {
        Ok(_) => Ok(true),
        // The MANIFEST's copy is sound, whatever the error names.
        Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => Ok(false),
        Err(error) => Err(SalvageError::database(folder, &error)),
    }
}
