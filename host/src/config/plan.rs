//! What a new configuration changes, and what each change takes.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::diff::Diff;
use super::diff_servers::{transport, url};
use super::model::Config;

/// What a change takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeClass {
    /// Can be applied at once.
    Hot,
    /// Takes a restart.
    Restart,
    /// Cannot change while the daemon's state is to be kept.
    Fixed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The key, as in `plugins.echo.limits.memory`.
    pub key: String,
    /// What it takes.
    pub class: ChangeClass,
    /// The value before, for humans; nothing for what is new. Secrets are not shown.
    pub from: Option<String>,
    /// The value after; nothing for what is gone.
    pub to: Option<String>,
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from == to => write!(f, "{}: new content", self.key),
            (Some(from), Some(to)) => write!(f, "{}: {from} -> {to}", self.key),
            (None, Some(to)) => write!(f, "{}: added ({to})", self.key),
            (Some(from), None) => write!(f, "{}: removed (was {from})", self.key),
            (None, None) => f.write_str(&self.key),
        }
    }
}

/// All differences between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Each of them; none where the meaning is the same.
    pub changes: Vec<ConfigChange>,
    /// What is to be done.
    pub verdict: PlanClass,
    removed_plugins: Vec<String>,
}

/// What is to be done about a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanClass {
    /// The meaning is the same.
    Nothing,
    /// Every change can be applied at once.
    Hot,
    /// A change takes a restart.
    Restart,
    /// It would lose what must not be lost.
    Refused(Vec<PlanRefusal>),
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRefusal {
    /// The key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for PlanRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.reason, self.remedy)
    }
}

impl Plan {
    /// The changes, in a line for humans.
    pub fn summary(&self) -> String {
        let changes: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        changes.join("; ")
    }

    /// Plugins that the new configuration no longer has. It must be refused while one of them has
    /// open sessions.
    pub fn removed_plugins(&self) -> &[String] {
        &self.removed_plugins
    }
}

/// Compares the running configuration with a new one. `changed` are files that both name and
/// whose bytes differ (see [`Observed::changed_since`](super::Observed::changed_since)).
pub fn plan(old: &Config, new: &Config, changed: &BTreeSet<PathBuf>) -> Plan {
    let mut diff = Diff::new(changed);
    let Config {
        // The same keys in another file, or in other words, are the same configuration.
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
