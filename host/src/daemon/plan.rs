//! What a look at the configuration file leads to. Reads files, decides nothing by itself: the
//! config's own plan does, under the *running* configuration's rules.

use std::sync::Arc;

use crate::config::{self, Config, ConfigError, Draft, Env, Observed, OnConfigChange, Verdict};

/// Who wants the daemon to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The watch saw a change.
    Watch,
    /// SIGHUP: as the watch, but `on_config_change = "ignore"` does not hold.
    Signal,
    /// `abide restart`: restarts even if nothing changed.
    Operator,
}

/// What to do now.
pub(super) enum Decision {
    /// The file means what runs already.
    Nothing,
    /// Changes wait for somebody to ask, by the running `on_config_change`.
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
    /// The file cannot be run on; nothing is done.
    Refused(Vec<String>),
}

/// Holds what was seen, and what was read of it, against what runs. `open_sessions` tells how many
/// sessions a plugin has.
pub(super) fn decide(
    asked: Asked,
    running: &Config,
    loaded: &Observed,
    (seen, draft): (&Observed, Result<Draft, ConfigError>),
    env: &Env,
    open_sessions: impl Fn(&str) -> u64,
) -> Decision {
    let new = match draft.and_then(|draft| draft.checked(env)) {
        Ok(new) => new,
        Err(error) => return Decision::Refused(vec![error.to_string()]),
    };
    let plan = config::plan(running, &new, &seen.changed_since(loaded));
    if let Verdict::Refused(refusals) = &plan.verdict {
        return Decision::Refused(refusals.iter().map(ToString::to_string).collect());
    }
    let orphans = orphans(&plan, open_sessions);
    if !orphans.is_empty() {
        return Decision::Refused(orphans);
    }
    match (&plan.verdict, asked, running.daemon.on_config_change) {
        (Verdict::Nothing, Asked::Watch | Asked::Signal, _) => Decision::Nothing,
        (_, Asked::Watch, OnConfigChange::Ignore) => Decision::Ignored(plan),
        (
            Verdict::Hot,
            Asked::Watch | Asked::Signal,
            OnConfigChange::Auto | OnConfigChange::Ignore,
        ) => Decision::Hot {
            config: Arc::new(new),
            plan,
        },
        _ => Decision::Restart {
            config: Arc::new(new),
            plan,
        },
    }
}

/// Plugins that are gone from the new configuration while sessions live on them.
fn orphans(plan: &config::Plan, open_sessions: impl Fn(&str) -> u64) -> Vec<String> {
    let gone = plan.removed_plugins().iter();
    gone.filter_map(|name| {
        let sessions = open_sessions(name);
        (sessions > 0).then(|| {
            format!(
                "plugins.{name}: cannot be removed while it has open sessions ({sessions}); \
                 close them (`abide sessions list --plugin {name}`) or leave the plugin in"
            )
        })
    })
    .collect()
}
