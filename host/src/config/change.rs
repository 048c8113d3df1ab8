//! One difference between two configurations: the key, its values, and what applying it takes.

use std::fmt;

/// What applying a change takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeClass {
    /// Applied without a restart.
    Hot,
    /// Applied by a restart.
    Restart,
    /// Never applied while the daemon's state is to be kept.
    Fixed,
}

/// One changed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The key, as in `plugins.echo.limits.memory`.
    pub key: String,
    pub class: ChangeClass,
    /// The previous value, for humans; `None` for a key that is new. Secrets are not shown.
    pub from: Option<String>,
    /// The new value; `None` for a key that was removed.
    pub to: Option<String>,
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from == to => write!(f, "{}: new content", self.key),
            (Some(from), Some(to)) => write!(f, "{}: {from} -> {to}", self.key),
            (None, Some(to)) => write!(f, "{}: added ({to})", self.key),
            (Some(from), None) => write!(f, "{}: removed (was {from})", self.key),
            (None, None) => f.write_str(&self.key),
        }
    }
}
