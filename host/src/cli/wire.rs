//! The API's documents as the command line reads them, beyond those that the domain defines.
//! Fields that a newer daemon adds are ignored; those that an older one lacks have defaults.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::{
    Digest, Event, MessageId, ModelProviderStatus, RestartRecord, ToolLeftOut, UnixMillis,
};

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PageBody<T> {
    /// What the page holds.
    pub(crate) items: Vec<T>,
    /// What to ask for next, as `after`; none at the end.
    #[serde(default)]
    pub(crate) next: Option<Value>,
}

impl<T> PageBody<T> {
    /// [`Page::next`] as text for a query.
    pub(crate) fn next_text(&self) -> Option<String> {
        match self.next.as_ref()? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// What a message's acceptance says, with its turn where the request waited for it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MessageAccepted {
    /// The message's id.
    pub(crate) message: MessageId,
    /// How its turn ended; none while it has not.
    #[serde(default)]
    pub(crate) outcome: Option<TurnResult>,
    /// Why the turn failed.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// What the turn said.
    #[serde(default)]
    pub(crate) output: Vec<Event>,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TurnResult {
    /// It committed.
    Completed,
    /// It did not.
    Failed,
}

/// What the daemon says of itself.
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
    /// The latest restart.
    #[serde(default)]
    pub(crate) restart: Option<RestartRecord>,
    #[serde(default)]
    pub(crate) plugins: Vec<PluginView>,
    /// The model providers that are configured.
    #[serde(default)]
    pub(crate) model_providers: Vec<ModelProviderStatus>,
    /// The tool servers that are configured.
    #[serde(default)]
    pub(crate) tool_servers: Vec<ToolServerView>,
    /// What is wrong at the moment.
    #[serde(default)]
    pub(crate) watchdog: Vec<FindingView>,
}

/// A tool server. States may be newer than this program.
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
    /// Tools that it lists and that cannot be used.
    #[serde(default)]
    pub(crate) left_out: Vec<ToolLeftOut>,
}

/// Something that is wrong. Kinds may be newer than this program.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FindingView {
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) since: UnixMillis,
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

/// The configuration that runs.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ConfigView {
    #[serde(default)]
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) digest: Option<Digest>,
    #[serde(default)]
    pub(crate) loaded_at: Option<UnixMillis>,
    /// Why the file as it is now was not taken.
    #[serde(default)]
    pub(crate) last_error: Option<String>,
}

/// A drain that goes on.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DrainView {
    /// Turns that still run.
    #[serde(default)]
    pub(crate) running: u64,
    /// Messages held for later.
    #[serde(default)]
    pub(crate) held: u64,
    /// When what still runs is cut.
    #[serde(default)]
    pub(crate) ends_at: Option<UnixMillis>,
}

/// A plugin that is loaded.
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

/// What a request for a restart or a drain was given.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RestartAccepted {
    /// The restart to ask for.
    pub(crate) generation: u64,
}
