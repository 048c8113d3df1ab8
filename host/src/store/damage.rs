//! Damaged tables: which errors of RocksDB's tell of one, and the file `DAMAGED`, which says that one
//! was met, so that the next start writes the store anew.

use std::io;
use std::path::Path;

use crate::atomic_file;

use super::recovery::Manifest;

const NAME: &str = "DAMAGED";
/// What the errors of a damaged table have in them: a checksum or a length that does not fit, a file
/// that is not there, a disk that does not give it back. Others (no memory, too many open files) pass.
const SIGNS: [&str; 4] = [
    "Corruption",
    "No such file",
    "Input/output error",
    "Structure needs cleaning",
];

/// What errors have in them that pass, or that an operator can mend, without any damage.
const PASSING: [&str; 4] = [
    "Too many open files",
    "Permission denied",
    "Operation not permitted",
    "Cannot allocate memory",
];

/// Parts of the names of RocksDB's files.
const NAMES: [&str; 4] = [".sst", ".log", "MANIFEST", "CURRENT"];

/// Returns the number of the table that an error of RocksDB's names.
pub(super) fn table_in(reason: &str) -> Option<u64> {
    let end = reason.rfind(".sst")?;
    let digits = reason[..end].rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Returns the number of the table that cannot be read by an error of RocksDB's: none also if the error
/// may pass.
pub(super) fn unreadable_table_in(reason: &str) -> Option<u64> {
    let may_pass = PASSING.iter().any(|sign| reason.contains(sign));
    table_in(reason).filter(|_| !may_pass)
}

/// Whether an error of RocksDB's names a damaged table.
fn is_damage(reason: &str) -> bool {
    table_in(reason).is_some() && SIGNS.iter().any(|sign| reason.contains(sign))
}

/// Whether an error tells of damage and of no file. If the database is open, it can only be a table's:
/// see `salvage::culprit`.
pub(super) fn is_unnamed(reason: &str) -> bool {
    reason.contains("Corruption") && !NAMES.iter().any(|name| reason.contains(name))
}

/// Whether the error of opening the database in `folder` tells of a damaged table. It may name the
/// MANIFEST in its place.
pub(super) fn is_damage_at_open(reason: &str, folder: &Path) -> bool {
    is_damage(reason) || (reason.contains("Corruption") && Manifest::is_whole_in(folder))
}

/// Whether the error of a read or a write, of a database that is open, tells of a damaged table.
pub(super) fn is_damage_of_open(reason: &str) -> bool {
    is_damage(reason) || is_unnamed(reason)
}

/// Notes in the data folder `folder` what was met.
pub(super) fn note(folder: &Path, reason: &str) -> io::Result<()> {
    atomic_file::write_whole(folder, NAME, &[reason.as_bytes(), b"\n"])
}

/// Whether damage was noted.
pub(super) fn is_noted(folder: &Path) -> io::Result<bool> {
    std::fs::exists(folder.join(NAME))
}

/// Removes the note, once the store was written anew.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    atomic_file::remove(&folder.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_found_in_an_error() {
        assert!(is_damage_of_open("Corruption: properties unsorted"));
        assert!(!is_damage("Corruption: properties unsorted"));
        assert!(!is_damage_of_open(
            "invalid type: integer `3`, expected a map"
        ));
        for (text, number, is_damaged) in [
            (
                "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in \
                 /data/7/db/000123.sst offset 0 size 77",
                Some(123),
                true,
            ),
            (
                "IO error: No such file or directory: While open a file for random access: \
                 /data/db/000009.sst: No such file or directory",
                Some(9),
                true,
            ),
            (
                "IO error: While open a file for random access: /data/db/000009.sst: Too many open \
                 files",
                Some(9),
                false,
            ),
            ("Corruption: in MANIFEST-000004", None, false),
            ("/a.sst", None, false),
        ] {
            assert_eq!(table_in(text), number, "{text}");
            assert_eq!(is_damage(text), is_damaged, "{text}");
            assert_eq!(unreadable_table_in(text).is_some(), is_damaged, "{text}");
            assert!(!is_unnamed(text), "{text}");
        }
    }
}
