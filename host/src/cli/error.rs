//! The errors of commands, and their exit codes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client::ClientError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The daemon refused, failed or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The arguments contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The operation failed; the text names the reason and the remedy.
    #[error("{0}")]
    Failed(String),
    /// A file of the user cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `create`.
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Standard output is gone or broken.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Returns the constructor of a file's error, for `map_err`.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// Returns 1 for a failure, 2 for wrong usage, 3 for a daemon that does not answer. A reader
    /// that closed the pipe has all it wanted: that is 0.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Output(gone) if gone.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Usage(_) => ExitCode::from(2),
            Self::Client(ClientError::Unreachable { .. }) => ExitCode::from(3),
            Self::Client(_) | Self::Failed(_) | Self::File { .. } | Self::Output(_) => {
                ExitCode::from(1)
            }
        }
    }

    /// Returns whether nothing is to be reported: the reader closed the pipe.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Output(gone) if gone.kind() == io::ErrorKind::BrokenPipe)
    }
}
