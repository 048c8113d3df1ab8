//! The part of RocksDB's MANIFEST that says what the tables hold and which logs count. The MANIFEST is
//! a log of edits; an edit is a sequence of tags, each followed by its fields. See
//! `db/version_edit.cc` of RocksDB.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::fields::Fields;
use super::framing::{Framed, LogRecords, append};
use crate::store::db::Keyspace;

/// What the MANIFEST says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Manifest {
    /// The highest sequence number that is in a table.
    pub(in crate::store) last_sequence: u64,
    /// The column families by their number.
    pub(in crate::store) families: BTreeMap<u32, ManifestFamily>,
    /// The live tables by their number.
    pub(in crate::store) tables: BTreeMap<u64, ManifestTable>,
    /// The length of the whole edits in bytes, if something that is no whole edit follows them.
    pub(in crate::store) torn_at: Option<u64>,
    /// Whether a whole edit has the number of the next file, which comes after a MANIFEST's first state.
    numbers_files: bool,
}

/// A column family in the MANIFEST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct ManifestFamily {
    pub(in crate::store) name: String,
    /// The first log that may hold data of the family that is in no table.
    pub(in crate::store) log: u64,
}

/// A table in the MANIFEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct ManifestTable {
    /// The number of its column family.
    pub(in crate::store) family: u32,
    pub(in crate::store) level: u32,
    pub(in crate::store) bytes: u64,
}

impl Manifest {
    /// Reads the MANIFEST of the database in `folder`: none if there is no readable one. It is
    /// RocksDB's task to say why.
    pub(in crate::store) fn read(folder: &Path) -> io::Result<Option<Self>> {
        let Some(file) = current(folder)? else {
            return Ok(None);
        };
        match fs::read(file) {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the database in `folder` has one that can be read as a whole. RocksDB takes any damage that
    /// it meets while it opens tables for the MANIFEST's; then it is not.
    pub(in crate::store) fn is_whole_in(folder: &Path) -> bool {
        let manifest = Self::read(folder);
        manifest.is_ok_and(|manifest| manifest.is_some_and(|it| it.torn_at.is_none()))
    }

    /// Copies the MANIFEST of the database in `folder` to the database in `to`, without the tables with
    /// the numbers `left_out`. Must be one that was read as a whole.
    pub(in crate::store) fn copy_without(
        &self,
        folder: &Path,
        to: &Path,
        left_out: &BTreeSet<u64>,
    ) -> io::Result<()> {
        let file = current(folder)?.ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = fs::read(&file)?;
        for number in left_out {
            if let Some(table) = self.tables.get(number) {
                append(&mut bytes, &removal(*number, table));
            }
        }
        let name = file.file_name().unwrap_or_default();
        fs::write(to.join(name), bytes)?;
        fs::write(to.join("CURRENT"), format!("{}\n", name.display()))
    }

    /// Returns the first log that may hold data that is in no table.
    pub(in crate::store) fn first_log(&self) -> u64 {
        let logs = self.families.values().map(|family| family.log);
        logs.min().unwrap_or(0)
    }

    /// Whether each family has all that was written before the same log: then everything up to
    /// `last_sequence` is in tables. The number of a family that had nothing to flush may lag behind.
    pub(in crate::store) fn is_even(&self) -> bool {
        let mut logs = self.families.values().map(|family| family.log);
        let first = logs.next();
        logs.all(|log| Some(log) == first)
    }

    /// Whether the whole edits have a complete state, however old. All of the first one is synced before
    /// `CURRENT` names the MANIFEST, so where it is torn, it was no power cut.
    pub(super) fn has_state(&self) -> bool {
        self.numbers_files && self.families.len() >= Keyspace::ALL.len()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut manifest = Self::default();
        let family = ManifestFamily {
            name: "default".to_owned(),
            log: 0,
        };
        manifest.families.insert(0, family);
        // The MANIFEST is never a reused file, so its fragments have no number.
        let mut frames = LogRecords::new(bytes, 0);
        // Edits of a group count once the last one is there.
        let mut group: Vec<Edit> = Vec::new();
        let mut whole = 0;
        loop {
            match frames.next() {
                Framed::Record(record) => {
                    let edit = Edit::parse(&record.bytes)?;
                    let is_last = edit.follow.is_none_or(|follow| follow == 0);
                    group.push(edit);
                    if is_last {
                        group.drain(..).for_each(|edit| manifest.apply(edit));
                        whole = record.place.end;
                    }
                }
                Framed::End if group.is_empty() => return Some(manifest),
                // An edit that was not written completely had no effect, nor had its group.
                Framed::End | Framed::Stop { .. } => {
                    manifest.torn_at = Some(whole as u64);
                    return Some(manifest);
                }
            }
        }
    }

    fn apply(&mut self, edit: Edit) {
        self.numbers_files |= edit.numbers_files;
        if let Some(sequence) = edit.last_sequence {
            self.last_sequence = self.last_sequence.max(sequence);
        }
        if edit.dropped {
            self.families.remove(&edit.family);
            self.tables.retain(|_, table| table.family != edit.family);
            return;
        }
        if let Some(name) = edit.added {
            let log = 0;
            self.families
                .insert(edit.family, ManifestFamily { name, log });
        }
        if let (Some(log), Some(family)) = (edit.log, self.families.get_mut(&edit.family)) {
            family.log = family.log.max(log);
        }
        for number in edit.removed_tables {
            self.tables.remove(&number);
        }
        for (number, level, bytes) in edit.new_tables {
            let table = ManifestTable {
                family: edit.family,
                level,
                bytes,
            };
            self.tables.insert(number, table);
        }
    }
}

/// Returns the MANIFEST that is named by the file `CURRENT`.
pub(super) fn current(folder: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_to_string(folder.join("CURRENT")) {
        Ok(name) => {
            let name = name.trim_end();
            let is_manifest = name.starts_with("MANIFEST-") && !name.contains('/');
            Ok(is_manifest.then(|| folder.join(name)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

/// One edit, as far as it matters here.
#[derive(Debug, Default)]
struct Edit {
    family: u32,
    /// The name of the family that it adds.
    added: Option<String>,
    dropped: bool,
    log: Option<u64>,
    last_sequence: Option<u64>,
    /// Whether it has the number of the next file.
    numbers_files: bool,
    removed_tables: Vec<u64>,
    /// Number, level and size.
    new_tables: Vec<(u64, u32, u64)>,
    /// How many more edits its group has.
    follow: Option<u32>,
}

/// The tags of an edit's fields, by RocksDB's names.
mod tag {
    pub(super) const COMPARATOR: u32 = 1;
    pub(super) const LOG_NUMBER: u32 = 2;
    pub(super) const NEXT_FILE_NUMBER: u32 = 3;
    pub(super) const LAST_SEQUENCE: u32 = 4;
    pub(super) const COMPACT_CURSOR: u32 = 5;
    pub(super) const DELETED_FILE: u32 = 6;
    pub(super) const PREV_LOG_NUMBER: u32 = 9;
    pub(super) const MIN_LOG_NUMBER_TO_KEEP: u32 = 10;
    pub(super) const NEW_FILE_4: u32 = 103;
    pub(super) const COLUMN_FAMILY: u32 = 200;
    pub(super) const COLUMN_FAMILY_ADD: u32 = 201;
    pub(super) const COLUMN_FAMILY_DROP: u32 = 202;
    pub(super) const MAX_COLUMN_FAMILY: u32 = 203;
    pub(super) const IN_ATOMIC_GROUP: u32 = 300;
    /// From here on, a tag that is not known may be skipped: its field begins with its length.
    pub(super) const SKIPPABLE: u32 = 1 << 13;
    /// The field that ends the list of a new file's further fields.
    pub(super) const NEW_FILE_END: u32 = 1;
}

impl Edit {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut edit = Self::default();
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            match fields.number32()? {
                tag::COMPARATOR => drop(fields.bytes()?),
                tag::LOG_NUMBER => edit.log = Some(fields.number()?),
                tag::NEXT_FILE_NUMBER => {
                    fields.number()?;
                    edit.numbers_files = true;
                }
                tag::PREV_LOG_NUMBER | tag::MIN_LOG_NUMBER_TO_KEEP => {
                    fields.number()?;
                }
                tag::LAST_SEQUENCE => edit.last_sequence = Some(fields.number()?),
                tag::COMPACT_CURSOR => {
                    fields.number()?;
                    fields.bytes()?;
                }
                tag::DELETED_FILE => {
                    fields.number()?;
                    edit.removed_tables.push(fields.number()?);
                }
                tag::NEW_FILE_4 => edit.new_tables.push(new_file(&mut fields)?),
                tag::COLUMN_FAMILY => edit.family = fields.number32()?,
                tag::COLUMN_FAMILY_ADD => {
                    let name = fields.bytes()?;
                    edit.added = Some(String::from_utf8_lossy(name).into_owned());
                }
                tag::COLUMN_FAMILY_DROP => edit.dropped = true,
                tag::MAX_COLUMN_FAMILY => drop(fields.number()?),
                tag::IN_ATOMIC_GROUP => edit.follow = Some(fields.number32()?),
                known if known >= tag::SKIPPABLE => drop(fields.bytes()?),
                _ => return None,
            }
        }
        Some(edit)
    }
}

/// Reads a new table: returns its number, its level and its size.
fn new_file(fields: &mut Fields<'_>) -> Option<(u64, u32, u64)> {
    let level = fields.number32()?;
    let (number, size) = (fields.number()?, fields.number()?);
    let (_first_key, _last_key) = (fields.bytes()?, fields.bytes()?);
    let (_first_sequence, _last_sequence) = (fields.number()?, fields.number()?);
    while fields.number32()? != tag::NEW_FILE_END {
        fields.bytes()?;
    }
    Some((number, level, size))
}

/// Returns the edit that removes a table.
fn removal(number: u64, table: &ManifestTable) -> Vec<u8> {
    let mut edit = Vec::new();
    for field in [
        tag::COLUMN_FAMILY,
        table.family,
        tag::DELETED_FILE,
        table.level,
    ] {
        put_number(&mut edit, field.into());
    }
    put_number(&mut edit, number);
    edit
}

/// Appends a number of 7 bits per byte, the lowest first.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
