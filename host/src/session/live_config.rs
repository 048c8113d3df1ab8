//! The part of the configuration that a hot reload can replace while sessions run.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::plugins::{Plugin, Plugins};
use crate::domain::CanaryRule;
use crate::providers::{HttpSender, LlmProviders, ToolServers};

/// The settings and providers that a hot reload replaces, all at once. Each turn runs to its end
/// with the configuration it began with.
#[derive(Clone)]
pub struct LiveConfig {
    /// The plugins that sessions run on, with their limits and grants.
    pub plugins: Plugins,
    /// The models that sessions may call.
    pub llm: Arc<LlmProviders>,
    /// The tools that sessions may call.
    pub tools: ToolServers,
    /// The sender of the sessions' HTTP requests.
    pub http: Arc<HttpSender>,
    /// How new components are rolled out.
    pub canaries: CanaryRule,
    /// A session that committed a turn within this time before a restart gets a recovery message.
    pub notice_window: Duration,
    /// How long an idle session stays in memory.
    pub resident_idle: Duration,
    /// The maximum number of sessions without work that a restart brings back, most recently active
    /// first.
    pub relaunch_max: usize,
}

/// The current live configuration.
pub(super) struct Current(RwLock<Arc<LiveConfig>>);

impl Current {
    pub(super) fn new(parts: LiveConfig) -> Self {
        Self(RwLock::new(Arc::new(parts)))
    }

    pub(super) fn get(&self) -> Arc<LiveConfig> {
        // Poisoning is harmless: the pointer is replaced in one step.
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
        // Dropped outside the lock: dropping the last reference ends providers that are no longer
        // used.
        drop(before);
    }
}

impl LiveConfig {
    pub(super) fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.plugins.get(name).cloned()
    }
}
