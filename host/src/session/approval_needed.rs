//! A tool call that a human must approve first.

use std::time::Duration;

use crate::domain::{ApprovalId, Asked, Effect, StepCallName, ToolCall, UnixMillis};

/// See the module.
pub(super) struct ApprovalNeeded<'r> {
    pub(super) call: &'r ToolCall,
    /// How long a human may take.
    pub(super) timeout: Duration,
    /// The call's effect, once it may be made.
    pub(super) effect: Effect,
}

impl ApprovalNeeded<'_> {
    /// Returns what a human is asked about this part of a turn's step, from now on.
    pub(super) fn asked(
        &self,
        id: ApprovalId,
        (turn, step, part): (u64, u32, u32),
        call: &StepCallName,
    ) -> Asked {
        let at = UnixMillis::now();
        Asked {
            id,
            turn,
            step,
            part,
            call: call.clone(),
            tool: self.call.name.clone(),
            arguments: self.call.arguments.clone(),
            at,
            expires_at: at.later(self.timeout),
        }
    }
}
