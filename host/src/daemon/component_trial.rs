//! The trial of new components before a restart drains: which components those are, the trial in progress
//! as the worker's event loop sees it, and what its result means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Observed, OnFailedTrial};
use crate::domain::{Digest, PluginTrial};
use crate::session::{ComponentSource, Lifecycle, NewComponent};

use super::machine::Setback;

/// A trial that is under way. Dropping it ends it.
pub(super) struct ComponentTrial {
    task: JoinHandle<()>,
    found: watch::Receiver<Vec<PluginTrial>>,
}

impl ComponentTrial {
    pub(super) fn begin(sessions: Lifecycle, new: Vec<NewComponent>, budget: Duration) -> Self {
        let (adding, found) = watch::channel(Vec::new());
        let task = tokio::spawn(async move { sessions.forecast(new, budget, &adding).await });
        Self { task, found }
    }

    /// Returns what was found so far, plugin by plugin.
    pub(super) fn found(&self) -> Vec<PluginTrial> {
        self.found.borrow().clone()
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
    if let Err(error) = (&mut running.task).await {
        // Each session is tried before its next turn, whatever became of this.
        tracing::error!(%error, "the trial of new components ended early");
    }
    let found = running.found();
    *trial = None;
    found
}

/// A configuration, and its files as they were read.
pub(super) type ConfigFiles<'c> = (&'c Config, &'c Observed);

/// A component that a configuration brings.
pub(super) struct ChangedComponent {
    pub(super) path: PathBuf,
    /// Whether its plugin has another one now, so that sessions go over to it; else the plugin is new.
    pub(super) is_replacement: bool,
    pub(super) new: NewComponent,
}

/// Returns the components in `new` that their plugins do not have in `old`, ordered by plugin.
pub(super) fn changed_components(
    (old, running): ConfigFiles<'_>,
    (new, files): ConfigFiles<'_>,
) -> Vec<ChangedComponent> {
    fn digest(files: &Observed, path: &Path) -> Option<Digest> {
        files.others.get(path).copied().flatten()
    }
    let plugins = new.plugins.iter().filter_map(|(name, plugin)| {
        let component = digest(files, &plugin.path)?;
        let before = old.plugins.get(name);
        let present = before.and_then(|before| digest(running, &before.path));
        (present != Some(component)).then(|| ChangedComponent {
            path: plugin.path.clone(),
            is_replacement: before.is_some(),
            new: NewComponent {
                plugin: name.clone(),
                component,
                // The standby keeps it.
                source: ComponentSource::Kept,
                limits: plugin.limits.clone(),
                grants: plugin.capabilities.clone(),
            },
        })
    });
    plugins.collect()
}

/// Returns the components in `new` that sessions go over to from another one in `old`.
pub(super) fn new_components(old: ConfigFiles<'_>, new: ConfigFiles<'_>) -> Vec<NewComponent> {
    let changed = changed_components(old, new).into_iter();
    let replaced = changed.filter(|changed| changed.is_replacement);
    replaced.map(|changed| changed.new).collect()
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
    use crate::config::Env;
    use crate::domain::{SessionId, TrialReport};

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

    /// Returns a configuration with these plugins, each with the content of its file.
    fn of(plugins: &[(&str, &[u8])]) -> (Config, Observed) {
        let texts = plugins
            .iter()
            .map(|(name, _)| format!("[plugins.{name}]\npath = \"{name}.wasm\"\n"));
        let text: String = texts.collect();
        let config = Config::parse(text.as_bytes(), Path::new("/c/abide.toml"), &Env::new());
        let digests = plugins.iter().map(|(name, content)| {
            let path = PathBuf::from(format!("/c/{name}.wasm"));
            let is_readable = !content.is_empty();
            (path, is_readable.then(|| Digest::of(content)))
        });
        let files = Observed::with(text.clone().into_bytes(), digests.collect());
        (config.unwrap(), files)
    }

    #[test]
    fn sessions_go_over_only_to_components_that_replace_others() {
        let old = of(&[("changed", b"1"), ("gone", b"1"), ("same", b"1")]);
        let new = of(&[
            ("added", b"1"),
            ("changed", b"2"),
            ("same", b"1"),
            ("unreadable", b""),
        ]);
        let (old, new) = ((&old.0, &old.1), (&new.0, &new.1));
        let changed = changed_components(old, new);
        let changed: Vec<_> = changed
            .iter()
            .map(|it| (&*it.new.plugin, it.is_replacement))
            .collect();
        assert_eq!(changed, [("added", false), ("changed", true)]);
        let tried = new_components(old, new);
        let tried: Vec<_> = tried.iter().map(|it| (&*it.plugin, it.component)).collect();
        assert_eq!(tried, [("changed", Digest::of(b"2"))]);
        assert!(changed_components(new, new).is_empty());
    }
}
