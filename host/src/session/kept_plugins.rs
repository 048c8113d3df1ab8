//! Plugins with an older component than their present one: for open turns that began on it, and for
//! sessions that are pinned to it. Each has the limits and grants that were in force for its component,
//! except for grants that the operator has taken away since.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::Digest;
use crate::engine::{ComponentSettings, Engine, LoadError};

use super::plugins::Plugin;

/// Why an older component cannot be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    #[error("its component {} cannot be loaded: {error}", .component.short())]
    Unloadable { component: Digest, error: LoadError },
    #[error(
        "its component {0} is no longer kept; put the file {0}.wasm back into the data folder's \
         `components`",
        .component
    )]
    Gone { component: Digest },
}

/// The older plugins in use, by name and component, so that each is loaded once.
#[derive(Default)]
pub(super) struct KeptPlugins {
    loaded: Mutex<HashMap<(String, Digest), KeptPlugin>>,
    /// Held while settings are written.
    writing: Mutex<()>,
}

struct KeptPlugin {
    /// The present plugin, whose grants were looked at.
    present: Arc<Plugin>,
    plugin: Arc<Plugin>,
}

impl KeptPlugins {
    /// Returns the plugin `name`, which is `present` now, as it is on this component.
    pub(super) async fn on(
        &self,
        engine: &Engine,
        name: &str,
        present: &Arc<Plugin>,
        component: Digest,
    ) -> Result<Arc<Plugin>, NotKept> {
        if present.component.digest() == component {
            return Ok(present.clone());
        }
        let key = (name.to_owned(), component);
        if let Some(known) = self.known(&key, present) {
            return Ok(known);
        }
        let (engine, of) = (engine.clone(), name.to_owned());
        let load = move || (engine.kept(component), engine.kept_settings(component, &of));
        let (loaded, settings) = match tokio::task::spawn_blocking(load).await {
            Ok((Ok(Some(loaded)), settings)) => (loaded, settings),
            Ok((Err(error), _)) => return Err(NotKept::Unloadable { component, error }),
            // The loader does not panic; if it did, there would be no component to run either.
            Ok((Ok(None), _)) | Err(_) => return Err(NotKept::Gone { component }),
        };
        let ComponentSettings { limits, grants } = settings.unwrap_or_else(|| present.settings());
        let plugin = Arc::new(Plugin {
            component: loaded,
            limits,
            grants: grants.within(&present.grants),
        });
        let kept = KeptPlugin {
            present: present.clone(),
            plugin: plugin.clone(),
        };
        self.lock().insert(key, kept);
        Ok(plugin)
    }

    /// Has a plugin's settings on a component read again.
    pub(super) fn forget(&self, name: &str, component: Digest) {
        self.lock().remove(&(name.to_owned(), component));
    }

    fn known(&self, key: &(String, Digest), present: &Arc<Plugin>) -> Option<Arc<Plugin>> {
        let mut all = self.lock();
        // What an operator has changed meanwhile counts.
        let of_now = |kept: &KeptPlugin| Arc::ptr_eq(&kept.present, present);
        all.retain(|(name, _), kept| name != &key.0 || of_now(kept));
        all.get(key).map(|kept| kept.plugin.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Digest), KeptPlugin>> {
        // Poisoning is harmless: each change of the map is one call.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else writes settings.
    pub(super) fn lock_settings(&self) -> MutexGuard<'_, ()> {
        // Poisoning is harmless: it guards nothing.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
