//! Compares two configurations and classifies each change by what applying it takes.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::change::{ChangeClass, ConfigChange};
use super::diff::Diff;
use super::diff_servers::{transport, url};
use super::model::Config;

/// All differences between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The changed keys; empty if both configurations mean the same.
    pub changes: Vec<ConfigChange>,
    /// What applying all changes takes.
    pub verdict: PlanClass,
    removed_plugins: Vec<String>,
}

/// What applying a plan takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanClass {
    /// Both configurations mean the same.
    Nothing,
    /// Every change can be applied without a restart.
    Hot,
    /// At least one change takes a restart.
    Restart,
    /// Applying it would lose durable state.
    Refused(Vec<PlanRefusal>),
}

/// A reason why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRefusal {
    pub key: String,
    pub reason: String,
    pub remedy: String,
}

impl fmt::Display for PlanRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.reason, self.remedy)
    }
}

impl Plan {
    /// Returns the changes on one line, for humans.
    pub fn summary(&self) -> String {
        let changes: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        changes.join("; ")
    }

    /// Returns the plugins that the new configuration removes. The plan must be refused while one
    /// of them has open sessions.
    pub fn removed_plugins(&self) -> &[String] {
        &self.removed_plugins
    }
}

/// Compares the running configuration with a new one. `changed` are the files that both name and
/// whose bytes differ (see [`Observed::changed_since`](super::Observed::changed_since)).
pub fn plan(old: &Config, new: &Config, changed: &BTreeSet<PathBuf>) -> Plan {
    let mut diff = Diff::new(changed);
    let Config {
        // The same keys in another file, or written differently, are the same configuration.
        file: _,
        digest: _,
        places: _,
        daemon,
        retention,
        store,
        plugins,
        llm,
        mcp,
    } = new;
    diff.daemon(&old.daemon, daemon);
    diff.retention(&old.retention, retention);
    diff.store(&old.store, store);
    diff.entries(
        "plugins",
        ChangeClass::Restart,
        &old.plugins,
        plugins,
        Diff::plugin,
        |plugin| plugin.path.display().to_string(),
    );
    diff.entries(
        "llm",
        ChangeClass::Hot,
        &old.llm,
        llm,
        Diff::provider,
        |provider| url(&provider.base_url),
    );
    diff.entries(
        "mcp",
        ChangeClass::Hot,
        &old.mcp,
        mcp,
        Diff::tool_server,
        |server| transport(&server.transport),
    );
    let removed = old
        .plugins
        .keys()
        .filter(|name| !plugins.contains_key(*name));
    Plan {
        removed_plugins: removed.cloned().collect(),
        verdict: verdict(&diff.changes),
        changes: diff.changes,
    }
}

fn verdict(changes: &[ConfigChange]) -> PlanClass {
    match changes.iter().map(|change| change.class).max() {
        None => PlanClass::Nothing,
        Some(ChangeClass::Hot) => PlanClass::Hot,
        Some(ChangeClass::Restart) => PlanClass::Restart,
        Some(ChangeClass::Fixed) => PlanClass::Refused(
            changes
                .iter()
                .filter(|change| change.class == ChangeClass::Fixed)
                .map(|change| PlanRefusal {
                    key: change.key.clone(),
                    reason: format!(
                        "it cannot change while sessions live there ({} -> {})",
                        change.from.as_deref().unwrap_or("nothing"),
                        change.to.as_deref().unwrap_or("nothing"),
                    ),
                    remedy: "put the old value back; to move the data, stop the daemon, move the \
                             folder, change the key, and start it"
                        .to_owned(),
                })
                .collect(),
        ),
    }
}
