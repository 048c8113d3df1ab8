//! Removes the thoughts that a server leaves in the answer's text, between tags. They are meant for
//! the model alone, so they are neither shown nor stored.
//!
//! ```text
//!   Start --"<think>"--> Inside --"</think>"--> Start
//!     |
//!     +-- anything else --> Text --unopened "</think>"--> Start, and all text shown so far is void
//! ```
//!
//! Templates that write the opening tag themselves (DeepSeek's, Qwen's) leave only the closing tag
//! in the answer. A quoted tag, or an opening tag after other text, is mentioned by the answer, and
//! is kept.

/// The names of the tags. Of two with a common prefix, the longer comes first.
const NAMES: [&str; 4] = ["thinking", "thought", "think", "seed:think"];
/// The longest tag, in bytes.
const TAG_MAX_BYTES: usize = "</seed:think>".len();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThinkState {
    /// No text has arrived yet, apart from thoughts.
    Start,
    /// Within the thoughts of this tag.
    Inside(&'static str),
    Text,
}

/// An answer's text without the model's thoughts.
#[derive(Debug)]
pub(super) struct VisibleText {
    state: ThinkState,
    /// Text that is still undecided: blanks, and the beginning of a tag.
    held: String,
    /// The text without thoughts.
    text: String,
    /// How many bytes of `text` have been scanned for tags.
    scanned: usize,
    /// The text mentions tags (an opening one, or a quoted one), so closing tags no longer count.
    speaks_of_tags: bool,
    /// The number of backticks so far. If it is odd, the scan is within code.
    ticks: usize,
    /// Thoughts were removed, so the blanks after them are removed too.
    had_thoughts: bool,
}

/// How much is scanned at a time, in bytes.
const PIECE_BYTES: usize = 256;

/// The effect of a piece of text on what is shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ThinkOutcome {
    /// All text shown so far belonged to thoughts.
    pub(super) is_void: bool,
    /// The text that may be shown now.
    pub(super) text: String,
}

impl VisibleText {
    pub(super) fn new() -> Self {
        Self {
            state: ThinkState::Start,
            held: String::new(),
            text: String::new(),
            scanned: 0,
            speaks_of_tags: false,
            ticks: 0,
            had_thoughts: false,
        }
    }

    /// Adds a piece of text, and returns its effect on what is shown.
    pub(super) fn push(&mut self, piece: &str) -> ThinkOutcome {
        let mut shown = ThinkOutcome::default();
        let mut rest = piece;
        // Short pieces bound the cost: each tag copies the rest of the piece.
        while !rest.is_empty() {
            let (next, behind) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
            self.take(next, &mut shown);
            rest = behind;
        }
        shown
    }

    fn take(&mut self, piece: &str, shown: &mut ThinkOutcome) {
        self.held.push_str(piece);
        loop {
            let before = self.state;
            match self.state {
                ThinkState::Start => self.start(),
                ThinkState::Inside(name) => self.inside(name),
                ThinkState::Text => self.go_on(shown),
            }
            if self.state == before {
                return;
            }
        }
    }

    /// Returns the whole text, and the end of it that was not shown yet.
    pub(super) fn end(mut self) -> (String, String) {
        let rest = match self.state {
            // Only blanks follow the thoughts.
            ThinkState::Start if self.had_thoughts && self.held.trim().is_empty() => String::new(),
            ThinkState::Start | ThinkState::Text => self.held,
            ThinkState::Inside(_) => String::new(),
        };
        self.text.push_str(&rest);
        (self.text, rest)
    }

    fn start(&mut self) {
        let begun = self.held.trim_start();
        for name in NAMES {
            if let Some(behind) = after_tag(begun, "<", name) {
                self.held = behind.to_owned();
                self.state = ThinkState::Inside(name);
                return;
            }
        }
        let may_be_tag = NAMES.iter().any(|name| {
            let tag = format!("<{name}>");
            begun.len() < tag.len() && is_prefix(begun, &tag)
        });
        if may_be_tag {
            return;
        }
        if self.had_thoughts {
            self.held = begun.to_owned();
        }
        self.state = ThinkState::Text;
    }

    fn inside(&mut self, name: &'static str) {
        let lower = self.held.to_ascii_lowercase();
        let tag = format!("</{name}>");
        match lower.find(&tag) {
            Some(at) => {
                self.held.drain(..at + tag.len());
                self.had_thoughts = true;
                self.state = ThinkState::Start;
            }
            None => {
                // Keep only what may be the beginning of the closing tag.
                let keep = self.held.len().saturating_sub(TAG_MAX_BYTES);
                let keep = self.held.floor_char_boundary(keep);
                self.held.drain(..keep);
            }
        }
    }

    fn go_on(&mut self, shown: &mut ThinkOutcome) {
        // The beginning of a tag is held back until it is complete or turns out not to be one.
        let ready = self.held.len() - self.undecided();
        let piece: String = self.held.drain(..ready).collect();
        shown.text.push_str(&piece);
        self.text.push_str(&piece);
        if let Some(end) = self.closing() {
            self.held.insert_str(0, &self.text[end..]);
            self.text.clear();
            shown.text.clear();
            shown.is_void = true;
            self.scanned = 0;
            self.ticks = 0;
            self.had_thoughts = true;
            self.state = ThinkState::Start;
        }
    }

    /// Returns how many bytes at the end of the held text may belong to a tag.
    fn undecided(&self) -> usize {
        if self.speaks_of_tags {
            return 0;
        }
        let from = self.held.len().saturating_sub(TAG_MAX_BYTES);
        let from = self.held.floor_char_boundary(from);
        let found = self.held[from..].rfind('<');
        let Some(at) = found else { return 0 };
        let tail = &self.held[from + at..];
        let may_be_tag = NAMES.iter().any(|name| {
            ["<", "</"].iter().any(|open| {
                let tag = format!("{open}{name}>");
                tail.len() < tag.len() && is_prefix(tail, &tag)
            })
        });
        if may_be_tag { tail.len() } else { 0 }
    }

    /// Returns the end of a closing tag that no opening tag precedes.
    fn closing(&mut self) -> Option<usize> {
        while !self.speaks_of_tags {
            let rest = &self.text[self.scanned..];
            let Some(at) = rest.find(['<', '`']) else {
                self.scanned = self.text.len();
                return None;
            };
            let (before, from) = (self.scanned + at, &rest[at..]);
            if from.starts_with('`') {
                self.ticks += 1;
                self.scanned = before + 1;
                continue;
            }
            self.scanned = before + 1;
            if NAMES
                .iter()
                .any(|name| after_tag(from, "<", name).is_some())
            {
                self.speaks_of_tags = true;
                return None;
            }
            let behind = NAMES.iter().find_map(|name| after_tag(from, "</", name));
            let Some(behind) = behind else { continue };
            let quotes = ['`', '"', '\'', '“', '‘'];
            let is_quoted = self.text[..before].ends_with(quotes) || self.ticks % 2 == 1;
            if is_quoted {
                self.speaks_of_tags = true;
                return None;
            }
            return Some(self.text.len() - behind.len());
        }
        None
    }
}

/// Returns the text after a tag, if the text begins with one.
fn after_tag<'a>(text: &'a str, open: &str, name: &str) -> Option<&'a str> {
    let tag_len = open.len() + name.len() + 1;
    let tag = text.get(..tag_len)?;
    let is_tag = tag.starts_with(open)
        && tag.ends_with('>')
        && tag[open.len()..tag_len - 1].eq_ignore_ascii_case(name);
    is_tag.then(|| &text[tag_len..])
}

fn is_prefix(text: &str, of: &str) -> bool {
    of.get(..text.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the final text, and the text that a subscriber saw while it arrived.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let mut view = VisibleText::new();
        let mut seen = String::new();
        for piece in pieces {
            let ThinkOutcome { is_void, text } = view.push(piece);
            if is_void {
                seen.clear();
            }
            seen += &text;
        }
        let (text, rest) = view.end();
        (text, seen + &rest)
    }

    const CASES: [(&str, &str); 24] = [
        ("hello", "hello"),
        ("  hello ", "  hello "),
        ("<think>hm</think>hello", "hello"),
        ("<think>hm</think>\n\nhello", "hello"),
        ("\n <think>\nhm\n</think>\n\nhello\n", "hello\n"),
        ("<thinking>hm</thinking> hello", "hello"),
        ("<thought>hm</thought>hello", "hello"),
        ("<THINK>hm</Think>hello", "hello"),
        ("<think>a</think>\n<think>b</think>hello", "hello"),
        ("<think></think>hello", "hello"),
        ("<think>a < b </thin </think>hello", "hello"),
        ("<think>never closed", ""),
        ("<think>hm</think>", ""),
        ("<think>hm</think>\n\n", ""),
        ("hm, let me see</think>hello", "hello"),
        ("hm\n</think>\n\nhello", "hello"),
        ("</think>hello", "hello"),
        (
            "The tag <think> opens and </think> closes.",
            "The tag <think> opens and </think> closes.",
        ),
        ("Write `</think>` to end.", "Write `</think>` to end."),
        ("Write \"</think>\" to end.", "Write \"</think>\" to end."),
        ("```\nx </think>\n```", "```\nx </think>\n```"),
        (
            "`<think>` is a tag, </think> too",
            "`<think>` is a tag, </think> too",
        ),
        ("<thinker>hi</thinker>", "<thinker>hi</thinker>"),
        ("a < b <", "a < b <"),
    ];

    #[test]
    fn thoughts_go_and_what_is_said_of_tags_stays() {
        for (text, expected) in CASES {
            let whole = (expected.to_owned(), expected.to_owned());
            assert_eq!(read([text]), whole, "{text}");
            let chars: Vec<String> = text.chars().map(String::from).collect();
            assert_eq!(read(chars.iter().map(String::as_str)), whole, "{text}");
        }
    }

    proptest! {
        #[test]
        fn where_a_text_is_cut_does_not_matter(
            parts in prop::collection::vec("<think>|</think>|<thinking>|</thinking>|`|<|\n|[a-c ]{1,3}|é", 0..8),
            cuts in prop::collection::vec(0..6_usize, 0..30),
        ) {
            let text = parts.concat();
            let mut rest = text.as_str();
            let mut pieces = Vec::new();
            for cut in cuts {
                let at = rest.floor_char_boundary(cut.min(rest.len()));
                let (piece, behind) = rest.split_at(at);
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let (whole, seen) = read(pieces);
            prop_assert_eq!(&whole, &seen);
            prop_assert_eq!(whole, read([text.as_str()]).0);
        }

        #[test]
        fn a_text_without_tags_is_left_as_it_is(text in "[a-z<>/` \n]{0,30}") {
            prop_assume!(!text.contains("think>") && !text.contains("thinking>") && !text.contains("thought>"));
            prop_assert_eq!(read([text.as_str()]).0, text);
        }
    }
}
