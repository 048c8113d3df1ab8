//! The state of a session, as the fold over its log yields it. Only [`Session::apply`] changes one.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    Approval, Begun, Digest, Extent, Fault, Generation, HistoryCut, LogPos, MadeCalls, MessageId,
    ModelUsage, Progressed, Role, SessionTimeline, StateReplaced, StoppedTurns, Timer, UnixMillis,
};

/// The state of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// What rarely changes.
    pub identity: Identity,
    /// What every record changes.
    pub progress: SessionProgress,
    /// Messages that wait for their turn, without the open turn's own, oldest first. The store
    /// keeps each entry on its own, apart from the progress.
    pub queue: VecDeque<Queued>,
}

/// What the client specified when it created the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub plugin: String,
    /// The arguments, as one JSON value.
    pub args: String,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    pub created_at: UnixMillis,
    /// The generation that created it.
    pub created_in: Generation,
}

impl Identity {
    /// Stands for a plugin of which not even the name is known.
    pub const UNKNOWN_PLUGIN: &str = "unknown";

    /// Returns an identity of which nothing but the plugin is known.
    pub fn nameless(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            args: "null".to_owned(),
            labels: BTreeMap::new(),
            created_at: UnixMillis(0),
            created_in: Generation(0),
        }
    }
}

/// How far a session has come, and what is open in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionProgress {
    /// The position of the next record: `next.cursor` is also the last event's cursor.
    pub next: LogPos,
    /// The number of completed turns.
    pub turns: u64,
    /// The number of the last turn that began.
    pub last_turn: u64,
    /// The newest generation that the guest knows of.
    pub seen: Generation,
    /// When a turn last committed.
    pub last_commit: Option<UnixMillis>,
    /// The turn that has begun and not ended.
    pub open: Option<OpenTurn>,
    /// Timers that are set.
    pub timers: Vec<Timer>,
    /// Why it cannot run, if it is faulted.
    pub fault: Option<Fault>,
    /// When it was closed, if it was.
    pub closed: Option<UnixMillis>,
    /// The number of dead letters.
    pub dead_letters: u64,
    /// The present snapshot.
    pub snapshot: SnapshotRef,
    /// The snapshot before it.
    pub previous: Option<SnapshotRef>,
    /// The turn that led from the previous snapshot to the present one.
    #[serde(default)]
    pub last: Option<LastTurn>,
    /// An interrupted turn that was resumed and ended before its guest was notified of the restart.
    #[serde(default)]
    pub untold: Option<Untold>,
    /// Whether a turn failed that had been notified of a restart, or had gone through one: the next
    /// turn must be notified again.
    #[serde(default)]
    pub owed: bool,
    /// Turns that were stopped after effects outside, and that no committed turn was notified of.
    #[serde(default, skip_serializing_if = "StoppedTurns::is_none")]
    pub stopped: StoppedTurns,
    /// The approvals of the last turn that ended: a late decision gets their status as its answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answered: Vec<Approval>,
    /// What its model calls have cost, including the open turn's.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
    /// The timeline that its events are on, and those before it.
    #[serde(default, skip_serializing_if = "SessionTimeline::is_first")]
    pub timeline: SessionTimeline,
    /// The cut of its history of which no committed turn was notified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<HistoryCut>,
    /// That its state was replaced, of which no committed turn was notified; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<StateReplaced>,
    /// The component that it runs on instead of its plugin's, and why.
    #[serde(default, skip_serializing_if = "Pin::is_not_kept")]
    pub pin: Option<Pin>,
    /// The component that an operator has it adopt, whatever of its state that loses; none once a turn has
    /// committed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Digest>,
}

/// The last committed turn: with its journal it leads from the previous snapshot to the present
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTurn {
    pub turn: u64,
    /// The start of its journal: the `Begun` of the recorded attempt.
    pub from: LogPos,
    /// The position of its message.
    pub message: LogPos,
    /// The timers that were set when it began.
    pub timers: Vec<String>,
}

/// What the next recovery message must report about a turn that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// Whether it committed.
    pub completed: bool,
    /// Its steps with an unknown outcome.
    pub unknown: Vec<String>,
}

/// A reference to a snapshot, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// The position of the record that it is stored with.
    pub at: LogPos,
    /// The component that wrote it.
    pub component: Digest,
    /// The guest's schema of its data.
    pub schema: u32,
}

/// See [`SessionProgress::pin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The component that the session runs on.
    pub component: Digest,
    /// The plugin's component, which cannot carry it on.
    pub refused: Digest,
    /// Why, for humans.
    pub reason: String,
    /// Since when it has stayed on the component.
    pub at: UnixMillis,
    /// The turn that failed on `refused`, and that the component took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_over: Option<u64>,
    /// No record says so, as the store cannot have one yet: it holds while the session is in memory.
    #[serde(skip)]
    pub provisional: bool,
}

impl Pin {
    /// Whether there is none that is stored.
    fn is_not_kept(pin: &Option<Self>) -> bool {
        pin.as_ref().is_none_or(|pin| pin.provisional)
    }
}

/// A turn that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenTurn {
    /// Its message.
    pub queued: Queued,
    /// The `Begun` of its last attempt.
    pub begun: Begun,
    /// The position of its first `Begun`: messages that came later may steer the turn.
    #[serde(default)]
    pub since: LogPos,
    /// Whether its guest could not be restored yet, so that the next attempt may use another
    /// component.
    #[serde(default)]
    pub anew: bool,
    /// The start of its journal: the `Begun` of the recorded attempt.
    #[serde(default)]
    pub from: LogPos,
    /// The progress of its journal.
    #[serde(default)]
    pub journal: Progressed,
    /// The timers that were set when it began; they count towards a limit.
    #[serde(default)]
    pub timers: Vec<String>,
    /// The approvals that it asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// What its model calls have cost, including earlier attempts.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
    /// The calls with which it has changed something outside, or may have, including earlier
    /// attempts.
    #[serde(default, skip_serializing_if = "MadeCalls::is_none")]
    pub calls: MadeCalls,
    /// The text of its message, shortened; known once it has made calls.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

/// A message in the inbox; its text is only in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    pub id: MessageId,
    pub from: Role,
    /// When it was accepted.
    pub at: UnixMillis,
    /// The position of the record that holds it.
    pub pos: LogPos,
}

impl Session {
    /// Whether a turn of it should run now, without anybody having to act first.
    pub fn has_work(&self) -> bool {
        let progress = &self.progress;
        progress.closed.is_none()
            && progress.fault.is_none()
            && !progress.is_parked()
            && (progress.open.is_some() || !self.queue.is_empty())
    }

    pub fn extent(&self) -> Extent {
        Extent {
            turns: self.progress.turns,
            seq: self.progress.next.seq,
            cursor: self.progress.next.cursor,
        }
    }

    pub fn cursor(&self) -> u64 {
        self.progress.next.cursor
    }
}

impl OpenTurn {
    /// Whether the next attempt resumes from the journal instead of from the snapshot alone.
    pub fn resumes(&self) -> bool {
        // What is executed must be exactly what a human was shown.
        self.journal.binds() || !self.approvals.is_empty()
    }

    /// Returns the approvals that the turn waits for.
    pub fn waiting(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.iter().filter(|approval| approval.waits())
    }
}

impl SessionProgress {
    /// Returns the approvals that a human has to decide before the open turn can continue.
    pub fn waiting(&self) -> impl Iterator<Item = &Approval> {
        self.open.iter().flat_map(OpenTurn::waiting)
    }

    /// Whether it waits for a human: for a decision about the open turn's calls, or to be resumed
    /// after a cut of its history.
    pub fn is_parked(&self) -> bool {
        self.held_by().is_some() || self.waiting().next().is_some()
    }

    /// Returns the cut of its history that keeps everything from beginning, if one does.
    pub fn held_by(&self) -> Option<&HistoryCut> {
        self.cut.as_ref().filter(|cut| cut.held)
    }
}
