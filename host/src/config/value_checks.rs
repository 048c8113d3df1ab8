//! Collects the problems of a configuration; holds the checks that many keys share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostics::ConfigProblem;
use super::given::{Given, GivenKey, GivenTable};
use super::place::Places;
use super::secret::{Secret, SecretRef, is_variable_name};
use super::units::{Size, Time};
use crate::domain::NAME_MAX_BYTES;

/// The limit of every duration: a longer one is a mistake, and clocks would overflow.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The problems found so far, and the places of all keys.
pub(super) struct Notes {
    places: Places,
    pub(super) problems: Vec<ConfigProblem>,
}

impl Notes {
    pub(super) fn new(places: Places) -> Self {
        Self {
            places,
            problems: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, key: &str, reason: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(ConfigProblem {
            key: key.to_owned(),
            place: self.places.of(key),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn time(&mut self, key: &str, Time(time): Time, min: Duration) -> Duration {
        if time < min || time > TIME_MAX {
            self.add(
                key,
                format!("`{}` is out of range", Time(time)),
                format!("choose {} to {}", Time(min), Time(TIME_MAX)),
            );
        }
        time
    }

    pub(super) fn size(&mut self, key: &str, Size(size): Size, min: u64, max: u64) -> u64 {
        if size < min || size > max {
            self.add(
                key,
                format!("`{}` is out of range", Size(size)),
                format!("choose {} to {}", Size(min), Size(max)),
            );
        }
        size
    }

    pub(super) fn count(&mut self, key: &str, count: u32, min: u32, max: u32) -> u32 {
        if count < min || count > max {
            self.add(
                key,
                format!("`{count}` is out of range"),
                format!("choose {min} to {max}"),
            );
        }
        count
    }

    /// Resolves a secret that is named by a variable or by a file.
    pub(super) fn secret(
        &mut self,
        key: &str,
        env: Option<String>,
        file: Option<PathBuf>,
        folder: &Path,
    ) -> Option<SecretRef> {
        match (env, file) {
            (Some(_), Some(_)) => {
                self.add(
                    &format!("{key}_file"),
                    format!("`{key}_env` and `{key}_file` are both given"),
                    "keep one of them",
                );
                None
            }
            (Some(name), None) => self.variable(&format!("{key}_env"), name),
            (None, Some(file)) => Some(SecretRef::File(folder.join(file))),
            (None, None) => None,
        }
    }

    pub(super) fn variable(&mut self, key: &str, name: String) -> Option<SecretRef> {
        if is_variable_name(&name) {
            return Some(SecretRef::Env(name));
        }
        // The value is not shown: it may be the secret itself.
        self.add(
            key,
            "this is not the name of an environment variable",
            "write the variable's name, like OPENAI_API_KEY, and set it in the daemon's environment",
        );
        None
    }

    /// Resolves a value that may be a secret. `bare` interprets a text that is not in a table.
    pub(super) fn given(
        &mut self,
        key: &str,
        given: GivenKey,
        folder: &Path,
        bare: impl FnOnce(&mut Self, String) -> Option<Given>,
    ) -> Option<Given> {
        let table = match given {
            GivenKey::Bare(text) => return bare(self, text),
            GivenKey::Table(table) => table,
        };
        match table {
            GivenTable {
                value: Some(value),
                env: None,
                file: None,
            } => Some(Given::Value(Secret::new(value))),
            GivenTable {
                value: None,
                env: Some(name),
                file: None,
            } => self.variable(key, name).map(Given::Named),
            GivenTable {
                value: None,
                env: None,
                file: Some(file),
            } => Some(Given::Named(SecretRef::File(folder.join(file)))),
            _ => {
                self.add(
                    key,
                    "a value is given in one way",
                    "keep one of `value`, `env` and `file`",
                );
                None
            }
        }
    }

    /// Resolves request headers. `own` are those that Abide sends itself, in lower case.
    pub(super) fn headers(
        &mut self,
        key: &str,
        headers: BTreeMap<String, GivenKey>,
        folder: &Path,
        own: &[&str],
    ) -> BTreeMap<String, Given> {
        let mut all: BTreeMap<String, Given> = BTreeMap::new();
        for (name, given) in headers {
            let key = format!("{key}.{name}");
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                self.add(
                    &key,
                    "this is not the name of a header",
                    "write it with letters, digits and `-`",
                );
                continue;
            }
            if own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                self.add(&key, "Abide sends this header itself", "remove it");
                continue;
            }
            if all.keys().any(|known| known.eq_ignore_ascii_case(&name)) {
                self.add(
                    &key,
                    "this header is given twice (upper and lower case are the same)",
                    "keep one of them",
                );
                continue;
            }
            let given = self.given(&key, given, folder, |_, text| {
                Some(Given::Value(Secret::new(text)))
            });
            let Some(given) = given else { continue };
            if let Given::Value(value) = &given
                && http::HeaderValue::from_str(value.expose()).is_err()
            {
                self.add(
                    &key,
                    "this value cannot stand in a header",
                    "write it in printable ASCII",
                );
                continue;
            }
            all.insert(name, given);
        }
        all
    }

    /// Checks an HTTP URL. The value is not shown, since it may hold a password.
    pub(super) fn url(&mut self, key: &str, url: &str) {
        let example = "write it like \"http://127.0.0.1:8080/v1\"";
        let Ok(parsed) = url.parse::<http::Uri>() else {
            return self.add(key, "this is not a URL", example);
        };
        let is_http = matches!(parsed.scheme_str(), Some("http" | "https"));
        match parsed.authority() {
            Some(authority) if authority.as_str().contains('@') => self.add(
                key,
                "this URL holds a user or password",
                "take it out, and name the secret by its variable or file",
            ),
            Some(authority) if is_http && !authority.host().is_empty() => {}
            _ => self.add(key, "this is not an HTTP URL", example),
        }
    }

    pub(super) fn names<'a>(&mut self, section: &str, names: impl Iterator<Item = &'a String>) {
        for name in names {
            let fits = !name.is_empty()
                && name.len() <= NAME_MAX_BYTES
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            if !fits {
                self.add(
                    &format!("{section}.{name}"),
                    "this name cannot be used",
                    format!("choose 1 to {NAME_MAX_BYTES} letters, digits, `-` and `_`"),
                );
            }
        }
    }
}
