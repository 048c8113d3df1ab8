//! Approvals: tool calls that wait for a human's decision. This file holds the approval itself: its
//! id, its status, and what the status means for the call.
//!
//! ```text
//!   call of an `ask` tool -> [Asked], synced: the session is parked, its guest is dropped
//!                               |  approve        deny / expiry                 cancel, DELETE
//!                               v                     v                            v
//!                          [approved]          [denied, expired]              [cancelled]
//!                               |                     |                    the turn ends failed
//!     the turn is replayed up to its step, which then is planned and made, or gets `denied`
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::shorten::one_line;
use super::{Digest, FailureCode, SessionId, StepCallName, TimelineName, TurnFailure, UnixMillis};

/// The longest call that a session's reason shows, in bytes.
const REASON_BYTES: usize = 200;

/// The id of an approval: `SESSION:TURN.STEP.PART`, and on a later timeline than the first
/// `SESSION:T.TURN.STEP.PART`. It contains the session's id, so it is found without an index, and the
/// same call keeps its id over any number of restarts.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct ApprovalId(String);

impl ApprovalId {
    /// Returns the id of the approval for one part of a step.
    pub fn new(
        session: &SessionId,
        timeline: Option<&TimelineName>,
        turn: u64,
        step: u32,
        part: u32,
    ) -> Self {
        Self(match timeline {
            None => format!("{session}:{turn}.{step}.{part}"),
            Some(timeline) => format!("{session}:{timeline}.{turn}.{step}.{part}"),
        })
    }

    /// Parses an id that a client sent; none if it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (session, place) = text.rsplit_once(':')?;
        let (_, place) = split_timeline(place);
        let numbers: Vec<&str> = place.split('.').collect();
        let plain = |n: &&str| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit());
        let fits = numbers.len() == 3 && numbers.iter().all(plain);
        (fits && SessionId::new(session).is_ok()).then(|| Self(text.to_owned()))
    }

    /// The session that waits for the approval.
    pub fn session(&self) -> Option<SessionId> {
        let (session, _) = self.0.rsplit_once(':')?;
        SessionId::new(session).ok()
    }

    /// The timeline on which it was asked for; none for the first.
    pub fn timeline(&self) -> Option<TimelineName> {
        let (_, place) = self.0.rsplit_once(':')?;
        split_timeline(place).0
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Splits the timeline's name off the last part of an approval's id, if it begins with one.
fn split_timeline(place: &str) -> (Option<TimelineName>, &str) {
    let named = place.split_once('.').and_then(|(name, place)| {
        let name = TimelineName::parse(name)?;
        Some((Some(name), place))
    });
    named.unwrap_or((None, place))
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The status of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// It waits for a human.
    Asked,
    /// The call may be made.
    Approved,
    /// A human denied the call.
    Denied,
    /// No decision came in time.
    Expired,
    /// Its turn was cancelled, or its session was closed.
    Cancelled,
}

impl ApprovalStatus {
    /// The name of the status in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One tool call that waits, or waited, for a human's decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approval {
    /// The approval's id.
    pub id: ApprovalId,
    /// The turn that makes the call.
    pub turn: u64,
    /// The step, from 1.
    pub step: u32,
    /// The part of the step, from 0.
    pub part: u32,
    /// The digest of the whole step as the guest asked for it: only this very step is approved.
    pub digest: Digest,
    /// The tool.
    pub tool: String,
    /// Its arguments, shortened to 4 KiB in a list. Asked for by its id, an approval has them whole.
    pub arguments: String,
    /// Whether the arguments are cut here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arguments_cut: bool,
    /// When it was asked.
    pub asked_at: UnixMillis,
    /// The time from which on the call counts as denied.
    pub expires_at: UnixMillis,
    /// The approval's status.
    pub status: ApprovalStatus,
    /// Who decided: an access token's name, `config` or `@local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, as stated in the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<UnixMillis>,
}

impl Approval {
    /// Checks that this approval was asked for the same step. If it was not, the turn must fail, or
    /// a call would be made that no human has approved.
    pub fn fits(&self, call: &StepCallName) -> Result<(), TurnFailure> {
        if self.digest == call.digest {
            return Ok(());
        }
        Err(TurnFailure {
            code: FailureCode::Divergence,
            text: format!(
                "the guest is not deterministic: step {} was a call of `{}` that a human was asked \
                 about, and is `{call}` now that the turn runs again; nothing is guessed",
                self.step, self.tool
            ),
        })
    }

    /// Whether no decision was made yet.
    pub fn waits(&self) -> bool {
        self.status == ApprovalStatus::Asked
    }

    /// Returns why the call must not be made; none if it may be made.
    pub fn denial(&self) -> Option<String> {
        let tool = &self.tool;
        Some(match (self.status, &self.reason) {
            (ApprovalStatus::Approved, _) => return None,
            (ApprovalStatus::Denied, Some(reason)) => {
                format!("a human denied this call of `{tool}`, and said: {reason}")
            }
            (ApprovalStatus::Denied, None) => format!("a human denied this call of `{tool}`"),
            (ApprovalStatus::Expired, _) => {
                format!("the call of `{tool}` needs a human's approval, and nobody gave it in time")
            }
            (ApprovalStatus::Asked | ApprovalStatus::Cancelled, _) => {
                format!("the call of `{tool}` needs a human's approval, and has none")
            }
        })
    }

    /// Returns the call on one line, shortened.
    pub fn line(&self) -> String {
        let line = format!("{} {}", self.tool, self.arguments);
        one_line(&line, REASON_BYTES)
    }
}
