//! The plugins that sessions run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{Begun, Capabilities, Identity, Limits, SessionId};
use crate::engine::{Component, Context, GuestJob};

/// One configured plugin, loaded.
#[derive(Clone)]
pub struct Plugin {
    /// Its component.
    pub component: Arc<Component>,
    /// What its sessions may use.
    pub limits: Limits,
    /// What its sessions may call.
    pub grants: Capabilities,
}

impl Plugin {
    /// The turn that begins so, as the engine is asked to run it: for the first time, again, or
    /// offline, it must be the same job. `timers` were set when it began.
    pub(super) fn job(
        &self,
        component: Arc<Component>,
        id: &SessionId,
        identity: &Identity,
        begun: &Begun,
        timers: Vec<String>,
    ) -> GuestJob {
        GuestJob {
            component,
            context: Context {
                session: id.clone(),
                plugin: identity.plugin.clone(),
                args: identity.args.clone(),
            },
            limits: self.limits.clone().with(begun.limits),
            grants: self.grants.clone(),
            timers,
            now: begun.now,
            seed: begun.seed,
        }
    }
}

/// All of them, by name.
#[derive(Clone, Default)]
pub struct Plugins(pub BTreeMap<String, Arc<Plugin>>);

impl Plugins {
    /// The plugin of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.0.get(name)
    }

    /// The largest text that any of them takes from a client, in bytes: a message or arguments.
    pub fn largest_input_bytes(&self) -> u64 {
        let limits = self.0.values().map(|plugin| &plugin.limits);
        limits
            .map(|limits| limits.message_bytes.max(limits.args_bytes))
            .max()
            .unwrap_or_default()
    }

    /// Their names, for messages: `` `a`, `b` ``.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.0.keys().map(|name| format!("`{name}`")).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }
}
