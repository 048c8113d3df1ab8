//! Reports of a turn, step by step, and of its replay.

use serde::{Deserialize, Serialize};

use super::result_text::shown;
use super::{Begun, Digest, Journal, MessageId, Step, StepDone, ToolStatus, UnixMillis};

/// The steps of a turn: the open one, or the last one that committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TurnReport {
    /// Its number.
    pub turn: u64,
    /// Whether it is still open.
    pub open: bool,
    /// The number of its attempts so far.
    pub attempt: u32,
    /// The message that it consumes.
    pub message: MessageId,
    /// The component that runs it.
    pub component: Digest,
    /// When the attempt that its journal records began.
    pub began_at: UnixMillis,
    /// Its steps, in order.
    pub steps: Vec<StepReport>,
}

/// One step of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepReport {
    /// Its number in the turn, from 1.
    pub step: u32,
    /// Its kind, such as `tools.call`.
    pub kind: String,
    /// The call that the guest made, shortened.
    pub call: String,
    /// When it began.
    pub at: UnixMillis,
    /// Its parts; one, except for several tool calls at once.
    pub parts: Vec<PartReport>,
}

/// A part of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartReport {
    /// The name of what it reached; empty if it reached nothing outside.
    pub name: String,
    /// Whether it may be repeated when it is unknown whether it happened.
    pub repeatable: bool,
    /// How far it has come.
    pub status: PartStatus,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Its result or its error, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// The status of a part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartStatus {
    /// It began; no result is recorded.
    Begun,
    /// It has a result.
    Done,
    /// It has an error.
    Failed,
    /// It is unknown whether it happened.
    Unknown,
}

impl PartStatus {
    /// The name of the status in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl TurnReport {
    /// Builds the report from the turn's `Begun` record and its journal.
    pub fn of(begun: &Begun, attempt: u32, open: bool, journal: &Journal) -> Self {
        Self {
            turn: begun.turn,
            open,
            attempt,
            message: begun.message.clone(),
            component: begun.component,
            began_at: begun.now,
            steps: journal.steps().iter().map(StepReport::of).collect(),
        }
    }
}

impl StepReport {
    fn of(step: &Step) -> Self {
        let planned = &step.planned;
        let parts = planned.effects.iter().zip(&step.done);
        Self {
            step: planned.step,
            kind: planned.call.kind.clone(),
            call: planned.call.text.clone(),
            at: planned.at,
            parts: parts
                .map(|(effect, done)| PartReport {
                    name: effect.name().to_owned(),
                    repeatable: effect.repeatable(),
                    status: done
                        .as_ref()
                        .map_or(ToolStatus::Started, StepDone::status)
                        .into(),
                    // The duration of a part with an unknown outcome is unknown as well.
                    took_ms: done
                        .as_ref()
                        .filter(|done| done.status() != ToolStatus::Unknown)
                        .map(|done| done.took_ms),
                    result: done.as_ref().map(|done| shown(&done.result)),
                })
                .collect(),
        }
    }
}

impl From<ToolStatus> for PartStatus {
    fn from(status: ToolStatus) -> Self {
        match status {
            ToolStatus::Started => Self::Begun,
            ToolStatus::Done => Self::Done,
            ToolStatus::Failed => Self::Failed,
            ToolStatus::Unknown => Self::Unknown,
        }
    }
}

/// The result of a replay of a turn, offline and without effects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayReport {
    /// The turn's number.
    pub turn: u64,
    /// Whether it is still open.
    pub open: bool,
    /// The component that ran it.
    pub component: Digest,
    /// The number of steps in its journal.
    pub steps: u32,
    /// How the replay compares with the turn.
    pub verdict: ReplayVerdict,
    /// A description: where it stopped, or what differed.
    pub text: String,
}

/// How a replay compares with the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayVerdict {
    /// The same to the last byte; of an open turn, as far as it is recorded.
    Deterministic,
    /// It took other steps.
    Diverged,
    /// It took the same steps, but its output or its state differed.
    Different,
}

impl ReplayVerdict {
    /// The name of the verdict in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Diverged => "diverged",
            Self::Different => "different",
        }
    }
}
