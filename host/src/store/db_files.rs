//! The names of a database's tables and logs, which are numbers.

use std::path::Path;

/// Returns the name of the table with this number.
pub(super) fn table_name(number: u64) -> String {
    format!("{number:06}.sst")
}

/// Returns the number of a table; none if the file is no table.
pub(super) fn table_number(path: &Path) -> Option<u64> {
    number_of(path, "sst")
}

/// Returns the number of a log; none if the file is no log.
pub(super) fn log_number(path: &Path) -> Option<u64> {
    number_of(path, "log")
}

/// Returns the number of a MANIFEST; none if the file is none.
pub(super) fn manifest_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("MANIFEST-")?.parse().ok()
}

fn number_of(path: &Path, extension: &str) -> Option<u64> {
    let stem = path.extension().filter(|found| *found == extension);
    stem.and(path.file_stem())?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_logs_are_known_by_their_names() {
        let table = table_name(7);
        assert_eq!(table, "000007.sst");
        assert_eq!(table_number(Path::new(&table)), Some(7));
        assert_eq!(log_number(Path::new("db/1000000.log")), Some(1_000_000));
        for other in [
            "000007.log",
            "MANIFEST-000007",
            "LOG.old",
            "x.sst",
            "000007",
        ] {
            assert_eq!(table_number(Path::new(other)), None, "{other}");
        }
        assert_eq!(manifest_number(Path::new("db/MANIFEST-000004")), Some(4));
        assert_eq!(manifest_number(Path::new("MANIFEST")), None);
        for other in ["000007.sst", "LOG", "x.log"] {
            assert_eq!(log_number(Path::new(other)), None, "{other}");
        }
    }
}
