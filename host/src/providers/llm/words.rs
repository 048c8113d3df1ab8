//! The words of a refusal: the content of its document, independent of its structure. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::refusal::is_echo;

/// How much of a refusal is read, in bytes.
const READ_MAX_BYTES: usize = 16 << 10;
/// Phrases by which servers say that they do not accept something.
const NEGATIONS: [&str; 25] = [
    "not support",
    "n't support",
    "unsupported",
    "no support",
    "unknown",
    "unrecognized",
    "unrecognised",
    "unexpected",
    "unavailable",
    "not available",
    "not enabled",
    "not implemented",
    "not permitted",
    "not allowed",
    "not accepted",
    "not valid",
    "invalid",
    "extra",
    "must be",
    "cannot",
    "can't",
    "deprecated",
    "disabled",
    "forbidden",
    "only",
];

/// Fields that structure a refusal. Their names carry no information.
const FORM: [&str; 12] = [
    "message", "type", "code", "param", "error", "errors", "detail", "details", "status", "title",
    "loc", "msg",
];

/// The words of a refusal, up to [`READ_MAX_BYTES`].
pub(super) struct Words {
    /// All its texts, names and numbers, in lower case.
    pub(super) text: String,
    /// Its words, which consist of letters, digits and `_`.
    pub(super) words: BTreeSet<String>,
    /// It contains one of the [`NEGATIONS`].
    pub(super) negative: bool,
}

impl Words {
    pub(super) fn of(document: &Value) -> Self {
        let mut text = String::new();
        collect(document, &mut text);
        text.make_ascii_lowercase();
        // OpenAI gives every refusal this type, whatever it is about.
        let text = text.replace("invalid_request_error", "");
        let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
        let words = words.filter(|word| !word.is_empty()).map(str::to_owned);
        Self {
            words: words.collect(),
            negative: NEGATIONS.iter().any(|negation| text.contains(negation)),
            text,
        }
    }

    pub(super) fn has(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.words.contains(*word))
    }

    pub(super) fn says(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.text.contains(text))
    }

    /// Returns the smallest number that follows one of the marks.
    pub(super) fn number_behind(&self, marks: &[&str]) -> Option<u64> {
        let found = marks.iter().filter_map(|mark| {
            let behind = self.text.split(mark).nth(1)?;
            let digits = behind.trim_start_matches(['`', '\'', '"', ' ']);
            let end = digits.find(|char: char| !(char.is_ascii_digit() || char == ','));
            let digits = digits[..end.unwrap_or(digits.len())].replace(',', "");
            digits.parse().ok()
        });
        found.min().filter(|number| *number > 0)
    }

    /// Returns all words that are whole numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        let words = self.words.iter();
        words.filter_map(|word| word.parse().ok())
    }

    /// Returns a number whose sum with `asked` is named too: the other addend.
    pub(super) fn beside(&self, asked: u64) -> Option<u64> {
        let mut numbers = self.numbers();
        numbers.find(|number| self.words.contains(&(number + asked).to_string()))
    }

    /// Returns the bound that the refusal names.
    pub(super) fn most(&self) -> Option<u64> {
        let exclusive = self.number_behind(&["(inclusive) to "]);
        if let Some(above) = exclusive.filter(|_| self.text.contains("(exclusive)")) {
            return Some(above - 1).filter(|most| *most > 0);
        }
        self.number_behind(&[
            "at most ",
            "maximum length ",
            "maximum of ",
            "maximum value of ",
            "max of ",
            "no more than ",
            "less than or equal to ",
            "up to ",
            "<= ",
            "maximum is ",
            "limit is ",
            "limit of ",
            "maximum allowed is ",
            "less_than_equal ",
            "items is ",
            "maximum allowed (",
            "more than ",
            "maximum number of tools is ",
            "max: ",
            "max ",
            "[1, ",
            "> ",
        ])
    }
}

/// Appends all texts and numbers of a document, and the names of most fields, to `text`.
pub(super) fn collect(value: &Value, text: &mut String) {
    if text.len() > READ_MAX_BYTES {
        return;
    }
    match value {
        Value::String(part) => {
            let end = part.floor_char_boundary(READ_MAX_BYTES.min(part.len()));
            text.push_str(&part[..end]);
        }
        Value::Number(number) => text.push_str(&number.to_string()),
        // A path, like `["body", "tools", 3]`.
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_u64()) => {
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    text.push('.');
                }
                match item {
                    Value::String(name) => text.push_str(name),
                    item => text.push_str(&item.to_string()),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, text)),
        Value::Object(fields) => {
            for (name, value) in fields {
                // An echo of the request is not part of the refusal.
                if is_echo(name, value) {
                    continue;
                }
                if !FORM.contains(&name.as_str()) {
                    text.push_str(name);
                    text.push(' ');
                }
                collect(value, text);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    text.push_str(" \n ");
}
