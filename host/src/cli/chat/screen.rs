//! Shows the pieces of a conversation: on a terminal, above the line that is being edited, or to a
//! pipe.

use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::out::{Out, Tone, hint};
use super::input::Beside;
use super::view::ShownPiece;

/// The interval of the spinner's frames.
const SPINNER_TICK: Duration = Duration::from_millis(120);

pub(crate) struct Screen {
    out: Out,
    /// Set on a terminal: prints above the line that is being edited.
    beside: Option<Beside>,
    spinner: Option<ProgressBar>,
}

impl Screen {
    /// Creates the screen of a terminal if there is a printer, else of a pipe.
    pub(crate) fn new(out: Out, beside: Option<Beside>) -> Self {
        Self {
            out,
            beside,
            spinner: None,
        }
    }

    /// Returns whether the screen is a terminal.
    pub(crate) fn is_interactive(&self) -> bool {
        self.beside.is_some()
    }

    /// Shows pieces at the cursor. A pipe gets only the conversation itself; remarks about it go to
    /// standard error.
    pub(crate) fn show(&mut self, pieces: &[ShownPiece]) -> io::Result<()> {
        if pieces.is_empty() {
            return Ok(());
        }
        self.rest();
        for piece in pieces {
            match piece {
                ShownPiece::Text(text) => self.out.text(text)?,
                ShownPiece::Break => self.out.line("")?,
                ShownPiece::Line(Tone::Plain, text) => self.out.line(text)?,
                ShownPiece::Line(_, text) if self.beside.is_none() => hint(text),
                ShownPiece::Line(tone, text) => {
                    let text = self.out.paint(*tone, text);
                    self.out.line(text)?;
                }
            }
        }
        self.out.flush()
    }

    /// Shows pieces above the line that is being edited.
    pub(crate) fn show_beside(&mut self, pieces: &[ShownPiece]) -> io::Result<()> {
        let Some(beside) = &mut self.beside else {
            return self.show(pieces);
        };
        let mut text = String::new();
        for piece in pieces {
            match piece {
                ShownPiece::Text(more) => text.push_str(more),
                ShownPiece::Break => text.push('\n'),
                ShownPiece::Line(tone, line) => {
                    text.push_str(&self.out.paint(*tone, line));
                    text.push('\n');
                }
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        beside.print(text).map_err(io::Error::other)
    }

    /// Shows a spinner until something else is shown.
    pub(crate) fn wait(&mut self, what: &str) {
        if self.beside.is_none() {
            return;
        }
        let spinner = self.spinner.get_or_insert_with(|| {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(SPINNER_TICK);
            spinner
        });
        spinner.set_message(what.to_owned());
    }

    /// Removes the spinner.
    pub(crate) fn rest(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}
