//! The contents of secret files, which one worker passes to the next.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::model::Config;
use super::secret::{BadSecret, Env, Secret, SecretRef};

/// The contents of the secret files that a worker runs on. The files themselves may be gone when a
/// worker is started after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFiles(BTreeMap<PathBuf, Secret>);

impl SecretFiles {
    /// Collects the secret files of a configuration: the content in `known` where there is one,
    /// otherwise what can be read now.
    pub fn of(config: &Config, known: &Self) -> Self {
        let files = config.secrets().into_iter().filter_map(|(_, secret)| {
            let SecretRef::File(file) = secret else {
                return None;
            };
            let content = match known.0.get(file) {
                Some(content) => content.clone(),
                // Skipped here: whoever uses the secret reports why it cannot be read.
                None => secret.read(&Env::new()).ok()?,
            };
            Some((file.clone(), content))
        });
        Self(files.collect())
    }

    /// Returns a secret, from its known file content or else by reading it.
    ///
    /// # Errors
    /// Those of [`SecretRef::read`].
    pub fn read(&self, secret: &SecretRef, env: &Env) -> Result<Secret, BadSecret> {
        let known = match secret {
            SecretRef::File(file) => self.0.get(file),
            SecretRef::Env(_) => None,
        };
        known.map_or_else(|| secret.read(env), |known| Ok(known.clone()))
    }

    /// Returns the files whose content is known.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.keys()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
