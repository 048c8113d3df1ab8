//! The API's documents that the domain does not define, as the command line parses them. Fields
//! that a newer daemon adds are ignored; those that an older one lacks have defaults.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::{
    Digest, Event, MessageId, ModelProviderStatus, RestartRecord, ToolLeftOut, UnixMillis,
};

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PageBody<T> {
    pub(crate) items: Vec<T>,
    /// The `after` parameter of the next page; none at the end.
    #[serde(default)]
    pub(crate) next: Option<Value>,
}

impl<T> PageBody<T> {
    /// Returns [`PageBody::next`] as text for a query.
    pub(crate) fn next_text(&self) -> Option<String> {
        match self.next.as_ref()? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// The acceptance of a message, with the result of its turn if the request waited for it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MessageAccepted {
    pub(crate) message: MessageId,
    /// The result of its turn; `None` until the turn has ended.
    #[serde(default)]
    pub(crate) outcome: Option<TurnResult>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The output of the turn.
    #[serde(default)]
    pub(crate) output: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TurnResult {
    /// The turn committed.
    Completed,
    /// The turn failed.
    Failed,
}

/// The daemon's report on itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DaemonReport {
    pub(crate) generation: u64,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) pid: Option<u64>,
    #[serde(default)]
    pub(crate) started_at: Option<UnixMillis>,
    #[serde(default)]
    pub(crate) config: ConfigView,
    /// Sessions by state, and their `total`.
    #[serde(default)]
    pub(crate) sessions: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) drain: Option<DrainView>,
    #[serde(default)]
    pub(crate) restart: Option<RestartRecord>,
    #[serde(default)]
    pub(crate) plugins: Vec<PluginView>,
    #[serde(default)]
    pub(crate) model_providers: Vec<ModelProviderStatus>,
    #[serde(default)]
    pub(crate) tool_servers: Vec<ToolServerView>,
    /// The watchdog's current findings.
    #[serde(default)]
    pub(crate) watchdog: Vec<FindingView>,
}

/// A tool server. Its state is text, since a newer daemon may have further states.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ToolServerView {
    pub(crate) name: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) since: Option<UnixMillis>,
    #[serde(default)]
    pub(crate) tools: Option<u64>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) next_try_at: Option<UnixMillis>,
    /// Tools that the server lists but that cannot be used.
    #[serde(default)]
    pub(crate) left_out: Vec<ToolLeftOut>,
}

/// A finding of the watchdog. Its kind is text, since a newer daemon may have further kinds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FindingView {
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) since: UnixMillis,
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

/// The running configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ConfigView {
    #[serde(default)]
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) digest: Option<Digest>,
    #[serde(default)]
    pub(crate) loaded_at: Option<UnixMillis>,
    /// Why the current file was not taken over.
    #[serde(default)]
    pub(crate) last_error: Option<String>,
}

/// A drain in progress.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DrainView {
    #[serde(default)]
    pub(crate) running: u64,
    /// Messages held until the drain is over.
    #[serde(default)]
    pub(crate) held: u64,
    /// When turns that still run are cut off.
    #[serde(default)]
    pub(crate) ends_at: Option<UnixMillis>,
}

/// A loaded plugin.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PluginView {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) digest: Option<Digest>,
    #[serde(default)]
    pub(crate) contract: Option<String>,
    #[serde(default)]
    pub(crate) sessions: Option<u64>,
}

/// The answer to a request for a restart or a drain.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RestartAccepted {
    /// The generation under which the restart can be queried.
    pub(crate) generation: u64,
}
