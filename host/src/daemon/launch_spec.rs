//! The launch specification of a worker: the configuration's bytes, and the digests of the files
//! that it names. Since then a plugin's file may have been replaced by one that does not load, or a
//! secret's file may be gone; a worker that is started after a crash or by a rollback must not
//! depend on the current files. Secrets are passed in memory and never written to a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::checksummed::{Unfit, seal, unseal};
use crate::config::{Config, Observed, SecretFiles};
use crate::domain::Digest;
use crate::supervisor::ConfigBytes;

/// The prefix of an encoded launch spec. No configuration file begins with it; bytes without it
/// come from an older version, and are the plain configuration.
const MAGIC: &[u8] = b"\0abide1\0";

/// The launch specification of a worker; see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaunchSpec {
    /// The configuration file's bytes, exactly.
    pub(super) config: Vec<u8>,
    /// The digests of the files that the configuration names, as they were.
    pub(super) files: BTreeMap<PathBuf, Digest>,
    /// The content of the secret files among them; empty in a launch spec that was stored on disk.
    #[serde(default, skip_serializing_if = "SecretFiles::is_empty")]
    pub(super) secrets: SecretFiles,
}

/// The reason why a launch spec could not be written, read or passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchSpecError {
    #[error("the configuration cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("the configuration cannot be decoded: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    /// The memfd that carries the launch spec to another process cannot be used.
    #[error("the configuration cannot be handed over: {0}")]
    Memfd(std::io::Error),
    #[error("{0}: it is damaged; start on the configuration file, without --last-good")]
    Unfit(Unfit),
    #[error("{}: {source}", path.display())]
    Content {
        path: PathBuf,
        source: Box<LaunchSpecError>,
    },
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl LaunchSpec {
    /// Creates a launch spec from observed files. Leaves out files that could not be read, and
    /// files whose names are not UTF-8.
    pub(super) fn of(seen: &Observed, secrets: &SecretFiles) -> Self {
        let files = seen.others.iter();
        let files = files.filter(|(file, _)| file.to_str().is_some());
        Self {
            config: seen.bytes.to_vec(),
            files: files
                .filter_map(|(file, digest)| Some((file.clone(), (*digest)?)))
                .collect(),
            secrets: secrets.clone(),
        }
    }

    /// Adds the secrets that the configuration names and this spec lacks, as their files are now.
    pub(super) fn with_secrets(self, config: &Config) -> Self {
        let secrets = SecretFiles::of(config, &self.secrets);
        Self { secrets, ..self }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, LaunchSpecError> {
        let rest = rmp_serde::to_vec(self)?;
        Ok([MAGIC, &rest].concat())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, LaunchSpecError> {
        match bytes.strip_prefix(MAGIC) {
            Some(rest) => Ok(rmp_serde::from_slice(rest)?),
            None => Ok(Self {
                config: bytes.to_vec(),
                ..Self::default()
            }),
        }
    }

    /// Encodes the launch spec into a memfd, to pass it to another process.
    pub(super) fn to_memfd(&self) -> Result<ConfigBytes, LaunchSpecError> {
        ConfigBytes::new(&self.encode()?).map_err(LaunchSpecError::Memfd)
    }
}

/// The file in the data directory with the last good configuration: the last that passed probation.
const LAST_GOOD: &str = "last-good";

/// Reads the last good configuration, if there is one.
///
/// # Errors
/// Returns an error if the file exists and is unusable.
pub(super) fn last_good(data_dir: &Path) -> Result<Option<LaunchSpec>, LaunchSpecError> {
    let path = data_dir.join(LAST_GOOD);
    match atomic_file::read(&path) {
        Ok(Some(bytes)) => unseal(&bytes)
            .map_err(LaunchSpecError::Unfit)
            .and_then(LaunchSpec::decode)
            .map(Some)
            .map_err(|error| LaunchSpecError::Content {
                path,
                source: Box::new(error),
            }),
        Ok(None) => Ok(None),
        Err(source) => Err(LaunchSpecError::File { path, source }),
    }
}

/// Stores the last good configuration, without its secrets. Atomic: after a crash the file is
/// either the old or the new one. Blocks.
pub(super) fn keep_last_good(data_dir: &Path, seen: &Observed) -> Result<(), LaunchSpecError> {
    let bytes = LaunchSpec::of(seen, &SecretFiles::default()).encode()?;
    atomic_file::write_whole(data_dir, LAST_GOOD, &[&seal(bytes)]).map_err(|source| {
        let path = data_dir.join(LAST_GOOD);
        LaunchSpecError::File { path, source }
    })
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
        let handed = LaunchSpec::of(&seen, &SecretFiles::default());
        assert_eq!(handed.files.len(), 1);
        let bytes = handed.encode().expect("it can be encoded");
        assert_eq!(LaunchSpec::decode(&bytes).expect("decodes"), handed);
    }

    #[test]
    fn what_an_older_version_hands_over_is_a_configuration() {
        let handed = LaunchSpec::decode(b"[daemon]").expect("bytes");
        assert_eq!(handed.config, b"[daemon]");
        assert!(LaunchSpec::decode(&[MAGIC, b"\xc1"].concat()).is_err());
    }

    #[test]
    fn a_damaged_last_good_is_known_and_older_versions_read_a_whole_one() {
        let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let seen = Observed::with(*b"[daemon]\n", BTreeMap::new());
        keep_last_good(folder.path(), &seen).expect("it can be written");
        let path = folder.path().join(LAST_GOOD);
        let bytes = std::fs::read(&path).expect("it was written");
        let whole = last_good(folder.path()).expect("reads").expect("is there");
        assert_eq!(LaunchSpec::decode(&bytes).expect("decodes"), whole);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).expect("the folder is ours");
            match last_good(folder.path()) {
                Ok(read) => assert_eq!(read.as_ref(), Some(&whole), "byte {at}"),
                Err(error) => assert!(error.to_string().contains(LAST_GOOD), "{error}"),
            }
        }
    }

    #[test]
    fn the_last_good_is_kept_and_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(last_good(folder.path()).expect("reads"), None);
        for text in ["one", "two"] {
            let seen = Observed::with(text.as_bytes(), BTreeMap::new());
            keep_last_good(folder.path(), &seen).expect("it can be written");
            let handed = LaunchSpec::of(&seen, &SecretFiles::default());
            assert_eq!(last_good(folder.path()).expect("reads"), Some(handed));
        }
    }

    #[test]
    fn secrets_are_handed_over_and_not_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "hunter2").expect("writes");
        let text = "[plugins.echo]\npath = \"echo.wasm\"\n\
                    [llm.m]\nbase_url = \"http://h\"\nmodel = \"m\"\napi_key_file = \"key\"\n";
        let path = folder.path().join("abide.toml");
        let config = Config::parse(text.as_bytes(), &path, &Default::default()).expect("sound");
        let seen = Observed::with(text.as_bytes(), BTreeMap::new());
        let bare = LaunchSpec::of(&seen, &SecretFiles::default());
        let handed = bare.clone().with_secrets(&config);
        assert!(!format!("{handed:?}").contains("hunter2"));
        // The secrets that were handed over are used, even if the file is gone.
        std::fs::remove_file(&file).expect("removes");
        let arrived = LaunchSpec::decode(&handed.encode().expect("it can be encoded"));
        let arrived = arrived.expect("it can be decoded").with_secrets(&config);
        assert_eq!(arrived, handed);
        assert!(arrived.secrets.files().eq([&file]));
        keep_last_good(folder.path(), &seen).expect("it can be written");
        assert_eq!(last_good(folder.path()).expect("reads"), Some(bare));
    }
}
