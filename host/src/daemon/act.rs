//! Performs the actions that the restart machine decides on, and reports their outcomes to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Config, Observed, Plan, SecretFiles};
use crate::deliberate_bugs;
use crate::domain::{
    Cause, Generation, PluginTrial, RestartRecord, RestartStatus, TrialVerdict, UnixMillis,
};
use crate::store::{FORMAT, StoreError};
use crate::supervisor::{FromWorker, Replace};

use super::component_trial::{ComponentTrial, judge, new_components};
use super::drain::Drain;
use super::generation::record;
use super::launch_spec::{LaunchSpec, keep_last_good};
use super::machine::{self, Setback, Trigger};
use super::plan::Rejection;
use super::records::SHORT_PATIENCE;
use super::state::{Daemon, PlannedRestart, VERSION};

pub(super) type WorkerEvent = machine::RestartEvent<Box<PlannedRestart>, Observed, Box<Change>>;
type WorkerAction = machine::RestartAction<Box<PlannedRestart>, Observed, Box<Change>>;

/// A configuration change that the planner accepted.
pub(super) struct Change {
    pub(super) trigger: Trigger,
    pub(super) config: Arc<Config>,
    pub(super) plan: Plan,
    /// The candidate's bytes, and the files that it or the running configuration names.
    pub(super) seen: Observed,
    /// Like `seen`, with only the files that the candidate names.
    pub(super) own: Observed,
}

impl Daemon {
    /// Feeds an event to the machine and performs the resulting actions until none is left. An
    /// event that an action leads to is processed before the next action.
    ///
    /// # Errors
    /// Returns why the change that the event carried was not made.
    pub(super) async fn advance(&mut self, event: WorkerEvent) -> Result<(), Rejection> {
        let mut rejected = None;
        let mut actions = VecDeque::from(self.machine.step(event));
        while let Some(action) = actions.pop_front() {
            let Some(event) = self.perform(action, &mut rejected).await else {
                continue;
            };
            for action in self.machine.step(event).into_iter().rev() {
                actions.push_front(action);
            }
        }
        rejected.map_or(Ok(()), Err)
    }

    /// Performs an action, and returns the event that it leads to, if any.
    async fn perform(
        &mut self,
        action: WorkerAction,
        rejected: &mut Option<Rejection>,
    ) -> Option<WorkerEvent> {
        match action {
            WorkerAction::Adopt(seen) => {
                self.fixed.config.digest = Some(seen.config);
                self.loaded = seen;
            }
            WorkerAction::Apply(change) => {
                let Change {
                    config, plan, seen, ..
                } = *change;
                return Some(match self.apply(config, &seen, &plan) {
                    Ok(()) => WorkerEvent::Applied,
                    Err(rejection) => refused(rejection, rejected),
                });
            }
            WorkerAction::Accept(change) => {
                return Some(match self.accept(&change).await {
                    Ok(planned) => WorkerEvent::Accepted(planned.record.generation, planned),
                    Err(rejection) => refused(rejection, rejected),
                });
            }
            WorkerAction::LogRefusal(reason) => {
                deliberate_bugs::refused();
                tracing::error!(
                    "the changed configuration is refused, nothing is restarted:\n{reason}"
                );
                metrics::counter!("abide_config_refused_total").increment(1);
            }
            WorkerAction::BeginTrial => return self.begin_trial(),
            WorkerAction::CancelTrial => self.trial = None,
            WorkerAction::EvictIdle(about_to_drain) => self.lifecycle.evict_idle(about_to_drain),
            WorkerAction::RecordActive => {
                return Some(WorkerEvent::ActiveRecorded(self.record_active().await));
            }
            WorkerAction::RecordStop(generation, why) => {
                return Some(WorkerEvent::ActiveRecorded(
                    self.record_stop(generation, &why).await,
                ));
            }
            WorkerAction::BeginDrain(active) => {
                let grace = self.config.daemon.grace_period;
                let running = self.registry.running();
                tracing::info!(active, running, ?grace, "draining");
                self.drain = Some(Drain::begin(self.lifecycle.clone(), grace, active));
            }
            WorkerAction::CancelDrain => {
                if let Some(drain) = self.drain.take() {
                    drain.cancel(&self.lifecycle).await;
                }
            }
            WorkerAction::CancelReplace => {
                // An error means that the supervisor is gone; the loop will notice.
                let _ = self.link.send(FromWorker::CancelReplace);
            }
            WorkerAction::RecordRefused(planned, reason) => {
                let record = RestartRecord {
                    status: RestartStatus::Refused,
                    reason: Some(reason),
                    ..planned.record
                };
                self.records.persist(&record).await;
            }
            WorkerAction::WriteLast => {
                return Some(WorkerEvent::LastWritten(self.write_last().await));
            }
            WorkerAction::Leave(departure) => self.departure = Some(departure),
            WorkerAction::Reconsider(trigger, seen) => {
                let draft = self.draft(&seen);
                return Some(self.decide_on(trigger, seen, draft, rejected).0);
            }
            WorkerAction::Reload => {
                return match self.read_file() {
                    Ok(seen) => {
                        let draft = self.draft(&seen);
                        Some(self.decide_on(Trigger::Watch, seen, draft, rejected).0)
                    }
                    // Already logged; the watch reports the file once it is readable again.
                    Err(_) => None,
                };
            }
            WorkerAction::FlushUnpersisted => self.records.flush().await,
            WorkerAction::BeginProbation => {
                self.probation_ends = Some(Instant::now() + self.config.daemon.probation);
            }
            WorkerAction::Prove => self.prove().await,
        }
        None
    }

    /// Assigns the restart its generation, records it, and has the supervisor start a standby on
    /// exactly the bytes that were checked.
    async fn accept(&mut self, change: &Change) -> Result<Box<PlannedRestart>, Rejection> {
        let (cause, why) = match (change.trigger, change.plan.summary()) {
            (Trigger::Operator, what) => {
                let asked = match &self.asked_by {
                    Some(by) => format!("the operator `{by}` asked for it"),
                    None => "an operator asked for it".to_owned(),
                };
                let why = match what.is_empty() {
                    true => asked,
                    false => format!("{asked}; {what}"),
                };
                (Cause::Operator, why)
            }
            (Trigger::Store, _) => (
                Cause::Operator,
                "a table of the store is damaged, and the store is written anew".to_owned(),
            ),
            (Trigger::Watch | Trigger::Signal, what) => (Cause::Config, what),
        };
        let generation = self.next_generation();
        let record = RestartRecord {
            config_from: Some(self.config.digest),
            config_to: Some(change.config.digest),
            tried: Some(change.own.digest()),
            ..record(generation, cause, &why, VERSION, UnixMillis::now())
        };
        let secrets = tokio::task::block_in_place(|| {
            SecretFiles::of(&change.config, &SecretFiles::default())
        });
        let config = LaunchSpec::of(&change.own, &secrets).to_memfd()?;
        let persisted = self.records.persist_now(record.clone()).await;
        if let Err(reason) = persisted.or_else(|reason| self.unless_mending(reason)) {
            if self.store.failing().is_none() {
                // A disk that only takes its time may have written it in the end.
                self.records.persist_later(RestartRecord {
                    status: RestartStatus::Refused,
                    reason: Some(reason.clone()),
                    ..record
                });
            }
            return Err(unrecorded("the restart cannot be recorded", reason));
        }
        tracing::info!(
            generation = generation.0, trigger = %record.trigger,
            "configuration accepted; a standby is being prepared"
        );
        let replace = Replace {
            generation: generation.0,
            config,
            info: Vec::new(),
        };
        self.link
            .send(FromWorker::Replace(replace))
            .map_err(|error| Rejection::Supervisor(error.to_string()))?;
        let new_components =
            new_components((&self.config, &self.loaded), (&change.config, &change.own));
        Ok(Box::new(PlannedRestart {
            record,
            accepted: Instant::now(),
            new_components,
            trial_budget: change.config.daemon.trial_budget,
            on_failed_trial: change.config.daemon.on_failed_trial,
        }))
    }

    /// Begins the trial of the components that the restart in progress changes. Returns its end, if there is
    /// nothing to try.
    fn begin_trial(&mut self) -> Option<WorkerEvent> {
        let planned = self.machine.planned_mut()?;
        planned.record.phases.standby_ms = planned.accepted.elapsed().as_millis() as u64;
        let budget = planned.trial_budget;
        if planned.new_components.is_empty() || budget.is_zero() {
            return Some(WorkerEvent::Tried(Ok(())));
        }
        let new = std::mem::take(&mut planned.new_components);
        self.trial = Some(ComponentTrial::begin(self.lifecycle.clone(), new, budget));
        None
    }

    /// Takes what the trial of new components has found.
    pub(super) fn tried(&mut self, found: Vec<PluginTrial>) -> WorkerEvent {
        for found in &found {
            let line = found.told();
            match found.staying() {
                0 => tracing::info!("{line}"),
                _ => tracing::warn!("{line}"),
            }
            for (verdict, count) in [
                (TrialVerdict::Passed, found.passed),
                (TrialVerdict::Suspect, found.suspect),
                (TrialVerdict::Failed, found.failed),
                (TrialVerdict::Untried, found.untried),
            ] {
                let tried = metrics::counter!("abide_trials_total", "verdict" => verdict.as_str());
                tried.increment(count);
            }
        }
        let Some(planned) = self.machine.planned_mut() else {
            return WorkerEvent::Tried(Ok(()));
        };
        let verdict = judge(&found, planned.on_failed_trial);
        let since = planned.accepted.elapsed().as_millis() as u64;
        let phases = &mut planned.record.phases;
        phases.trial_ms = since.saturating_sub(phases.standby_ms);
        planned.record.trial = found;
        WorkerEvent::Tried(verdict)
    }

    /// Records which sessions the restart in progress must bring back.
    async fn record_active(&mut self) -> Result<u64, Setback> {
        let Some(planned) = self.machine.planned() else {
            return Ok(0);
        };
        let mut record = planned.record.clone();
        let written = self.write_manifest(&mut record).await;
        if let Some(planned) = self.machine.planned_mut() {
            planned.record = record;
        }
        written.map_err(|reason| unrecorded("the drain cannot be recorded", reason).setback())
    }

    /// Passes over a failure where the store is damaged, and takes writes: what cannot be read keeps nobody
    /// from the restart that writes the store anew.
    fn unless_mending(&self, reason: String) -> Result<(), String> {
        if self.store.damage().is_none() || self.store.failing().is_some() {
            return Err(reason);
        }
        tracing::error!(
            reason,
            "the store is damaged: this restart is not recorded as a whole"
        );
        Ok(())
    }

    /// Records the stop, with the sessions that the next start must bring back.
    async fn record_stop(&mut self, generation: Generation, why: &str) -> Result<u64, Setback> {
        let mut stop = record(generation, Cause::Operator, why, VERSION, UnixMillis::now());
        stop.config_from = Some(self.config.digest);
        self.write_manifest(&mut stop).await.map_err(|reason| {
            tracing::error!(
                error = reason,
                "the stop cannot be recorded; stopping all the same"
            );
            unrecorded("the stop cannot be recorded", reason).setback()
        })
    }

    /// Persists the list of active sessions first, then the record, which contains their number.
    async fn write_manifest(&mut self, record: &mut RestartRecord) -> Result<u64, String> {
        let lifecycle = self.lifecycle.clone();
        let active = tokio::task::spawn_blocking(move || lifecycle.active());
        let active = active.await.map_err(|error| error.to_string())?;
        let active = match active {
            Ok(active) => active,
            // Without the list, the next worker brings back those that it finds active itself.
            Err(error) => self
                .unless_mending(error.to_string())
                .map(|()| Vec::new())?,
        };
        record.active = active.len() as u64;
        let (store, generation) = (self.store.clone(), record.generation);
        let write = move || store.put_active_sessions(generation, &active);
        if let Err(reason) = self.records.write(write).await {
            self.unless_mending(reason)?;
        }
        if let Err(reason) = self.records.persist_now(record.clone()).await {
            self.unless_mending(reason)?;
        }
        // Flush ahead: otherwise the store would flush when it closes, while clients wait.
        let store = self.store.clone();
        if let Err(error) = self.records.write(move || store.flush()).await {
            tracing::warn!(error, "the store cannot be flushed ahead");
        }
        Ok(record.active)
    }

    async fn write_last(&mut self) -> Result<(), Setback> {
        let Some(planned) = self.machine.planned() else {
            return Ok(());
        };
        let record = planned.record.clone();
        let written = self.records.persist_now(record).await;
        let written = written.or_else(|reason| self.unless_mending(reason));
        written.map_err(|reason| {
            unrecorded(
                "nothing is handed over, for the store takes no write",
                reason,
            )
            .setback()
        })
    }

    /// Ends probation: a later worker that dies early is rolled back to this configuration.
    async fn prove(&mut self) {
        self.lifecycle.probation_over();
        // An error means that the supervisor is gone; the loop will notice.
        let proven = self.link.send(FromWorker::Proven);
        let (folder, loaded) = (self.config.daemon.data_dir.clone(), self.loaded.clone());
        let kept = tokio::task::spawn_blocking(move || keep_last_good(&folder, &loaded));
        let kept = tokio::time::timeout(SHORT_PATIENCE, kept).await;
        let error = match kept {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the disk takes its time; it may be kept yet".to_owned()),
        };
        if let Some(error) = error {
            tracing::warn!(
                error,
                "the configuration that runs is not kept as the last good one"
            );
        }
        // Never before `Proven`: the supervisor reads it before it notices the death of this worker, and
        // goes back to no other binary from then on. One that is older could not open the store.
        if proven.is_ok() {
            self.raise_format().await;
            let kept = self.lifecycle.keep_rollouts();
            if tokio::time::timeout(SHORT_PATIENCE, kept).await.is_err() {
                tracing::warn!("the disk takes its time: roll-outs are written later");
            }
        }
        self.record.status = RestartStatus::Completed;
        self.records.persist(&self.record).await;
    }

    /// Gives the store the format of this version. If that fails, what needs it is refused until the
    /// next probation.
    async fn raise_format(&self) {
        let store = self.store.clone();
        let raise = move || -> Result<(), StoreError> {
            if store.raise_format()? {
                tracing::info!(
                    format = FORMAT,
                    "the data folder has a newer format now: versions of Abide that do not read it \
                     refuse the folder from now on"
                );
            }
            Ok(())
        };
        if let Err(error) = self.records.write(raise).await {
            tracing::warn!(error, "the data folder's format cannot be raised");
        }
    }

    pub(super) fn next_generation(&self) -> Generation {
        let last = self.store.last_generation().ok().flatten();
        last.unwrap_or_default().max(self.record.generation).next()
    }
}

/// Returns the rejection of what the store refused to record.
fn unrecorded(doing: &'static str, reason: String) -> Rejection {
    Rejection::Unrecorded { doing, reason }
}

/// Converts a rejection into the machine's event, and keeps it in `rejected` for the requester.
fn refused(rejection: Rejection, rejected: &mut Option<Rejection>) -> WorkerEvent {
    let setback = rejection.setback();
    *rejected = Some(rejection);
    WorkerEvent::Refused(setback)
}
