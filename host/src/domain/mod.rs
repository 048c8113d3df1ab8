//! The domain model of Abide, without any I/O. This is the glossary that all other code uses:
//!
//! - **session**: a durable conversation, addressed by an id; a log of numbered, atomic *records*.
//! - **guest**: the component that holds a session's turn logic; a **plugin** is a guest that the
//!   configuration names.
//! - **turn**: the processing of one message: restore, run, snapshot, commit.
//! - **step**: a host call of a running turn that reaches outside its session.
//! - **event**: what clients see of a session, numbered by a **cursor**.
//! - **snapshot**: the guest's state after a turn; it saves folding the whole log again.
//! - **dead letter**: a message that no turn will consume unless somebody requests a retry.
//! - **generation**: the number of a worker's lifetime. **Notice**: the recovery message that tells
//!   a guest about a new generation.
//! - **drain**: running turns may end and no new ones begin, before a worker exits.
//! - **fault**: the reason why a session cannot run until an operator acts.

mod approvals;
mod calls;
mod cancel;
mod capabilities;
mod egress;
mod events;
mod ids;
mod journal;
pub mod lifecycle;
mod limits;
mod message;
mod model_providers;
mod plan_report;
mod record_events;
mod records;
mod recovery;
mod refusal;
mod report;
mod restart;
mod session;
mod snapshot;
mod steps;
mod stopped;
mod time;
mod tool_servers;
mod usage;
mod view;
mod watchdog;

#[cfg(test)]
mod tests;

pub use approvals::{Answer, Approval, ApprovalId, ApprovalStatus, Asked, DECISION_REASON_BYTES};
pub use calls::{MadeCall, MadeCalls};
pub use cancel::{CancelScope, Cancelled};
pub use capabilities::{Capabilities, Patterns, ToolName};
pub use egress::{BadHttpRule, EgressTarget, HttpGrants, HttpRule, Reach};
pub use events::{Delta, Event, EventBody, TRUNCATED, ToolStatus, TurnStatus};
pub use ids::{
    BadSessionId, Digest, Generation, MessageId, NAME_MAX_BYTES, SESSION_ID_MAX_BYTES, SessionId,
};
pub use journal::{
    Divergence, Journal, Pending, Progressed, Recorded, Replay, Step, StepPath, unknown_outcome,
};
pub use lifecycle::{BeginWith, DEATHS_MAX, SessionState, WorkerDeath};
pub use limits::{GuestLimits, Limits, Retention};
pub use message::{Cause, Interruption, Message, Notice, NoticeCause, Role, StoppedNotice};
pub use model_providers::{ModelDialect, ModelProviderFailing, ModelProviderStatus};
pub use plan_report::{PlanProblem, PlanReport, PlanRequest, PlanVerdict, PlannedChange};
pub use records::{
    Begun, Closed, Created, DeadLetter, Decided, Discarded, FailureCode, Fault, FaultCode, Faulted,
    IdempotencyKey, Output, Planned, Received, Record, Relabelled, Requeued, Resumed, StepDone,
    Timer, TimerOp, TurnEnd, TurnEnded, TurnFailure,
};
pub use refusal::Refusal;
pub use report::{PartReport, PartStatus, ReplayReport, ReplayVerdict, StepReport, TurnReport};
pub use restart::{
    ActiveSession, DrainReport, Extent, Phases, Regression, RelaunchReport, RestartRecord,
    RestartStatus, SHORTFALLS_TOLD,
};
pub use session::{
    Identity, LastTurn, LogPos, OpenTurn, PastRestart, Queued, Session, SessionProgress,
    SnapshotRef, Untold,
};
pub use snapshot::{BadSnapshot, Snapshot};
pub use steps::{
    ChatMessage, ChatRequest, ChatRole, Completion, Effect, FinishReason, FromInbox, HttpRequest,
    HttpResponse, ModelToolCall, StepCallName, StepError, StepRequest, StepResult, Tool, ToolCall,
    ToolContent, ToolDefinition, ToolOutcome, Usage,
};
pub use stopped::{StoppedTurn, StoppedTurns};
pub use time::UnixMillis;
pub use tool_servers::{ToolLeftOut, ToolServerKind, ToolServerState, ToolServerStatus};
pub use usage::ModelUsage;
pub use view::{Reason, RunningTurn, SessionView};
pub use watchdog::{
    Changes, DiskSigns, Finding, FindingKind, Findings, Observation, STEP_MARGIN, STUCK_AFTER,
    SessionSigns, TURN_MARGIN, Timed, TurnSigns, WRITER_STALLED_AFTER, WriterSigns, judge,
};
