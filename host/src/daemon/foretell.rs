//! What a look at the configuration file would lead to, for those who ask beforehand.

use crate::config::{Config, Observed, Plan};

use super::state::Daemon;

impl Daemon {
    /// What a look at the file would lead to, if nothing is under way.
    pub(super) fn planned(&self) -> Result<serde_json::Value, Vec<String>> {
        // Plugins are large, and disks may be slow.
        let looked = tokio::task::block_in_place(|| {
            let seen = Observed::now(&self.config.file, &self.config.files())?;
            let config = Config::validate(&seen.bytes, &self.config.file, &self.env);
            Ok((seen, config))
        });
        let (seen, config) = looked.map_err(|error: std::io::Error| {
            vec![format!(
                "{}: cannot be read ({error})",
                self.config.file.display()
            )]
        })?;
        let config = config.map_err(|error| vec![error.to_string()])?;
        let plan = crate::config::plan(&self.config, &config, &seen.changed_since(&self.loaded));
        let mut told = told(&plan);
        told["on_config_change"] = serde_json::json!(self.config.daemon.on_config_change);
        let (running, grace) = (self.registry.running(), self.config.daemon.grace_period);
        told["running_turns"] = serde_json::json!(running);
        // Nobody is waited for where nothing runs.
        let wait_ms = if running > 0 {
            grace.as_millis() as u64
        } else {
            0
        };
        told["wait_at_most_ms"] = serde_json::json!(wait_ms);
        Ok(told)
    }
}

pub(super) fn told(plan: &Plan) -> serde_json::Value {
    // Maps with text keys, enums and texts: nothing that JSON could refuse.
    serde_json::to_value(plan).unwrap_or_default()
}
