//! The trial of new components before a restart drains: which components those are, the trial in progress
//! as the worker's event loop sees it, and what its result means.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::config::{Config, Observed, OnFailedTrial};
use crate::domain::PluginTrial;
use crate::session::{Lifecycle, NewComponent};

use super::machine::Setback;

/// A trial that is under way. Dropping it ends it.
pub(super) struct ComponentTrial {
    task: JoinHandle<Vec<PluginTrial>>,
}

impl ComponentTrial {
    pub(super) fn begin(sessions: Lifecycle, new: Vec<NewComponent>, budget: Duration) -> Self {
        let task = tokio::spawn(async move { sessions.forecast(new, budget).await });
        Self { task }
    }
}

impl Drop for ComponentTrial {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for the result of the trial in progress; pending forever without one. Cancel safe: it is cleared
/// only after it has ended.
pub(super) async fn ended(trial: &mut Option<ComponentTrial>) -> Vec<PluginTrial> {
    let Some(running) = trial else {
        return std::future::pending().await;
    };
    let found = (&mut running.task).await;
    *trial = None;
    found.unwrap_or_else(|error| {
        // Each session is tried before its next turn, whatever became of this.
        tracing::error!(%error, "the trial of new components ended early");
        Vec::new()
    })
}

/// Returns the plugins whose component is another one in `new`, which reads `files`, than in `old`.
pub(super) fn new_components(
    (old, running): (&Config, &Observed),
    (new, files): (&Config, &Observed),
) -> Vec<NewComponent> {
    let digest = |files: &Observed, path| files.others.get(path).copied().flatten();
    let plugins = new.plugins.iter().filter_map(|(name, plugin)| {
        let component = digest(files, &plugin.path)?;
        let before = digest(running, &old.plugins.get(name)?.path);
        (before != Some(component)).then(|| NewComponent {
            plugin: name.clone(),
            component,
            limits: plugin.limits.clone(),
            grants: plugin.capabilities.clone(),
        })
    });
    plugins.collect()
}

/// Decides whether the restart goes on with what was found.
pub(super) fn judge(found: &[PluginTrial], rule: OnFailedTrial) -> Result<(), Setback> {
    let staying: Vec<_> = found.iter().filter(|it| it.staying() > 0).collect();
    if staying.is_empty() || rule == OnFailedTrial::Keep {
        return Ok(());
    }
    let lines = staying.iter().map(|it| it.told());
    let reason = format!(
        "{}; have the new component carry them on, or set daemon.on_failed_trial = \"keep\": then they \
         stay on the component that they run on",
        lines.collect::<Vec<_>>().join("; ")
    );
    Err(Setback {
        reason,
        by_store: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, SessionId, TrialReport};

    fn found() -> PluginTrial {
        let mut found = PluginTrial::new("chat".to_owned(), Digest::of(b"new"), 4);
        let reports = [
            TrialReport::passed(),
            TrialReport::failed("the guest refuses its snapshot".to_owned()),
            TrialReport::untried("time was up".to_owned()),
        ];
        for (n, report) in reports.into_iter().enumerate() {
            found.add(SessionId::new(format!("s{n}")).unwrap(), report);
        }
        found
    }

    #[test]
    fn what_stays_refuses_the_restart_only_where_that_is_asked_for() {
        let found = [found()];
        assert_eq!(judge(&found, OnFailedTrial::Keep), Ok(()));
        let refused = judge(&found, OnFailedTrial::Refuse).unwrap_err();
        for part in [
            "`chat`",
            "of 4 sessions",
            "carries on 1",
            "1 it cannot carry on",
        ] {
            assert!(refused.reason.contains(part), "{part}: {}", refused.reason);
        }
        for part in [
            "2 were not tried",
            "`s1`: the guest refuses",
            "on_failed_trial",
        ] {
            assert!(refused.reason.contains(part), "{part}: {}", refused.reason);
        }
        let untried = [PluginTrial::new("chat".to_owned(), Digest::of(b"new"), 4)];
        assert_eq!(judge(&untried, OnFailedTrial::Refuse), Ok(()));
    }
}
