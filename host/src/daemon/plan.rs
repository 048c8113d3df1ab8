//! The planner: what a configuration leads to, under what runs now. One pure function answers both
//! who saves the file and who asks beforehand what saving it would do.
//!
//! ```text
//!   a restart or a stop is under way ------------------------------> Deferred, Stopping
//!   seen by the watch, rolled back before, and not changed since --> Rejected
//!   invalid, or it would lose what must be kept -------------------> Rejected
//!   the same meaning (unless an operator asks) --------------------> Nothing
//!   on_config_change = "ignore" (unless somebody asks) ------------> Ignored
//!   hot changes alone, on_config_change is not "restart" ----------> Hot
//!   all else ------------------------------------------------------> Restart
//! ```
//!
//! The rules are those of the *running* configuration.

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

/// What a candidate is held against.
pub(super) struct PlanContext<'a> {
    pub(super) under_way: Option<UnderWay>,
    pub(super) config: &'a Config,
    /// Its files, as they were loaded.
    pub(super) loaded: &'a Observed,
    /// Configurations that were rolled back, and why, by the digest of their files.
    pub(super) rejected: &'a BTreeMap<Digest, String>,
    /// How many open sessions a plugin has.
    pub(super) open_sessions: &'a dyn Fn(&str) -> Result<u64, domain::Refusal>,
}

/// A configuration that might run, read and checked.
pub(super) struct Candidate {
    /// Its bytes, and the files that it or the running configuration names.
    pub(super) seen: Observed,
    /// The same with only the files that it names; none where it cannot be parsed.
    pub(super) own: Option<Observed>,
    config: Result<Config, ConfigError>,
}

impl Candidate {
    /// Reads what the draft names. Blocks: plugins are large, and disks may be slow.
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

/// What to do about a candidate.
pub(super) enum Decision {
    /// It means what runs already.
    Nothing,
    /// Its changes wait for somebody to ask, by the running `on_config_change`.
    Ignored(config::Plan),
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
    /// A restart is under way: look at it again once that is over.
    Deferred,
    /// The daemon stops: the next start reads the file.
    Stopping,
    /// It cannot be run on; nothing is done. The plan is there where it could be made.
    Rejected(Rejection, Option<config::Plan>),
}

/// Why a configuration is not taken over, with the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("{}: cannot be read ({source}); put it back", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// It would lose what must be kept.
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
    /// The store takes no write, so that nothing is begun that could not be recorded.
    #[error("{doing}: {reason}")]
    Unrecorded { doing: &'static str, reason: String },
    #[error("the supervisor cannot be reached: {0}")]
    Supervisor(String),
}

impl Rejection {
    /// What the restart machine makes of it.
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

/// Decides. Pure but for the count of sessions.
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
        (_, Trigger::Watch, OnConfigChange::Ignore) => Decision::Ignored(plan),
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

/// Plugins that are gone from the new configuration while sessions live on them. A store that cannot
/// count lets no plugin go.
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
