//! Why a turn failed or a message was discarded: a code for programs and a text for humans.

use serde::{Deserialize, Serialize};

/// Why a turn failed or a message was discarded.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema,
)]
#[error("{text}")]
pub struct TurnFailure {
    /// A code for programs.
    pub code: FailureCode,
    /// A text for humans.
    pub text: String,
}

/// The kinds of [`TurnFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The guest trapped, or exited.
    Trap,
    /// The guest went over a limit.
    Limit,
    /// The turn exceeded its time limit.
    Timeout,
    /// The guest returned an error.
    Guest,
    /// The guest could not be restored from its snapshot.
    Restore,
    /// The guest did something else when the turn was replayed.
    Divergence,
    /// A client or an operator cancelled it.
    Cancelled,
    /// The session was closed.
    Closed,
    /// The session's history was cut while the turn was open.
    HistoryCut,
}

impl FailureCode {
    /// Whether the guest itself failed: another component might not have, with the same input.
    pub fn is_of_guest(self) -> bool {
        match self {
            Self::Trap | Self::Limit | Self::Timeout | Self::Guest => true,
            Self::Restore
            | Self::Divergence
            | Self::Cancelled
            | Self::Closed
            | Self::HistoryCut => false,
        }
    }
}
