//! The plugins that sessions run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{Begun, Capabilities, Identity, Limits, Refusal, SessionId};
use crate::engine::{Component, ComponentSettings, Context, GuestJob};

/// A configured plugin whose component is loaded.
#[derive(Clone)]
pub struct Plugin {
    pub component: Arc<Component>,
    /// The resource limits of its sessions.
    pub limits: Limits,
    /// The capabilities that its sessions may call.
    pub grants: Capabilities,
}

impl Plugin {
    /// Returns what the operator has set for it.
    pub(super) fn settings(&self) -> ComponentSettings {
        ComponentSettings {
            limits: self.limits.clone(),
            grants: self.grants.clone(),
        }
    }

    /// Refuses arguments, as one JSON value, that are too long.
    pub(super) fn check_args(&self, args: &str) -> Result<(), Refusal> {
        let (bytes, limit) = (args.len() as u64, self.limits.args_bytes);
        match bytes <= limit {
            true => Ok(()),
            false => Err(Refusal::TooLarge {
                what: "`args`",
                key: "args",
                bytes,
                limit,
            }),
        }
    }

    /// Builds the engine's job for a turn that begins with `begun`, on this plugin's component. It must
    /// be the same job whether the turn runs for the first time, again or offline. `timers` are the names
    /// of the timers that were set when it began.
    pub(super) fn job(
        &self,
        id: &SessionId,
        identity: &Identity,
        begun: &Begun,
        timers: Vec<String>,
    ) -> GuestJob {
        GuestJob {
            component: self.component.clone(),
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

/// All configured plugins by name.
#[derive(Clone, Default)]
pub struct Plugins(pub BTreeMap<String, Arc<Plugin>>);

impl Plugins {
    /// Returns a plugin that a request names.
    pub(super) fn named(&self, name: &str) -> Result<Arc<Plugin>, Refusal> {
        let plugin = self.get(name).cloned();
        plugin.ok_or_else(|| Refusal::UnknownPlugin {
            name: name.to_owned(),
            known: self.names(),
        })
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.0.get(name)
    }

    /// Returns the size of the largest text (a message or arguments) that any plugin accepts from a
    /// client, in bytes.
    pub fn largest_input_bytes(&self) -> u64 {
        let limits = self.0.values().map(|plugin| &plugin.limits);
        limits
            .map(|limits| limits.message_bytes.max(limits.args_bytes))
            .max()
            .unwrap_or_default()
    }

    /// Formats the plugin names for messages: `` `a`, `b` ``.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.0.keys().map(|name| format!("`{name}`")).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }
}
