//! Approvals: tool calls that wait for a human's decision. This code is pure: what is asked, what a
//! decision means, and what happens to the call.
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

use super::steps::{one_line, shorten};
use super::{
    Decided, Digest, FailureCode, OpenTurn, Record, Refusal, Session, SessionId, SessionProgress,
    StepCallName, TurnFailure, UnixMillis,
};

/// The longest arguments that are kept outside the log, in bytes; the event has them in full.
const ARGUMENTS_BYTES: usize = 4 << 10;
/// The longest call that a session's reason shows, in bytes.
const REASON_BYTES: usize = 200;
/// The longest reason that a decision may carry, in bytes.
pub const DECISION_REASON_BYTES: usize = 2 << 10;

/// The id of an approval: `SESSION:TURN.STEP.PART`. It contains the session's id, so it is found
/// without an index, and the same call keeps its id over any number of restarts.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct ApprovalId(String);

impl ApprovalId {
    /// Returns the id of the approval for one part of a step.
    pub fn new(session: &SessionId, turn: u64, step: u32, part: u32) -> Self {
        Self(format!("{session}:{turn}.{step}.{part}"))
    }

    /// Parses an id that a client sent; none if it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (session, place) = text.rsplit_once(':')?;
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

    pub fn as_str(&self) -> &str {
        &self.0
    }
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
    /// Its arguments, shortened to 4 KiB; the session's `approval` event has them whole.
    pub arguments: String,
    /// When it was asked.
    pub asked_at: UnixMillis,
    /// The time from which on the call counts as denied.
    pub expires_at: UnixMillis,
    /// The approval's status.
    pub status: ApprovalStatus,
    /// Who decided, as stated in the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, as stated in the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<UnixMillis>,
}

/// See [`Record::Asked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub id: ApprovalId,
    pub turn: u64,
    /// The step, from 1. It is not planned before all its approvals are decided.
    pub step: u32,
    /// The index of the part in its step, from 0.
    pub part: u32,
    /// The whole step, to recognize it when the turn runs again.
    pub call: StepCallName,
    pub tool: String,
    pub arguments: String,
    pub at: UnixMillis,
    /// The time from which on the call counts as denied.
    pub expires_at: UnixMillis,
}

/// A human's decision about an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the call may be made.
    pub approve: bool,
    /// Who decided, as stated by the client.
    pub by: Option<String>,
    /// Why, as stated by the client.
    pub reason: Option<String>,
}

impl Approval {
    pub(super) fn of(asked: &Asked) -> Self {
        let mut arguments = asked.arguments.clone();
        shorten(&mut arguments, ARGUMENTS_BYTES);
        Self {
            id: asked.id.clone(),
            turn: asked.turn,
            step: asked.step,
            part: asked.part,
            digest: asked.call.digest,
            tool: asked.tool.clone(),
            arguments,
            asked_at: asked.at,
            expires_at: asked.expires_at,
            status: ApprovalStatus::Asked,
            by: None,
            reason: None,
            decided_at: None,
        }
    }

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

    pub(super) fn decide(&mut self, decided: &Decided) {
        if self.waits() {
            self.status = decided.status;
            self.by = decided.by.clone();
            self.reason = decided.reason.clone();
            self.decided_at = Some(decided.at);
        }
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

    fn decided(&self, status: ApprovalStatus, at: UnixMillis) -> Decided {
        Decided {
            id: self.id.clone(),
            turn: self.turn,
            step: self.step,
            tool: self.tool.clone(),
            status,
            by: None,
            reason: None,
            at,
        }
    }
}

impl OpenTurn {
    /// Returns the approvals that the turn waits for.
    pub fn waiting(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.iter().filter(|approval| approval.waits())
    }
}

impl SessionProgress {
    /// Returns the approvals that a human has to decide before the open turn can continue.
    pub fn waiting(&self) -> impl Iterator<Item = &Approval> {
        self.open.iter().flat_map(OpenTurn::waiting)
    }

    /// Whether the open turn waits for a human.
    pub fn is_parked(&self) -> bool {
        self.waiting().next().is_some()
    }
}

impl Session {
    /// Takes a decision. Returns the record to write, or the approval as it stands if the same
    /// decision was made before.
    pub fn answer(
        &self,
        id: &ApprovalId,
        answer: &Answer,
        at: UnixMillis,
    ) -> Result<Result<Record, Approval>, Refusal> {
        if let Some(at) = self.progress.closed {
            return Err(Refusal::Closed { at });
        }
        if let Some(reason) = &answer.reason
            && reason.len() > DECISION_REASON_BYTES
        {
            return Err(Refusal::TooLarge {
                what: "`reason`",
                key: "reason",
                bytes: reason.len() as u64,
                limit: DECISION_REASON_BYTES as u64,
            });
        }
        let open = self.progress.open.iter().flat_map(|open| &open.approvals);
        let mut known = open.chain(&self.progress.answered);
        let approval = known
            .find(|approval| approval.id == *id)
            .ok_or_else(|| Refusal::UnknownApproval(id.to_string()))?;
        let wanted = match answer.approve {
            true => ApprovalStatus::Approved,
            false => ApprovalStatus::Denied,
        };
        match approval.status {
            ApprovalStatus::Asked if approval.expires_at > at => Ok(Ok(Record::Decided(Decided {
                by: answer.by.clone(),
                reason: answer.reason.clone(),
                ..approval.decided(wanted, at)
            }))),
            status if status == wanted => Ok(Err(approval.clone())),
            ApprovalStatus::Asked | ApprovalStatus::Expired => Err(Refusal::ApprovalExpired {
                at: approval.expires_at,
            }),
            status => Err(Refusal::ApprovalDecided { status }),
        }
    }

    /// Returns the records that expire the approvals whose time is over.
    pub fn expire(&self, at: UnixMillis) -> Vec<Record> {
        let over = self.progress.waiting().filter(|a| a.expires_at <= at);
        over.map(|a| Record::Decided(a.decided(ApprovalStatus::Expired, at)))
            .collect()
    }

    /// Returns the records that cancel the approvals of a turn that ends.
    pub(super) fn withdraw(&self, at: UnixMillis) -> Vec<Record> {
        let waiting = self.progress.waiting();
        waiting
            .map(|a| Record::Decided(a.decided(ApprovalStatus::Cancelled, at)))
            .collect()
    }
}
