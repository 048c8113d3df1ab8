//! The content of the configuration file, and of the files it names, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::regular_file::read;
use crate::domain::Digest;

/// The size limit of a configuration file, in bytes.
pub(super) const FILE_MAX_BYTES: u64 = 1 << 20;

/// The size limit of a component, in bytes.
pub(super) const PLUGIN_MAX_BYTES: u64 = 512 << 20;

/// A snapshot of a configuration's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub bytes: Arc<[u8]>,
    /// The digest of `bytes`.
    pub config: Digest,
    /// The digests of the other files; `None` for a file that could not be read.
    pub others: BTreeMap<PathBuf, Option<Digest>>,
}

impl Observed {
    /// Takes a snapshot of the files as they are now.
    ///
    /// # Errors
    /// If the configuration file itself cannot be read.
    pub fn now<'a>(file: &Path, others: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<Self> {
        Ok(Self::of(config_bytes(file)?, others))
    }

    /// Takes a snapshot with these configuration bytes and the other files as they are now.
    pub fn of<'a>(bytes: Vec<u8>, others: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let others = others.into_iter();
        let others = others.map(|other| (other.clone(), digest(other)));
        Self::with(bytes, others.collect())
    }

    /// Builds a snapshot from the configuration's bytes and the other files' digests.
    pub fn with(bytes: impl Into<Arc<[u8]>>, others: BTreeMap<PathBuf, Option<Digest>>) -> Self {
        let bytes = bytes.into();
        Self {
            config: Digest::of(&bytes),
            bytes,
            others,
        }
    }

    /// Returns this snapshot restricted to `files`. Files that it does not contain are read now.
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

    /// Returns the other files whose content differs from that in `earlier`. Files that `earlier`
    /// does not contain are left out.
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

    /// Returns one digest over all files. A configuration rejected under this digest need not be
    /// tried again until the digest changes.
    pub fn digest(&self) -> Digest {
        let mut all = self.config.as_bytes().to_vec();
        for (file, digest) in &self.others {
            all.extend(Digest::of(file.as_os_str().as_encoded_bytes()).as_bytes());
            all.extend(digest.map_or([0; 32], |digest| *digest.as_bytes()));
        }
        Digest::of(&all)
    }
}

/// Reads the configuration file; one that is too large only as far as needed to detect that.
///
/// # Errors
/// If it cannot be read, or is not a regular file.
pub fn config_bytes(file: &Path) -> io::Result<Vec<u8>> {
    read(file, FILE_MAX_BYTES + 1)
}

/// Reads a plugin's component.
///
/// # Errors
/// If it cannot be read, is not a regular file, or is larger than a plugin may be.
pub fn plugin_bytes(file: &Path) -> io::Result<Vec<u8>> {
    let bytes = read(file, PLUGIN_MAX_BYTES + 1)?;
    if bytes.len() as u64 > PLUGIN_MAX_BYTES {
        return Err(io::Error::other(format!(
            "it has more than {PLUGIN_MAX_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

/// Returns the digest of a file that the configuration names, or `None` if it cannot be read. A
/// file larger than a plugin may be is rejected in any case, and is not read to its end.
pub(super) fn digest(file: &Path) -> Option<Digest> {
    let bytes = read(file, PLUGIN_MAX_BYTES + 1).ok()?;
    Some(Digest::of(&bytes))
}
