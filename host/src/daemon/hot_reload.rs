//! Changes that take no restart: everything that can fail is made before anything is replaced, and
//! turns that run go on with what they began with.

use std::sync::Arc;

use crate::config::{Config, Observed, Plan, SecretFiles};
use crate::domain::UnixMillis;

use super::plan::Rejection;
use super::state::Daemon;
use super::{logging, standby};

impl Daemon {
    /// Takes a configuration over that differs in hot keys only.
    ///
    /// # Errors
    /// Why it cannot be run on; then nothing has changed.
    pub(super) fn apply(
        &mut self,
        config: Arc<Config>,
        seen: &Observed,
        plan: &Plan,
    ) -> Result<(), Rejection> {
        let before = self.registry.live_config();
        let plugins = before.plugins.0.iter();
        let components = plugins
            .map(|(name, plugin)| (name.clone(), plugin.component.clone()))
            .collect();
        let loaded = seen.narrowed(config.files());
        let secrets = SecretFiles::of(&config, &SecretFiles::default());
        let source = standby::Secrets {
            env: &self.env,
            files: &secrets,
        };
        let parts =
            standby::parts(&config, source, &components, Some(&before)).map_err(|source| {
                Rejection::Unprepared {
                    path: config.file.clone(),
                    source,
                }
            })?;
        let old_config = std::mem::replace(&mut self.config, config);
        let old_loaded = std::mem::replace(&mut self.loaded, loaded);
        let old_secrets = std::mem::replace(&mut self.secrets, secrets);
        // Before anything else: a worker that is started after a crash runs on what sessions do.
        if let Err(error) = self.announce() {
            (self.config, self.loaded, self.secrets) = (old_config, old_loaded, old_secrets);
            return Err(error);
        }
        self.registry.replace_live_config(parts);
        if old_config.daemon.log_level != self.config.daemon.log_level {
            logging::change(self.config.daemon.log_level);
        }
        self.fixed.config.digest = self.config.digest;
        self.fixed.config.loaded_at = UnixMillis::now();
        metrics::counter!("abide_config_applied_total").increment(1);
        tracing::info!(
            config = %self.config.digest.short(),
            "the configuration was changed without a restart: {}", plan.summary()
        );
        Ok(())
    }
}
