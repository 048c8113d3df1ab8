//! The path of an instance's steps to the task that runs its turn: the grants, the number of steps
//! that are left, and the channel.

use tokio::sync::{mpsc, oneshot};

use super::grants::Grants;
use crate::domain::{StepCallName, StepError, StepRequest, StepResult};

/// Where a running turn sends its steps. Boxed: a channel makes room for 32 of them, and most turns send
/// none.
pub type StepSender = mpsc::Sender<Box<StepCall>>;

/// A step that a running turn requests.
#[derive(Debug)]
pub struct StepCall {
    /// The step's number in the turn, from 1.
    pub step: u32,
    /// The step's name, derived only from the guest's request: it is the same whenever the turn
    /// runs, whatever is granted.
    pub call: StepCallName,
    /// The guest's request, with defaults filled in by the host.
    pub request: StepRequest,
    /// For each part the reason why it must not be executed, if any. There is one part, or one per
    /// tool call of `call-all`.
    pub refused: Vec<Option<StepError>>,
    /// The channel for the guest's answer. If it is dropped, the guest keeps waiting, because its
    /// turn is being aborted.
    pub reply: oneshot::Sender<StepAnswer>,
}

/// The answer to a guest's step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepAnswer {
    /// The step's result.
    pub result: Result<StepResult, StepError>,
    /// How long the step took, in milliseconds; the guest's clock advances by this.
    pub took_ms: u64,
}

/// Checks, counts and forwards the steps of an instance.
pub(super) struct StepGate {
    pub(super) grants: Grants,
    pub(super) max: u32,
    pub(super) taken: u32,
    /// Like `taken`, but each call of `call-all` counts separately; bounded by `max`.
    pub(super) weight: u32,
    /// The receiver of steps; `Some` while a turn runs.
    pub(super) to: Option<StepSender>,
}

impl StepGate {
    pub(super) fn new(grants: Grants, max: u32) -> Self {
        Self {
            grants,
            max,
            taken: 0,
            weight: 0,
            to: None,
        }
    }

    /// Sends steps to `to` from now on; with `None` they are denied.
    pub(super) fn connect(&mut self, to: Option<StepSender>) {
        self.to = to;
    }

    /// Returns the receiver of steps, or denies the step if no turn runs.
    pub(super) fn running(&self) -> Result<&StepSender, StepError> {
        self.to.as_ref().ok_or_else(|| {
            StepError::Denied(
                "steps are for `turn` alone: `open`, `snapshot` and `restore` may call none".into(),
            )
        })
    }
}
