//! The dry run: reports what saving a configuration would do now. It renders the planner's own
//! decision as a document; a task adds what new components do to sessions.

use std::fmt::Display;

use tokio::sync::oneshot;

use crate::config::{
    ChangeClass, ConfigChange, ConfigError, Observed, OnConfigChange, OnFailedTrial, Plan,
};
use crate::domain::{PlanProblem, PlanReport, PlanVerdict, PlannedChange, PluginTrial};

use super::component_trial::judge;
use super::machine::Trigger;
use super::plan::{Candidate, Decision, Rejection};
use super::plan_trial::PlanTrial;
use super::standby::Unprepared;
use super::state::Daemon;

impl Daemon {
    /// Reports what saving these bytes would do; `None` stands for the file as it is now. If components have to
    /// be tried for that, the reply comes once they were. It is dropped if this worker leaves first.
    pub(super) fn plan(&mut self, bytes: Option<Vec<u8>>, mut reply: oneshot::Sender<PlanReport>) {
        let (report, trial) = self.dry_run(bytes);
        let Some(trial) = trial else {
            // A dropped receiver is no error: the client has gone.
            let _ = reply.send(report);
            return;
        };
        // Forgets those that have ended.
        while self.plans.try_join_next().is_some() {}
        self.plans.spawn(async move {
            let rule = trial.on_failed_trial;
            tokio::select! {
                tried = trial.run() => drop(reply.send(concluded(report, tried, rule))),
                () = reply.closed() => {}
            }
        });
    }

    /// Returns what the planner's decision says, and what is left to try.
    fn dry_run(&self, bytes: Option<Vec<u8>>) -> (PlanReport, Option<PlanTrial>) {
        let candidate = tokio::task::block_in_place(|| {
            let seen = match bytes {
                Some(bytes) => Observed::of(bytes, &self.config.files()),
                None => Observed::now(&self.config.file, &self.config.files())?,
            };
            Ok(Candidate::read(&seen, self.draft(&seen), &self.env))
        });
        let (decision, own) = match candidate {
            Ok(candidate) => {
                let own = candidate.own.clone();
                (self.decide(Trigger::Watch, candidate), own)
            }
            Err(source) => {
                let rejection = self.unreadable_file(source);
                (Decision::Rejected(rejection, None), None)
            }
        };
        let trial = own.and_then(|own| self.to_try(&decision, &own));
        (self.report(&decision), trial)
    }

    /// Returns what is to be tried before a restart that the decision leads to, by itself or once an operator
    /// asks. `own` are the candidate's files.
    fn to_try(&self, decision: &Decision, own: &Observed) -> Option<PlanTrial> {
        match decision {
            Decision::Ignored { config, .. } | Decision::Restart { config, .. } => {
                let running = (&*self.config, &self.loaded);
                PlanTrial::of(self.lifecycle.clone(), running, (&**config, own))
            }
            Decision::Nothing
            | Decision::Hot { .. }
            | Decision::Deferred
            | Decision::Stopping
            | Decision::Rejected(..) => None,
        }
    }

    /// Renders a decision as a report, with how long clients would have to wait.
    pub(super) fn report(&self, decision: &Decision) -> PlanReport {
        let verdict = match decision {
            Decision::Nothing => PlanVerdict::Nothing,
            Decision::Ignored { .. } => PlanVerdict::Ignored,
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
            trial: Vec::new(),
        }
    }
}

impl Decision {
    fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Ignored { plan, .. } | Self::Hot { plan, .. } | Self::Restart { plan, .. } => {
                Some(plan)
            }
            Self::Rejected(_, plan) => plan.as_ref(),
            Self::Nothing | Self::Deferred | Self::Stopping => None,
        }
    }
}

/// Adds what was tried to the plan, which is refused where the restart would be. Pure.
fn concluded(
    report: PlanReport,
    tried: Result<Vec<PluginTrial>, Rejection>,
    rule: OnFailedTrial,
) -> PlanReport {
    let (trial, problems) = match tried {
        Ok(found) => {
            let setback = judge(&found, rule).err();
            let problem = setback.map(|setback| PlanProblem {
                key: String::new(),
                text: setback.reason,
            });
            (found, Vec::from_iter(problem))
        }
        Err(rejection) => (Vec::new(), rejection.problems()),
    };
    let verdict = match problems.is_empty() {
        true => report.verdict,
        false => PlanVerdict::Refused,
    };
    PlanReport {
        verdict,
        problems,
        trial,
        ..report
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
            Self::Unprepared {
                source: Unprepared::Plugin { key, .. },
                ..
            } => vec![of(key, self)],
            other => vec![of("", other)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, SessionId, TrialReport};
    use crate::engine::LoadError;

    fn concluded_of(
        tried: Result<Vec<PluginTrial>, Rejection>,
        rule: OnFailedTrial,
    ) -> (PlanVerdict, Vec<PlanProblem>, Vec<PluginTrial>) {
        let report = PlanReport {
            verdict: PlanVerdict::Ignored,
            changes: Vec::new(),
            problems: Vec::new(),
            on_config_change: "ignore".to_owned(),
            running_turns: 0,
            wait_at_most_ms: 0,
            trial: Vec::new(),
        };
        let report = concluded(report, tried, rule);
        (report.verdict, report.problems, report.trial)
    }

    #[test]
    fn a_plan_is_refused_with_the_words_of_the_restart() {
        let mut found = PluginTrial::new("chat".to_owned(), Digest::of(b"new"), 2);
        let id = SessionId::new("s").unwrap();
        found.add(id, TrialReport::failed("it traps".to_owned()));
        let found = vec![found];
        let kept = concluded_of(Ok(found.clone()), OnFailedTrial::Keep);
        assert_eq!(kept, (PlanVerdict::Ignored, Vec::new(), found.clone()));
        let refused = concluded_of(Ok(found.clone()), OnFailedTrial::Refuse);
        let problem = PlanProblem {
            key: String::new(),
            text: judge(&found, OnFailedTrial::Refuse).unwrap_err().reason,
        };
        assert_eq!(refused, (PlanVerdict::Refused, vec![problem], found));
    }

    #[test]
    fn a_component_that_does_not_load_refuses_the_plan_under_its_key() {
        let rejection = Rejection::Unprepared {
            path: "abide.toml".into(),
            source: Unprepared::component("chat", LoadError::NotWasm),
        };
        let text = rejection.to_string();
        let (verdict, problems, trial) = concluded_of(Err(rejection), OnFailedTrial::Keep);
        assert_eq!((verdict, trial), (PlanVerdict::Refused, Vec::new()));
        let key = "plugins.chat.path".to_owned();
        assert_eq!(problems, [PlanProblem { key, text }]);
    }
}
