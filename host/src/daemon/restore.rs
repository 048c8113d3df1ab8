//! `abide restore`: puts a backup in the place of a data folder, without a daemon.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use crate::config::{Config, process_env};
use crate::documents::RestoreReport;
use crate::store::{self, StoreOptions};

use super::backup::report;
use super::open_store::configured;

/// Restores the backup in the folder `backup` to the data folder that the configuration names, which
/// must not exist or be empty. Blocks.
///
/// # Errors
/// If nothing was restored: the text names the reason and the remedy. There is no data folder then, as
/// before.
pub fn restore(config_path: &Path, backup: &Path) -> anyhow::Result<RestoreReport> {
    let since = Instant::now();
    // Only where the data folder is to be counts: plugins and secrets may come later.
    let loaded = Config::load(config_path, &process_env()).with_context(|| {
        let then = backup.join("abide.toml");
        format!(
            "the configuration says where the data folder is to be (that of the time of the backup is \
             {})",
            then.display()
        )
    })?;
    let config = loaded.config;
    let data_dir = config.daemon.data_dir.clone();
    let options = configured(&config, StoreOptions::default());
    let restored = store::restore(backup, &data_dir, options)?;
    let took_ms = since.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    Ok(RestoreReport {
        data_dir,
        backup: report(backup.to_owned(), &restored.manifest, took_ms),
        sessions: restored.sessions.open,
        waiting: restored.sessions.parked,
    })
}
