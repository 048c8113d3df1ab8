//! A cut of a session's history: why it happened, and what its guest and its operator read of it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use super::shorten::one_line;

/// The longest description of what is missing, in bytes.
const DETAIL_BYTES: usize = 500;

/// Why the end of a session's history is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutCause {
    /// The store had less than it should have, and an operator accepted the loss.
    AcceptedLoss,
    /// The store was damaged; this is what could be read of it.
    Salvage,
    /// The store was restored from a backup.
    Restore,
}

impl CutCause {
    fn describe(self) -> &'static str {
        match self {
            Self::AcceptedLoss => "a part of it was lost, and an operator accepted the loss",
            Self::Salvage => "it was damaged, and what could not be read is lost",
            Self::Restore => "it was restored from a backup, and what came after that is lost",
        }
    }

    /// Returns what happened, in one sentence without its capital; `detail` is what is missing.
    pub fn sentence(self, detail: &str) -> String {
        let colon = if detail.is_empty() { "" } else { "; " };
        let why = self.describe();
        format!("the history of this session was cut: {why}{colon}{detail}")
    }

    /// The name of the cause in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcceptedLoss => "accepted_loss",
            Self::Salvage => "salvage",
            Self::Restore => "restore",
        }
    }
}

/// A cut of which no committed turn was notified yet. The session waits for an operator first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryCut {
    pub cause: CutCause,
    /// What is missing.
    pub detail: String,
    pub at: UnixMillis,
    /// The turn that was open, and was ended by the cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u64>,
    /// The number of cuts of which no turn was notified, this last one included.
    pub cuts: u32,
    /// Whether nothing begins until an operator resumes the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

impl HistoryCut {
    /// Shortens a description of what is missing to what is kept of it.
    pub(super) fn detail(text: &str) -> String {
        one_line(text, DETAIL_BYTES)
    }

    /// Returns the text that the guest, its model and the client read.
    pub(super) fn text(&self) -> String {
        let mut text = self.cause.sentence(&self.detail);
        // It begins with a small ASCII letter.
        text.replace_range(..1, "T");
        if !text.ends_with(['.', '!', '?', '…']) {
            text.push('.');
        }
        // Writing to a `String` cannot fail.
        if self.cuts > 1 {
            let _ = write!(text, " It was the last of {} cuts.", self.cuts);
        }
        if let Some(turn) = self.turn {
            let _ = write!(
                text,
                " Turn {turn} was open, and was ended; its message is a dead letter."
            );
        }
        text.push_str(
            " Messages, answers and calls of tools after that point are missing from this \
             conversation, but they may have happened: find out before making a call again.",
        );
        text
    }
}
