//! Reloads the configuration: reads its file, has the planner decide, and acts on that.

use crate::config::{Config, ConfigDraft, ConfigError, ConfigWatch, Observed, Plan, SecretFiles};
use crate::domain::{Cause, Generation, PlanReport, RestartRecord, UnixMillis};
use crate::failpoint;

use super::generation::record;
use super::launch_spec::LaunchSpec;
use super::plan::{self, Candidate, Decision, PlanContext, Rejection, Trigger, UnderWay};
use super::state::{Daemon, DrainGoal, Phase, VERSION};

/// What came of a reload.
pub(super) enum Reloaded {
    /// This restart is under way. The plan is there where the reload began it.
    Restarting(Generation, Option<PlanReport>),
    /// The daemon stops for good.
    Stopping,
    /// What runs goes on, or runs on the new configuration already.
    Running,
}

impl Daemon {
    /// The watch saw other content. What was refused is watched too: a plugin that is missing may
    /// come.
    pub(super) async fn file_changed(&mut self, seen: Observed, watch: &ConfigWatch) {
        let draft = self.draft(&seen);
        if let Ok(draft) = &draft {
            let files = self
                .config
                .files()
                .into_iter()
                .chain(draft.files())
                .collect::<Vec<_>>();
            if files.iter().any(|file| !seen.others.contains_key(file)) {
                let now = tokio::task::block_in_place(|| Observed::now(&self.config.file, &files));
                match now {
                    Ok(known) => {
                        // What has been seen is what is compared with, or an edit made since
                        // would count as known.
                        let mut others = known.others;
                        others.extend(seen.others.clone());
                        watch.rearm(Observed::with(seen.bytes.clone(), others));
                    }
                    Err(error) => tracing::warn!(%error, "the configuration file went again"),
                }
            }
        }
        // Refusals have been logged, and stand in the status.
        let _ = self.take_over(Trigger::Watch, &seen, draft).await;
    }

    /// Reads the configuration file and does what the planner decides.
    pub(super) async fn reload(&mut self, trigger: Trigger) -> Result<Reloaded, Rejection> {
        // Plugins are large, and disks may be slow.
        let seen =
            tokio::task::block_in_place(|| Observed::now(&self.config.file, &self.config.files()));
        match seen {
            Ok(seen) => {
                let draft = self.draft(&seen);
                self.take_over(trigger, &seen, draft).await
            }
            Err(source) => {
                let rejection = self.unreadable_file(source);
                // Logged, and not kept for the status: the watch shows it there as long as it is so.
                tracing::error!("{rejection}");
                Err(rejection)
            }
        }
    }

    pub(super) fn unreadable_file(&self, source: std::io::Error) -> Rejection {
        let path = self.config.file.clone();
        Rejection::Unreadable { path, source }
    }

    pub(super) fn draft(&self, seen: &Observed) -> Result<ConfigDraft, ConfigError> {
        Config::draft(&seen.bytes, &self.config.file, &self.env)
    }

    /// What the planner makes of a candidate now.
    pub(super) fn decide(&self, trigger: Trigger, candidate: Candidate) -> Decision {
        let under_way = match &self.phase {
            Phase::Serving => None,
            Phase::Preparing(planned) => Some(UnderWay::Restart(planned.record.generation)),
            Phase::Draining { goal, .. } => Some(match goal {
                DrainGoal::HandOver(planned) => UnderWay::Restart(planned.record.generation),
                DrainGoal::Stop(generation) => UnderWay::Stop(*generation),
            }),
            Phase::Leaving(under_way) => Some(*under_way),
        };
        let running = PlanContext {
            under_way,
            config: &self.config,
            loaded: &self.loaded,
            rejected: &self.rejected_configs,
            open_sessions: &|plugin| self.registry.sessions_of(plugin),
        };
        plan::decide(trigger, &running, candidate)
    }

    async fn take_over(
        &mut self,
        trigger: Trigger,
        seen: &Observed,
        draft: Result<ConfigDraft, ConfigError>,
    ) -> Result<Reloaded, Rejection> {
        let (decision, own) = tokio::task::block_in_place(|| {
            let candidate = Candidate::read(seen, draft, &self.env);
            let own = candidate.own.clone();
            (self.decide(trigger, candidate), own)
        });
        let report = match &decision {
            Decision::Restart { .. } => Some(self.report(&decision)),
            _ => None,
        };
        match decision {
            Decision::Deferred(generation) => {
                // The restart's successor looks at the file as soon as it serves; if the restart
                // comes to nothing, this worker does.
                self.pending_change = Some((trigger, seen.clone()));
                Ok(Reloaded::Restarting(generation, None))
            }
            Decision::Stopping => Ok(Reloaded::Stopping),
            Decision::Nothing => {
                // Other bytes of the same meaning: from now on these are what runs.
                self.loaded = seen.clone();
                self.fixed.config.digest = seen.config;
                self.last_error = None;
                Ok(Reloaded::Running)
            }
            Decision::Ignored(plan) => {
                tracing::info!(
                    "the configuration file changed ({}); on_config_change = \"ignore\", so it \
                     waits for `abide restart`",
                    plan.summary()
                );
                self.last_error = None;
                Ok(Reloaded::Running)
            }
            Decision::Rejected(rejection, _) => {
                if failpoint::bug("restart-anyway") {
                    std::process::exit(1);
                }
                self.refuse(&rejection);
                Err(rejection)
            }
            Decision::Hot { config, plan } => {
                let applied = self.apply(config, seen, &plan);
                applied.inspect_err(|rejection| self.refuse(rejection))?;
                Ok(Reloaded::Running)
            }
            Decision::Restart { config, plan } => {
                let own = own.unwrap_or_else(|| seen.clone());
                let begun = self.begin_restart(trigger, &config, &plan, &own).await;
                let generation = begun.inspect_err(|rejection| self.refuse(rejection))?;
                Ok(Reloaded::Restarting(generation, report))
            }
        }
    }

    async fn begin_restart(
        &mut self,
        trigger: Trigger,
        config: &Config,
        plan: &Plan,
        own: &Observed,
    ) -> Result<Generation, Rejection> {
        let (cause, why) = match (trigger, plan.summary()) {
            (Trigger::Operator, what) if what.is_empty() => {
                (Cause::Operator, "an operator asked for it".to_owned())
            }
            (Trigger::Operator, what) => {
                (Cause::Operator, format!("an operator asked for it; {what}"))
            }
            (Trigger::Watch | Trigger::Signal, what) => (Cause::Config, what),
        };
        let record = RestartRecord {
            config_from: Some(self.config.digest),
            config_to: Some(config.digest),
            tried: Some(own.digest()),
            ..record(
                self.next_generation(),
                cause,
                &why,
                VERSION,
                UnixMillis::now(),
            )
        };
        let generation = record.generation;
        let secrets =
            tokio::task::block_in_place(|| SecretFiles::of(config, &SecretFiles::default()));
        self.accept(record, LaunchSpec::of(own, &secrets)).await?;
        Ok(generation)
    }

    /// Logs why nothing is taken over, and keeps it for the status.
    pub(super) fn refuse(&mut self, rejection: &Rejection) {
        let text = rejection.to_string();
        if self.last_error.as_ref() != Some(&text) {
            tracing::error!("the changed configuration is refused, nothing is restarted:\n{text}");
            metrics::counter!("abide_config_refused_total").increment(1);
        }
        self.last_error = Some(text);
    }

    /// What was seen while a restart was under way that came to nothing.
    pub(super) async fn take_over_pending(&mut self) {
        if let Some((trigger, seen)) = self.pending_change.take() {
            // Refusals have been logged, and stand in the status.
            let draft = self.draft(&seen);
            let _ = self.take_over(trigger, &seen, draft).await;
        }
    }
}
