//! Standing approvals: a human has said of a call that it may always be made in its session, so that nobody is
//! asked about it again. It is of one session, one tool and these very arguments, byte for byte.

use serde::{Deserialize, Serialize};

use super::shorten::shorten;
use super::{Approval, ApprovalId, ApprovalStatus, Asked, Decided, Digest, Record, UnixMillis};

/// The longest arguments that are kept to be shown, in bytes.
const ARGUMENTS_BYTES: usize = 4 << 10;

/// The maximum number of standing approvals of all sessions together.
pub const STANDING_MAX: usize = 1000;

/// A call that may be made in a session without asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StandingApproval {
    /// The id of the approval that it was given with. It names the session, too.
    pub id: ApprovalId,
    /// The tool.
    pub tool: String,
    /// The arguments, shortened to 4 KiB.
    pub arguments: String,
    /// Whether the arguments are cut here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arguments_cut: bool,
    /// The digest of the tool and its whole arguments.
    pub call: Digest,
    /// When it was given.
    pub since: UnixMillis,
    /// Who gave it: an access token's name, `config` or `@local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl StandingApproval {
    /// Makes one of the approval of a call, which has its arguments whole.
    pub fn of(approval: &Approval, by: Option<String>, since: UnixMillis) -> Self {
        let mut arguments = approval.arguments.clone();
        let arguments_cut = arguments.len() > ARGUMENTS_BYTES;
        shorten(&mut arguments, ARGUMENTS_BYTES);
        Self {
            id: approval.id.clone(),
            call: digest_of(&approval.tool, &approval.arguments),
            tool: approval.tool.clone(),
            arguments,
            arguments_cut,
            since,
            by,
        }
    }

    /// Whether it is about this call of its session, on the timeline on which it was given: what was decided
    /// before a history was cut is void, like all approvals from then.
    pub fn covers(&self, asked: &Asked) -> bool {
        self.id.timeline() == asked.id.timeline()
            && self.tool == asked.tool
            && self.call == digest_of(&asked.tool, &asked.arguments)
    }

    /// Whether it is about the same calls as another one of its session.
    pub fn covers_what(&self, other: &Self) -> bool {
        self.call == other.call
    }

    /// Returns the decision that it makes about a call that it covers.
    pub fn decision(&self, asked: &Asked) -> Record {
        Record::Decided(Decided {
            id: asked.id.clone(),
            turn: asked.turn,
            step: asked.step,
            tool: asked.tool.clone(),
            status: ApprovalStatus::Approved,
            by: self.by.clone(),
            reason: Some(format!("always, said with {}", self.id)),
            at: asked.at,
        })
    }
}

/// Returns the digest of a call. A tool's name has no zero byte.
fn digest_of(tool: &str, arguments: &str) -> Digest {
    Digest::of(&[tool.as_bytes(), b"\0", arguments.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{SessionId, StepCallName, StepRequest, TimelineName, ToolCall};

    fn asked(tool: &str, arguments: &str) -> Asked {
        let call = ToolCall {
            name: tool.to_owned(),
            arguments: arguments.to_owned(),
        };
        let session = SessionId::new("s").unwrap();
        Asked {
            id: ApprovalId::new(&session, None, 1, 2, 0),
            turn: 1,
            step: 2,
            part: 0,
            call: StepCallName::of(&StepRequest::ToolCall(call.clone())),
            tool: call.name,
            arguments: call.arguments,
            at: UnixMillis(5),
            expires_at: UnixMillis(9),
        }
    }

    #[test]
    fn it_covers_the_same_arguments_of_the_same_tool_alone() {
        let long = format!("{{\"text\":\"{}\"}}", "x".repeat(2 * ARGUMENTS_BYTES));
        for arguments in ["{}", long.as_str()] {
            let first = asked("t__pay", arguments);
            let mut approval = Approval::of(&first);
            approval.arguments = arguments.to_owned();
            let by = Some("ann".to_owned());
            let standing = StandingApproval::of(&approval, by, UnixMillis(7));
            assert!(standing.arguments.len() <= ARGUMENTS_BYTES + "…".len());
            assert!(standing.covers(&first));
            assert!(!standing.covers(&asked("t__pay2", arguments)));
            let session = SessionId::new("s").unwrap();
            let later = TimelineName::parse("abcdefgh").expect("a name");
            let cut = Asked {
                id: ApprovalId::new(&session, Some(&later), 1, 2, 0),
                ..first.clone()
            };
            assert!(!standing.covers(&cut), "a history was cut since");
            assert!(!standing.covers(&asked("t__pay", &format!("{arguments} "))));
            let Record::Decided(decided) = standing.decision(&first) else {
                panic!("a decision");
            };
            assert_eq!(decided.status, ApprovalStatus::Approved);
            assert_eq!((decided.id, decided.by), (first.id, standing.by));
        }
    }
}
