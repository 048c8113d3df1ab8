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
//! - **cut**: the end of a session's history was lost, by damage, by a loss that an operator
//!   accepted, or because a backup was restored. A new **timeline** of the session begins, and waits
//!   for an operator.
//!
//! Each file uses only files of its own row and of the rows above it.
//!
//! | file | content |
//! |---|---|
//! | `ids.rs`, `time.rs`, `shorten.rs` | identifiers, wall-clock times, shortened texts |
//! | `log_pos.rs`, `timer.rs` | positions in a session's log, messages to oneself |
//! | `timeline.rs` | the timelines of a session, and positions on them |
//! | `clock.rs` | by how much the wall clock was set, and what is judged by it all the same |
//! | `limits.rs` | the limits of a plugin's sessions |
//! | `patterns.rs`, `tool_name.rs`, `egress.rs`, `capabilities.rs` | what an operator grants |
//! | `message.rs`, `failure.rs`, `restart.rs` | messages, why turns fail, restarts |
//! | `trial.rs` | what the trial of a component on sessions has found |
//! | `rollout.rs` | how a new component is rolled out: which sessions take it first, and when it has proven itself |
//! | `state_tree.rs`, `state_visitor.rs`, `state_encoding.rs`, `state_path.rs`, `state_loss.rs` | a guest's state as a tree, in three encodings; what another one has lost of it |
//! | `calls.rs`, `stopped.rs`, `history_cut.rs`, `replaced.rs`, `notice.rs` | what a guest is notified of |
//! | `owed.rs`, `point.rs` | what a guest has yet to be told, the states that a session can go back to |
//! | `steps.rs`, `result_text.rs`, `usage.rs` | the calls by which a turn reaches outside |
//! | `approval.rs`, `standing_approval.rs` | a tool call that waits for a human; one that never does again |
//! | `rewound.rs`, `origin.rs` | the records of a state that was replaced |
//! | `records.rs`, `events.rs`, `record_events.rs` | the log, and its events for clients |
//! | `journal.rs`, `call_tracking.rs`, `report.rs` | the steps of one turn, from its records |
//! | `session.rs`, `snapshot.rs` | the state of a session, and of its guest |
//! | `refusal.rs` | why a request is refused |
//! | `recovery.rs`, `approval_decisions.rs` | the notices that are owed, a human's decisions |
//! | `lifecycle.rs`, `cancel.rs`, `cut.rs`, `rewind.rs`, `copy.rs` | the records that a session writes next |
//! | `fold.rs` | how each record changes a session |
//! | `view.rs` | a session, as the API returns it |
//! | `export.rs` | the file that a session is exported to |
//! | `tool_servers.rs`, `model_providers.rs` | the status of tool servers and model providers |
//! | `guest_memory.rs` | the memory budget of all guests |
//! | `plan_report.rs`, `watchdog.rs`, `memory_kills.rs`, `finding.rs` | the plan for a configuration, what is wrong now |
//! | `salvage_report.rs` | what can be read of a damaged store |
//! | `principal.rs`, `access_token.rs`, `token_name.rs` | who calls the API and what they may do |
//! | `audit.rs` | the record of what operators did |

mod access_token;
mod approval;
mod approval_decisions;
mod audit;
mod call_tracking;
mod calls;
mod cancel;
mod capabilities;
mod census;
mod clock;
mod copy;
mod cut;
mod dead_filter;
mod egress;
mod events;
mod export;
mod failure;
mod finding;
mod fold;
mod guest_memory;
mod history_cut;
mod ids;
mod journal;
pub mod lifecycle;
mod limits;
mod log_pos;
mod memory_kills;
mod message;
mod model_providers;
mod notice;
mod origin;
mod owed;
mod patterns;
mod pin;
mod plan_report;
mod point;
mod principal;
mod record_events;
mod records;
mod recovery;
mod refusal;
mod replaced;
mod report;
mod restart;
mod result_text;
mod rewind;
mod rewound;
mod rollout;
mod salvage_report;
mod session;
mod shorten;
mod snapshot;
mod standing_approval;
mod state_encoding;
mod state_loss;
mod state_path;
mod state_tree;
mod state_visitor;
mod steps;
mod stopped;
mod time;
mod timeline;
mod timer;
mod token_name;
mod tool_name;
mod tool_servers;
mod trial;
mod usage;
mod view;
mod watchdog;

#[cfg(test)]
mod tests;

pub use access_token::{
    AccessToken, BadPatterns, TOKEN_PATTERN_MAX_BYTES, TOKEN_PATTERNS_MAX, TokenLimits,
    check_patterns,
};
pub use approval::{Approval, ApprovalId, ApprovalStatus};
pub use approval_decisions::{Answer, DECISION_REASON_BYTES};
pub use audit::{AuditEntry, AuditId};
pub use calls::{MadeCall, MadeCalls};
pub use cancel::{CancelScope, Cancelled};
pub use capabilities::Capabilities;
pub use census::{Census, ComponentCensus};
pub use clock::{ClockHistory, ClockReading, ClockStep, MachineClock};
pub use copy::{LeftBehind, NewCopy, SessionCopy};
pub use dead_filter::{DeadFilter, DeadPage, DeadPlace};
pub use egress::{BadHttpRule, EgressTarget, HttpGrants, HttpRule, Reach};
pub use events::{Delta, Event, EventBody, PreviousTimeline, TRUNCATED, ToolStatus, TurnStatus};
pub use export::{BadExport, EXPORT_MAX_BYTES, HISTORY_MAX_BYTES, SessionExport, history_weight};
pub use failure::{FailureCode, TurnFailure};
pub use finding::{Finding, FindingKind};
pub use guest_memory::GuestMemoryStatus;
pub use history_cut::{CutCause, HistoryCut};
pub use ids::{
    BadSessionId, Digest, Generation, MessageId, NAME_MAX_BYTES, SESSION_ID_MAX_BYTES, SessionId,
    TimelineName,
};
pub use journal::{
    Divergence, Journal, Pending, Progressed, Recorded, Replay, Step, StepPath, unknown_outcome,
};
pub use lifecycle::{BeginWith, DEATHS_MAX, NewMessage, SessionState, WorkerDeath};
pub use limits::{GuestLimits, Limits, PointRules, Retention};
pub use log_pos::LogPos;
pub use memory_kills::MemoryKills;
pub use message::{Message, Role};
pub use model_providers::{ModelDialect, ModelProviderFailing, ModelProviderStatus};
pub use notice::{CutNotice, Interruption, Notice, NoticeCause, ReplacedNotice, StoppedNotice};
pub use origin::Origin;
pub use owed::Owed;
pub use patterns::Patterns;
pub use plan_report::{PlanProblem, PlanReport, PlanRequest, PlanVerdict, PlannedChange};
pub use point::{Point, PointAct, keep_points, retain_points};
pub use principal::{AccessRole, Act, Denial, DenialReason, Principal, PrincipalName, Rights};
pub use records::{
    Asked, Begun, Closed, Created, Cut, DeadLetter, Decided, Discarded, Fault, FaultCode, Faulted,
    IdempotencyKey, Moved, Output, Planned, Received, Record, Relabelled, Requeued, Resumed,
    StepDone, TurnEnd, TurnEnded,
};
pub use refusal::Refusal;
pub use replaced::{Replacement, StateReplaced, state_after};
pub use report::{PartReport, PartStatus, ReplayReport, ReplayVerdict, StepReport, TurnReport};
pub use restart::{
    ActiveSession, Cause, DrainReport, Extent, PastRestart, Phases, Regression, RelaunchReport,
    RestartRecord, RestartStatus, SHORTFALLS_TOLD,
};
pub use rewind::{Rewinding, RewoundTo};
pub use rewound::Rewound;
pub use rollout::{CanaryFailure, CanaryRule, Rollout, RolloutStatus};
pub use salvage_report::{DamagedFile, SalvageReport, TouchedFate, TouchedSession};
pub use session::{
    Identity, LastTurn, OpenTurn, Pin, Queued, Session, SessionProgress, SnapshotRef, Untold,
};
pub use snapshot::{BadSnapshot, Snapshot};
pub use standing_approval::{STANDING_MAX, StandingApproval};
pub use state_loss::StateLoss;
pub(crate) use state_tree::StateTree;
pub use steps::{
    ChatMessage, ChatRequest, ChatRole, Completion, Effect, FinishReason, FromInbox, HttpRequest,
    HttpResponse, ModelToolCall, StepCallName, StepError, StepRequest, StepResult, Tool, ToolCall,
    ToolContent, ToolDefinition, ToolOutcome, Usage,
};
pub use stopped::{StoppedTurn, StoppedTurns};
pub use time::UnixMillis;
pub use timeline::{CursorAhead, EventId, SessionTimeline};
pub use timer::{Timer, TimerOp};
pub use token_name::{BadTokenName, TokenName};
pub use tool_name::ToolName;
pub use tool_servers::{
    ToolLeftOut, ToolSandbox, ToolServerKind, ToolServerState, ToolServerStatus,
};
pub use trial::{
    PluginTrial, ReplayedSteps, STAYING_TOLD, StayingSession, TrialReport, TrialVerdict,
};
pub use usage::ModelUsage;
pub use view::{HISTORY_CUT, PinnedView, Reason, RunningTurn, SessionView};
pub use watchdog::{
    CLOCK_STEP_LEAST, CLOCK_STEP_SHOWN, Changes, DiskSigns, Findings, MEMORY_AFTER,
    OUT_OF_MEMORY_SHOWN, Observation, STEP_MARGIN, STUCK_AFTER, SessionSigns, TURN_MARGIN, Timed,
    TurnSigns, WRITER_STALLED_AFTER, WriterSigns, judge,
};
