//! `abide plugin list`: compares the configured plugins with those that the daemon has loaded.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::client::{Client, ClientError};
use super::error::CliError;
use super::global::{Global, JsonFlag};
use super::out::{Out, Tone, hint};
use super::table::{Cell, table};
use super::target;
use super::text::size;
use crate::config::{Config, plugin_bytes, process_env};
use crate::documents::PluginStatus;
use crate::domain::Digest;

/// A plugin that is configured, loaded, or both.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct PluginRow {
    name: String,
    /// The component's path in the configuration.
    path: Option<PathBuf>,
    /// The component's size, if the file can be read.
    bytes: Option<u64>,
    /// The digest of the file as it is now.
    digest: Option<Digest>,
    /// The digest of the component that the daemon runs.
    loaded: Option<Digest>,
    contract: Option<String>,
    sessions: Option<u64>,
}

/// Runs the command. Shows whichever of the configuration and the daemon is available; fails only
/// if neither is.
pub(super) async fn list(global: &Global, json: JsonFlag) -> Result<(), CliError> {
    let env = process_env();
    let configured = Config::load(&global.config, &env)
        .map(|loaded| loaded.config)
        .map_err(|error| CliError::Failed(error.to_string()));
    let client = Client::new(target::find(global)?)?;
    let daemon = match client.daemon().await {
        Ok(daemon) => Ok(daemon.plugins),
        Err(error @ ClientError::Unreachable { .. }) => Err(error),
        Err(error) => return Err(error.into()),
    };
    let (local, running) = match (configured, daemon) {
        (Ok(config), Ok(plugins)) => (from_config(&config), plugins),
        (Ok(config), Err(error)) => {
            hint(format!("{error}; listing what is configured"));
            (from_config(&config), Vec::new())
        }
        (Err(_), Ok(plugins)) => (Vec::new(), plugins),
        (Err(error), Err(_)) => return Err(error),
    };
    let all = joined(local, running);
    let mut out = Out::new(global.no_color);
    if json.json {
        return Ok(out.json(&serde_json::json!({ "items": all }))?);
    }
    if all.is_empty() {
        return Ok(out.line("no plugins; name one under [plugins.NAME] in the configuration")?);
    }
    let rows: Vec<Vec<Cell>> = all.iter().map(row).collect();
    let head = ["plugin", "contract", "sessions", "size", "digest", "file"];
    out.text(&table(&out, 0, &head, &rows))?;
    Ok(())
}

fn from_config(config: &Config) -> Vec<PluginRow> {
    let plugins = config.plugins.iter();
    plugins
        .map(|(name, plugin)| {
            // A component that cannot be read is shown without size and digest.
            let bytes = plugin_bytes(&plugin.path).ok();
            PluginRow {
                name: name.clone(),
                path: Some(plugin.path.clone()),
                bytes: bytes.as_ref().map(|bytes| bytes.len() as u64),
                digest: bytes.as_deref().map(Digest::of),
                ..PluginRow::default()
            }
        })
        .collect()
}

/// Joins the configured and the loaded plugins by name.
fn joined(local: Vec<PluginRow>, running: Vec<PluginStatus>) -> Vec<PluginRow> {
    let mut all: BTreeMap<String, PluginRow> = local
        .into_iter()
        .map(|plugin| (plugin.name.clone(), plugin))
        .collect();
    for plugin in running {
        let listed = all.entry(plugin.name.clone()).or_insert_with(|| PluginRow {
            name: plugin.name,
            ..PluginRow::default()
        });
        listed.loaded = plugin.digest;
        listed.contract = plugin.contract;
        listed.sessions = plugin.sessions;
    }
    all.into_values().collect()
}

fn row(plugin: &PluginRow) -> Vec<Cell> {
    let digest = match (plugin.digest, plugin.loaded) {
        (Some(here), Some(runs)) if here != runs => {
            let text = format!("{} (runs: {})", here.short(), runs.short());
            Cell::toned(text, Tone::Warn)
        }
        (Some(here), _) => here.short().into(),
        (None, Some(runs)) => runs.short().into(),
        (None, None) => Cell::toned("cannot be read", Tone::Bad),
    };
    let path = plugin.path.as_ref();
    vec![
        Cell::toned(&plugin.name, Tone::Bold),
        plugin.contract.clone().unwrap_or_default().into(),
        plugin
            .sessions
            .map_or(String::new(), |n| n.to_string())
            .into(),
        plugin.bytes.map_or(String::new(), size).into(),
        digest,
        path.map_or(String::new(), |path| path.display().to_string())
            .into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_meet_by_name() {
        let local = |name: &str| PluginRow {
            name: name.to_owned(),
            digest: Some(Digest::of(b"new")),
            ..PluginRow::default()
        };
        let running = |name: &str| PluginStatus {
            name: name.to_owned(),
            digest: Some(Digest::of(b"old")),
            contract: Some("0.1.0".to_owned()),
            sessions: Some(3),
            components: Vec::new(),
            rollout: None,
        };
        let all = joined(
            vec![local("both"), local("new")],
            vec![running("both"), running("gone")],
        );
        let names: Vec<&str> = all.iter().map(|plugin| plugin.name.as_str()).collect();
        assert_eq!(names, ["both", "gone", "new"]);
        assert_eq!(all[0].digest, Some(Digest::of(b"new")));
        assert_eq!(all[0].loaded, Some(Digest::of(b"old")));
        assert_eq!((all[1].sessions, all[1].digest), (Some(3), None));
        assert_eq!(all[2].loaded, None);
    }
}
