//! The settings that were in force for a component, beside the component itself: a session that has to go
//! back to it goes back to them.
//!
//! ```text
//! components/DIGEST.wasm            the component
//! components/DIGEST.PLUGIN.json     the settings of a plugin that has, or had, this component
//! ```

use std::io;

use serde::{Deserialize, Serialize};

use super::runtime::Engine;
use crate::atomic_file;
use crate::checksummed::{check_json, seal_json};
use crate::domain::{Capabilities, Digest, Limits};

/// What an operator sets for a plugin, apart from its component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ComponentSettings {
    pub limits: Limits,
    pub grants: Capabilities,
}

impl Engine {
    /// Keeps the settings of a plugin with its component, in the place of earlier ones. Waits for the disk.
    pub fn keep_settings(
        &self,
        component: Digest,
        plugin: &str,
        settings: &ComponentSettings,
    ) -> io::Result<()> {
        let text = seal_json(&serde_json::to_string_pretty(settings)?).into_bytes();
        let (folder, name) = (&self.0.options.components_dir, name(component, plugin));
        if atomic_file::read(&folder.join(&name))?.as_ref() == Some(&text) {
            return Ok(());
        }
        atomic_file::write_whole(folder, &name, &[&text])
    }

    /// Returns the settings that were kept last. None if there are none, or they cannot be read. Waits for
    /// the disk.
    pub fn kept_settings(&self, component: Digest, plugin: &str) -> Option<ComponentSettings> {
        let path = self.0.options.components_dir.join(name(component, plugin));
        let read = atomic_file::read(&path).map_err(|error| error.to_string());
        let settings = read.and_then(|bytes| {
            let settings = bytes.map(|bytes| {
                check_json(&bytes).map_err(|unfit| unfit.to_string())?;
                serde_json::from_slice(&bytes).map_err(|error| error.to_string())
            });
            settings.transpose()
        });
        settings.unwrap_or_else(|error| {
            tracing::warn!(
                path = %path.display(), error,
                "the settings of an older component cannot be read; the present ones hold"
            );
            None
        })
    }
}

fn name(component: Digest, plugin: &str) -> String {
    format!("{component}.{plugin}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes on disk are forever.
    #[test]
    fn what_was_kept_is_read_by_later_versions() {
        let older = r#"{
            "limits": {"memory_bytes": 7, "turn_timeout": {"secs": 3, "nanos": 0}, "gone": 1},
            "grants": {"llm": ["a*"], "tools": ["files"],
                "http": {"hosts": ["http://localhost:*"], "private": ["b"]}}
        }"#;
        let settings: ComponentSettings = serde_json::from_str(older).unwrap();
        assert_eq!(settings.limits.memory_bytes, 7);
        assert_eq!(settings.limits.turn_timeout.as_secs(), 3);
        assert_eq!(settings.limits.inbox, Limits::default().inbox);
        assert!(settings.grants.llm.allow("ab"));
        assert_eq!(settings.grants.http.hosts[0].as_str(), "http://localhost:*");
        let again = serde_json::to_vec(&settings).unwrap();
        assert_eq!(
            serde_json::from_slice::<ComponentSettings>(&again).unwrap(),
            settings
        );
    }
}
