//! The file `FORMAT`: which version of the layout the data folder has.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
};

use super::OpenError;

/// The newest format of the data folder that this version of Abide reads. `host/docs/store-format.md`
/// describes the formats.
pub const FORMAT: u32 = 2;
/// The format that a new store has. Format 2 is written once something needs it: until then the
/// version before this one can open the folder.
pub(super) const FIRST_FORMAT: u32 = 1;

/// The word before the version number in the file `FORMAT`.
const FORMAT_WORD: &str = "abide-store";
/// The word after the version number until the store has been created completely.
const CREATING: &str = "creating";

/// The state of a data folder according to its file `FORMAT`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// The file does not exist.
    None,
    /// The creation of a store was begun and not completed.
    Creating,
    /// The folder holds a store that this version reads.
    Known,
}

pub(super) fn read_format(path: &Path) -> Result<Format, OpenError> {
    let file = path.join("FORMAT");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::exists(path.join("db")) {
                Ok(false) => Ok(Format::None),
                Ok(true) => Err(OpenError::NotAStore {
                    path: path.to_owned(),
                    reason: "it has a folder `db` and no file `FORMAT`".to_owned(),
                }),
                Err(error) => Err(OpenError::io("look into", path, error)),
            };
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(OpenError::io("read", &file, error)),
    };
    let mut words = text.split_ascii_whitespace();
    let found = match (words.next(), words.next().map(str::parse::<u32>)) {
        (Some(FORMAT_WORD), Some(Ok(found))) => found,
        _ => {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                reason: "its file `FORMAT` is none of Abide's".to_owned(),
            });
        }
    };
    if found > FORMAT {
        return Err(OpenError::NewerFormat {
            path: path.to_owned(),
            found,
            reads: FORMAT,
        });
    }
    Ok(match words.next() {
        Some(CREATING) => Format::Creating,
        _ => Format::Known,
    })
}

/// Notes that the creation of a store has begun.
pub(super) fn begin_format(path: &Path) -> Result<(), OpenError> {
    replace(path, &format!("{FORMAT_WORD} {FIRST_FORMAT} {CREATING}\n"))
}

/// Notes the format of a complete store.
pub(super) fn write_format(path: &Path, format: u32) -> Result<(), OpenError> {
    replace(path, &format!("{FORMAT_WORD} {format}\n"))
}

/// Replaces the file `FORMAT` atomically, and syncs the file and its folder.
fn replace(path: &Path, text: &str) -> Result<(), OpenError> {
    let (file, new) = (path.join("FORMAT"), path.join("FORMAT.new"));
    let write = || {
        let mut opened = File::create(&new)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error: std::io::Error| OpenError::io("write", &file, error))
}
