//! Restart records: what a restart was for, what it met, how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Cause, Digest, Generation, SessionId, UnixMillis};

/// One restart, under the generation that it brings up. Written when its plan is accepted, and
/// completed by whoever knows the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RestartRecord {
    /// Its number.
    pub generation: Generation,
    /// Why.
    pub cause: Cause,
    /// What set it off, for humans: the keys that changed, a signal, how the worker died.
    pub trigger: String,
    /// How far it is.
    pub status: RestartStatus,
    /// When the plan was accepted; for a crash, when it was noticed.
    pub at: UnixMillis,
    /// The configuration before, by its bytes.
    pub config_from: Option<Digest>,
    /// The configuration after.
    pub config_to: Option<Digest>,
    /// What was to be served, by the configuration's bytes and those of the files it names.
    #[serde(default)]
    pub tried: Option<Digest>,
    /// The version of the binary that serves after it.
    #[serde(default)]
    pub version: String,
    /// Sessions that were active when the drain began.
    #[serde(default)]
    pub active: u64,
    /// What the drain did.
    #[serde(default)]
    pub drain: DrainReport,
    /// How long each phase took.
    #[serde(default)]
    pub phases: Phases,
    /// What came back.
    #[serde(default)]
    pub relaunch: RelaunchReport,
    /// When the old worker stopped answering.
    #[serde(default)]
    pub handover_at: Option<UnixMillis>,
    /// Why it was refused, or what went wrong.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How far a restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartStatus {
    /// Between its acceptance and its successor's serving.
    Running,
    /// The new worker serves and must prove itself.
    Probation,
    /// Done.
    Completed,
    /// The old binary and configuration serve again.
    RolledBack,
    /// It never came to the hand-over; nothing changed.
    Refused,
    /// Not a restart: the daemon was asked to stop after this drain, and did.
    Stopped,
}

impl RestartStatus {
    /// Its name in the API.
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

/// What a drain met and did. Turns, but for `held` and `idle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrainReport {
    /// Active sessions without a running turn.
    pub idle: u64,
    /// Running when the drain began, and ended by themselves.
    pub waited_for: u64,
    /// Cut at the end of the grace period; they run again.
    pub cut: u64,
    /// Frozen before their next step; they go on.
    #[serde(default)]
    pub frozen: u64,
    /// Messages accepted and held for the next worker.
    pub held: u64,
}

/// Durations of a restart's phases, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Phases {
    /// From the accepted plan to the standby's readiness.
    pub standby_ms: u64,
    /// From there to the last turn's end or cut.
    pub drain_ms: u64,
    /// From there to the successor's serving.
    pub handover_ms: u64,
    /// From there to the last session's return.
    pub relaunch_ms: u64,
    /// The longest that a client could wait: from the last moment the old worker answered to the
    /// first the new one does.
    pub pause_ms: u64,
}

/// What came back after a restart. Sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RelaunchReport {
    /// Restored, or found faulted as before.
    pub restored: u64,
    /// Open turns that run again.
    pub resumed_turns: u64,
    /// Cannot come back; each is faulted with its reason.
    pub faulted: u64,
    /// Came back with less than was recorded, or not at all; named so that a human looks.
    pub lesser: Vec<SessionId>,
    /// What the first [`SHORTFALLS_TOLD`] of these lack.
    #[serde(default)]
    pub shortfalls: Vec<Regression>,
}

/// Sessions whose loss a restart's record tells in full; of all others it has the names, and the
/// log has the rest.
pub const SHORTFALLS_TOLD: usize = 100;

impl RelaunchReport {
    /// Takes a session in that came back with less than was recorded.
    pub fn lacks(&mut self, shortfall: Regression) {
        self.lesser.push(shortfall.id.clone());
        if self.shortfalls.len() < SHORTFALLS_TOLD {
            self.shortfalls.push(shortfall);
        }
    }
}

/// How far a session had come. Each of these only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Extent {
    /// Its completed turns.
    pub turns: u64,
    /// Its log's length, in records.
    pub seq: u64,
    /// Its last event.
    pub cursor: u64,
}

/// A session that came back with less than was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Regression {
    /// Which.
    pub id: SessionId,
    /// How far it had come.
    pub recorded: Extent,
    /// How far it came back; none if nothing of it is in the store, or can be read there.
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

/// An active session as the drain found it, to be held against what comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveSession {
    /// The session.
    pub id: SessionId,
    /// Its completed turns.
    pub turns: u64,
    /// Its log's length.
    pub seq: u64,
    /// Its last event.
    pub cursor: u64,
    /// Streams that followed it.
    pub subscribers: u64,
}

impl ActiveSession {
    /// What it lacks that is found to have come this far; none if it is all there.
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
