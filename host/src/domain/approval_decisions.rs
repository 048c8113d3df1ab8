//! What is asked of a human and what the decision does to the session. This code is pure: it
//! returns the records, and applies them to the approval.

use super::shorten::shorten;
use super::{
    Approval, ApprovalId, ApprovalStatus, Asked, Decided, Record, Refusal, Session, UnixMillis,
};

/// The longest arguments that are kept outside the log, in bytes; the event has them in full.
const ARGUMENTS_BYTES: usize = 4 << 10;
/// The longest reason that a decision may carry, in bytes.
pub const DECISION_REASON_BYTES: usize = 2 << 10;

/// A human's decision about an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the call may be made.
    pub approve: bool,
    /// Who decided: an access token's name, `config` or `@local`.
    pub by: Option<String>,
    /// Why, as stated by the client.
    pub reason: Option<String>,
}

impl Approval {
    pub(super) fn of(asked: &Asked) -> Self {
        let mut arguments = asked.arguments.clone();
        let arguments_cut = arguments.len() > ARGUMENTS_BYTES;
        shorten(&mut arguments, ARGUMENTS_BYTES);
        Self {
            id: asked.id.clone(),
            turn: asked.turn,
            step: asked.step,
            part: asked.part,
            digest: asked.call.digest,
            tool: asked.tool.clone(),
            arguments,
            arguments_cut,
            asked_at: asked.at,
            expires_at: asked.expires_at,
            status: ApprovalStatus::Asked,
            by: None,
            reason: None,
            decided_at: None,
        }
    }

    pub(super) fn decide(&mut self, decided: &Decided) {
        if self.waits() {
            self.status = decided.status;
            self.by = decided.by.clone();
            self.reason = decided.reason.clone();
            self.decided_at = Some(decided.at);
        }
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

impl Session {
    /// Returns an approval that the open turn, or the one before, has asked for.
    pub fn approval(&self, id: &ApprovalId) -> Result<&Approval, Refusal> {
        if let Some(at) = self.progress.closed {
            return Err(Refusal::Closed { at });
        }
        let timeline = self.progress.timeline.name();
        if timeline.is_some() && id.timeline().as_ref() != timeline {
            return Err(Refusal::ApprovalVoid { id: id.to_string() });
        }
        let open = self.progress.open.iter().flat_map(|open| &open.approvals);
        let mut known = open.chain(&self.progress.answered);
        known
            .find(|approval| approval.id == *id)
            .ok_or_else(|| Refusal::UnknownApproval(id.to_string()))
    }

    /// Takes a decision. Returns the record to write, or the approval as it stands if the same
    /// decision was made before. Whether the approval has expired is judged by `time`, which is not
    /// `at` if the clock was set since it was asked for.
    pub fn answer(
        &self,
        id: &ApprovalId,
        answer: &Answer,
        time: UnixMillis,
        at: UnixMillis,
    ) -> Result<Result<Record, Approval>, Refusal> {
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
        let approval = self.approval(id)?;
        let wanted = match answer.approve {
            true => ApprovalStatus::Approved,
            false => ApprovalStatus::Denied,
        };
        match approval.status {
            ApprovalStatus::Asked if approval.expires_at > time => {
                Ok(Ok(Record::Decided(Decided {
                    by: answer.by.clone(),
                    reason: answer.reason.clone(),
                    ..approval.decided(wanted, at)
                })))
            }
            status if status == wanted => Ok(Err(approval.clone())),
            ApprovalStatus::Asked | ApprovalStatus::Expired => Err(Refusal::ApprovalExpired {
                at: approval.expires_at,
            }),
            status => Err(Refusal::ApprovalDecided { status }),
        }
    }

    /// Returns the records that expire the approvals whose time is over by `time`.
    pub fn expire(&self, time: UnixMillis, at: UnixMillis) -> Vec<Record> {
        let over = self.progress.waiting().filter(|a| a.expires_at <= time);
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
