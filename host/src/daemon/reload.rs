//! Reloads the configuration: reads its file, and lets the planner and the machine decide.

use std::sync::Arc;

use crate::config::{Config, ConfigDraft, ConfigError, ConfigWatch, Observed};
use crate::domain::{Generation, PlanReport, UnixMillis};

use super::act::{Change, WorkerEvent};
use super::machine::{Activity, Outcome, Trigger, UnderWay};
use super::plan::{self, Candidate, Decision, PlanContext, Rejection};
use super::state::Daemon;

/// How long after a damaged store was written anew it is not done again by itself, in milliseconds.
const MEND_AGAIN_MS: u64 = 3_600_000;

/// The outcome of a reload.
pub(super) enum Reloaded {
    /// A restart of this generation is in progress. The plan is present if this reload began it.
    Restarting(Generation, Option<PlanReport>),
    /// The daemon is stopping.
    Stopping,
    /// No restart follows: the running configuration stays, or the new one was applied at once.
    Running,
}

impl Daemon {
    /// Handles changed content that the watch detected. The files of a refused configuration are
    /// watched too: a missing plugin may appear.
    pub(super) async fn file_changed(&mut self, seen: Observed, watch: &ConfigWatch) {
        let draft = self.draft(&seen);
        if let Ok(draft) = &draft {
            self.rearm(&seen, draft, watch);
        }
        // Refusals have been logged and are shown in the status.
        let _ = self.take_over(Trigger::Watch, seen, draft).await;
    }

    /// Lets the watch look at the files that the draft and the running configuration name, and no others:
    /// one that nothing names any more may stay unreadable.
    fn rearm(&self, seen: &Observed, draft: &ConfigDraft, watch: &ConfigWatch) {
        let mut files = self.config.files();
        files.extend(draft.files());
        if files.iter().eq(seen.others.keys()) {
            return;
        }
        // The digests that were seen before are kept: with newer ones, an edit made since would count as
        // already known, and be missed.
        watch.rearm(tokio::task::block_in_place(|| seen.narrowed(files)));
    }

    /// Restarts on what runs once a damaged table was met: the next worker writes the store anew. Not
    /// while this one is on probation, and not again soon: then it is for an operator to decide.
    pub(super) async fn mend_store(&mut self) {
        let is_free = matches!(self.machine.activity(), Activity::Serving);
        if self.store.damage().is_none()
            || self.has_asked_to_mend
            || !is_free
            || self.probation_ends.is_some()
        {
            return;
        }
        self.has_asked_to_mend = true;
        let last = self.store.kept_aside().last();
        let now = UnixMillis::now();
        if last.is_some_and(|kept| now.since(kept.at) < MEND_AGAIN_MS) {
            tracing::error!(
                "a table of the store is damaged again, so soon after the last one: see whether the \
                 disk is sound, then `abide restart`"
            );
            return;
        }
        let seen = self.loaded.clone();
        let draft = self.draft(&seen);
        // Refusals have been logged and are shown in the status.
        let _ = self.take_over(Trigger::Store, seen, draft).await;
    }

    /// Reads the configuration file, decides about it and performs the decision.
    pub(super) async fn reload(&mut self, trigger: Trigger) -> Result<Reloaded, Rejection> {
        let seen = self.read_file()?;
        let draft = self.draft(&seen);
        self.take_over(trigger, seen, draft).await
    }

    pub(super) fn read_file(&self) -> Result<Observed, Rejection> {
        // Plugins are large, and disks may be slow.
        let seen =
            tokio::task::block_in_place(|| Observed::now(&self.config.file, &self.config.files()));
        seen.map_err(|source| {
            let rejection = self.unreadable_file(source);
            // Logged, but not stored for the status: the watch reports it there while it lasts.
            tracing::error!("{rejection}");
            rejection
        })
    }

    pub(super) fn unreadable_file(&self, source: std::io::Error) -> Rejection {
        let path = self.config.file.clone();
        Rejection::Unreadable { path, source }
    }

    pub(super) fn draft(&self, seen: &Observed) -> Result<ConfigDraft, ConfigError> {
        Config::draft(&seen.bytes, &self.config.file, &self.env)
    }

    /// Returns the planner's current decision about a candidate.
    pub(super) fn decide(&self, trigger: Trigger, candidate: Candidate) -> Decision {
        let context = PlanContext {
            under_way: self.machine.under_way(),
            config: &self.config,
            loaded: &self.loaded,
            rejected: &self.rejected_configs,
            open_sessions: &|plugin| self.registry.sessions_of(plugin),
        };
        plan::decide(trigger, &context, candidate)
    }

    async fn take_over(
        &mut self,
        trigger: Trigger,
        seen: Observed,
        draft: Result<ConfigDraft, ConfigError>,
    ) -> Result<Reloaded, Rejection> {
        let mut rejected = None;
        let (event, report) = self.decide_on(trigger, seen, draft, &mut rejected);
        let done = self.advance(event).await;
        rejected.map_or(done, Err)?;
        Ok(match self.machine.under_way() {
            Some(UnderWay::Restart(generation)) => Reloaded::Restarting(generation, report),
            Some(UnderWay::Stop(_)) => Reloaded::Stopping,
            None => Reloaded::Running,
        })
    }

    /// Returns the planner's decision as an event for the machine, and a report for the requester
    /// if a restart follows.
    pub(super) fn decide_on(
        &self,
        trigger: Trigger,
        seen: Observed,
        draft: Result<ConfigDraft, ConfigError>,
        rejected: &mut Option<Rejection>,
    ) -> (WorkerEvent, Option<PlanReport>) {
        let (decision, own) = tokio::task::block_in_place(|| {
            let candidate = Candidate::read(&seen, draft, &self.env);
            let own = candidate.own.clone();
            (self.decide(trigger, candidate), own)
        });
        let report = match &decision {
            Decision::Restart { .. } => Some(self.report(&decision)),
            _ => None,
        };
        let change = |config: Arc<Config>, plan| {
            Box::new(Change {
                trigger,
                config,
                plan,
                seen: seen.clone(),
                own: own.unwrap_or_else(|| seen.clone()),
            })
        };
        let outcome = match decision {
            Decision::Nothing => Outcome::Nothing,
            Decision::Ignored { plan, .. } => {
                tracing::info!(
                    "the configuration file changed ({}); on_config_change = \"ignore\", so it \
                     waits for `abide restart`",
                    plan.summary()
                );
                Outcome::Ignored
            }
            Decision::Hot { config, plan } => Outcome::Hot(change(config, plan)),
            Decision::Restart { config, plan } => Outcome::Restart(change(config, plan)),
            Decision::Deferred => Outcome::Deferred(trigger),
            Decision::Stopping => Outcome::Stopping,
            Decision::Rejected(rejection, _) => {
                let setback = rejection.setback();
                *rejected = Some(rejection);
                Outcome::Rejected(setback)
            }
        };
        (WorkerEvent::Decided(seen, outcome), report)
    }
}
