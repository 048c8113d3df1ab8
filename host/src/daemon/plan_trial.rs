//! The trial of new components for a plan: as a restart would compile them in its standby, and then try them on
//! copies of sessions. Nothing is kept but the compiled code, and the worker's event loop does not wait for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{OnFailedTrial, plugin_bytes};
use crate::domain::{Digest, PluginTrial};
use crate::engine::CompileLimits;
use crate::session::{ComponentSource, Lifecycle, NewComponent, trial_alone};

use super::component_trial::{ChangedComponent, ConfigFiles, changed_components};
use super::plan::Rejection;
use super::standby::{Unprepared, compile_limits};

/// How long sessions are tried for a plan at most: others wait for it.
const BUDGET_MAX: Duration = Duration::from_secs(600);

/// What is to be tried for a plan, with the settings of the configuration that is planned for.
pub(super) struct PlanTrial {
    sessions: Lifecycle,
    /// The configuration file.
    file: PathBuf,
    components: Vec<ChangedComponent>,
    limits: CompileLimits,
    budget: Duration,
    pub(super) on_failed_trial: OnFailedTrial,
}

impl PlanTrial {
    /// Returns what is to be tried; none if no component is another one.
    pub(super) fn of(
        sessions: Lifecycle,
        running: ConfigFiles<'_>,
        candidate: ConfigFiles<'_>,
    ) -> Option<Self> {
        let components = changed_components(running, candidate);
        let (config, _) = candidate;
        (!components.is_empty()).then(|| Self {
            sessions,
            file: config.file.clone(),
            components,
            limits: compile_limits(&config.daemon),
            budget: config.daemon.trial_budget.min(BUDGET_MAX),
            on_failed_trial: config.daemon.on_failed_trial,
        })
    }

    /// Returns what was found, plugin by plugin; nothing without a budget. Waits for other trials of clients.
    ///
    /// # Errors
    /// Returns why the standby of a restart would fail.
    pub(super) async fn run(self) -> Result<Vec<PluginTrial>, Rejection> {
        let Self {
            sessions,
            file,
            components,
            limits,
            budget,
            on_failed_trial: _,
        } = self;
        let alone = trial_alone().await;
        let loading = sessions.clone();
        // If the client leaves, the next one waits until this is compiled.
        let load = move || load(&loading, components, limits).map(|loaded| (loaded, alone));
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.unwrap_or_else(|error| Err(error.into()));
        let (new, _alone) =
            loaded.map_err(|source| Rejection::Unprepared { path: file, source })?;
        let found = watch::Sender::new(Vec::new());
        if !budget.is_zero() {
            sessions.forecast(new, budget, &found).await;
        }
        let found = found.borrow().clone();
        Ok(found)
    }
}

/// Compiles the components, and returns those that sessions go over to. Fails like a standby, at the first that
/// cannot be loaded. Blocks.
fn load(
    sessions: &Lifecycle,
    components: Vec<ChangedComponent>,
    limits: CompileLimits,
) -> Result<Vec<NewComponent>, Unprepared> {
    let mut replacements = Vec::new();
    for changed in components {
        let mut new = changed.new;
        new.source = match planned_bytes(&changed.path, new.component) {
            Ok(bytes) => {
                let loaded = sessions.load_component(&bytes, limits);
                let failed = |source| Unprepared::component(&new.plugin, source);
                ComponentSource::Loaded(loaded.map_err(failed)?)
            }
            Err(reason) => ComponentSource::Gone(reason),
        };
        if changed.is_replacement {
            replacements.push(new);
        }
    }
    Ok(replacements)
}

/// Reads the component that the plan was made with; or returns why it is not there any more.
fn planned_bytes(path: &Path, component: Digest) -> Result<Vec<u8>, String> {
    let bytes = plugin_bytes(path).map_err(|error| {
        format!(
            "{} cannot be read any more ({error}); plan again",
            path.display()
        )
    })?;
    match Digest::of(&bytes) == component {
        true => Ok(bytes),
        false => Err(format!(
            "{} has changed since the plan was made; plan again",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_that_the_plan_was_made_with_are_tried() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("chat.wasm");
        let planned = Digest::of(b"planned");
        let bytes = || planned_bytes(&path, planned);
        assert!(bytes().unwrap_err().contains("cannot be read any more"));
        std::fs::write(&path, b"planned").expect("it is written");
        assert_eq!(bytes(), Ok(b"planned".to_vec()));
        std::fs::write(&path, b"another").expect("it is written");
        assert!(bytes().unwrap_err().contains("has changed since"));
    }
}
