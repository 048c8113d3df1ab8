//! The status of tool servers, as operators see it.

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// The status of a tool server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ToolServerStatus {
    /// The name of its `[mcp.NAME]`.
    pub name: String,
    /// How it is reached.
    #[serde(default)]
    #[schema(required = true)]
    pub kind: ToolServerKind,
    /// Whether it can be used.
    pub state: ToolServerState,
    /// Since when it is in this state; none while no turn has wanted it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// The number of its tools; of a server that is down, the last known one. None if it is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<u64>,
    /// Why it is down, with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time from which on it is tried again, once a turn wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<UnixMillis>,
    /// Listed tools that cannot be used, and why; only the first ones if there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ToolLeftOut>,
    /// The daemon's data folder, configuration and files of secrets, if the server can read them: it runs
    /// as the daemon's user and in no sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub can_read: Vec<String>,
    /// The sandbox that it runs in, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<ToolSandbox>,
}

/// The sandbox of a tool server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ToolSandbox {
    /// What it does not hold on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_held: Vec<String>,
    /// The folders above what is hidden. The server cannot list them, nor make anything directly in them,
    /// nor open what was made there after its start.
    #[serde(default)]
    pub closed: Vec<String>,
}

/// A tool that its server lists and that is not offered to guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ToolLeftOut {
    /// Its name on the server, or its position in the list.
    pub tool: String,
    /// Why.
    pub reason: String,
}

/// How a tool server is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolServerKind {
    /// As a child process, by `command`.
    Command,
    /// Over HTTP, by `url`.
    Url,
    /// A kind that a newer daemon has; never sent.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

/// The state of a tool server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolServerState {
    /// No turn has wanted it yet, or none since the daemon ended it.
    Idle,
    /// It is being started, or connected to.
    Starting,
    /// Its tools can be called.
    Up,
    /// Its tools cannot be called.
    Down,
    /// A state that a newer daemon has; never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl ToolServerState {
    pub const ALL: [Self; 4] = [Self::Idle, Self::Starting, Self::Up, Self::Down];

    /// The name of the state in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}
