//! The planner: decides what a candidate configuration leads to, given the running state. The same
//! pure function serves a saved file and a dry run.
//!
//! ```text
//!   a restart or a stop is in progress ----------------------------> Deferred, Stopping
//!   seen by the watch, rolled back before, and not changed since --> Rejected
//!   invalid, or it would lose what must be kept -------------------> Rejected
//!   the same meaning (unless `abide restart`, or to mend the store) > Nothing
//!   on_config_change = "ignore" (unless SIGHUP, `abide restart`) --> Ignored
//!   hot changes only (neither "restart" nor `abide restart`) ------> Hot
//!   everything else -----------------------------------------------> Restart
//! ```
//!
//! `on_config_change` is taken from the *running* configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{
    self, Config, ConfigDraft, ConfigError, Env, Observed, OnConfigChange, PlanClass, PlanRefusal,
};
use crate::domain::{self, Digest};

use super::launch_spec::LaunchSpecError;
use super::machine::{Setback, Trigger, UnderWay};
use super::standby::Unprepared;

/// The running state that a candidate is compared with.
pub(super) struct PlanContext<'a> {
    pub(super) under_way: Option<UnderWay>,
    pub(super) config: &'a Config,
    /// The running configuration's files, as they were loaded.
    pub(super) loaded: &'a Observed,
    /// The configurations that were rolled back, with the reason, by the digest of their files.
    pub(super) rejected: &'a BTreeMap<Digest, String>,
    /// Counts the open sessions of a plugin.
    pub(super) open_sessions: &'a dyn Fn(&str) -> Result<u64, domain::Refusal>,
}

/// A configuration that might be applied, read and checked.
pub(super) struct Candidate {
    /// The candidate's bytes, and the files that it or the running configuration names.
    pub(super) seen: Observed,
    /// Like `seen`, with only the files that the candidate names; `None` if it cannot be parsed.
    pub(super) own: Option<Observed>,
    config: Result<Config, ConfigError>,
}

impl Candidate {
    /// Checks the draft and reads the files that it names. Blocks: plugins are large, and disks may
    /// be slow.
    pub(super) fn read(
        seen: &Observed,
        draft: Result<ConfigDraft, ConfigError>,
        env: &Env,
    ) -> Self {
        Self {
            seen: seen.clone(),
            own: draft
                .as_ref()
                .map(|draft| seen.narrowed(draft.files()))
                .ok(),
            config: draft.and_then(|draft| draft.checked(env)),
        }
    }
}

/// The decision about a candidate.
pub(super) enum Decision {
    /// The candidate means the same as the running configuration.
    Nothing,
    /// The changes wait for an explicit request, as the running `on_config_change` demands.
    Ignored {
        config: Arc<Config>,
        plan: config::Plan,
    },
    /// Every change can be applied at once.
    Hot {
        config: Arc<Config>,
        plan: config::Plan,
    },
    /// Restart on this configuration.
    Restart {
        config: Arc<Config>,
        plan: config::Plan,
    },
    /// A restart is in progress: decide again once it is over.
    Deferred,
    /// The daemon is stopping: the next start reads the file.
    Stopping,
    /// The candidate is unusable; nothing is done. The plan is present if it could be made.
    Rejected(Rejection, Option<config::Plan>),
}

/// The reason why a configuration is not applied, with the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("{}: cannot be read ({source}); put it back", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The candidate would lose state that must be kept.
    #[error("{}", joined(.0))]
    Loses(Vec<PlanRefusal>),
    #[error(
        "this configuration was tried and rolled back: {0}; correct it, or `abide restart` to try \
         it again"
    )]
    RolledBack(String),
    #[error("{}: {source}", path.display())]
    Unprepared { path: PathBuf, source: Unprepared },
    #[error(transparent)]
    LaunchSpec(#[from] LaunchSpecError),
    /// The store refuses writes; what cannot be recorded is not begun.
    #[error("{doing}: {reason}")]
    Unrecorded { doing: &'static str, reason: String },
    #[error("the supervisor cannot be reached: {0}")]
    Supervisor(String),
}

impl Rejection {
    /// Converts the rejection into the restart machine's form.
    pub(super) fn setback(&self) -> Setback {
        Setback {
            reason: self.to_string(),
            by_store: matches!(self, Self::Unrecorded { .. }),
        }
    }
}

fn joined(refusals: &[PlanRefusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Decides about a candidate. Pure except for the count of sessions.
pub(super) fn decide(
    trigger: Trigger,
    running: &PlanContext<'_>,
    candidate: Candidate,
) -> Decision {
    match running.under_way {
        Some(UnderWay::Restart(_)) => return Decision::Deferred,
        Some(UnderWay::Stop(_)) => return Decision::Stopping,
        None => {}
    }
    let Candidate { seen, own, config } = candidate;
    let rolled_back = own.and_then(|own| running.rejected.get(&own.digest()));
    if let (Trigger::Watch, Some(reason)) = (trigger, rolled_back) {
        let plan = config.ok().map(|new| diff(running, &new, &seen));
        return Decision::Rejected(Rejection::RolledBack(reason.clone()), plan);
    }
    let new = match config {
        Ok(new) => new,
        Err(error) => return Decision::Rejected(error.into(), None),
    };
    let plan = diff(running, &new, &seen);
    let mut losses = match &plan.verdict {
        PlanClass::Refused(refusals) => refusals.clone(),
        PlanClass::Nothing | PlanClass::Hot | PlanClass::Restart => Vec::new(),
    };
    losses.extend(orphans(&plan, running.open_sessions));
    if !losses.is_empty() {
        return Decision::Rejected(Rejection::Loses(losses), Some(plan));
    }
    let config = Arc::new(new);
    match (
        &plan.verdict,
        trigger,
        running.config.daemon.on_config_change,
    ) {
        (PlanClass::Nothing, Trigger::Watch | Trigger::Signal, _) => Decision::Nothing,
        (_, Trigger::Watch, OnConfigChange::Ignore) => Decision::Ignored { config, plan },
        (
            PlanClass::Hot,
            Trigger::Watch | Trigger::Signal,
            OnConfigChange::Auto | OnConfigChange::Ignore,
        ) => Decision::Hot { config, plan },
        _ => Decision::Restart { config, plan },
    }
}

fn diff(running: &PlanContext<'_>, new: &Config, seen: &Observed) -> config::Plan {
    config::plan(running.config, new, &seen.changed_since(running.loaded))
}

/// Returns a refusal for each removed plugin that still has open sessions. If the sessions cannot
/// be counted, the plugin cannot be removed.
fn orphans<'a>(
    plan: &'a config::Plan,
    open_sessions: impl Fn(&str) -> Result<u64, domain::Refusal> + 'a,
) -> impl Iterator<Item = PlanRefusal> + 'a {
    plan.removed_plugins().iter().filter_map(move |name| {
        let reason = match open_sessions(name) {
            Ok(0) => return None,
            Ok(sessions) => {
                format!("cannot be removed while it has open sessions ({sessions})")
            }
            Err(error) => {
                format!("cannot be removed while its sessions cannot be counted ({error})")
            }
        };
        Some(PlanRefusal {
            key: format!("plugins.{name}"),
            reason,
            remedy: format!(
                "close them (`abide sessions list --plugin {name}`) or leave the plugin in"
            ),
        })
    })
}
