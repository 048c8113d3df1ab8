//! What a worker is started on: the configuration's bytes, and which content of the files that it
//! names went with them. A plugin's file may have been replaced since by one that does not load;
//! a worker that is started after a crash, or rolled back to, must not depend on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Observed;
use crate::domain::Digest;
use crate::supervisor::ConfigBytes;

/// What comes before the rest. No configuration begins with it, and one that a version handed over
/// which knew nothing of this is taken as it is.
const MAGIC: &[u8] = b"\0abide1\0";

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handed {
    /// The configuration file's bytes, exactly.
    pub(super) config: Vec<u8>,
    /// The files that it names, as they were.
    pub(super) files: BTreeMap<PathBuf, Digest>,
}

impl Handed {
    /// What was seen, without the files that could not be read or whose names are not text.
    pub(super) fn of(seen: &Observed) -> Self {
        let files = seen.others.iter();
        let files = files.filter(|(file, _)| file.to_str().is_some());
        Self {
            config: seen.bytes.to_vec(),
            files: files
                .filter_map(|(file, digest)| Some((file.clone(), (*digest)?)))
                .collect(),
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        let rest = rmp_serde::to_vec(self).map_err(|error| error.to_string())?;
        Ok([MAGIC, &rest].concat())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.strip_prefix(MAGIC) {
            Some(rest) => rmp_serde::from_slice(rest).map_err(|error| error.to_string()),
            None => Ok(Self {
                config: bytes.to_vec(),
                files: BTreeMap::new(),
            }),
        }
    }

    /// As it crosses to another process.
    pub(super) fn sealed(&self) -> Result<ConfigBytes, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("the configuration cannot be handed over: {error}")
        };
        let bytes = self.encode().map_err(|error| failed(&error))?;
        ConfigBytes::new(&bytes).map_err(|error| failed(&error))
    }
}

/// The file in the data folder that keeps what last proved itself.
pub(super) fn last_good_file(data_dir: &Path) -> PathBuf {
    data_dir.join("last-good")
}

/// What last proved itself, if anything has.
///
/// # Errors
/// Where the file is there and cannot be used.
pub(super) fn last_good(data_dir: &Path) -> Result<Option<Handed>, String> {
    let file = last_good_file(data_dir);
    match std::fs::read(&file) {
        Ok(bytes) => Handed::decode(&bytes)
            .map(Some)
            .map_err(|error| format!("{}: {error}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// Keeps what has proven itself; after a crash the file is the old one or the new one. Blocks.
pub(super) fn keep_last_good(data_dir: &Path, handed: &Handed) -> Result<(), String> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| error.to_string();
    let bytes = handed.encode()?;
    let mut file = tempfile::NamedTempFile::new_in(data_dir).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(last_good_file(data_dir))
        .map_err(|error| error.to_string())?;
    std::fs::File::open(data_dir)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives_whole() {
        let seen = Observed::with(
            *b"[daemon]\n\xff",
            BTreeMap::from([
                ("/a".into(), Some(Digest::of(b"a"))),
                ("/gone".into(), None),
            ]),
        );
        let handed = Handed::of(&seen);
        assert_eq!(handed.files.len(), 1);
        let bytes = handed.encode().expect("it can be encoded");
        assert_eq!(Handed::decode(&bytes), Ok(handed));
    }

    #[test]
    fn what_an_older_version_hands_over_is_a_configuration() {
        let handed = Handed::decode(b"[daemon]").expect("bytes");
        assert_eq!(handed.config, b"[daemon]");
        assert!(Handed::decode(&[MAGIC, b"\xc1"].concat()).is_err());
    }

    #[test]
    fn the_last_good_is_kept_and_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(last_good(folder.path()), Ok(None));
        for text in ["one", "two"] {
            let handed = Handed {
                config: text.into(),
                files: BTreeMap::new(),
            };
            keep_last_good(folder.path(), &handed).expect("it can be written");
            assert_eq!(last_good(folder.path()), Ok(Some(handed)));
        }
    }
}
