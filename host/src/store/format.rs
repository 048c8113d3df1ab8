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
//!
//! From format 2 on, what is added is a *part* with a name, which the file has behind the number.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use crate::atomic_file::write_whole;

use super::{
    OpenError, StoreError, failed_io::FailedIo, synced::NAME as SYNCED, trail_file::NAME as TRAIL,
};

/// Marks a folder that a salvage is writing, and that has no file `FORMAT` yet.
pub(super) const SALVAGING: &str = "SALVAGE.partial";
/// The newest format of the data folder that this version of Abide reads. `host/docs/store-format.md`
/// describes the formats.
pub const FORMAT: u32 = 2;
/// The format that a new store has: until it is raised, the version before this one can open the
/// folder.
pub(super) const FIRST_FORMAT: u32 = 1;
/// The format from which on a session's history may be cut.
pub(super) const CUT_FORMAT: u32 = 2;
/// What was added to format 2 under a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Access tokens, standing approvals and the audit log.
    Control,
    /// Sessions that run on another component than their plugin's.
    Components,
    /// Restore points, rewound sessions, and copies.
    Points,
}

impl Part {
    const ALL: [Self; 3] = [Self::Control, Self::Components, Self::Points];

    /// Its name in the file, which is never used for anything else.
    fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Components => "components",
            Self::Points => "points",
        }
    }
}

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

/// Whether the store in a data folder always has the file `SYNCED`: all versions that write this format write
/// it. So may one whose `FORMAT` cannot be read.
pub(super) fn has_marks(path: &Path) -> bool {
    match stored(path) {
        Ok(Some((written, _))) => written.version >= CUT_FORMAT,
        Ok(None) | Err(_) => true,
    }
}

/// What the file `FORMAT` says of a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Written {
    version: u32,
    /// Which parts it has, in the order of [`Part::ALL`].
    parts: [bool; Part::ALL.len()],
}

impl Written {
    const FIRST: Self = Self {
        version: FIRST_FORMAT,
        parts: [false; Part::ALL.len()],
    };
    const NEWEST: Self = Self {
        version: FORMAT,
        parts: [true; Part::ALL.len()],
    };

    /// Returns the file's one line, without its end.
    fn line(self) -> String {
        let mut line = format!("{FORMAT_WORD} {}", self.version);
        for (part, has) in Part::ALL.into_iter().zip(self.parts) {
            if has {
                line.push(' ');
                line.push_str(part.name());
            }
        }
        line
    }
}

/// Reads the file `FORMAT`, and whether the store is being created. `None` if there is neither the
/// file nor a store.
fn stored(path: &Path) -> Result<Option<(Written, bool)>, OpenError> {
    let file = path.join(NAME);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return no_format(path).map(|()| None),
        Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(FailedIo::of("read", &file)(error).into()),
    };
    let mut words = text.split_ascii_whitespace();
    let found = match (words.next(), words.next().map(str::parse::<u32>)) {
        (Some(FORMAT_WORD), Some(Ok(found))) if found >= FIRST_FORMAT => found,
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
            line: Written::NEWEST.line(),
        });
    }
    let mut creating = false;
    let mut written = Written {
        version: found,
        ..Written::FIRST
    };
    for word in words {
        let part = Part::ALL.into_iter().position(|part| part.name() == word);
        match part {
            Some(part) => written.parts[part] = true,
            None if word == CREATING => creating = true,
            // A later version names there what it has added.
            None => {
                return Err(OpenError::NewerPart {
                    path: path.to_owned(),
                    part: word.to_owned(),
                    line: Written::NEWEST.line(),
                });
            }
        }
    }
    Ok(Some((written, creating)))
}

/// Fails if a folder without the file `FORMAT` has something that is only ever beside it: a store that
/// lost a part is none that may be made anew.
fn no_format(path: &Path) -> Result<(), OpenError> {
    if fs::exists(path.join(SALVAGING)).map_err(FailedIo::of("look into", path))? {
        return Err(OpenError::HalfSalvaged {
            path: path.to_owned(),
        });
    }
    for (name, what) in [
        ("db", "a folder `db`"),
        (SYNCED, "a file `SYNCED`"),
        (TRAIL, "a file `TRAIL`"),
    ] {
        let is_there = fs::exists(path.join(name)).map_err(FailedIo::of("look into", path))?;
        if is_there {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                reason: format!("it has {what} and no file `FORMAT`"),
            });
        }
    }
    Ok(())
}

/// Notes that the creation of a store has begun.
pub(super) fn begin_format(path: &Path) -> Result<(), OpenError> {
    let line = format!("{} {CREATING}", Written::FIRST.line());
    Ok(replace(path, &line).map_err(FailedIo::of("write", &path.join(NAME)))?)
}

/// Notes that the creation of a store is complete.
pub(super) fn write_first_format(path: &Path) -> Result<(), OpenError> {
    write_format(path, Written::FIRST)
}

/// Notes that a complete store has the newest format of this version: nobody will go back to an
/// earlier one.
pub(super) fn write_newest_format(path: &Path) -> Result<(), OpenError> {
    write_format(path, Written::NEWEST)
}

fn write_format(path: &Path, format: Written) -> Result<(), OpenError> {
    let replaced = replace(path, &format.line());
    Ok(replaced.map_err(FailedIo::of("write", &path.join(NAME)))?)
}

/// Replaces the file `FORMAT` with this line.
fn replace(path: &Path, line: &str) -> io::Result<()> {
    write_whole(path, NAME, &[line.as_bytes(), b"\n"])
}

/// The format that an open store has: what may be written into it.
#[derive(Debug)]
pub(super) struct StoreFormat {
    folder: PathBuf,
    version: AtomicU32,
    /// As in [`Written`].
    parts: [AtomicBool; Part::ALL.len()],
    /// Held while it is raised.
    raising: Mutex<()>,
}

impl StoreFormat {
    /// Reads the format of a store that is being opened, once it is decided.
    pub(super) fn read(folder: &Path) -> Result<Self, OpenError> {
        let written = stored(folder)?.map_or(Written::FIRST, |(written, _)| written);
        Ok(Self {
            folder: folder.to_owned(),
            version: AtomicU32::new(written.version),
            parts: written.parts.map(AtomicBool::new),
            raising: Mutex::new(()),
        })
    }

    /// Returns its number.
    pub(super) fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// Refuses to write `what`, which exists from the format `needs` on, into a store of an older one.
    pub(super) fn allow(&self, what: &'static str, needs: u32) -> Result<(), StoreError> {
        match self.version() {
            has if has < needs => Err(StoreError::OlderFormat { what, needs, has }),
            _ => Ok(()),
        }
    }

    /// Whether it has a part.
    pub(super) fn has(&self, part: Part) -> bool {
        self.parts[part as usize].load(Ordering::Acquire)
    }

    /// Refuses to write `what`, which is of a part, into a store that lacks it.
    pub(super) fn allow_part(&self, what: &'static str, part: Part) -> Result<(), StoreError> {
        match self.has(part) {
            true => Ok(()),
            false => Err(StoreError::LacksPart {
                what,
                part: part.name(),
            }),
        }
    }

    /// Raises the format to this version's newest. Returns whether it was older.
    pub(super) fn raise(&self) -> Result<bool, StoreError> {
        // Ignores poisoning: the file is replaced as a whole or not at all.
        let _raising = self.raising.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Written {
            version: self.version(),
            parts: self.parts.each_ref().map(|has| has.load(Ordering::Acquire)),
        };
        let newest = Written::NEWEST;
        if now >= newest {
            return Ok(false);
        }
        replace(&self.folder, &newest.line()).map_err(|error| {
            let file = self.folder.join(NAME);
            StoreError::write_failed(format!("{} cannot be replaced: {error}", file.display()))
        })?;
        // Only now: what needs the new format may be written once the file is synced.
        self.version.store(newest.version, Ordering::Release);
        for (part, has) in self.parts.iter().zip(newest.parts) {
            part.store(has, Ordering::Release);
        }
        Ok(true)
    }
}
