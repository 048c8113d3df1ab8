//! Standard output that survives a closed pipe, with colour only on a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::plain_text::{is_hidden, json, lines, prose};

/// The emphasis of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Unformatted.
    Plain,
    /// Headings and names.
    Bold,
    /// Context and remarks.
    Dim,
    /// Success.
    Good,
    /// Needs attention.
    Warn,
    /// Failure.
    Bad,
}

/// The code that ends all tones.
const RESET: &str = "0";

impl Tone {
    const ALL: [Self; 6] = [
        Self::Plain,
        Self::Bold,
        Self::Dim,
        Self::Good,
        Self::Warn,
        Self::Bad,
    ];

    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

pub(crate) struct Out {
    stdout: io::Stdout,
    color: bool,
    tty: bool,
}

impl Out {
    /// Creates the output. It is coloured unless `no_color` is set, `NO_COLOR` is set, `TERM` is
    /// `dumb`, or it is not a terminal.
    pub(crate) fn new(no_color: bool) -> Self {
        let stdout = io::stdout();
        let tty = stdout.is_terminal();
        let asked = |name, unless: &str| {
            std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != unless)
        };
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = tty && !no_color && !asked("NO_COLOR", "") && !dumb;
        Self { stdout, color, tty }
    }

    /// Returns whether the output is a terminal.
    pub(crate) fn is_tty(&self) -> bool {
        self.tty
    }

    /// Formats text in a tone, or leaves it plain if colours are off.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.color) {
            Some(code) => format!("\x1b[{code}m{}\x1b[{RESET}m", lines(text)),
            None => text.to_owned(),
        }
    }

    /// Writes a line, or some. Hidden characters are shown as escapes, whosever they are: of the escape
    /// sequences, only those of [`paint`](Self::paint) pass.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        let text = self.shown(text.as_ref());
        writeln!(self.stdout, "{text}")
    }

    /// Writes text as [`line`](Self::line) does, without a line break behind it.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        let text = self.shown(text);
        self.stdout.write_all(text.as_bytes())
    }

    /// Writes the text of a file: as it is into a file or a pipe, else as [`text`](Self::text) does.
    pub(crate) fn file_text(&mut self, text: &str) -> io::Result<()> {
        match self.tty {
            true => self.text(text),
            false => self.stdout.write_all(text.as_bytes()),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    fn shown<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.color || !text.contains(is_hidden) {
            return lines(text);
        }
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\x1b') {
            shown.push_str(&lines(before));
            let code = Tone::ALL
                .iter()
                .filter_map(|tone| tone.code())
                .chain([RESET]);
            let mut codes = code.map(|code| format!("[{code}m"));
            match codes.find(|code| after.starts_with(code)) {
                Some(code) => {
                    shown.push('\x1b');
                    shown.push_str(&code);
                    rest = &after[code.len()..];
                }
                None => {
                    shown.push_str(&lines("\x1b"));
                    rest = after;
                }
            }
        }
        shown.push_str(&lines(rest));
        Cow::Owned(shown)
    }

    /// Writes a session's text: unchanged for a program, without hidden characters for a terminal.
    pub(crate) fn session_text(&mut self, text: &str) -> io::Result<()> {
        if self.tty {
            let text = prose(text);
            writeln!(self.stdout, "{text}")
        } else {
            writeln!(self.stdout, "{text}")
        }
    }

    /// Writes a JSON document. Hidden characters in its strings are escaped.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let document = serde_json::to_string_pretty(value)?;
        writeln!(self.stdout, "{}", json(&document))
    }
}

/// Writes a line for humans, or some, to standard error, with escapes in place of hidden characters.
/// Failing to write it is ignored.
pub(crate) fn hint(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", lines(text.as_ref()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tones_pass() {
        let mut out = Out::new(true);
        let hostile = "\x1b[2J\x1b[31mred\u{202e}";
        assert_eq!(out.shown(hostile), "\\u{1b}[2J\\u{1b}[31mred\\u{202e}");
        out.color = true;
        let painted = out.paint(Tone::Bold, "a\x1b[2Jb\nc");
        assert_eq!(painted, "\x1b[1ma\\u{1b}[2Jb\nc\x1b[0m");
        assert_eq!(out.shown(&painted), painted);
        let line = format!("{painted} \x1b]0;title\x07 \x1b[38m");
        let shown = format!("{painted} \\u{{1b}}]0;title\\u{{7}} \\u{{1b}}[38m");
        assert_eq!(out.shown(&line), shown);
    }
}
