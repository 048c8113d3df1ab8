//! Lines from whoever types, one when asked for: edited on a terminal, read from a pipe.

use std::io::BufRead as _;
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use super::super::error::CliError;

/// What stands in front of the line that is edited.
const PROMPT: &str = "> ";

/// What came.
#[derive(Debug)]
pub(crate) enum Input {
    /// A line, without its end.
    Line(String),
    /// ^C.
    Interrupted,
    /// ^D, or the pipe's end.
    End,
    /// Reading failed.
    Failed(String),
}

/// Whoever types. Reading blocks, so it happens on a thread of its own, which ends with the
/// process.
pub(crate) struct Typist {
    ask: mpsc::Sender<()>,
    lines: mpsc::Receiver<Input>,
}

/// Prints beside the line that is edited.
pub(crate) type Beside = Box<dyn ExternalPrinter + Send>;

impl Typist {
    /// Somebody at a terminal, and a printer for what happens while a line is edited.
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
                // The history is a convenience.
                let _ = editor.add_history_entry(&line);
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted) => Input::Interrupted,
            Err(ReadlineError::Eof) => Input::End,
            Err(error) => Input::Failed(error.to_string()),
        })?;
        Ok((typist, Box::new(beside)))
    }

    /// A program, or a file.
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

    /// Asks for the next line.
    pub(crate) async fn ask(&self) {
        // A thread that is gone shows at the next `next`.
        let _ = self.ask.send(()).await;
    }

    /// What was typed since. Cancel safe.
    pub(crate) async fn next(&mut self) -> Input {
        self.lines.recv().await.unwrap_or(Input::End)
    }
}

/// The terminal as it was: an editor that is left in the middle of a line leaves it raw.
pub(crate) struct Terminal(Option<rustix::termios::Termios>);

impl Terminal {
    /// Remembers how the terminal is.
    pub(crate) fn remember() -> Self {
        Self(rustix::termios::tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs no restoring.
            let when = rustix::termios::OptionalActions::Now;
            let _ = rustix::termios::tcsetattr(std::io::stdin(), when, before);
        }
    }
}
