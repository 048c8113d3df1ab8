//! Tool names that every server accepts: `^[a-zA-Z][a-zA-Z0-9_-]{0,63}$`, each unique. OpenAI
//! accepts a leading digit, Gemini a leading `_`, Moonshot neither.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Digest;

/// The longest name that servers accept, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// How many hexadecimal digits of a digest distinguish names that begin alike.
const DIGEST_CHARS: usize = 8;

/// Returns whether every server accepts this name.
pub(super) fn is_sound(name: &str) -> bool {
    (1..=NAME_MAX_BYTES).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// The tool names of one request, with the name that each is sent as.
#[derive(Clone, Debug, Default)]
pub(in crate::providers::llm) struct ToolNames {
    /// The names as sent, by the guest's names.
    sent: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl ToolNames {
    /// Returns the name to send for a guest's name: the same name if every server accepts it,
    /// otherwise its valid characters and a part of its digest, which is the same in each request.
    pub(super) fn send(&mut self, name: &str) -> String {
        if let Some(sent) = self.sent.get(name) {
            return sent.clone();
        }
        let mut sent = match is_sound(name) {
            true => name.to_owned(),
            false => marked(name, name),
        };
        let mut tries = 0;
        while self.taken.contains(&sent) {
            tries += 1;
            sent = marked(name, &format!("{name}\0{tries}"));
        }
        self.taken.insert(sent.clone());
        self.sent.insert(name.to_owned(), sent.clone());
        sent
    }

    /// Returns the guest's names, by the names as sent.
    pub(in crate::providers::llm) fn back(&self) -> BTreeMap<&str, &str> {
        let sent = self.sent.iter();
        sent.map(|(own, sent)| (sent.as_str(), own.as_str()))
            .collect()
    }
}

/// Returns a name with its invalid characters replaced, and with a suffix derived from `seed`.
fn marked(name: &str, seed: &str) -> String {
    let kept = name.chars().map(|char| match char {
        char if char.is_ascii_alphanumeric() || "_-".contains(char) => char,
        _ => '_',
    });
    let letter = (!name.starts_with(|first: char| first.is_ascii_alphabetic())).then_some('t');
    let kept = letter.into_iter().chain(kept);
    let kept: String = kept.take(NAME_MAX_BYTES - DIGEST_CHARS - 1).collect();
    let digest = Digest::of(seed.as_bytes()).to_string();
    format!("{kept}_{}", &digest[..DIGEST_CHARS])
}
