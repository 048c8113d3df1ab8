//! The files of a data folder, by kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};

/// The files of each kind, in order. A kind is what a file is for: `FORMAT`, `table log`,
/// `component`.
pub type FilesByKind = BTreeMap<String, Vec<PathBuf>>;

/// Lists the files of the data folder `data`. Nothing in it is written, and its owner may be alive.
pub fn files_by_kind(data: &Path) -> anyhow::Result<FilesByKind> {
    let families = families_of_tables(&data.join("db"))?;
    let mut kinds = FilesByKind::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, is_of) = (entry.path(), entry.file_type()?);
            if is_of.is_dir() {
                folders.push(path);
            } else if is_of.is_file() {
                let kind = kind_of(path.strip_prefix(data)?, &families);
                kinds.entry(kind).or_default().push(path);
            }
        }
    }
    kinds.values_mut().for_each(|files| files.sort());
    Ok(kinds)
}

/// Returns the file in `folder` whose name begins with `name`.
///
/// # Panics
/// If there is none.
pub fn file_named(folder: &Path, name: &str) -> PathBuf {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let found = paths.find(|path| {
        path.file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(name))
    });
    found.unwrap_or_else(|| panic!("no {name} in {}", folder.display()))
}

fn kind_of(path: &Path, families: &BTreeMap<String, String>) -> String {
    let text = path.display().to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.into_owned();
    if !text.starts_with("db/") {
        return match path.parent().filter(|folder| *folder != Path::new("")) {
            // A name in a folder is drawn or a digest.
            Some(folder) => {
                let ending = path.extension().unwrap_or_default();
                format!("{}/*.{}", folder.display(), ending.display())
            }
            None => name,
        };
    }
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("sst") => match families.get(&name) {
            Some(family) => format!("table {family}"),
            None => "table (dead)".to_owned(),
        },
        Some("log") => "db/*.log".to_owned(),
        _ => {
            let word = name.split(['-', '.']).next().unwrap_or_default();
            format!("db/{word}")
        }
    }
}

/// Returns the family of each live table, by the table's file name.
fn families_of_tables(db: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    // RocksDB writes its info log even if it only reads.
    let aside = tempfile::tempdir()?;
    let mut options = Options::default();
    options.set_db_log_dir(aside.path());
    let names = DB::list_cf(&options, db)?;
    let open = DB::open_cf_for_read_only(&options, db, names, false)?;
    let tables = open.live_files()?.into_iter().map(|table| {
        let name = table.name.trim_start_matches('/').to_owned();
        (name, table.column_family_name)
    });
    Ok(tables.collect())
}
