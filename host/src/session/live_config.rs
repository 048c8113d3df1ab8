//! The parts of the daemon that can be replaced while sessions live.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::plugins::{Plugin, Plugins};
use crate::providers::{HttpSender, LlmProviders, ToolServers};

/// What a hot change replaces, all of it at once. Each turn goes on to its end with the parts that
/// it began with.
#[derive(Clone)]
pub struct LiveConfig {
    /// What sessions run on, with their limits and grants.
    pub plugins: Plugins,
    /// The models they may call.
    pub llm: Arc<LlmProviders>,
    /// The tools they may call.
    pub tools: ToolServers,
    /// What sends their HTTP requests.
    pub http: Arc<HttpSender>,
    /// How long before a restart a commit makes a session one that is told of it.
    pub notice_window: Duration,
    /// How long an idle session stays in memory.
    pub resident_idle: Duration,
    /// Sessions without work that a restart brings back, those that were active last.
    pub relaunch_max: usize,
}

/// The parts as they are now.
pub(super) struct Current(RwLock<Arc<LiveConfig>>);

impl Current {
    pub(super) fn new(parts: LiveConfig) -> Self {
        Self(RwLock::new(Arc::new(parts)))
    }

    pub(super) fn get(&self) -> Arc<LiveConfig> {
        // A pointer is replaced in one step, whoever panics.
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn replace(&self, parts: LiveConfig) {
        let before = {
            let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::new(parts))
        };
        // Not under the lock: what nobody uses any more ends here.
        drop(before);
    }
}

impl LiveConfig {
    /// The plugin of that name.
    pub(super) fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.plugins.get(name).cloned()
    }
}
