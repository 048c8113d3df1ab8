//! Restart records: the cause of a restart, what happened during it, and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Generation, PluginTrial, SessionId, UnixMillis};

/// Why a worker was replaced. Of several restarts, the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The configuration changed.
    Config,
    /// A newer binary took over.
    Upgrade,
    /// The worker died, or the machine did.
    Crash,
    /// An operator asked for it.
    Operator,
}

impl Cause {
    /// The name of the cause in events, records and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Upgrade => "upgrade",
            Self::Crash => "crash",
            Self::Operator => "operator",
        }
    }
}

/// A restart, as far as sessions need to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastRestart {
    /// The generation that it brought up.
    pub generation: Generation,
    pub cause: Cause,
    /// When it was decided, or for a crash, noticed.
    pub at: UnixMillis,
    /// By how much `at` is ahead of the times before it, because the clock was set forward shortly
    /// before.
    pub ahead_ms: u64,
}

/// A restart, identified by the generation that it brings up. The record is written when the plan
/// is accepted, and completed by the worker that learns how the restart ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RestartRecord {
    /// The generation that the restart brings up.
    pub generation: Generation,
    /// The category of the cause.
    pub cause: Cause,
    /// What triggered it, for humans: the keys that changed, a signal, how the worker died.
    pub trigger: String,
    /// How far the restart has come.
    pub status: RestartStatus,
    /// When the plan was accepted; for a crash, when it was noticed.
    pub at: UnixMillis,
    /// The digest of the configuration's bytes before the restart.
    pub config_from: Option<Digest>,
    /// The digest of the configuration's bytes after it.
    pub config_to: Option<Digest>,
    /// What the restart was meant to bring up: a digest over the configuration's bytes and those of
    /// the files that it names.
    #[serde(default)]
    pub tried: Option<Digest>,
    /// The version of the binary that serves after the restart.
    #[serde(default)]
    pub version: String,
    /// Sessions that were active when the drain began.
    #[serde(default)]
    pub active: u64,
    /// What the drain did with active sessions and their turns.
    #[serde(default)]
    pub drain: DrainReport,
    /// The duration of each phase.
    #[serde(default)]
    pub phases: Phases,
    /// What was found of new components before the drain, plugin by plugin; in the daemon's status, what was
    /// found so far.
    #[serde(default)]
    #[schema(required = true)]
    pub trial: Vec<PluginTrial>,
    /// What came back after the restart.
    #[serde(default)]
    pub relaunch: RelaunchReport,
    /// When the old worker stopped answering requests.
    #[serde(default)]
    pub handover_at: Option<UnixMillis>,
    /// Why the restart was refused, or what went wrong.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How far a restart has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartStatus {
    /// The plan is accepted and the new worker does not serve yet.
    Running,
    /// The new worker serves and is on probation.
    Probation,
    /// Probation has ended well.
    Completed,
    /// The new worker failed; the old binary and configuration serve again.
    RolledBack,
    /// The restart failed before the hand-over; nothing changed.
    Refused,
    /// Not a restart: the daemon was asked to stop after this drain, and it did.
    Stopped,
}

impl RestartStatus {
    /// The name of the status in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Probation => "probation",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

/// What a drain did. Every count is of turns, except `held` and `idle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrainReport {
    /// Active sessions without a running turn.
    pub idle: u64,
    /// Turns that ran when the drain began, and ended by themselves.
    pub waited_for: u64,
    /// Turns that were aborted at the end of the grace period; they run again.
    pub cut: u64,
    /// Turns that were frozen before their next step; they continue.
    #[serde(default)]
    pub frozen: u64,
    /// Messages that were accepted during the drain and held for the next worker.
    pub held: u64,
}

/// The durations of a restart's phases, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Phases {
    /// From the accepted plan until the standby is ready.
    pub standby_ms: u64,
    /// From there until new components were tried.
    #[serde(default)]
    #[schema(required = true)]
    pub trial_ms: u64,
    /// From there until the last turn has ended or was aborted.
    pub drain_ms: u64,
    /// From the end of the drain until the new worker serves.
    pub handover_ms: u64,
    /// From there until the last active session is back.
    pub relaunch_ms: u64,
    /// The longest pause that a client could see: from the old worker's last answer until the new
    /// worker can answer.
    pub pause_ms: u64,
}

/// The sessions that came back after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RelaunchReport {
    /// Sessions that were restored, or were faulted before the restart and still are.
    pub restored: u64,
    /// Open turns that run again.
    pub resumed_turns: u64,
    /// Sessions that cannot come back; each is faulted with a reason.
    pub faulted: u64,
    /// Sessions that stay on the component that they last ran on, since their plugin's cannot carry them
    /// on.
    #[serde(default)]
    #[schema(required = true)]
    pub pinned: u64,
    /// Sessions that came back with less than was recorded, or not at all; named for human review.
    pub lesser: Vec<SessionId>,
    /// What is missing of the first [`SHORTFALLS_TOLD`] of them.
    #[serde(default)]
    pub shortfalls: Vec<Regression>,
}

/// The number of regressed sessions that a restart record describes in full. Of all further ones it
/// lists only the ids; the daemon's log has the details.
pub const SHORTFALLS_TOLD: usize = 100;

impl RelaunchReport {
    /// Records a session that came back with less than was recorded.
    pub fn lacks(&mut self, shortfall: Regression) {
        self.lesser.push(shortfall.id.clone());
        if self.shortfalls.len() < SHORTFALLS_TOLD {
            self.shortfalls.push(shortfall);
        }
    }
}

/// How far a session's log extends. Each of these numbers only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Extent {
    /// Completed turns.
    pub turns: u64,
    /// The length of the log, in records.
    pub seq: u64,
    /// The cursor of the last event.
    pub cursor: u64,
}

/// A session that came back with less than was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Regression {
    /// The session.
    pub id: SessionId,
    /// The extent that was recorded before the restart.
    pub recorded: Extent,
    /// The extent that came back; none if the store has nothing of the session, or cannot read it.
    pub found: Option<Extent>,
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turns, seq, cursor } = self;
        write!(f, "{turns} turns, {seq} records, cursor {cursor}")
    }
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recorded: {}; found: ", self.recorded)?;
        match &self.found {
            Some(found) => found.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

/// The extent of an active session when the drain began, to compare with what comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveSession {
    pub id: SessionId,
    pub turns: u64,
    /// The length of its log, in records.
    pub seq: u64,
    /// The cursor of its last event.
    pub cursor: u64,
    /// Event streams that followed it.
    pub subscribers: u64,
}

impl ActiveSession {
    /// Compares `found` with the recorded extent. Returns what is missing, or none if nothing is.
    pub fn shortfall(&self, found: Option<Extent>) -> Option<Regression> {
        let recorded = Extent {
            turns: self.turns,
            seq: self.seq,
            cursor: self.cursor,
        };
        let whole = found.is_some_and(|found| {
            found.turns >= recorded.turns
                && found.seq >= recorded.seq
                && found.cursor >= recorded.cursor
        });
        (!whole).then(|| Regression {
            id: self.id.clone(),
            recorded,
            found,
        })
    }
}
