//! The file `FORMAT`: which version of the layout the data folder has, and how it gets a newer one.
//!
//! ```text
//!   new store --> 1 --> probation of a worker passed --> the newest format of its version
//!                 |                                        ^
//!                 +-- a loss is accepted, a restore -------+  (at once)
//! ```
//!
//! Opening a store never raises its format: an upgrade that fails its probation must be able to go
//! back to the binary before. Until it is raised, what needs a newer format is refused with words.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::atomic_file::write_whole;

use super::{OpenError, StoreError, failed_io::FailedIo};

/// The newest format of the data folder that this version of Abide reads. `host/docs/store-format.md`
/// describes the formats.
pub const FORMAT: u32 = 2;
/// The format that a new store has: until it is raised, the version before this one can open the
/// folder.
pub(super) const FIRST_FORMAT: u32 = 1;
/// The format from which on a session's history may be cut.
pub(super) const CUT_FORMAT: u32 = 2;

const NAME: &str = "FORMAT";
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
    Ok(match stored(path)? {
        None => Format::None,
        Some((_, true)) => Format::Creating,
        Some((_, false)) => Format::Known,
    })
}

/// Reads the file `FORMAT`: the version, and whether the store is being created. `None` if there is
/// neither the file nor a store.
fn stored(path: &Path) -> Result<Option<(u32, bool)>, OpenError> {
    let file = path.join(NAME);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::exists(path.join("db")) {
                Ok(false) => Ok(None),
                Ok(true) => Err(OpenError::NotAStore {
                    path: path.to_owned(),
                    reason: "it has a folder `db` and no file `FORMAT`".to_owned(),
                }),
                Err(error) => Err(FailedIo::of("look into", path)(error).into()),
            };
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(FailedIo::of("read", &file)(error).into()),
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
    let mut creating = false;
    for word in words {
        match word {
            CREATING => creating = true,
            // A later version names there what it has added.
            part => {
                return Err(OpenError::NewerPart {
                    path: path.to_owned(),
                    part: part.to_owned(),
                });
            }
        }
    }
    Ok(Some((found, creating)))
}

/// Notes that the creation of a store has begun.
pub(super) fn begin_format(path: &Path) -> Result<(), OpenError> {
    let text = format!("{FORMAT_WORD} {FIRST_FORMAT} {CREATING}\n");
    Ok(replace(path, &text).map_err(FailedIo::of("write", &path.join(NAME)))?)
}

/// Notes the format of a complete store.
pub(super) fn write_format(path: &Path, format: u32) -> Result<(), OpenError> {
    let text = format!("{FORMAT_WORD} {format}\n");
    Ok(replace(path, &text).map_err(FailedIo::of("write", &path.join(NAME)))?)
}

/// Replaces the file `FORMAT` with `text`.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    write_whole(path, NAME, &[text.as_bytes()])
}

/// The format that an open store has: what may be written into it.
#[derive(Debug)]
pub(super) struct StoreFormat {
    folder: PathBuf,
    now: AtomicU32,
    /// Held while it is raised.
    raising: Mutex<()>,
}

impl StoreFormat {
    /// Reads the format of a store that is being opened, once it is decided.
    pub(super) fn read(folder: &Path) -> Result<Self, OpenError> {
        let now = stored(folder)?.map_or(FIRST_FORMAT, |(format, _)| format);
        Ok(Self {
            folder: folder.to_owned(),
            now: AtomicU32::new(now),
            raising: Mutex::new(()),
        })
    }

    pub(super) fn now(&self) -> u32 {
        self.now.load(Ordering::Acquire)
    }

    /// Refuses to write `what`, which exists from the format `needs` on, into a store of an older one.
    pub(super) fn allow(&self, what: &'static str, needs: u32) -> Result<(), StoreError> {
        match self.now() {
            has if has < needs => Err(StoreError::OlderFormat { what, needs, has }),
            _ => Ok(()),
        }
    }

    /// Raises the format to this version's newest. Returns whether it was older.
    pub(super) fn raise(&self) -> Result<bool, StoreError> {
        // Ignores poisoning: the file is replaced as a whole or not at all.
        let _raising = self.raising.lock().unwrap_or_else(PoisonError::into_inner);
        if self.now() >= FORMAT {
            return Ok(false);
        }
        let text = format!("{FORMAT_WORD} {FORMAT}\n");
        replace(&self.folder, &text).map_err(|error| {
            let file = self.folder.join(NAME);
            StoreError::write_failed(format!("{} cannot be replaced: {error}", file.display()))
        })?;
        // Only now: what needs the new format may be written once the file is synced.
        self.now.store(FORMAT, Ordering::Release);
        Ok(true)
    }
}
