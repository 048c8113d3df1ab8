//! The problems of a configuration: the place, the reason and the remedy of each.

use std::fmt;
use std::path::PathBuf;

use super::place::Place;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read ({reason}); {remedy}", file.display())]
    Unreadable {
        file: PathBuf,
        /// The operating system's error.
        reason: std::io::Error,
        remedy: &'static str,
    },
    /// The file was read, but its content is not valid.
    #[error("{}", ProblemList(.0))]
    Invalid(Vec<ConfigProblem>),
}

impl ConfigError {
    /// Returns the problems of the content; none for a file that cannot be read.
    pub fn problems(&self) -> &[ConfigProblem] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid(problems) => problems,
        }
    }
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, as in `plugins.echo.path`; empty for the file as a whole.
    pub key: String,
    /// Where the key stands in the file or in the environment.
    pub place: Place,
    pub reason: String,
    pub remedy: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line {
                file, line, column, ..
            } => write!(f, "{}:{line}:{column}: ", file.display())?,
            Place::Variable(name) => write!(f, "environment variable {name}: ")?,
            Place::File(file) => write!(f, "{}: ", file.display())?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)?;
        if let Place::Line {
            line,
            column,
            width,
            text,
            ..
        } = &self.place
        {
            let gutter = " ".repeat(line.to_string().len());
            let indent = " ".repeat(column.saturating_sub(1));
            let marks = "^".repeat((*width).max(1));
            write!(
                f,
                "\n{gutter} |\n{line} | {text}\n{gutter} | {indent}{marks}"
            )?;
        }
        Ok(())
    }
}

struct ProblemList<'a>(&'a [ConfigProblem]);

impl fmt::Display for ProblemList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Returns the name in `known` that `name` is most likely a typing error of.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|one| (distance(name, one), one))
        .filter(|(distance, one)| *distance <= (one.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, one)| one)
}

/// Returns the edit distance (insert, delete, replace, swap of neighbours) between two names. Only
/// their first 64 characters are compared, which is longer than any key.
fn distance(a: &str, b: &str) -> usize {
    const NAME_MAX_CHARS: usize = 64;
    let a: Vec<char> = a.chars().take(NAME_MAX_CHARS).collect();
    let b: Vec<char> = b.chars().take(NAME_MAX_CHARS).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_what_was_meant() {
        let known = ["listen", "data_dir", "log_level", "log_format"];
        for (typed, meant) in [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("datadir", Some("data_dir")),
            ("loglevel", Some("log_level")),
            ("colour", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }
}
