//! Standard output that survives a closed pipe, with colour only on a terminal.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::text::clean;

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

impl Tone {
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
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self, "{}", text.as_ref())
    }

    /// Writes a session's text: unchanged for a program, without control characters for a terminal.
    pub(crate) fn session_text(&mut self, text: &str) -> io::Result<()> {
        if self.tty {
            let text = clean(text);
            self.line(&*text)
        } else {
            self.line(text)
        }
    }

    /// Writes a JSON document.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self, value)?;
        writeln!(self)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdout.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Writes a line for humans to standard error. Failing to write it is ignored.
pub(crate) fn hint(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}
