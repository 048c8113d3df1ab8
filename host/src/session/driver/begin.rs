//! The beginning of a turn, and the obstacles that can prevent it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::{
    BadSnapshot, BeginWith, Begun, ClockReading, Digest, Fault, FaultCode, Journal, Limits, LogPos,
    Message, Record, Refusal, Replay, Session, SessionId, Snapshot, UnixMillis, WorkerDeath,
};
use crate::engine::GuestJob;

use super::batch::CommitBatch;
use super::guest_task::{Consumed, GuestTask};
use super::{Driver, STORE_PAUSE};
use crate::session::drain::Gate;
use crate::session::mailbox::Relaunched;
use crate::session::plugins::Plugin;
use crate::session::queries::refusal;
use crate::session::suspects::{SUSPECT_PAUSE, SUSPECT_WAITS, SuspectAdmission};
use crate::session::turn::TurnJob;
use crate::store::{Store, StoreError, Tail};

/// A reason why a turn cannot begin.
pub(super) enum Obstacle {
    /// An operator must act.
    Fault(Fault),
    /// The guest cannot be restored on this component; it may be on another one.
    Guest { component: Digest, text: String },
    /// This component can run the session, but does not carry it on as a whole.
    Loses { component: Digest, text: String },
    /// Nothing was found out; the driver tries again later.
    Pause(String),
    /// The store fails at the moment; the driver retries later.
    Store(StoreError),
}

impl Obstacle {
    /// Returns the fault of a session that cannot run for this; or the refusal of a request that finds out
    /// nothing, since the store fails.
    pub(super) fn into_fault(self) -> Result<Fault, Refusal> {
        match self {
            Self::Fault(fault) => Ok(fault),
            Self::Guest { component, text } | Self::Loses { component, text } => Ok(Fault {
                code: FaultCode::Restore,
                text,
                component: Some(component),
            }),
            Self::Store(error) => Err(refusal(error)),
            Self::Pause(reason) => Err(Refusal::NothingFound { reason }),
        }
    }
}

/// The job and the snapshot that a turn runs on.
pub(super) struct TurnInputs {
    /// The plugin, with the component of the turn.
    pub(super) plugin: Arc<Plugin>,
    pub(super) job: GuestJob,
    pub(super) snapshot: Arc<Snapshot>,
}

/// Looks up messages: first in the held batch (not yet handed to the store), then in the tail
/// (handed over, but maybe not on disk yet), then in the store.
pub(super) struct Inbox<'a> {
    pub(super) id: &'a SessionId,
    pub(super) held: &'a CommitBatch,
    pub(super) tail: &'a Tail,
    pub(super) store: &'a Store,
}

impl Inbox<'_> {
    /// Returns the message that the record at `at` contains.
    pub(super) fn message(&self, at: LogPos) -> Result<Option<Message>, StoreError> {
        match self.held.message(at).or_else(|| self.tail.message(at)) {
            Some(message) => Ok(Some(message.clone())),
            None => self.store.message(self.id, at),
        }
    }
}

/// What is rare is boxed, here and in other files of the driver: its future has room for the largest of them.
impl Driver {
    /// Begins the next turn, if there is one and nothing prevents it.
    pub(super) async fn begin(&mut self) {
        if let Some(running) = &self.running {
            let again = running.begun.attempt > 1;
            return self.answer_relaunch(again);
        }
        if *self.gate.borrow() != Gate::Open {
            return;
        }
        if self
            .paused_until
            .is_some_and(|until| until > Instant::now())
        {
            return;
        }
        let read = ClockReading::now();
        let Some(begun) = self.next_begun(read.wall).await else {
            if !self.relaunching.is_empty() {
                Box::pin(self.verify_restore()).await;
            }
            return;
        };
        // Otherwise the turn would be aborted at its first write, after a wasted model call.
        if let Some(reason) = self.shared.store.failing() {
            self.obstacle = Some(reason);
            self.paused_until = Some(Instant::now() + STORE_PAUSE);
            return;
        }
        let alone = match self.shared.suspects.admit(begun.deaths) {
            SuspectAdmission::Unsuspected => None,
            SuspectAdmission::Alone(alone) => Some(alone),
            SuspectAdmission::Wait => {
                self.obstacle = Some(SUSPECT_WAITS.to_owned());
                self.paused_until = Some(Instant::now() + SUSPECT_PAUSE);
                // The session is back, and a relaunch must not wait for all suspects before it.
                return self.answer_relaunch(false);
            }
        };
        let ground = self.turn_inputs(&begun).await;
        let message = self.message_of(&begun);
        let (ground, message) = match (ground, message) {
            (Ok(ground), Ok(message)) => (ground, message),
            (Err(obstacle), _) | (_, Err(obstacle)) => {
                return Box::pin(self.handle_obstacle(obstacle)).await;
            }
        };
        let journal = match begun.resumed_in {
            None => Journal::default(),
            Some(_) => {
                // The journal is read from the store, so all records must be on disk first.
                self.settle().await;
                if self.unread.is_some() {
                    return;
                }
                match self.journal() {
                    Ok(journal) => journal,
                    Err(error) => {
                        return Box::pin(self.handle_obstacle(Obstacle::Store(error))).await;
                    }
                }
            }
        };
        let Some(guard) = self
            .shared
            .turns
            .begin_turn(self.heart.pulse(), begun.turn)
            .map(Arc::new)
        else {
            return;
        };
        let (asks_in, asks) = mpsc::channel(1);
        if begun.attempt == 1 {
            self.reserve_bytes = 0;
        }
        let expected = &self.shared.memory_peaks;
        let expected = expected.expected(&self.id, &ground.job.context.plugin);
        let reserve_bytes = expected.max(self.reserve_bytes);
        let reserve_bytes = reserve_bytes.min(ground.job.limits.memory_bytes);
        let taken = Consumed::by(&journal);
        // What a component has begun, it alone can end: a turn that goes on was tried when it began.
        let trial = match begun.resumed_in {
            None => self.due_trial(&ground.plugin),
            Some(_) => None,
        };
        let turn = TurnJob {
            id: self.id.clone(),
            timeline: self.timeline().cloned(),
            job: ground.job,
            snapshot: ground.snapshot,
            trial,
            begun: begun.clone(),
            replay: Replay::new(journal),
            approvals: self.approvals(),
            driver: asks_in,
            guard: guard.clone(),
            reserve_bytes,
        };
        let mut batch = CommitBatch::default();
        self.stage(&mut batch, Record::Begun(begun.clone()));
        // A suspect may have to wait until after probation.
        let must_count = begun.deaths > 0 || self.shared.sync_begun.load(Ordering::SeqCst);
        if !must_count {
            self.hold(batch);
        } else if !self.commit(batch).await {
            return;
        }
        self.obstacle = None;
        let resumed = begun.attempt > 1;
        // Boxed, since a task that holds its future is moved as a whole a few times.
        let task = tokio::spawn(Box::pin(turn.run(message, self.shared.clone())));
        self.running = Some(GuestTask {
            task,
            begun,
            read,
            asks,
            taken,
            guard,
            alone,
        });
        self.answer_relaunch(resumed);
    }

    /// Reads the journal of the open turn: the steps it took before it was interrupted.
    fn journal(&self) -> Result<Journal, StoreError> {
        let open = self.session.as_ref().and_then(|s| s.progress.open.as_ref());
        let Some(open) = open else {
            return Ok(Journal::default());
        };
        let records = self.shared.store.records(&self.id, open.from, None)?;
        Ok(Journal::of(open.begun.turn, records))
    }

    async fn next_begun(&self, now: UnixMillis) -> Option<Begun> {
        let session = self.session.as_ref()?;
        if !session.has_work() {
            return None;
        }
        let settings = &self.shared.settings;
        let parts = self.shared.live_config();
        let name = &session.identity.plugin;
        let (component, runs_on) = match parts.plugins.get(name) {
            Some(plugin) => {
                let progress = Some(&session.progress);
                self.next_plugin(name, plugin, progress).await
            }
            None => (session.progress.snapshot.component, None),
        };
        session.begin(BeginWith {
            now,
            seed: rand::random(),
            // Where there is none, `turn_inputs` faults the session before this value matters.
            component,
            limits: runs_on.as_ref().map_or(&Limits::default(), |it| &it.limits),
            generation: settings.generation,
            restarts: &settings.restarts,
            notice_window_ms: parts.notice_window.as_millis() as u64,
        })
    }

    /// Gathers the plugin's job and the snapshot for a turn, or returns why it cannot run.
    pub(super) async fn turn_inputs(&self, begun: &Begun) -> Result<TurnInputs, Obstacle> {
        let fault = |code, text: String| {
            Obstacle::Fault(Fault {
                code,
                text,
                component: Some(begun.component),
            })
        };
        let Some(session) = &self.session else {
            return Err(fault(FaultCode::Plugin, "the session is gone".to_owned()));
        };
        let name = &session.identity.plugin;
        let plugin = self.shared.live_config().plugin(name).ok_or_else(|| {
            let text = format!("its plugin `{name}` is not configured; add [plugins.{name}]");
            fault(FaultCode::Plugin, text)
        })?;
        let plugin = self.shared.plugin_on(name, &plugin, begun.component).await;
        let plugin = plugin.map_err(|error| {
            let text = format!("turn {} cannot go on: {error}", begun.turn);
            fault(FaultCode::Plugin, text)
        })?;
        let snapshot = match self.present_snapshot(session, &plugin) {
            Ok(Ok(snapshot)) => snapshot,
            // The limit may be that of a new component.
            Ok(Err(bad @ BadSnapshot::TooLarge { .. })) => {
                return Err(Obstacle::Guest {
                    component: begun.component,
                    text: bad.to_string(),
                });
            }
            Ok(Err(why)) => {
                let made = Box::pin(self.mend(session, &plugin)).await;
                let made = made
                    .map_err(|unmended| fault(FaultCode::Restore, format!("{why}; {unmended}")))?;
                Arc::new(made)
            }
            Err(error) => return Err(Obstacle::Store(error)),
        };
        let timers = match &session.progress.open {
            // A resumed turn sees the timers as they were when it began.
            Some(open) if begun.resumed_in.is_some() => open.timers.clone(),
            _ => {
                let timers = session.progress.timers.iter();
                timers.map(|timer| timer.name.clone()).collect()
            }
        };
        let job = plugin.job(&self.id, &session.identity, begun, timers);
        Ok(TurnInputs {
            plugin,
            job,
            snapshot,
        })
    }

    /// Returns the snapshot that the next turn starts from, or why it cannot be used.
    fn present_snapshot(
        &self,
        session: &Session,
        plugin: &Plugin,
    ) -> Result<Result<Arc<Snapshot>, BadSnapshot>, StoreError> {
        let at = session.progress.snapshot.at;
        if let Some((_, snapshot)) = self.snapshot.as_ref().filter(|(pos, _)| *pos == at) {
            return Ok(Ok(snapshot.clone()));
        }
        let Some(stored) = self.shared.store.snapshot(&self.id, at)? else {
            return Ok(Err(BadSnapshot::Missing));
        };
        let limit = plugin.limits.snapshot_bytes;
        let snapshot = Snapshot::decode(&stored, &session.identity.plugin, limit);
        Ok(snapshot.map(Arc::new))
    }

    fn message_of(&self, begun: &Begun) -> Result<Message, Obstacle> {
        let session = self.session.as_ref();
        let pos = session.and_then(|session| match &session.progress.open {
            Some(open) => Some(open.queued.pos),
            None => session
                .queue
                .iter()
                .find(|q| q.id == begun.message)
                .map(|q| q.pos),
        });
        let inbox = Inbox {
            id: &self.id,
            held: &self.held,
            tail: &self.tail,
            store: &self.shared.store,
        };
        let read = pos.map(|pos| inbox.message(pos));
        let found = read.transpose().map_err(Obstacle::Store)?.flatten();
        found.ok_or_else(|| {
            Obstacle::Fault(Fault {
                code: FaultCode::Restore,
                text: format!("message {} is missing from the store", begun.message),
                component: Some(begun.component),
            })
        })
    }

    pub(super) async fn handle_obstacle(&mut self, obstacle: Obstacle) {
        match obstacle {
            Obstacle::Fault(fault) => self.fault(fault).await,
            Obstacle::Guest { component, text } | Obstacle::Loses { component, text } => {
                self.cannot_restore(component, text).await;
                // It may run on another component now: at once, not with the next message.
                self.paused_until = Some(Instant::now());
            }
            Obstacle::Store(error) => {
                tracing::warn!(session = %self.id, %error, "a turn waits for the store");
                self.pause(error.to_string());
            }
            Obstacle::Pause(reason) => {
                self.pause(reason);
                // The session is back; whether its guest restores is found out by its next turn.
                self.answer_relaunch(false);
            }
        }
    }

    pub(super) fn pause(&mut self, obstacle: String) {
        self.obstacle = Some(obstacle);
        self.paused_until = Some(Instant::now() + STORE_PAUSE);
    }

    pub(super) async fn fault(&mut self, fault: Fault) {
        let record = self
            .session
            .as_ref()
            .and_then(|s| s.fault(fault, Self::now()));
        if let Some(record) = record {
            if let Record::Faulted(faulted) = &record {
                tracing::error!(session = %self.id, reason = %faulted.fault.text, "session faulted");
                metrics::counter!("abide_sessions_faulted_total").increment(1);
            }
            let mut batch = CommitBatch::default();
            self.stage(&mut batch, record);
            self.commit(batch).await;
        }
        self.answer_relaunch(false);
    }

    pub(super) fn answer_relaunch(&mut self, resumed: bool) {
        if self.relaunching.is_empty() {
            return;
        }
        let Some(session) = &self.session else {
            return self.relaunching.clear();
        };
        let returned = Relaunched {
            extent: session.extent(),
            resumed,
            faulted: session.progress.fault.is_some(),
            pinned: session.progress.pin.is_some(),
        };
        for reply in self.relaunching.drain(..) {
            // An error means that the relaunch has been given up.
            let _ = reply.send(returned);
        }
    }

    /// Counts the previous worker's self-inflicted death against the turn that was open in it, and
    /// faults the session if its turn keeps doing that.
    pub(super) async fn count_death(&mut self) {
        let settings = &self.shared.settings;
        if !settings.died_by_own_doing {
            return;
        }
        let (previous, now) = (settings.previous, Self::now());
        let death = self.session.as_ref().and_then(|session| {
            let open = session.progress.open.as_ref()?;
            if open.begun.runs_in() != previous || session.progress.fault.is_some() {
                return None;
            }
            session.worker_died(now)
        });
        match death {
            None => {}
            Some(WorkerDeath::Counted(deaths)) => {
                if let Some(open) = self.session.as_mut().and_then(|s| s.progress.open.as_mut()) {
                    open.begun.deaths = deaths;
                }
            }
            Some(WorkerDeath::Faulted(record)) => {
                tracing::error!(session = %self.id, "its turn keeps taking the worker down; faulted");
                let mut batch = CommitBatch::default();
                self.stage(&mut batch, *record);
                self.commit(batch).await;
            }
        }
    }
}
