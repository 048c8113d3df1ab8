//! Thoughts that a server leaves in the answer's text, between tags. They are for nobody but the
//! model: they are neither shown nor stored.
//!
//! ```text
//!   Start --"<think>"--> Inside --"</think>"--> Start
//!     |
//!     +-- anything else --> Text --"</think>" that nothing opened--> Start, and what was shown is void
//! ```
//!
//! Templates that open the thoughts themselves (DeepSeek's, Qwen's) leave only the closing tag. A tag
//! that is quoted, or an opening one behind other text, is spoken of and stays.

/// The names of the tags, the longest first where one begins another.
const NAMES: [&str; 4] = ["thinking", "thought", "think", "seed:think"];
/// The longest tag, in bytes.
const TAG_MAX_BYTES: usize = "</seed:think>".len();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThinkState {
    /// Nothing has been said yet.
    Start,
    /// Within the thoughts of this tag.
    Inside(&'static str),
    Text,
}

/// What is left of an answer's text.
#[derive(Debug)]
pub(super) struct VisibleText {
    state: ThinkState,
    /// What is not decided yet: blanks, and the beginning of a tag.
    held: String,
    /// The text without thoughts.
    text: String,
    /// Up to where the text has been looked through.
    scanned: usize,
    /// A closing tag is not looked for any more: an opening one, or a quoted one, stands before it.
    speaks_of_tags: bool,
    /// Backticks so far: within code if their number is odd.
    ticks: usize,
    /// Thoughts were taken out: the blanks behind them go too.
    had_thoughts: bool,
}

/// How much is looked through at a time, in bytes.
const PIECE_BYTES: usize = 256;

/// What a piece of text comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ThinkOutcome {
    /// What was shown so far were thoughts.
    pub(super) is_void: bool,
    /// What may be shown.
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

    /// Takes a piece.
    pub(super) fn push(&mut self, piece: &str) -> ThinkOutcome {
        let mut shown = ThinkOutcome::default();
        let mut rest = piece;
        // In short pieces: what is left is copied at each tag.
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

    /// The whole text, and what of it was not shown yet.
    pub(super) fn end(mut self) -> (String, String) {
        let rest = match self.state {
            // Nothing but blanks behind thoughts.
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
                // Only what may be the tag's beginning is kept.
                let keep = self.held.len().saturating_sub(TAG_MAX_BYTES);
                let keep = self.held.floor_char_boundary(keep);
                self.held.drain(..keep);
            }
        }
    }

    fn go_on(&mut self, shown: &mut ThinkOutcome) {
        // The beginning of a tag waits for its end, and for what stands behind it.
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

    /// How many bytes at the end of what is held may belong to a tag.
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

    /// Where a closing tag ends that nothing has opened.
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

/// What stands behind a tag at the text's beginning.
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

    /// The text, and what somebody has read who saw it come.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let mut said = VisibleText::new();
        let mut seen = String::new();
        for piece in pieces {
            let ThinkOutcome { is_void, text } = said.push(piece);
            if is_void {
                seen.clear();
            }
            seen += &text;
        }
        let (text, rest) = said.end();
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
