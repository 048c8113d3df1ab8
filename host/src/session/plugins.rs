//! The plugins that sessions run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{Capabilities, Limits};
use crate::engine::Component;

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

/// All of them, by name.
#[derive(Clone, Default)]
pub struct Plugins(pub BTreeMap<String, Plugin>);

impl Plugins {
    /// The plugin of that name.
    pub fn get(&self, name: &str) -> Option<&Plugin> {
        self.0.get(name)
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
