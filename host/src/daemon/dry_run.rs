//! The dry run: reports what saving a configuration would do now. It renders the planner's own
//! decision as a document.

use std::fmt::Display;

use crate::config::{ChangeClass, ConfigChange, ConfigError, Observed, OnConfigChange, Plan};
use crate::domain::{PlanProblem, PlanReport, PlanVerdict, PlannedChange};

use super::machine::Trigger;
use super::plan::{Candidate, Decision, Rejection};
use super::state::Daemon;

impl Daemon {
    /// Reports what saving these bytes would do; `None` stands for the file as it is now.
    pub(super) fn dry_run(&self, bytes: Option<Vec<u8>>) -> PlanReport {
        let candidate = tokio::task::block_in_place(|| {
            let seen = match bytes {
                Some(bytes) => Observed::of(bytes, &self.config.files()),
                None => Observed::now(&self.config.file, &self.config.files())?,
            };
            Ok(Candidate::read(&seen, self.draft(&seen), &self.env))
        });
        let decision = match candidate {
            Ok(candidate) => self.decide(Trigger::Watch, candidate),
            Err(source) => Decision::Rejected(self.unreadable_file(source), None),
        };
        self.report(&decision)
    }

    /// Renders a decision as a report, with how long clients would have to wait.
    pub(super) fn report(&self, decision: &Decision) -> PlanReport {
        let verdict = match decision {
            Decision::Nothing => PlanVerdict::Nothing,
            Decision::Ignored(_) => PlanVerdict::Ignored,
            Decision::Hot { .. } => PlanVerdict::Hot,
            Decision::Restart { .. } => PlanVerdict::Restart,
            Decision::Deferred => PlanVerdict::Deferred,
            Decision::Stopping => PlanVerdict::Stopping,
            Decision::Rejected(..) => PlanVerdict::Refused,
        };
        let plan = decision.plan().map(|plan| plan.changes.as_slice());
        let problems = match decision {
            Decision::Rejected(rejection, _) => rejection.problems(),
            _ => Vec::new(),
        };
        let running = self.registry.running();
        let grace = self.config.daemon.grace_period.as_millis();
        // Without running turns the drain waits for nothing.
        let wait = if running > 0 { grace } else { 0 };
        PlanReport {
            verdict,
            changes: plan.unwrap_or_default().iter().map(planned).collect(),
            problems,
            on_config_change: as_written(self.config.daemon.on_config_change).to_owned(),
            running_turns: running,
            wait_at_most_ms: wait.try_into().unwrap_or(u64::MAX),
        }
    }
}

impl Decision {
    fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Ignored(plan) | Self::Hot { plan, .. } | Self::Restart { plan, .. } => Some(plan),
            Self::Rejected(_, plan) => plan.as_ref(),
            Self::Nothing | Self::Deferred | Self::Stopping => None,
        }
    }
}

fn as_written(rule: OnConfigChange) -> &'static str {
    match rule {
        OnConfigChange::Auto => "auto",
        OnConfigChange::Restart => "restart",
        OnConfigChange::Ignore => "ignore",
    }
}

fn planned(change: &ConfigChange) -> PlannedChange {
    let class = match change.class {
        ChangeClass::Hot => "hot",
        ChangeClass::Restart => "restart",
        ChangeClass::Fixed => "fixed",
    };
    PlannedChange {
        key: change.key.clone(),
        class: class.to_owned(),
        from: change.from.clone(),
        to: change.to.clone(),
    }
}

impl Rejection {
    /// Returns the individual problems.
    pub(super) fn problems(&self) -> Vec<PlanProblem> {
        let of = |key: &str, what: &dyn Display| PlanProblem {
            key: key.to_owned(),
            text: what.to_string(),
        };
        match self {
            Self::Invalid(ConfigError::Invalid(problems)) => {
                problems.iter().map(|one| of(&one.key, one)).collect()
            }
            Self::Loses(refusals) => refusals.iter().map(|one| of(&one.key, one)).collect(),
            other => vec![of("", other)],
        }
    }
}
