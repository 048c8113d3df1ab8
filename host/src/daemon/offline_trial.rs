//! The trial of a component without a daemon: on the sessions of a data folder that no daemon uses, or of a
//! backup. Both are left as they are.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use std::sync::Arc;

use crate::config::Config;
use crate::domain::{Capabilities, Limits, PluginTrial, SessionCopy, TrialReport};
use crate::engine::{Component, Engine};
use crate::session::{Plugin, forecast_export, forecast_stored};
use crate::store::{StoreOptions, open_copy};

use super::open_store::configured;

/// A component to try, with the limits and grants that it is to have.
pub struct OfflineTrial<'a> {
    pub engine: &'a Engine,
    pub component: Arc<Component>,
    pub limits: Limits,
    pub grants: Capabilities,
}

impl OfflineTrial<'_> {
    /// Tries it on all sessions of the plugin `name` in the folder `data`, with the configuration's settings
    /// of stores.
    ///
    /// # Errors
    /// The reason why the store cannot be read.
    pub async fn on_folder(
        self,
        config: &Config,
        data: &Path,
        name: String,
    ) -> Result<PluginTrial, String> {
        let copy = CopyFolder::beside(data).map_err(|error| {
            format!(
                "no folder can be made for a copy of {}: {error}",
                data.display()
            )
        })?;
        let (data, path) = (data.to_owned(), copy.0.clone());
        let options = configured(config, StoreOptions::default());
        let opened = tokio::task::spawn_blocking(move || open_copy(&data, &path, options)).await;
        let opened = opened.map_err(|error| error.to_string())?;
        let store = opened.map_err(|error| error.to_string())?;
        let found = forecast_stored(self.engine, store.clone(), name, self.plugin()).await;
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        closed.map_err(|error| error.to_string())?;
        found.map_err(|refusal| refusal.to_string())
    }

    /// Tries it on an exported session.
    pub async fn on_export(self, copy: &SessionCopy) -> TrialReport {
        forecast_export(self.engine, copy, self.plugin()).await
    }

    fn plugin(&self) -> Plugin {
        Plugin {
            component: self.component.clone(),
            limits: self.limits.clone(),
            grants: self.grants.clone(),
        }
    }
}

/// A folder for a copy, which is removed with it.
struct CopyFolder(PathBuf);

impl CopyFolder {
    /// Makes it beside `data`, where tables need not be copied; else where temporary files are.
    fn beside(data: &Path) -> io::Result<Self> {
        let name = format!(".abide-trial-{:016x}", rand::random::<u64>());
        let make = |parent: &Path| {
            let path = parent.join(&name);
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.map(|()| Self(path))
        };
        let data = fs::canonicalize(data)?;
        match data.parent().map(make) {
            Some(Ok(folder)) => Ok(folder),
            Some(Err(_)) | None => make(&std::env::temp_dir()),
        }
    }
}

impl Drop for CopyFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("{} cannot be removed: {error}", self.0.display());
        }
    }
}
