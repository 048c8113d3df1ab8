//! The view of a session that the API returns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Digest, FaultCode, Identity, ModelUsage, Session, SessionId, SessionProgress, SessionState,
    TimelineName, UnixMillis,
};

/// A session, as the API returns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Its plugin.
    pub plugin: String,
    /// The digest of the component that it last ran on.
    #[serde(default)]
    #[schema(value_type = Digest, required = true)]
    pub component: Option<Digest>,
    /// Why it stays on that component although its plugin has another one, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedView>,
    /// The arguments it was created with.
    pub args: serde_json::Value,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is doing.
    pub state: SessionState,
    /// Why the session does not run, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The number of completed turns.
    pub turns: u64,
    /// The cursor of its last event.
    pub cursor: u64,
    /// The timeline of that cursor, if its history was ever cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
    /// The number of messages that wait for a turn.
    pub queued: u64,
    /// The number of dead letters.
    pub dead: u64,
    /// The number of timers that are set.
    pub timers: u64,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When a turn last committed.
    pub last_turn_at: Option<UnixMillis>,
    /// What its model calls have cost so far.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
    /// The running turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningTurn>,
}

/// Why a session stays on an older component, and the one action that ends this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PinnedView {
    /// The plugin's component, which could not carry it on. It is tried again once the plugin has
    /// another one.
    pub refused: Digest,
    /// Why it could not.
    pub reason: String,
    /// Since when.
    pub since: UnixMillis,
    /// The operator's action: to have it try the plugin's component at once.
    pub action: String,
}

/// The turn that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunningTurn {
    /// Its number.
    pub turn: u64,
    /// The number of the attempt.
    pub attempt: u32,
    /// When it began: this attempt, or the earlier one whose journal it continues.
    pub since: UnixMillis,
}

/// The code of the [`Reason`] of a session that waits because its history was cut.
pub const HISTORY_CUT: &str = "history_cut";

/// Why a session does not run, and the one action that ends this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reason {
    /// A code for programs.
    pub code: String,
    /// A text for humans.
    pub text: String,
    /// The operator's action: `resume`, `cancel`, an approval, or what to wait for.
    pub action: String,
}

impl Session {
    pub fn view(&self, id: &SessionId) -> SessionView {
        SessionView::of(
            id.clone(),
            &self.identity,
            &self.progress,
            self.queue.len() as u64,
        )
    }
}

impl SessionView {
    /// Returns the view of a session in which `queued` messages wait for a turn.
    pub fn of(id: SessionId, identity: &Identity, progress: &SessionProgress, queued: u64) -> Self {
        let (held, running) = match &progress.fault {
            Some(_) => (progress.open.as_ref(), None),
            None if progress.is_parked() => (None, None),
            None => (None, progress.open.as_ref()),
        };
        let reason = progress.fault.as_ref().map(|fault| {
            let (code, action) = match fault.code {
                FaultCode::KillsWorker => ("kills_worker", "resume, or cancel to give the turn up"),
                FaultCode::Restore => ("restore_failed", "resume to try again; if that fails too, mend the plugin, or rewind to a point before"),
                FaultCode::Plugin => ("plugin_unavailable", "configure the plugin, then resume"),
            };
            Reason {
                code: code.to_owned(),
                text: fault.text.clone(),
                action: action.to_owned(),
            }
        });
        let cut = || {
            let cut = progress.held_by()?;
            let what = cut.cause.sentence(&cut.detail);
            Some(Reason {
                code: HISTORY_CUT.to_owned(),
                text: format!(
                    "{what}; nothing begins by itself: look at what may have happened since, and \
                     at its dead letters"
                ),
                action: format!("abide resume {id}"),
            })
        };
        let reason = reason.or_else(cut).or_else(|| {
            let asked = progress.waiting().next()?;
            Some(Reason {
                code: "approval".to_owned(),
                text: format!(
                    "turn {} waits for a human to approve {}; without an answer it counts as \
                     denied at {}",
                    asked.turn,
                    asked.line(),
                    asked.expires_at
                ),
                action: format!("abide approvals approve {0}, or deny {0}", asked.id),
            })
        });
        let pinned = progress.pin.as_ref().map(|pin| PinnedView {
            refused: pin.refused,
            reason: pin.reason.clone(),
            since: pin.at,
            action: format!("abide plugin adopt {id}"),
        });
        Self {
            id,
            plugin: identity.plugin.clone(),
            component: Some(progress.snapshot.component),
            pinned,
            args: serde_json::from_str(&identity.args).unwrap_or_default(),
            labels: identity.labels.clone(),
            state: progress.state(queued),
            reason,
            turns: progress.turns,
            cursor: progress.next.cursor,
            timeline: progress.timeline.name().cloned(),
            // A turn that is held up by a fault has begun, but its message still counts as queued.
            queued: queued + u64::from(held.is_some()),
            dead: progress.dead_letters,
            timers: progress.timers.len() as u64,
            created_at: identity.created_at,
            last_turn_at: progress.last_commit,
            usage: progress.usage,
            running: running.map(|open| RunningTurn {
                turn: open.begun.turn,
                attempt: open.begun.attempt,
                since: open.begun.now,
            }),
        }
    }
}
