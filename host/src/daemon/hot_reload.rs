//! Applies changes that need no restart. Everything that can fail is created before anything is
//! replaced. Running turns continue with the configuration that they began with.

use std::sync::Arc;

use crate::config::{Config, Observed, Plan, SecretFiles};
use crate::domain::UnixMillis;
use crate::failpoint;

use super::memory_limit::guest_memory_bytes;
use super::plan::Rejection;
use super::state::Daemon;
use super::{logging, standby};

impl Daemon {
    /// Applies a configuration that differs only in hot keys.
    ///
    /// # Errors
    /// Returns why the configuration is unusable; nothing has changed then.
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
        // Announce it to the supervisor before sessions use it: a worker that is started after a
        // crash must run on the same configuration as the sessions did.
        if let Err(error) = self.announce() {
            (self.config, self.loaded, self.secrets) = (old_config, old_loaded, old_secrets);
            return Err(error);
        }
        failpoint::point("reload.announced");
        self.registry.replace_live_config(parts);
        let guest_memory = guest_memory_bytes(&self.config.daemon);
        self.registry.set_guest_memory(guest_memory);
        let limits = standby::compile_limits(&self.config.daemon);
        self.registry.set_compile_limits(limits);
        let log = |config: &Config| (config.daemon.log_level, config.daemon.log_queue_bytes);
        if log(&old_config) != log(&self.config) {
            logging::change(&self.config.daemon);
        }
        self.fixed.config.digest = Some(self.config.digest);
        self.fixed.config.loaded_at = Some(UnixMillis::now());
        metrics::counter!("abide_config_applied_total").increment(1);
        self.keep_config(format!("without a restart: {}", plan.summary()));
        tracing::info!(
            config = %self.config.digest.short(),
            "the configuration was changed without a restart: {}", plan.summary()
        );
        Ok(())
    }
}
