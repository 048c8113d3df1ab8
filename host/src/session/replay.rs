//! Offline replay of a turn from its snapshot and its journal, without any external effect.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::domain::{
    BadSnapshot, Begun, Digest, Divergence, Identity, Journal, LogPos, Message, Record, Recorded,
    Replay, SessionId, SessionProgress, Snapshot, StepCallName, StepPath, StepRequest,
};
use crate::engine::{
    Engine, GuestFailure, GuestJob, Product, StepAnswer, StepCall, UNKNOWN_PEAK_BYTES,
};
use crate::store::{Store, StoreError};

use super::kept_plugins::NotKept;
use super::plugins::Plugin;
use super::shared::Shared;
use super::step_executor::answer;

/// A turn to replay, and the log positions of everything it needs.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) turn: u64,
    /// The component that ended it, or goes on with it: not the one that began it, if it was taken over.
    pub(super) component: Digest,
    /// The position of the snapshot that the turn ran on.
    snapshot: LogPos,
    /// The position of its first record.
    from: LogPos,
    /// The position of its end; `None` for an open turn.
    until: Option<LogPos>,
    message: LogPos,
    timers: Vec<String>,
}

impl Subject {
    /// Returns the session's open turn.
    pub(super) fn open(progress: &SessionProgress) -> Option<Self> {
        let open = progress.open.as_ref()?;
        Some(Self {
            turn: open.begun.turn,
            component: open.begun.component,
            snapshot: progress.snapshot.at,
            from: open.from,
            until: None,
            message: open.queued.pos,
            timers: open.timers.clone(),
        })
    }

    /// Returns the session's last committed turn.
    pub(super) fn last(progress: &SessionProgress) -> Option<Self> {
        let last = progress.last.as_ref()?;
        Some(Self {
            turn: last.turn,
            component: progress.snapshot.component,
            snapshot: progress.previous?.at,
            from: last.from,
            until: Some(progress.snapshot.at),
            message: last.message,
            timers: last.timers.clone(),
        })
    }

    /// Reads the turn's records, from its `Begun` up to its end.
    pub(super) fn records(&self, store: &Store, id: &SessionId) -> Result<Vec<Record>, StoreError> {
        store.records(id, self.from, self.until)
    }
}

/// The reason why a turn cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreplayable {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Component(#[from] NotKept),
    #[error("the snapshot that it ran on cannot be read: {0}")]
    Snapshot(#[from] BadSnapshot),
    #[error("{what} is no longer in the store; `retention.events` says how much is kept")]
    Gone { what: &'static str },
}

/// The result of a replay.
pub(super) enum Replayed {
    /// The turn ended.
    Ended(Box<Result<Product, GuestFailure>>),
    /// The turn reached a step that is not in the journal, or that has no result there: from here
    /// on it would run live.
    Reached { step: u32, call: StepCallName },
    /// The turn diverged from its journal.
    Diverged(Box<Divergence>),
}

/// A turn as it is recorded: all that determines it, but for the component that runs it.
pub(super) struct RecordedTurn {
    pub(super) begun: Begun,
    message: Message,
    journal: Journal,
    timers: Vec<String>,
    /// The snapshot that it ran on, as it is stored.
    stored: Vec<u8>,
}

impl RecordedTurn {
    /// Reads the disk.
    pub(super) fn read(
        store: &Store,
        id: &SessionId,
        subject: &Subject,
    ) -> Result<Self, Unreplayable> {
        let gone = |what| Unreplayable::Gone { what };
        let mut records = subject.records(store, id)?;
        let begun = match records.first() {
            Some(Record::Begun(begun)) if begun.turn == subject.turn => begun.clone(),
            _ => return Err(gone("its beginning")),
        };
        let message = store.message(id, subject.message)?;
        let stored = store.snapshot(id, subject.snapshot)?;
        Ok(Self {
            message: message.ok_or(gone("its message"))?,
            stored: stored.ok_or(gone("the snapshot that it ran on"))?,
            journal: Journal::of(subject.turn, records.drain(1..)),
            timers: subject.timers.clone(),
            begun,
        })
    }

    /// Returns it with a component that runs it: the plugin's.
    pub(super) fn on(
        self,
        plugin: &Plugin,
        id: &SessionId,
        identity: &Identity,
    ) -> Result<Offline, BadSnapshot> {
        let limit = plugin.limits.snapshot_bytes;
        Ok(Offline {
            job: plugin.job(id, identity, &self.begun, self.timers),
            snapshot: Snapshot::decode(&self.stored, &identity.plugin, limit)?,
            begun: self.begun,
            message: self.message,
            journal: self.journal,
        })
    }
}

/// A turn with all the inputs that determine it.
pub(super) struct Offline {
    job: GuestJob,
    snapshot: Snapshot,
    pub(super) begun: Begun,
    message: Message,
    journal: Journal,
}

impl Offline {
    /// Gathers the turn's inputs, with the component that it ran on. Reads the disk.
    pub(super) async fn gather(
        shared: &Shared,
        plugin: &Arc<Plugin>,
        id: &SessionId,
        identity: &Identity,
        subject: &Subject,
    ) -> Result<Self, Unreplayable> {
        let recorded = RecordedTurn::read(&shared.store, id, subject)?;
        let plugin = shared
            .plugin_on(&identity.plugin, plugin, subject.component)
            .await?;
        Ok(recorded.on(&plugin, id, identity)?)
    }

    /// Returns the number of recorded steps of the turn.
    pub(super) fn step_count(&self) -> u32 {
        u32::try_from(self.journal.steps().len()).unwrap_or(u32::MAX)
    }

    /// Returns the recorded steps of the turn.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Replays the turn; from its beginning again, if it outgrows the guests' memory.
    pub(super) async fn run(&self, engine: &Engine) -> Replayed {
        let mut bytes = UNKNOWN_PEAK_BYTES;
        loop {
            match self.run_within(engine, bytes).await {
                Replayed::Ended(ended) => match *ended {
                    Err(GuestFailure::Outgrown { reserve_bytes }) => bytes = reserve_bytes,
                    ended => return Replayed::Ended(Box::new(ended)),
                },
                replayed => return replayed,
            }
        }
    }

    async fn run_within(&self, engine: &Engine, reserve_bytes: u64) -> Replayed {
        let (calls, mut asked) = mpsc::channel(1);
        let (notice, input) = (self.begun.notice.as_ref(), vec![self.message.clone()]);
        let (job, snapshot) = (&self.job, &self.snapshot);
        let memory = engine.reserve(reserve_bytes).await;
        let admission = engine.admit(&job.component, memory).await;
        let guest = engine.admitted_turn(admission, job, snapshot, notice, input, calls);
        tokio::pin!(guest);
        let mut replay = Replay::new(self.journal.clone());
        loop {
            let asked = tokio::select! {
                ended = &mut guest => return match replay.left_out() {
                    Some(diverged) if ended.is_ok() => Replayed::Diverged(Box::new(diverged)),
                    _ => Replayed::Ended(Box::new(ended)),
                },
                Some(asked) = asked.recv() => asked,
            };
            match replay.next(&asked.call) {
                StepPath::Diverged(diverged) => return Replayed::Diverged(Box::new(diverged)),
                StepPath::Live => {
                    let StepCall { step, call, .. } = *asked;
                    return Replayed::Reached { step, call };
                }
                StepPath::Recorded(parts) => match recorded(&asked.request, parts) {
                    Some(answer) => drop(asked.reply.send(answer)),
                    None => {
                        let StepCall { step, call, .. } = *asked;
                        return Replayed::Reached { step, call };
                    }
                },
            }
        }
    }
}

/// Builds the answer from the journal. `None` if a part has no result: the step is still running,
/// or an interruption has left it open and the next attempt has not settled it yet.
fn recorded(request: &StepRequest, parts: Vec<Recorded>) -> Option<StepAnswer> {
    let outcomes = parts.into_iter().map(|part| match part {
        Recorded::Done(done) => Some((done.result, done.took_ms)),
        Recorded::Unknown(_) | Recorded::Again(_) => None,
    });
    Some(answer(request, outcomes.collect::<Option<Vec<_>>>()?))
}
