//! Where keys stand, in the file or in the environment, and how the line of a key is shown without
//! values that may be secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::plain_text::is_hidden;

/// The origin of a key or value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the file.
    Line {
        file: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// In characters.
        width: usize,
        /// The text of the line, without values that may be secret.
        text: String,
    },
    /// An environment variable.
    Variable(String),
    /// The file as a whole: the value is a default, or a key is missing.
    File(PathBuf),
}

/// The longest line that is shown, in characters.
const LINE_MAX_CHARS: usize = 120;

impl Place {
    /// Returns the place of bytes `start..end` of `text`.
    pub(super) fn in_text(file: &Path, text: &str, start: usize, end: usize) -> Self {
        let start = floor(text, start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor(text, end).clamp(start, line_end);
        let shown = masked(text[line_start..line_end].trim_end());
        let column = text[line_start..start].chars().count() + 1;
        let shown_chars = shown.chars().count();
        let width = text[start..end]
            .chars()
            .count()
            .clamp(1, (shown_chars + 1).saturating_sub(column).max(1));
        Self::Line {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column,
            width,
            text: shown,
        }
    }
}

/// The place of each key, by its dotted path.
#[derive(Clone, Debug)]
pub(super) struct Places {
    file: PathBuf,
    by_key: BTreeMap<String, Place>,
}

impl Places {
    pub(super) fn new(file: PathBuf, by_key: BTreeMap<String, Place>) -> Self {
        Self { file, by_key }
    }

    /// Returns the place of `key`, or of the nearest table around it.
    pub(super) fn of(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.by_key.get(key) {
                return place.clone();
            }
            match key.rfind('.') {
                Some(dot) => key = &key[..dot],
                None => return Place::File(self.file.clone()),
            }
        }
    }
}

/// Returns the last character boundary of `text` that is not after `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Returns a line in the form in which it may be shown: cut to [`LINE_MAX_CHARS`], without a value
/// that may be a secret, and without hidden characters.
fn masked(line: &str) -> String {
    let mut shown: String = match line.split_once('=') {
        Some((key, _)) if may_be_secret(key) || line.contains('@') => format!("{key}= …"),
        _ => line.to_owned(),
    };
    shown = shown
        .chars()
        .map(|c| if is_hidden(c) { ' ' } else { c })
        .take(LINE_MAX_CHARS)
        .collect();
    shown
}

/// Returns whether a value under `key` may be a secret, also where a secret does not belong.
pub(super) fn may_be_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "key",
        "token",
        "secret",
        "password",
        "auth",
        "credential",
        "env",
    ]
    .iter()
    .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_without_what_may_be_secret() {
        assert_eq!(masked("api_key = \"sk-123\""), "api_key = …");
        assert_eq!(masked("base_url = \"http://me:pw@host\""), "base_url = …");
        assert_eq!(masked("listen = \"x\""), "listen = \"x\"");
    }

    #[test]
    fn any_offset_has_a_place() {
        let text = "a = 1\r\n\u{e9}\u{e9} = 2";
        for start in 0..text.len() + 3 {
            for end in start..text.len() + 3 {
                Place::in_text("f".as_ref(), text, start, end);
            }
        }
    }
}
