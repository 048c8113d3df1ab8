//! What was seen of the configuration file and the files it names at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::FILE_MAX_BYTES;
use super::preflight::PLUGIN_MAX_BYTES;
use super::regular_file::read;
use crate::domain::Digest;

/// The files of a configuration at one moment, by their content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The configuration file's bytes, exactly.
    pub bytes: Arc<[u8]>,
    /// The digest of those bytes.
    pub config: Digest,
    /// The other files; nothing for one that could not be read.
    pub others: BTreeMap<PathBuf, Option<Digest>>,
}

impl Observed {
    /// Looks now.
    ///
    /// # Errors
    /// Where the configuration file itself cannot be read.
    pub fn now<'a>(file: &Path, others: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<Self> {
        Ok(Self::of(config_bytes(file)?, others))
    }

    /// These bytes, and the other files as they are now.
    pub fn of<'a>(bytes: Vec<u8>, others: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let others = others.into_iter();
        let others = others.map(|other| (other.clone(), digest(other)));
        Self::with(bytes, others.collect())
    }

    /// What was seen: the configuration's bytes, and the other files' digests.
    pub fn with(bytes: impl Into<Arc<[u8]>>, others: BTreeMap<PathBuf, Option<Digest>>) -> Self {
        let bytes = bytes.into();
        Self {
            config: Digest::of(&bytes),
            bytes,
            others,
        }
    }

    /// The same with these files only, as they are now where they have not been seen.
    pub fn narrowed(&self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        let seen = |file: &PathBuf| self.others.get(file).copied();
        let others = files.into_iter().map(|file| {
            let digest = seen(&file).unwrap_or_else(|| digest(&file));
            (file, digest)
        });
        Self {
            others: others.collect(),
            ..self.clone()
        }
    }

    /// The named files whose content differs from `earlier`'s.
    pub fn changed_since(&self, earlier: &Self) -> BTreeSet<PathBuf> {
        self.others
            .iter()
            .filter(|(file, digest)| {
                earlier
                    .others
                    .get(*file)
                    .is_some_and(|before| before != *digest)
            })
            .map(|(file, _)| file.clone())
            .collect()
    }

    /// One digest of all of it: what was refused under it need not be tried again until it
    /// differs.
    pub fn digest(&self) -> Digest {
        let mut all = self.config.as_bytes().to_vec();
        for (file, digest) in &self.others {
            all.extend(Digest::of(file.as_os_str().as_encoded_bytes()).as_bytes());
            all.extend(digest.map_or([0; 32], |digest| *digest.as_bytes()));
        }
        Digest::of(&all)
    }
}

/// The bytes of the configuration file; of one that is too large, enough to tell that it is.
///
/// # Errors
/// Where it cannot be read, or is no regular file.
pub fn config_bytes(file: &Path) -> io::Result<Vec<u8>> {
    read(file, FILE_MAX_BYTES + 1)
}

/// A component's bytes.
///
/// # Errors
/// Where it cannot be read, is no regular file, or is larger than a plugin may be.
pub fn plugin_bytes(file: &Path) -> io::Result<Vec<u8>> {
    let bytes = read(file, PLUGIN_MAX_BYTES + 1)?;
    if bytes.len() as u64 > PLUGIN_MAX_BYTES {
        return Err(io::Error::other(format!(
            "it has more than {PLUGIN_MAX_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

/// The digest of a named file's content, if it can be read. What is larger than a plugin may be is
/// refused in any case, and not read to its end.
pub(super) fn digest(file: &Path) -> Option<Digest> {
    let bytes = read(file, PLUGIN_MAX_BYTES + 1).ok()?;
    Some(Digest::of(&bytes))
}
