//! Secrets: named in the configuration by a variable or a file, read where they are used, never
//! shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::regular_file;

/// Environment variables, by name.
pub type Env = BTreeMap<String, String>;

const SECRET_MAX_BYTES: u64 = 64 << 10;

/// Returns the process's environment, without variables that are not UTF-8.
pub fn process_env() -> Env {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A reference to a secret.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretRef {
    /// The environment variable that holds it.
    Env(String),
    /// The file that holds it.
    File(PathBuf),
}

/// A secret value. `Debug` does not show it. It is serializable so that one worker can pass it to
/// the next in memory; it must never reach a disk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

/// Why a secret cannot be used. Never reveals anything of its value.
#[derive(Debug, thiserror::Error)]
pub enum BadSecret {
    /// The variable does not exist.
    #[error("{} is not set", variable(.0))]
    Unset(String),
    #[error("file `{}` cannot be read ({reason})", file.display())]
    Unreadable {
        file: PathBuf,
        /// The operating system's error.
        reason: std::io::Error,
    },
    /// It holds nothing but white space.
    #[error("{0} is empty")]
    Empty(SecretRef),
    /// It cannot be the value of a header.
    #[error("{0} holds control characters or more than {SECRET_MAX_BYTES} bytes")]
    Unusable(SecretRef),
}

impl SecretRef {
    /// Reads the secret as it is now.
    ///
    /// # Errors
    /// If it is missing, empty, or cannot be a header's value.
    pub fn read(&self, env: &Env) -> Result<Secret, BadSecret> {
        let text = match self {
            Self::Env(name) => env
                .get(name)
                .cloned()
                .ok_or_else(|| BadSecret::Unset(name.clone()))?,
            Self::File(file) => {
                let text = regular_file::read(file, SECRET_MAX_BYTES + 1).and_then(|bytes| {
                    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8"))
                });
                text.map_err(|reason| BadSecret::Unreadable {
                    file: file.clone(),
                    reason,
                })?
            }
        };
        let secret = text.trim();
        if secret.is_empty() {
            return Err(BadSecret::Empty(self.clone()));
        }
        if secret.len() as u64 > SECRET_MAX_BYTES || secret.chars().any(char::is_control) {
            return Err(BadSecret::Unusable(self.clone()));
        }
        Ok(Secret(secret.to_owned()))
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => f.write_str(&variable(name)),
            Self::File(file) => write!(f, "file `{}`", file.display()),
        }
    }
}

impl Secret {
    /// Wraps a value that the configuration itself holds.
    pub(super) fn new(value: String) -> Self {
        Self(value)
    }

    /// Returns the value, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Names a variable in an error. If somebody wrote the secret itself in place of its variable's
/// name, it must not reach a log, so only names in constant case are shown.
fn variable(name: &str) -> String {
    if is_constant_case(name) {
        format!("environment variable `{name}`")
    } else {
        "the environment variable it names".to_owned()
    }
}

/// Returns whether `name` is in constant case, as most variables are: `OPENAI_API_KEY`.
pub(super) fn is_constant_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Returns whether `name` is a valid name of a variable.
pub(super) fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_trimmed_and_never_shown() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("key");
        std::fs::write(&file, "hunter2\n").expect("writes");
        let secret = SecretRef::File(file).read(&Env::new()).expect("reads");
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn a_key_written_in_place_of_a_name_is_not_repeated() {
        let error = SecretRef::Env("abcdef0123".to_owned()).read(&Env::new());
        assert!(!error.expect_err("unset").to_string().contains("abcdef"));
        let error = SecretRef::Env("MY_KEY".to_owned()).read(&Env::new());
        assert_eq!(
            error.expect_err("unset").to_string(),
            "environment variable `MY_KEY` is not set"
        );
    }
}
