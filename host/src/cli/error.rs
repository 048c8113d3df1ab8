//! What ends a command, and with which exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::client::ClientError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The daemon refused, failed or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// It was tried and did not succeed; the text names the reason and the remedy.
    #[error("{0}")]
    Failed(String),
    /// A file of the user's.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `create`.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output is gone or broken.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// 1 for what failed, 2 for wrong usage, 3 for a daemon that does not answer. A reader that
    /// closed the pipe has what it wanted: that is 0.
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

    /// Whether there is anything to tell a human.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Output(gone) if gone.kind() == io::ErrorKind::BrokenPipe)
    }
}
