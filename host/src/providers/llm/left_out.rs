//! The tools that were left out of a provider's requests, for the log and for the status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::render::HiddenTool;
use crate::domain::ToolLeftOut;

/// How many left-out tools are remembered.
const LEFT_OUT_MAX: usize = 1024;
/// How many of them the status lists.
const LEFT_OUT_SHOWN: usize = 32;

/// Tools that were left out of a provider's requests. Each is logged once.
#[derive(Debug, Default)]
pub(super) struct ToolsLeftOut(Mutex<BTreeMap<String, String>>);

impl ToolsLeftOut {
    /// Returns at most [`LEFT_OUT_SHOWN`] of them, ordered by name.
    pub(super) fn known(&self) -> Vec<ToolLeftOut> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.iter().take(LEFT_OUT_SHOWN);
        let known = known.map(|(tool, reason)| ToolLeftOut {
            tool: tool.clone(),
            reason: reason.clone(),
        });
        known.collect()
    }

    /// Records these tools, and logs those that are new or left out for another reason.
    pub(super) fn log_once(&self, provider: &str, left_out: &[HiddenTool]) {
        if left_out.is_empty() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for HiddenTool { name, reason } in left_out {
            if known.get(name) == Some(reason) || known.len() >= LEFT_OUT_MAX {
                continue;
            }
            tracing::warn!(
                provider,
                tool = name,
                reason,
                "a tool is left out of model requests"
            );
            known.insert(name.clone(), reason.clone());
        }
    }
}
