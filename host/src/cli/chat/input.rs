//! Reads input lines, one per request: edited on a terminal, or from a pipe.

use std::io::BufRead as _;
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use super::super::error::CliError;

/// The prompt of the line editor.
const PROMPT: &str = "> ";

/// One input.
#[derive(Debug)]
pub(crate) enum Input {
    /// A line, without its line break.
    Line(String),
    /// ^C.
    Interrupted,
    /// ^D, or the end of the pipe.
    End,
    /// Reading failed.
    Failed(String),
}

/// The source of input lines. Reading blocks, so it happens on a thread of its own, which ends with
/// the process.
pub(crate) struct Typist {
    ask: mpsc::Sender<()>,
    lines: mpsc::Receiver<Input>,
}

/// Prints above the line that is being edited.
pub(crate) type Beside = Box<dyn ExternalPrinter + Send>;

impl Typist {
    /// Reads from a terminal. Also returns a printer for output that arrives while a line is
    /// edited.
    pub(crate) fn at_terminal() -> Result<(Self, Beside), CliError> {
        let failed = |error: ReadlineError| {
            CliError::Failed(format!(
                "the terminal cannot be used for editing ({error}); pipe lines into abide chat instead"
            ))
        };
        let mut editor = DefaultEditor::new().map_err(failed)?;
        let beside = editor.create_external_printer().map_err(failed)?;
        let typist = Self::spawn(move || match editor.readline(PROMPT) {
            Ok(line) => {
                // The history is only a convenience, so its errors are ignored.
                let _ = editor.add_history_entry(&line);
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted) => Input::Interrupted,
            Err(ReadlineError::Eof) => Input::End,
            Err(error) => Input::Failed(error.to_string()),
        })?;
        Ok((typist, Box::new(beside)))
    }

    /// Reads from a pipe or a file.
    pub(crate) fn piped() -> Result<Self, CliError> {
        let stdin = std::io::stdin();
        Self::spawn(move || {
            let mut line = String::new();
            match stdin.lock().read_line(&mut line) {
                Ok(0) => Input::End,
                Ok(_) => Input::Line(line.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Input::Failed(error.to_string()),
            }
        })
    }

    fn spawn(mut read: impl FnMut() -> Input + Send + 'static) -> Result<Self, CliError> {
        let (ask, mut asked) = mpsc::channel(1);
        let (answer, lines) = mpsc::channel(1);
        thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                while asked.blocking_recv().is_some() {
                    if answer.blocking_send(read()).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| {
                CliError::Failed(format!("cannot start a thread: {error}; try again"))
            })?;
        Ok(Self { ask, lines })
    }

    /// Requests the next line.
    pub(crate) async fn ask(&self) {
        // If the thread has ended, the next call of `next` returns [`Input::End`].
        let _ = self.ask.send(()).await;
    }

    /// Waits for the requested line. Cancel safe.
    pub(crate) async fn next(&mut self) -> Input {
        self.lines.recv().await.unwrap_or(Input::End)
    }
}

/// Restores the terminal's mode when dropped: an editor that is abandoned in the middle of a line
/// leaves the terminal in raw mode.
pub(crate) struct Terminal(Option<rustix::termios::Termios>);

impl Terminal {
    /// Saves the terminal's current mode.
    pub(crate) fn remember() -> Self {
        Self(rustix::termios::tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Fails only if the terminal is gone, and then there is nothing to restore.
            let when = rustix::termios::OptionalActions::Now;
            let _ = rustix::termios::tcsetattr(std::io::stdin(), when, before);
        }
    }
}
