//! The file `BACKUP`: what a backup consists of. It is written last, atomically.
//!
//! ```text
//! abide-backup 1 SHA-256 of the JSON that follows
//! {"version": ..., "at": ..., "sequence": ..., "files": [{"name", "bytes", "sha256"}, ...]}
//! ```

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::error::{BackupError, RestoreError};
use crate::atomic_file;
use crate::domain::{Digest, UnixMillis};
use crate::store::failed_io::FailedIo;

/// The name of the file.
pub(in crate::store) const NAME: &str = "BACKUP";
/// The newest format of a backup that this version reads, and the one that it writes.
const BACKUP_FORMAT: u32 = 1;
/// The word before the version number.
const BACKUP_WORD: &str = "abide-backup";

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The version of Abide that took it.
    pub version: String,
    /// When it was begun.
    pub at: UnixMillis,
    /// The store's number of the last operation in it.
    pub sequence: u64,
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its path below the backup's folder, with `/`.
    pub name: String,
    pub bytes: u64,
    pub sha256: Digest,
}

impl BackupManifest {
    /// Returns the sum of the files' sizes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Writes it to `folder`, synced, which makes the folder a backup.
    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(NAME);
        let json = serde_json::to_vec_pretty(self).map_err(FailedIo::of("write", &path))?;
        let head = format!("{BACKUP_WORD} {BACKUP_FORMAT} {}\n", Digest::of(&json));
        let written = atomic_file::write_whole(folder, NAME, &[head.as_bytes(), &json]);
        Ok(written.map_err(FailedIo::of("write", &path))?)
    }

    /// Reads that of a backup.
    pub(super) fn read(folder: &Path) -> Result<Self, RestoreError> {
        let path = folder.join(NAME);
        let read = atomic_file::read(&path).map_err(FailedIo::of("read", &path))?;
        let bytes = read.ok_or_else(|| RestoreError::NoBackup {
            folder: folder.to_owned(),
            reason: format!("it has no file `{NAME}`, which is written last"),
        })?;
        let damaged = |reason: &str| RestoreError::Damaged {
            file: path.clone(),
            reason: reason.to_owned(),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (head, json) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        let head = String::from_utf8_lossy(head);
        let mut words = head.split_ascii_whitespace();
        let (word, format, digest) = (words.next(), words.next(), words.next());
        let format = format.and_then(|format| format.parse::<u32>().ok());
        let (Some(BACKUP_WORD), Some(format)) = (word, format) else {
            return Err(damaged("its first line is not that of a backup"));
        };
        if format > BACKUP_FORMAT {
            return Err(RestoreError::Newer {
                folder: folder.to_owned(),
                found: format,
                reads: BACKUP_FORMAT,
            });
        }
        if digest.and_then(Digest::from_hex) != Some(Digest::of(json)) {
            return Err(damaged("its checksum does not fit"));
        }
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        match manifest.files.iter().find(|file| !is_below(&file.name)) {
            None => Ok(manifest),
            Some(file) => Err(damaged(&format!("`{}` is not below the folder", file.name))),
        }
    }
}

/// Whether a folder has a file that begins as a manifest.
pub(super) fn is_there(folder: &Path) -> bool {
    let bytes = atomic_file::read(&folder.join(NAME));
    matches!(bytes, Ok(Some(bytes)) if bytes.starts_with(BACKUP_WORD.as_bytes()))
}

/// Whether a name leads to something below the folder that it is joined to.
fn is_below(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn manifest(name: &str) -> BackupManifest {
        BackupManifest {
            version: "0.1.0".to_owned(),
            at: UnixMillis(7),
            sequence: 42,
            files: vec![BackupFile {
                name: name.to_owned(),
                bytes: 3,
                sha256: Digest::of(b"abc"),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_and_damage_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let none = BackupManifest::read(home.path());
        assert!(
            matches!(none, Err(RestoreError::NoBackup { .. })),
            "{none:?}"
        );
        let written = manifest("db/CURRENT");
        written.write(home.path()).unwrap();
        assert_eq!(BackupManifest::read(home.path()).unwrap(), written);
        let whole = fs::read(home.path().join(NAME)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(home.path().join(NAME), &bytes).unwrap();
            assert!(BackupManifest::read(home.path()).is_err(), "byte {at}");
            fs::write(home.path().join(NAME), &whole[..at]).unwrap();
            assert!(BackupManifest::read(home.path()).is_err(), "cut at {at}");
        }
        let newer = String::from_utf8(whole).unwrap().replace(" 1 ", " 2 ");
        fs::write(home.path().join(NAME), newer).unwrap();
        let newer = BackupManifest::read(home.path());
        assert!(
            matches!(newer, Err(RestoreError::Newer { .. })),
            "{newer:?}"
        );
    }

    #[test]
    fn names_stay_below_the_folder() {
        for (name, is_good) in [
            ("FORMAT", true),
            ("db/000007.sst", true),
            ("", false),
            ("/etc/passwd", false),
            ("../FORMAT", false),
            ("db/../../x", false),
        ] {
            assert_eq!(is_below(name), is_good, "{name}");
        }
    }
}
