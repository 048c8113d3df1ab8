//! Approvals: tool calls that wait for a human. Pure: what is asked, what an answer means, and what
//! the call comes to.
//!
//! ```text
//!   call of an `ask` tool -> [Asked], synced: the session is parked, its guest is dropped
//!                               |  approve        deny / its time is over       cancel, DELETE
//!                               v                     v                            v
//!                          [approved]          [denied, expired]              [cancelled]
//!                               |                     |                    the turn ends failed
//!     the turn is replayed up to its step, which then is planned and made, or is told `denied`
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::steps::{one_line, shorten};
use super::{
    Decided, Digest, FailureCode, OpenTurn, Record, Refusal, Session, SessionId, SessionProgress,
    StepCallName, TurnFailure, UnixMillis,
};

/// The longest arguments that are kept beside the log, in bytes; the event has them whole.
const ARGUMENTS_BYTES: usize = 4 << 10;
/// The longest call in a session's reason, in bytes.
const REASON_BYTES: usize = 200;
/// The longest reason that comes with a decision, in bytes.
pub const DECISION_REASON_BYTES: usize = 2 << 10;

/// An approval's name: `SESSION:TURN.STEP.PART`. It says whom to ask, so it is found without an
/// index, and the same call has the same one after any number of restarts.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct ApprovalId(String);

impl ApprovalId {
    /// Of a part of a step.
    pub fn new(session: &SessionId, turn: u64, step: u32, part: u32) -> Self {
        Self(format!("{session}:{turn}.{step}.{part}"))
    }

    /// Takes what a client says; none if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let (session, place) = text.rsplit_once(':')?;
        let numbers: Vec<&str> = place.split('.').collect();
        let plain = |n: &&str| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit());
        let fits = numbers.len() == 3 && numbers.iter().all(plain);
        (fits && SessionId::new(session).is_ok()).then(|| Self(text.to_owned()))
    }

    /// The session that asked.
    pub fn session(&self) -> Option<SessionId> {
        let (session, _) = self.0.rsplit_once(':')?;
        SessionId::new(session).ok()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// It waits for a human.
    Asked,
    /// The call may be made.
    Approved,
    /// A human said no.
    Denied,
    /// Nobody said anything in time.
    Expired,
    /// Its turn was given up, or its session closed.
    Cancelled,
}

impl ApprovalStatus {
    /// Its name in the API.
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

/// One tool call that waits, or waited, for a human.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approval {
    /// Its name.
    pub id: ApprovalId,
    /// The turn that makes the call.
    pub turn: u64,
    /// The step, from 1.
    pub step: u32,
    /// The part of the step, from 0.
    pub part: u32,
    /// Of the whole step as the guest asked for it: what was approved is that, and nothing else.
    pub digest: Digest,
    /// The tool.
    pub tool: String,
    /// Its arguments, shortened to 4 KiB; the session's `approval` event has them whole.
    pub arguments: String,
    /// When it was asked.
    pub asked_at: UnixMillis,
    /// From when on it counts as denied.
    pub expires_at: UnixMillis,
    /// What became of it.
    pub status: ApprovalStatus,
    /// Who decided, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<UnixMillis>,
}

/// See [`Record::Asked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The approval's name.
    pub id: ApprovalId,
    /// The turn.
    pub turn: u64,
    /// The step that is not planned before all its approvals are decided, from 1.
    pub step: u32,
    /// Which part of it, from 0.
    pub part: u32,
    /// The whole step, to know it by when the turn runs again.
    pub call: StepCallName,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: String,
    /// When.
    pub at: UnixMillis,
    /// From when on it counts as denied.
    pub expires_at: UnixMillis,
}

/// An answer to an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the call may be made.
    pub approve: bool,
    /// Who, as they say.
    pub by: Option<String>,
    /// Why, as they say.
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

    /// Whether this was asked for the same step; if not, the turn must not go on, or something would
    /// be done that nobody has approved.
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

    /// Whether nobody has decided.
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

    /// Why the call is not made; none if it may be.
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

    /// The call on one line, and short.
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
    /// The approvals that it waits for.
    pub fn waiting(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.iter().filter(|approval| approval.waits())
    }
}

impl SessionProgress {
    /// The approvals that a human has to decide before a turn can go on.
    pub fn waiting(&self) -> impl Iterator<Item = &Approval> {
        self.open.iter().flat_map(OpenTurn::waiting)
    }

    /// Whether the open turn waits for a human.
    pub fn is_parked(&self) -> bool {
        self.waiting().next().is_some()
    }
}

impl Session {
    /// Takes an answer: the record to write, or the approval as it stands if it was given before.
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

    /// The records of the approvals whose time is over.
    pub fn expire(&self, at: UnixMillis) -> Vec<Record> {
        let over = self.progress.waiting().filter(|a| a.expires_at <= at);
        over.map(|a| Record::Decided(a.decided(ApprovalStatus::Expired, at)))
            .collect()
    }

    /// The records of the approvals that end with their turn.
    pub(super) fn withdraw(&self, at: UnixMillis) -> Vec<Record> {
        let waiting = self.progress.waiting();
        waiting
            .map(|a| Record::Decided(a.decided(ApprovalStatus::Cancelled, at)))
            .collect()
    }
}
