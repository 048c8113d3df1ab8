//! Loads a configuration: reads the file, parses its keys, resolves them and checks the result. All
//! problems are reported at once.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::diagnostics::{ConfigError, ConfigProblem};
use super::file_snapshot::{FILE_MAX_BYTES, config_bytes};
use super::model::Config;
use super::parse::parse_keys;
use super::place::Place;
use super::secret::Env;
use super::{preflight, resolve};
use crate::domain::Digest;

/// A configuration, and the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The file's bytes: a standby is started on these, not on a second read.
    pub bytes: Vec<u8>,
}

/// A parsed configuration that may still have problems.
#[derive(Clone, Debug)]
pub struct ConfigDraft {
    config: Config,
    problems: Vec<ConfigProblem>,
}

impl Config {
    /// Reads and parses a file. Plugin files and secrets are not checked (see
    /// [`ConfigDraft::checked`]).
    ///
    /// # Errors
    /// If it cannot be read, or its content is not valid.
    pub fn load(path: &Path, env: &Env) -> Result<Loaded, ConfigError> {
        let bytes = read(path)?;
        let config = Self::parse(&bytes, path, env)?;
        Ok(Loaded { config, bytes })
    }

    /// Reads and parses a file as far as possible: what it does not say, or says wrongly, has its default.
    /// Not for running sessions: for a command that works without a configuration, too. Also returns why
    /// something was left out, unless there is no file.
    pub fn as_far_as_it_goes(path: &Path, env: &Env) -> (Self, Option<ConfigError>) {
        let mut left_out = None;
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let is_missing = matches!(&error, ConfigError::Unreadable { reason, .. } if reason.kind() == ErrorKind::NotFound);
                left_out = (!is_missing).then_some(error);
                Vec::new()
            }
        };
        let draft = Self::draft(&bytes, path, env).or_else(|error| {
            left_out = Some(error);
            Self::draft(b"", path, &Env::new())
        });
        let ConfigDraft { config, problems } =
            draft.expect("an empty text has no key that could be wrong");
        // An empty text lacks a plugin, which nobody misses here.
        if !bytes.is_empty() && left_out.is_none() {
            left_out = refuse(problems).err();
        }
        (config, left_out)
    }

    /// Parses the bytes of `file`; relative paths are resolved against its directory.
    ///
    /// # Errors
    /// All problems of the content.
    pub fn parse(bytes: &[u8], file: &Path, env: &Env) -> Result<Self, ConfigError> {
        let ConfigDraft { config, problems } = Self::draft(bytes, file, env)?;
        refuse(problems)?;
        Ok(config)
    }

    /// Parses like [`Config::parse`] and checks like [`ConfigDraft::checked`], so that all problems
    /// are reported at once.
    ///
    /// # Errors
    /// The problems that either of them finds.
    pub fn validate(bytes: &[u8], file: &Path, env: &Env) -> Result<Self, ConfigError> {
        Self::draft(bytes, file, env)?.checked(env)
    }

    /// Parses the bytes of `file` as far as possible.
    ///
    /// # Errors
    /// If keys cannot be read from them at all. Problems of individual values are kept in the
    /// draft.
    pub fn draft(bytes: &[u8], file: &Path, env: &Env) -> Result<ConfigDraft, ConfigError> {
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(ConfigError::Invalid(vec![ConfigProblem {
                key: String::new(),
                place: Place::File(file.to_owned()),
                reason: format!("it has more than {FILE_MAX_BYTES} bytes"),
                remedy: "make it smaller".to_owned(),
            }]));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()]
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count();
                return Err(ConfigError::Invalid(vec![ConfigProblem {
                    key: String::new(),
                    place: Place::File(file.to_owned()),
                    reason: format!("line {line} is not UTF-8"),
                    remedy: "save the file as UTF-8".to_owned(),
                }]));
            }
        };
        let (keys, places) = parse_keys(file, text, env).map_err(ConfigError::Invalid)?;
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let (config, problems) = resolve::understand(keys, absolute, Digest::of(bytes), places);
        Ok(ConfigDraft { config, problems })
    }
}

impl ConfigDraft {
    /// Returns the files that it names, see [`Config::files`].
    pub fn files(&self) -> BTreeSet<PathBuf> {
        self.config.files()
    }

    /// Returns the configuration if it is valid. Also checks what depends on this machine and would
    /// fail a start: plugin files exist and are components, secrets exist and are not empty.
    /// Compiling plugins and opening the store are left to the engine and the store.
    ///
    /// # Errors
    /// All problems of the content, and all files and secrets that are missing or unusable.
    pub fn checked(self, env: &Env) -> Result<Config, ConfigError> {
        let Self {
            config,
            mut problems,
        } = self;
        problems.extend(preflight::problems(&config, env));
        refuse(problems)?;
        Ok(config)
    }
}

/// Reads a configuration file without parsing it.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |reason, remedy| ConfigError::Unreadable {
        file: path.to_owned(),
        reason,
        remedy,
    };
    let bytes = config_bytes(path).map_err(|reason| {
        let remedy = match reason.kind() {
            ErrorKind::NotFound => "`abide init` writes one, `--config FILE` names another",
            ErrorKind::PermissionDenied => "let the daemon's user read it",
            ErrorKind::TimedOut => {
                "see whether its disk, or the server that it is mounted from, answers"
            }
            _ => "make it a readable file",
        };
        unreadable(reason, remedy)
    })?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let reason = std::io::Error::other(format!("it has more than {FILE_MAX_BYTES} bytes"));
        return Err(unreadable(reason, "make it smaller"));
    }
    Ok(bytes)
}

fn refuse(problems: Vec<ConfigProblem>) -> Result<(), ConfigError> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Invalid(problems))
    }
}
