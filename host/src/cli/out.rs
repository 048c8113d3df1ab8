//! Standard output that survives a closed pipe, with colour only where a human looks.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::text::clean;

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// Headings and names.
    Bold,
    /// What surrounds the matter.
    Dim,
    /// All is well.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
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

/// Standard output.
pub(crate) struct Out {
    stdout: io::Stdout,
    color: bool,
    tty: bool,
}

impl Out {
    /// Colours unless told otherwise, by flag, by `NO_COLOR` or by not being a terminal.
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

    /// Whether a human looks.
    pub(crate) fn is_tty(&self) -> bool {
        self.tty
    }

    /// The text in that tone, or plain where there is no colour.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.color) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    /// One line.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self, "{}", text.as_ref())
    }

    /// What a session said: as it is for a program, without control characters for a terminal.
    pub(crate) fn session_text(&mut self, text: &str) -> io::Result<()> {
        if self.tty {
            let text = clean(text);
            self.line(&*text)
        } else {
            self.line(text)
        }
    }

    /// One JSON document.
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

/// A line for a human beside the output; one that cannot be written is nobody's loss.
pub(crate) fn hint(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}
